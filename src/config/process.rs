//! Parses the settings of a worker's process that only a file has: variables, file mode mask, nice value and limits.

use super::environment::is_reserved;
use super::reader::{Show, Value};
use super::watch::fits;
use nix::sys::resource::Resource;
use std::ffi::OsStr;

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) String);

impl Value for Word {
    const FORM: &'static str = "WORD";
    const IS_VERBATIM: bool = true;
    fn parse(text: &str) -> Result<Word, String> {
        Ok(Word(text.to_owned()))
    }
}

/// A variable of a file's `env`. Its value is never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

impl Value for Variable {
    const FORM: &'static str = "NAME=VALUE";
    const IS_VERBATIM: bool = true;
    fn parse(text: &str) -> Result<Variable, String> {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("allowed: NAME=VALUE")?;
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a name has no spaces and no control characters".into());
        }
        match is_reserved(name) {
            true => Err("rinit sets it itself, or it is a setting of rinit's own".into()),
            false => Ok(Variable { name: name.to_owned(), value: value.to_owned() }),
        }
    }
    fn shown(text: &str) -> &str {
        text.split_once('=').map_or(text, |(name, _)| name)
    }
}

/// A pattern of names of variables: `*` is any number of characters, `?` is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariablePattern(String);

impl VariablePattern {
    /// True if the name fits.
    pub(crate) fn fits(&self, name: &OsStr) -> bool {
        fits(&self.0, name)
    }
}

impl Value for VariablePattern {
    const FORM: &'static str = "NAME";
    fn parse(text: &str) -> Result<VariablePattern, String> {
        match text.is_empty() || text.contains('=') {
            true => Err("allowed: a variable's name, with * and ?".into()),
            false => Ok(VariablePattern(text.to_owned())),
        }
    }
}

/// The name of an environment of pm2's file: `production` for `env_production`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvironmentName(pub(super) String);

impl Value for EnvironmentName {
    const FORM: &'static str = "NAME";
    fn parse(text: &str) -> Result<EnvironmentName, String> {
        match text.is_empty() || text.contains('=') {
            true => {
                Err("allowed: the name of an environment, such as production; a variable is docker run -e NAME=VALUE"
                    .into())
            }
            false => Ok(EnvironmentName(text.to_owned())),
        }
    }
}

impl Show for EnvironmentName {
    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A mask of file modes, as umask(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Umask(pub(super) u32);

impl Value for Umask {
    const FORM: &'static str = "MODE";
    fn parse(text: &str) -> Result<Umask, String> {
        let mode = text.strip_prefix("0o").unwrap_or(text);
        let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Umask).ok_or("allowed: an octal mask from 000 to 777, as text, such as \"027\"".into())
    }
}

impl Show for Umask {
    fn show(&self) -> String {
        format!("{:03o}", self.0)
    }
}

/// A nice value, as setpriority(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nice(pub(super) i32);

impl Value for Nice {
    const FORM: &'static str = "N";
    fn parse(text: &str) -> Result<Nice, String> {
        let nice = text.parse().ok().filter(|nice| (-20..=19).contains(nice));
        nice.map(Nice).ok_or("allowed: -20 (most favoured; needs CAP_SYS_NICE) to 19".into())
    }
}

impl Show for Nice {
    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A limit on a resource, as setrlimit(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The resource.
    pub(crate) resource: Resource,
    /// The soft limit; `u64::MAX`: none.
    pub(crate) soft: u64,
    /// The hard limit; `u64::MAX`: none.
    pub(crate) hard: u64,
}

impl Value for Limit {
    const FORM: &'static str = "NAME=SOFT[:HARD]";
    fn parse(text: &str) -> Result<Limit, String> {
        const ALLOWED: &str = "allowed: nofile, nproc, core, each with N, SOFT:HARD, or unlimited";
        let (name, limits) = text.split_once('=').ok_or(ALLOWED)?;
        let resource = match name {
            "nofile" => Resource::RLIMIT_NOFILE,
            "nproc" => Resource::RLIMIT_NPROC,
            "core" => Resource::RLIMIT_CORE,
            _ => return Err(format!("{name:?} is no limit that rinit sets; {ALLOWED}")),
        };
        let number = |text: &str| match text.trim() {
            "unlimited" | "infinity" | "-1" => Ok(u64::MAX),
            text => text.parse().map_err(|_| format!("{text:?} is no number; {ALLOWED}")),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let limit = Limit { resource, soft: number(soft)?, hard: number(hard)? };
        if limit.soft > limit.hard { Err("the soft limit is above the hard one".into()) } else { Ok(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_any_value_and_is_shown_without_it() {
        let variable = Variable::parse("URL=postgres://a:b@c/?x=y").unwrap();
        assert_eq!((variable.name.as_str(), variable.value.as_str()), ("URL", "postgres://a:b@c/?x=y"));
        assert_eq!(Variable::shown("URL=postgres://a:b@c"), "URL");
        for text in ["URL", "=x", "A B=1", "RINIT_WORKER=1", "LISTEN_FDS=1"] {
            assert!(Variable::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn masks_nice_values_and_limits_are_checked() {
        assert_eq!(["027", "22", "0o077"].map(Umask::parse), [Ok(Umask(0o27)), Ok(Umask(0o22)), Ok(Umask(0o77))]);
        assert!(["1000", "8", "-1", ""].iter().all(|text| Umask::parse(text).is_err()));
        assert_eq!(Umask(0o27).show(), "027");
        assert_eq!(["-20", "19"].map(Nice::parse), [Ok(Nice(-20)), Ok(Nice(19))]);
        assert!(["20", "low"].iter().all(|text| Nice::parse(text).is_err()));
        let limit = |text: &str| Limit::parse(text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(limit("nofile=1024"), Ok((1024, 1024)));
        assert_eq!(limit("core=0:unlimited"), Ok((0, u64::MAX)));
        assert!(["nofile=2:1", "cpu=1", "nofile", "nproc=x"].iter().all(|text| limit(text).is_err()));
    }
}
