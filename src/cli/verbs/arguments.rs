//! Reading what stands behind a verb.

use super::{Call, Client, Opt, Output, VERBS, Verb, named};
use crate::cli::{Environment, Invocation};
use crate::config::{BAD_SETTINGS, nearest};
use lexopt::{Arg, Parser};
use std::ffi::OsString;

/// The call, if the first word is a verb.
pub fn parse(arguments: &[OsString], environment: &Environment) -> Option<Invocation> {
    let (first, rest) = arguments.split_first()?;
    let verb = named(first.to_str()?)?;
    Some(match read(verb, rest) {
        Ok(Read { help: true, .. }) => Invocation::Print(verb.full_help()),
        Ok(Read { options, values, .. }) => {
            let given = |name| options.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| value);
            let client = Client::new(given("socket").map(String::as_str), environment);
            let out = Output::new(given("json").is_some(), environment);
            Invocation::Verb(Call { verb, client, out, options, values })
        }
        Err(why) => Invocation::refuse(verb.refusal(&why), BAD_SETTINGS),
    })
}

#[derive(Default)]
struct Read {
    help: bool,
    options: Vec<(&'static str, String)>,
    values: Vec<String>,
}

fn read(verb: &'static Verb, arguments: &[OsString]) -> Result<Read, String> {
    let mut read = Read::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let known = |fits: &dyn Fn(&Opt) -> bool| verb.all_options().find(|option| fits(option));
        let option = match argument {
            Arg::Value(value) => {
                read.values.push(text(value)?);
                continue;
            }
            // `scale -1` is a number and no option.
            Arg::Short(digit) if digit.is_ascii_digit() && verb.options.is_empty() => {
                let rest = parser.optional_value().map(text).transpose()?.unwrap_or_default();
                read.values.push(format!("-{digit}{rest}"));
                continue;
            }
            Arg::Short(letter) => {
                known(&|option| option.letter == Some(letter)).ok_or(format!("-{letter}: no such option"))?
            }
            Arg::Long(name) => known(&|option| option.name == name).ok_or_else(|| {
                let meant = nearest(name, verb.all_options().map(|option| option.name));
                let advice = meant.map_or(String::new(), |meant| format!("; did you mean --{meant}?"));
                format!("--{name}: no such option{advice}")
            })?,
        };
        let value = match option.value {
            "" => String::new(),
            _ => parser.value().map_err(|error| error.to_string()).and_then(text)?,
        };
        read.help |= option.name == "help";
        read.options.push((option.name, value));
    }
    if !read.help {
        verb.check_count(&read.values)?;
    }
    Ok(read)
}

fn text(value: OsString) -> Result<String, String> {
    match value.into_string() {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => Err("an argument is empty".into()),
        Err(value) => Err(format!("{value:?} is not UTF-8")),
    }
}

impl Verb {
    fn check_count(&self, values: &[String]) -> Result<(), String> {
        if values.len() < *self.takes.start() {
            return Err(format!("{} is missing", self.arguments));
        }
        // Whoever gives more may mean a program of that name, such as ls or ps.
        let Some(extra) = values.get(*self.takes.end()) else { return Ok(()) };
        let takes = match self.takes.end() {
            0 => "it takes no argument",
            _ => "that is one argument too many",
        };
        Err(format!("{extra:?}: {takes} (a program called {:?} is run by: rinit -- {0} …)", self.name()))
    }
}

/// The verb's own help, or who is meant.
pub(super) fn help_of(name: &str) -> Result<String, String> {
    named(name).map(Verb::full_help).ok_or_else(|| {
        let meant = nearest(name, VERBS.iter().flat_map(|verb| verb.names.iter().copied()));
        let advice = meant.map_or("see rinit --help".into(), |meant| format!("did you mean {meant}?"));
        format!("{name:?} is no verb; {advice}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::COMMON;
    use super::*;

    fn parsed(line: &str) -> Option<Invocation> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words, &[])
    }

    fn call(line: &str) -> Call {
        match parsed(line) {
            Some(Invocation::Verb(call)) => call,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        match parsed(line) {
            Some(Invocation::Refuse(refusal)) if refusal.code == BAD_SETTINGS => refusal.text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_first_word_decides() {
        assert!(parsed("list").is_some() && parsed("ls").is_some() && parsed("ps --json").is_some());
        for line in ["", "-- list", "-i 2 list", "/bin/ls", "node app.js", "lits"] {
            assert!(parsed(line).is_none(), "{line}");
        }
    }

    #[test]
    fn options_and_arguments_come_in_any_order() {
        let call = call("logs web-0 -fn5 --since 10m --json");
        assert!(call.has("follow") && call.has("json") && !call.has("stderr"));
        assert_eq!(
            (call.option("lines"), call.option("since"), call.value(0)),
            (Some("5"), Some("10m"), Some("web-0"))
        );
    }

    #[test]
    fn fewer_workers_are_no_option() {
        for (line, last) in
            [("scale -1", "-1"), ("scale web -12 --json", "-12"), ("scale -- -3", "-3"), ("scale +2", "+2")]
        {
            assert_eq!(call(line).values.last().map(String::as_str), Some(last), "{line}");
        }
    }

    #[test]
    fn what_is_used_wrongly_is_refused_with_the_nearest_name_and_the_usage() {
        assert!(refused("logs --flolow").contains("did you mean --follow?"));
        assert!(refused("list --sokcet x").contains("did you mean --socket?"));
        assert!(refused("list /tmp").contains("rinit -- list"), "a program may be meant");
        assert!(refused("describe").contains("ID is missing\nusage: rinit describe ID\n"));
        assert!(refused("list --socket").contains("--socket"));
        assert!(refused("logs -n").contains("-n"));
        assert!(help_of("lgos").unwrap_err().contains("did you mean logs?"));
    }

    #[test]
    fn no_two_verbs_share_a_name_and_each_has_its_help() {
        let mut names: Vec<&str> = VERBS.iter().flat_map(|verb| verb.names.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for verb in VERBS {
            assert!(matches!(parsed(&format!("{} --help", verb.name())), Some(Invocation::Print(_))), "{verb:?}");
            assert!(verb.options.iter().all(|option| COMMON.iter().all(|common| common.name != option.name)));
        }
    }
}
