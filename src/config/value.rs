//! Parses the values of settings; each parser says what is wrong and what is allowed.

use super::duration::duration;
use super::environment::is_reserved;
use super::instances::MAX_INSTANCES;
use super::reader::{Show, Value};
use crate::control::{EndpointSetting, SOCKET_PATHS, SocketGroup, SocketMode};
use crate::core::{Backoff, Kind, OnExit, Reload, Restart, Signal};
use crate::logs::LogFormat;
use crate::ports::{Balance, ListenAddress, Share};
use crate::sys::user::Credentials;
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing::Level;

/// A setting whose value is one of a few words.
macro_rules! words {
    ($type:ty: $first:literal => $first_value:expr $(, $word:literal => $value:expr)*) => {
        impl Value for $type {
            const FORM: &'static str = concat!($first $(, "|", $word)*);
            fn parse(text: &str) -> Result<$type, String> {
                match text {
                    $first => Ok($first_value),
                    $($word => Ok($value),)*
                    _ => Err(format!("allowed: {}", Self::FORM.replace('|', ", "))),
                }
            }
        }
        impl Show for $type {
            fn show(&self) -> String {
                let words = [($first, $first_value) $(, ($word, $value))*];
                words.into_iter().find(|(_, value)| value == self).map_or(String::new(), |(word, _)| word.into())
            }
        }
    };
}

words!(LogFormat: "prefix" => LogFormat::Prefix, "raw" => LogFormat::Raw, "json" => LogFormat::Json, "ecs" => LogFormat::Ecs);
words!(Restart: "always" => Restart::Always, "on-failure" => Restart::OnFailure, "never" => Restart::Never);
words!(Share: "auto" => Share::Auto, "node" => Share::Node, "preload" => Share::Preload, "off" => Share::Off);
words!(Balance: "round-robin" => Balance::RoundRobin, "ip-hash" => Balance::IpHash, "reuseport" => Balance::Reuseport, "shared" => Balance::Shared);
words!(Kind: "service" => Kind::Service, "task" => Kind::Task);
words!(OnExit: "failure" => OnExit::EndOnFailure, "end" => OnExit::End, "ignore" => OnExit::Ignore);
words!(Level: "error" => Level::ERROR, "warn" => Level::WARN, "info" => Level::INFO, "debug" => Level::DEBUG, "trace" => Level::TRACE);

/// A setting that need not have a value.
impl<T: Value> Value for Option<T> {
    const FORM: &'static str = T::FORM;
    fn parse(text: &str) -> Result<Option<T>, String> {
        T::parse(text).map(Some)
    }
}

impl<T: Value + Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or(super::settings::NO_DEFAULT.into(), T::show)
    }
}

/// An app's name: up to 64 letters, digits, and `- _ . @`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppName(pub String);

impl AppName {
    /// The longest name, in characters.
    pub(super) const MAX_LENGTH: usize = 64;

    /// True if a name may have that character.
    pub(super) fn allows(character: char) -> bool {
        character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '@')
    }
}

impl Value for AppName {
    const FORM: &'static str = "NAME";
    fn parse(text: &str) -> Result<AppName, String> {
        let fits = !text.is_empty() && text.len() <= AppName::MAX_LENGTH && text.chars().all(AppName::allows);
        fits.then(|| AppName(text.to_owned())).ok_or("allowed: up to 64 letters, digits, and - _ . @".into())
    }
}

impl Show for AppName {
    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Exit codes, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitCodes(pub Vec<u8>);

impl Value for ExitCodes {
    const FORM: &'static str = "CODE,CODE";
    fn parse(text: &str) -> Result<ExitCodes, String> {
        text.split(',').map(exit_code).collect::<Result<_, _>>().map(ExitCodes)
    }
}

/// Parses an exit code, 0 to 255.
///
/// # Errors
/// Anything else.
pub fn exit_code(text: &str) -> Result<u8, String> {
    text.trim().parse().map_err(|_| "allowed: exit codes from 0 to 255, separated by commas".into())
}

impl Value for u32 {
    const FORM: &'static str = "N";
    fn parse(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| "not a number; allowed: 0 and more".into())
    }
}

impl Show for u32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A count that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positive(pub u32);

impl Value for Positive {
    const FORM: &'static str = "N";
    fn parse(text: &str) -> Result<Positive, String> {
        let count = text.parse().ok().filter(|count| *count > 0);
        count.map(Positive).ok_or("allowed: 1 and more".into())
    }
}

