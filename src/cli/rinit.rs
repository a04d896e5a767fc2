//! Parses the command line of rinit under its own name: the settings' flags, and tini's and dumb-init's for init mode.

use super::*;
use crate::config::{self, Faults, Given, Layer, Setting, exit_code, for_init, for_supervisor, nearest};
use lexopt::{Arg, Parser, ValueExt};

pub(super) fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    if let Some(verb) = verbs::parse(&arguments, environment) {
        return verb;
    }
    let mut line = Line::default();
    line.read(arguments);
    if let Some(text) = line.print {
        return Invocation::Print(text);
    }
    let Line { flags, init, init_flags, mut faults, .. } = line;
    let (below, warnings) = config::from_environment(environment, &mut faults);
    let layer = flags.or(below);
    if init.command.is_empty() {
        faults.note("COMMAND", "no command is given: rinit [OPTIONS] -- COMMAND [ARG]..., see rinit --help");
    }
    let invocation = if layer.is_supervisor() {
        for flag in init_flags {
            faults.note(flag, "means something only without -i, where rinit has one child");
        }
        Invocation::Supervise(for_supervisor(&layer, init.command, Path::new("/"), &mut faults), warnings)
    } else {
        let settings = for_init(&layer, &mut faults);
        let mut options = init::Options { linger: settings.linger, warnings, ..init };
        apply_tini_variables(&mut options, environment);
        if !init_flags.iter().any(|flag| flag == "-c" || flag == "--single-child") {
            apply_dumb_init_variables(&mut options, environment);
        }
        options.rewrite.extend(settings.rewrite);
        Invocation::Init(options)
    };
    if faults.0.is_empty() { invocation } else { Invocation::Refuse(faults.refusal()) }
}

/// The command line, as far as it is read.
struct Line {
    flags: Layer,
    init: init::Options,
    /// The flags that only init mode has, as they were written.
    init_flags: Vec<String>,
    faults: Faults,
    print: Option<String>,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            flags: Layer::default(),
            init: init::Options::rinit(vec![]),
            init_flags: vec![],
            faults: Faults::default(),
            print: None,
        }
    }
}

impl Line {
    /// Reads the arguments to the end, so that every fault is reported.
    fn read(&mut self, arguments: Vec<OsString>) {
        let mut parser = Parser::from_args(arguments);
        loop {
            let argument = match parser.next() {
                Ok(Some(argument)) => argument,
                Ok(None) => return,
                Err(error) => {
                    self.faults.note("the command line", error.to_string());
                    continue;
                }
            };
            let written = match &argument {
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Long(name) => format!("--{name}"),
                Arg::Value(_) => String::new(),
            };
            let setting = match &argument {
                Arg::Short(letter) => config::all().find(|setting| setting.letter == Some(*letter)),
                Arg::Long(name) => config::by_flag(name),
                Arg::Value(_) => None,
            };
            match (setting, argument) {
                (Some(setting), _) => self.setting(setting, written, &mut parser),
                (None, Arg::Value(word)) => {
                    let rest = parser.raw_args().into_iter().flatten();
                    self.init.command = std::iter::once(word).chain(rest).collect();
                    return;
                }
                (None, Arg::Short(letter)) => self.short(letter, written, &mut parser),
                (None, Arg::Long(name)) => {
                    let name = name.to_owned();
                    self.long(&name, written, &mut parser);
                }
            }
        }
    }

    fn setting(&mut self, setting: &Setting, written: String, parser: &mut Parser) {
        let text = match setting.form {
            // A switch may still be given a value: --log-time=false.
            "" => parser.optional_value().map_or(Ok("true".into()), |value| value.string()),
            _ => parser.value().and_then(|value| value.string()),
        };
        match text {
            Ok(text) => {
                self.flags.put(setting.flag, Given::by_flag(written, text));
            }
            Err(error) => self.faults.note(written, error.to_string()),
        }
    }

    /// Reads an option of tini or dumb-init.
    fn short(&mut self, letter: char, written: String, parser: &mut Parser) {
        let init = &mut self.init;
        let mut value = || parser.value().and_then(|value| value.string()).map_err(|error| error.to_string());
        let mut read = Ok(());
        match letter {
            'h' => self.print = Some(help::rinit_in_short()),
            'V' => self.print = Some(help::version()),
            'l' => self.print = Some(help::LICENSE.into()),
            's' => init.subreaper = init::Subreaper::Always,
            'v' => init.verbosity.level += 1,
            'w' => init.warn_reaped = true,
            'g' => init.group = true,
            'c' => init.set_session(false),
            'e' => read = value().and_then(|text| exit_code(&text)).map(|code| init.success.push(code)),
            'p' => read = value().and_then(|text| text.parse()).map(|signal| init.parent_death = Some(signal)),
            _ => read = Err("no such option; see rinit --help".into()),
        }
        match read {
            Ok(()) => self.init_flags.push(written),
            Err(why) => self.faults.note(written, why),
        }
    }

