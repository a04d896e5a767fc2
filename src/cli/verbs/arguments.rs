//! Reads the words behind a verb.

use super::{Call, Client, Opt, Output, Verb, named, signal, start, suggestions};
use crate::cli::{Environment, Invocation};
use crate::config::{BAD_SETTINGS, nearest};
use lexopt::{Arg, Parser};
use std::ffi::OsString;

/// pm2's names for a verb with options.
const SHORTHANDS: [(&str, &str, &str); 2] = [("jlist", "list", "--json"), ("prettylist", "list", "--output=json")];

/// Returns the call if the first word is a verb, and a refusal if it is nearly one.
pub fn parse(arguments: &[OsString], environment: &Environment) -> Option<Invocation> {
    let (first, rest) = arguments.split_first()?;
    let Some(verb) = first.to_str().and_then(named) else {
        let shorthand = SHORTHANDS.iter().find(|(name, ..)| first.to_str() == Some(*name));
        let Some((_, verb, option)) = shorthand else { return suggestions::refuse(first, environment) };
        let words: Vec<OsString> = [*verb, *option].into_iter().map(OsString::from).chain(rest.to_vec()).collect();
        return parse(&words, environment);
    };
    Some(match read(verb, rest) {
        Ok(Read { help: Some(Help::Short), .. }) => Invocation::Print(verb.short_help()),
        Ok(Read { help: Some(Help::Full), .. }) => Invocation::Print(verb.full_help()),
        Ok(Read { options, values, help: None }) => {
            let given = |name| options.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| value);
            let client = Client::new(given("socket").map(String::as_str), environment);
            let out = Output::new(given("json").is_some(), environment);
            Invocation::Verb(Call { verb, client, out, options, values })
        }
        Err(why) => {
            let files = rest.iter().filter(|_| verb.name() == start::VERB.name()).filter_map(|word| word.to_str());
            let command = files.filter_map(start::command_for).next();
            let advice = command.map_or(String::new(), |command| format!("To run an app: {command}\n"));
            Invocation::refuse(verb.refusal(&why) + &advice, BAD_SETTINGS)
        }
    })
}

#[derive(Clone, Copy)]
enum Help {
    Short,
    Full,
}

#[derive(Default)]
struct Read {
    help: Option<Help>,
    options: Vec<(&'static str, String)>,
    values: Vec<String>,
}

fn read(verb: &'static Verb, arguments: &[OsString]) -> Result<Read, String> {
    let mut read = Read::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let known = |fits: &dyn Fn(&Opt) -> bool| verb.all_options().find(|option| fits(option));
        let (option, help) = match argument {
            Arg::Value(value) => {
                read.values.push(text(value)?);
                continue;
            }
            // `scale -1` is a number, and `kill -HUP` a signal.
            Arg::Short(letter) if is_value_with_dash(verb, letter) => {
                let rest = parser.optional_value().map(text).transpose()?.unwrap_or_default();
                let dash = if letter.is_ascii_digit() && verb.name() != signal::VERB.name() { "-" } else { "" };
                read.values.push(format!("{dash}{letter}{rest}"));
                continue;
            }
            Arg::Short(letter) => {
                let option = known(&|option| option.letter == Some(letter));
                (option.ok_or(format!("-{letter}: no such option"))?, Help::Short)
            }
            Arg::Long(name) => {
                let option = known(&|option| option.names.contains(&name)).ok_or_else(|| {
                    let near = nearest(name, verb.all_options().flat_map(|option| option.names.iter().copied()));
                    let advice = near.map_or(String::new(), |near| format!("; did you mean --{near}?"));
                    format!("--{name}: no such option{advice}")
                })?;
                (option, Help::Full)
            }
        };
        let value = match option.value {
            "" => String::new(),
            _ => parser.value().map_err(|error| error.to_string()).and_then(text)?,
        };
        if option.name() == "help" {
            read.help = Some(help);
        }
        read.options.push((option.name(), value));
    }
    if read.help.is_none() {
        verb.check_count(&read.values)?;
    }
    Ok(read)
}

fn is_value_with_dash(verb: &Verb, letter: char) -> bool {
    let takes_number = verb.arguments.contains("-N") || verb.name() == signal::VERB.name();
    letter.is_ascii_digit() && takes_number || letter.is_ascii_uppercase() && verb.name() == signal::VERB.name()
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
            return Err(format!("{} is missing", self.arguments.trim_end_matches("...")));
        }
        // A program of that name may be meant, such as ls or ps.
        let Some(extra) = values.get(*self.takes.end()) else { return Ok(()) };
        let takes = match self.takes.end() {
            0 => "it takes no argument",
            _ => "that is one argument too many",
        };
        Err(format!("{extra:?}: {takes} (a program called {:?} is run by: rinit -- {0} …)", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{COMMON, VERBS};
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
    fn a_file_that_is_to_start_with_options_of_pm2_is_answered_with_the_command() {
        let text = refused("start app.js -i max --name web");
        assert!(
            text.contains("-i: no such option") && text.contains("To run an app: rinit -i N -- node app.js"),
            "{text}"
        );
        assert!(!refused("stop app.js -i max").contains("To run"));
    }

    #[test]
    fn the_first_word_decides() {
        assert!(parsed("list").is_some() && parsed("ls").is_some() && parsed("ps --json").is_some());
        for line in ["", "-- list", "-i 2 list", "/bin/ls", "node app.js"] {
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
    fn a_signal_may_have_a_dash_as_with_kill() {
        for (line, values) in
            [("kill -HUP 0", ["HUP", "0"]), ("kill -9 all", ["9", "all"]), ("signal USR1 1", ["USR1", "1"])]
        {
            assert_eq!(call(line).values, values, "{line}");
        }
    }

    #[test]
    fn the_names_that_other_tools_have_mean_the_same_verb() {
        for (line, verb) in [
            ("status web-0", "describe"),
            ("show web-0", "describe"),
            ("info 0", "describe"),
            ("inspect 0", "describe"),
            ("kill TERM 0", "signal"),
            ("top", "monit"),
            ("ps", "list"),
            ("jlist", "list"),
            ("prettylist", "list"),
        ] {
            assert_eq!(call(line).verb.name(), verb, "{line}");
        }
        assert!(call("jlist").out.json);
        assert_eq!(call("prettylist").option("output"), Some("json"));
        assert_eq!(call("logs --tail 5").option("lines"), Some("5"));
    }

    #[test]
    fn wrong_usage_is_refused_with_the_nearest_name_and_the_usage() {
        assert!(refused("logs --flolow").contains("did you mean --follow?"));
        assert!(refused("list --sokcet x").contains("did you mean --socket?"));
        assert!(refused("list /tmp").contains("rinit -- list"), "a program may be meant");
        assert!(refused("stop").contains("ID|all is missing\nusage: rinit stop ID|all...\n"));
        assert!(refused("restart").contains("ID|all is missing"));
        assert!(refused("list --socket").contains("--socket"));
        assert!(refused("logs -n").contains("-n"));
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
            assert!(verb.options.iter().all(|option| COMMON.iter().all(|common| common.name() != option.name())));
        }
    }
}