impl Show for Positive {
    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for Backoff {
    const FORM: &'static str = "MIN..MAX";
    fn parse(text: &str) -> Result<Backoff, String> {
        let (min, max) = text.split_once("..").ok_or("allowed: MIN..MAX, such as 100ms..15s")?;
        let backoff = Backoff { min: duration(min)?, max: duration(max)? };
        if backoff.min > backoff.max { Err("the first wait is longer than the longest".into()) } else { Ok(backoff) }
    }
}

impl Show for Backoff {
    fn show(&self) -> String {
        format!("{}..{}", self.min.show(), self.max.show())
    }
}

impl Value for Reload {
    const FORM: &'static str = "rolling|parallel:K|restart";
    fn parse(text: &str) -> Result<Reload, String> {
        let parallel = |text: &str| text.parse().ok().filter(|width| *width > 0).map(Reload::Rolling);
        match text {
            "rolling" => Ok(Reload::Rolling(1)),
            "restart" => Ok(Reload::Restart),
            _ => text
                .strip_prefix("parallel:")
                .and_then(parallel)
                .ok_or("allowed: rolling, parallel:K (1 and more), restart".into()),
        }
    }
}

impl Show for Reload {
    fn show(&self) -> String {
        match self {
            Reload::Rolling(1) => "rolling".into(),
            Reload::Rolling(width) => format!("parallel:{width}"),
            Reload::Restart => "restart".into(),
        }
    }
}

impl Value for EndpointSetting {
    const FORM: &'static str = "PATH|off";
    fn parse(text: &str) -> Result<EndpointSetting, String> {
        match text {
            "off" => Ok(EndpointSetting::Off),
            path if path.starts_with('/') => Ok(EndpointSetting::At(path.into())),
            _ => Err("allowed: an absolute path, or off".into()),
        }
    }
}

impl Show for EndpointSetting {
    fn show(&self) -> String {
        match self {
            EndpointSetting::Anywhere => format!("the first that can be made of {}", SOCKET_PATHS.join(", ")),
            EndpointSetting::At(path) => path.display().to_string(),
            EndpointSetting::Off => "off".into(),
        }
    }
}

impl Value for Option<SocketMode> {
    const FORM: &'static str = "MODE";
    fn parse(text: &str) -> Result<Option<SocketMode>, String> {
        SocketMode::parse(text).map(Some)
    }
}

impl Show for Option<SocketMode> {
    fn show(&self) -> String {
        self.map_or(String::new(), |SocketMode(mode)| format!("{mode:04o}"))
    }
}

impl Value for Option<SocketGroup> {
    const FORM: &'static str = "GROUP";
    fn parse(text: &str) -> Result<Option<SocketGroup>, String> {
        SocketGroup::parse(text).map(Some)
    }
}

impl Show for Option<SocketGroup> {
    fn show(&self) -> String {
        self.map_or(String::new(), |SocketGroup(group)| group.to_string())
    }
}

/// Every address of the machine when only a port is given.
impl Value for Option<SocketAddr> {
    const FORM: &'static str = "ADDR";
    fn parse(text: &str) -> Result<Option<SocketAddr>, String> {
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let text = local.as_deref().unwrap_or(text);
        let port = text.trim_start_matches(':').parse::<u16>().map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
        match (text, port, text.parse()) {
            ("off", ..) => Ok(None),
            (_, Ok(address), _) | (_, _, Ok(address)) => Ok(Some(address)),
            _ => Err("allowed: PORT, ADDRESS:PORT, [ADDRESS6]:PORT, off".into()),
        }
    }
}

impl Show for Option<SocketAddr> {
    fn show(&self) -> String {
        self.map_or("off".into(), |address| address.to_string())
    }
}

impl Value for Signal {
    const FORM: &'static str = "SIG";
    fn parse(text: &str) -> Result<Signal, String> {
        match text.parse()? {
            Signal::STOP => Err(format!("{text:?} suspends a worker, which then cannot end")),
            signal => Ok(signal),
        }
    }
}

impl Show for Signal {
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A variable that counts the workers: worker k gets `name`=`base`+k.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementEnv {
    /// The variable.
    pub name: String,
    /// Its value for worker 0.
    pub base: u64,
}

impl IncrementEnv {
    /// The reason why that many workers cannot have the variable, if there is one: a port has 16 bits.
    pub(super) fn overflow(&self, instances: u32) -> Option<String> {
        let last = self.base.saturating_add(u64::from(instances.saturating_sub(1)));
        let is_port = self.name.to_ascii_uppercase().ends_with("PORT");
        (is_port && last > u64::from(u16::MAX))
            .then(|| format!("worker {} would get {last}, and the highest port is 65535", instances.saturating_sub(1)))
    }
}

impl Value for IncrementEnv {
    const FORM: &'static str = "NAME=BASE";
    fn parse(text: &str) -> Result<IncrementEnv, String> {
        const ALLOWED: &str = "allowed: NAME=NUMBER, such as PORT=3000";
        let (name, base) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(ALLOWED)?;
        let base = base.parse::<u64>().map_err(|_| ALLOWED)?;
        if is_reserved(name) {
            return Err(format!("{name} is rinit's own to set; {ALLOWED}"));
        }
        match base.checked_add(u64::from(MAX_INSTANCES)) {
            Some(_) => Ok(IncrementEnv { name: name.to_owned(), base }),
            None => Err(format!("too large to be counted up for every worker; {ALLOWED}")),
        }
    }
}

/// Names of environment variables, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableNames(pub Vec<String>);

impl Value for VariableNames {
    const FORM: &'static str = "NAME,NAME";
    fn parse(text: &str) -> Result<VariableNames, String> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '*', ' ']);
        names
            .iter()
            .all(is_name)
            .then_some(VariableNames(names))
            .ok_or("allowed: whole names, separated by commas".into())
    }
}