    fn long(&mut self, name: &str, written: String, parser: &mut Parser) {
        match name {
            "help" => self.print = Some(help::rinit()),
            "version" => self.print = Some(help::version()),
            "license" => self.print = Some(help::LICENSE.into()),
            "single-child" => {
                self.init.set_session(false);
                self.init_flags.push(written);
            }
            _ => {
                let known =
                    config::all().map(|setting| setting.flag).chain(["help", "version", "license", "single-child"]);
                let meant = nearest(name, known);
                let advice = meant.map_or("see rinit --help".into(), |meant| format!("did you mean --{meant}?"));
                self.faults.note(written, format!("no such option; {advice}"));
                // Its value is not the command.
                if meant.and_then(config::by_flag).is_some_and(|setting| !setting.form.is_empty()) {
                    let _ = parser.value();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BAD_SETTINGS;

    fn parsed(line: &str, environment: &[(&str, &str)]) -> Invocation {
        let words = std::iter::once("rinit").chain(line.split_whitespace()).map(OsString::from).collect();
        let environment: Vec<_> = environment.iter().map(|(key, value)| (key.into(), value.into())).collect();
        super::super::parse(words, &environment)
    }

    fn refused(line: &str, environment: &[(&str, &str)]) -> String {
        match parsed(line, environment) {
            Invocation::Refuse(Refusal { text, code: BAD_SETTINGS }) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn init(line: &str, environment: &[(&str, &str)]) -> init::Options {
        match parsed(line, environment) {
            Invocation::Init(options) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_instance_count_decides_the_mode() {
        assert!(matches!(parsed("-i 2 -- app", &[]), Invocation::Supervise(..)));
        assert!(matches!(parsed("app", &[("RINIT_INSTANCES", "2")]), Invocation::Supervise(..)));
        assert!(matches!(parsed("app -i 2", &[]), Invocation::Init(..)), "behind the command it is the command's");
        assert!(matches!(parsed("app", &[("RINIT_INSTANCES", "")]), Invocation::Init(..)));
    }

    #[test]
    fn every_fault_is_reported_with_the_nearest_name() {
        let text = refused("--max-restart 3 -i two --stop-timeout 5 -x -g", &[("RINIT_LOG", "pretty")]);
        for part in [
            "for 7 reasons",
            "--max-restart: no such option; did you mean --max-restarts?",
            "-i=\"two\": not a number",
            "--stop-timeout=\"5\": the unit is missing",
            "-x: no such option",
            "RINIT_LOG=\"pretty\": allowed: prefix, raw, json",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn flags_of_the_other_mode_are_refused_and_their_variables_are_not() {
        assert!(refused("--restart never app", &[]).contains("add -i N"));
        assert!(refused("-i 1 -g app", &[]).contains("-g: means something only without -i"));
        assert!(refused("-i 1 --linger 1s app", &[]).contains("--linger: means something only without -i"));
        init("app", &[("RINIT_RESTART", "never")]);
    }

    #[test]
    fn options_of_tini_and_dumb_init_have_the_same_meaning() {
        let options = init("-gwvve 143 -e 3 -p SIGTERM -r TERM:INT -r 1:0 -- sh -c x", &[]);
        assert!(options.group && options.warn_reaped);
        assert_eq!((options.verbosity.level, options.success.clone()), (3, vec![143, 3]));
        assert_eq!(options.command, ["sh", "-c", "x"]);
        assert_eq!(options.rewrite.len(), 2);
        let options =
            init("app", &[("TINI_KILL_PROCESS_GROUP", ""), ("DUMB_INIT_SETSID", "1"), ("RINIT_REWRITE", "15:2")]);
        assert!(options.group && options.session);
        assert_eq!(options.rewrite[&crate::core::Signal::TERM], Some(crate::core::Signal::INT));
        assert!(!init("-c app", &[("DUMB_INIT_SETSID", "1")]).session);
    }

    #[test]
    fn no_command_is_a_fault() {
        assert!(refused("", &[]).contains("no command is given"));
        assert!(refused("-i 2 --", &[]).contains("no command is given"));
    }

    #[test]
    fn the_name_that_rinit_is_called_by_decides_which_program_it_is() {
        let called = |words: &[&str]| super::super::parse(words.iter().map(OsString::from).collect(), &[]);
        assert!(
            matches!(called(&["/sbin/docker-init", "--version"]), Invocation::Print(text) if text.starts_with("tini version "))
        );
        assert!(
            matches!(called(&["tini", "sh", "-c", "x"]), Invocation::Refuse(Refusal { code: 1, .. })),
            "its options are permuted"
        );
        assert!(matches!(called(&["tini", "-p", "TERM", "--", "x"]), Invocation::Refuse(Refusal { code: 1, .. })));
        assert!(matches!(called(&["tini", "-e", "256", "--", "x"]), Invocation::Refuse(Refusal { code: 1, .. })));
        assert!(matches!(called(&["tini"]), Invocation::Refuse(Refusal { code: 1, .. })));
        assert!(
            matches!(called(&["tini", "-s", "--", "sh", "-c", "x"]), Invocation::Init(options) if options.command.len() == 3)
        );
        assert!(
            matches!(called(&["dumb-init", "-r", "15:3", "sh", "-c", "x"]), Invocation::Init(options) if options.session)
        );
        assert!(matches!(called(&["dumb-init", "--single-child", "x"]), Invocation::Init(options) if !options.session));
        assert!(
            matches!(called(&["dumb-init", "-V"]), Invocation::Refuse(Refusal { text, code: 0 }) if text.contains("1.2.5"))
        );
        assert!(matches!(called(&["dumb-init"]), Invocation::Refuse(Refusal { code: 1, .. })));
    }
}