impl Value for bool {
    const FORM: &'static str = "";
    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "1" | "true" | "on" | "yes" => Ok(true),
            "0" | "false" | "off" | "no" => Ok(false),
            _ => Err("allowed: true, false".into()),
        }
    }
}

impl Show for bool {
    fn show(&self) -> String {
        if *self { "on".into() } else { "off".into() }
    }
}

impl Value for String {
    const FORM: &'static str = "NAME";
    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    const FORM: &'static str = "PATH";
    fn parse(text: &str) -> Result<PathBuf, String> {
        Ok(PathBuf::from(text))
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for ListenAddress {
    const FORM: &'static str = "[NAME=]ADDR";
    fn parse(text: &str) -> Result<ListenAddress, String> {
        ListenAddress::parse(text)
    }
}

impl Value for Credentials {
    const FORM: &'static str = "UID[:GID]";
    fn parse(text: &str) -> Result<Credentials, String> {
        Credentials::parse(text)
    }
}

impl Show for Credentials {
    fn show(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }
}

/// A signal, and the signal that is sent in its place, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite(pub Signal, pub Option<Signal>);

impl Value for Rewrite {
    const FORM: &'static str = "S:R";
    fn parse(text: &str) -> Result<Rewrite, String> {
        const ALLOWED: &str = "allowed: S:R, names or numbers, such as TERM:QUIT; R = 0: not at all";
        let (from, to) = text.split_once(':').ok_or(ALLOWED)?;
        let to = if to.trim() == "0" { None } else { Some(to.parse()?) };
        Ok(Rewrite(from.parse()?, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_take_names_and_numbers() {
        assert_eq!(Rewrite::parse("15:3"), Ok(Rewrite(Signal::TERM, Some(Signal::QUIT))));
        assert_eq!(Rewrite::parse("HUP:0"), Ok(Rewrite(Signal::HUP, None)));
        assert!(["TERM", "TERM:65", ":"].iter().all(|text| Rewrite::parse(text).is_err()));
    }

    #[test]
    fn a_value_that_is_shown_is_read_back_as_it_was() {
        fn check<T: Value + Show + PartialEq + std::fmt::Debug>(texts: &[&str]) {
            for text in texts {
                assert_eq!(T::parse(text).unwrap().show(), *text);
            }
        }
        check::<Restart>(&["always", "on-failure", "never"]);
        check::<Kind>(&["service", "task"]);
        check::<OnExit>(&["failure", "end", "ignore"]);
        check::<Share>(&["auto", "node", "preload", "off"]);
        check::<Balance>(&["round-robin", "ip-hash", "reuseport", "shared"]);
        check::<Level>(&["error", "warn", "info", "debug", "trace"]);
        check::<LogFormat>(&["prefix", "raw", "json"]);
        check::<Reload>(&["rolling", "parallel:3", "restart"]);
        check::<Backoff>(&["100ms..15s", "0..1m30s"]);
        check::<bool>(&["on", "off"]);
        check::<Option<SocketMode>>(&["0660", "0600"]);
        check::<Option<SocketGroup>>(&["0", "1234"]);
        check::<Option<SocketAddr>>(&["off", "127.0.0.1:80", "[::1]:9615"]);
        check::<EndpointSetting>(&["off", "/run/rinit.sock"]);
        check::<Signal>(&["SIGTERM", "SIGRTMIN+3"]);
    }
}
