//! Parses the command line of rinit under its own name: the settings' flags, and tini's and dumb-init's for init mode.

use super::*;
use crate::config::{self, ConfigFile, Faults, Given, Layer, Setting, exit_code, for_init, for_supervisor, nearest};
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
    let (below, mut warnings) = config::from_environment(environment, &mut faults);
    let mut layer = flags.or(below);
    let before = faults.0.len();
    let file = config::file_of(&layer, &init.command).map(|path| config::read_file(&path, &layer, &mut faults));
    let has_apps = file.as_ref().is_some_and(|file| !file.apps.is_empty()) || faults.0.len() > before;
    let file = file.or_else(|| layer.is_supervisor().then(ConfigFile::default));
    if !init.command.is_empty() {
        warnings.extend(config::warnings(&init.command, file.is_some()));
    } else if !has_apps {
        let why = match file.as_ref().and_then(|file| file.path.as_ref()) {
            Some(path) => format!("{} has no app, and no command is given", path.display()),
            None => {
                "no command is given: rinit [OPTIONS] -- COMMAND [ARG]..., or --config FILE; see rinit --help".into()
            }
        };
        faults.note("COMMAND", why);
    }
    let invocation = if let Some(file) = file {
        for flag in init_flags {
            // The same in both modes.
            if flag == "-g" && layer.put("kill-process-group", Given::by_flag("-g", "true")) {
                continue;
            }
            faults.note(flag, "means something only without -i, where rinit has one child");
        }
        let mut config = for_supervisor(&layer, &file, &init.command, Path::new("/"), &mut faults);
        warnings.extend(std::mem::take(&mut config.warnings));
        Invocation::Supervise(Box::new(config), warnings)
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
    /// True if the option before is unknown, and the next word may be its value.
    after_unknown: bool,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            flags: Layer::default(),
            init: init::Options::rinit(vec![]),
            init_flags: vec![],
            faults: Faults::default(),
            print: None,
            after_unknown: false,
        }
    }
}

impl Line {
    /// Reads the arguments to the end, so that every fault is reported.
    fn read(&mut self, arguments: Vec<OsString>) {
        let count = arguments.len();
        let separator = arguments.iter().position(|argument| argument == "--");
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
            let after_unknown = std::mem::take(&mut self.after_unknown);
            match (setting, argument) {
                (Some(setting), _) => self.setting(setting, written, &mut parser),
                (None, Arg::Value(word)) => {
                    let Ok(rest) = parser.raw_args() else { return };
                    let at = count - rest.as_slice().len() - 1;
                    if after_unknown && separator.is_some_and(|separator| at < separator) {
                        // The command is behind the separator, so this is the unknown option's value.
                        continue;
                    }
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
            form if parser.try_raw_args().is_some_and(|rest| rest.peek().is_some_and(is_option)) => {
                let switch = pm2::value_of_switch(setting.flag);
                let advice =
                    switch.map_or(String::new(), |value| format!("; for pm2's {written} write {written} {value}"));
                return self.faults.note(written, format!("{form} is missing{advice}"));
            }
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
            _ => {
                let theirs = pm2::by_letter(letter);
                let answer =
                    theirs.map_or("see rinit --help".into(), |theirs| format!("it is pm2's: {}", theirs.answer));
                self.faults.note(written, format!("no such option; {answer}"));
                self.skip_value(theirs.is_some_and(|theirs| theirs.has_value), parser);
                return;
            }
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
                let (theirs, meant) = (pm2::by_name(name), nearest(name, known));
                let advice = match (theirs, meant) {
                    (Some(theirs), _) => format!("it is pm2's: {}", theirs.answer),
                    (None, Some(meant)) => format!("did you mean --{meant}?"),
                    (None, None) => "see rinit --help".into(),
                };
                self.faults.note(written, format!("no such option; {advice}"));
                let has_value = match theirs {
                    Some(theirs) => theirs.has_value,
                    None => meant.and_then(config::by_flag).is_some_and(|setting| !setting.form.is_empty()),
                };
                self.skip_value(has_value, parser);
            }
        }
    }
}

/// True for a word that is an option, and so no other option's value.
fn is_option(word: &OsStr) -> bool {
    let text = word.to_str().unwrap_or_default();
    let long = text.strip_prefix("--").map(|name| name.split_once('=').map_or(name, |(name, _)| name));
    match long {
        Some(name) => name.is_empty() || config::by_flag(name).is_some(),
        None => config::all().any(|setting| setting.letter.is_some_and(|letter| text == format!("-{letter}"))),
    }
}

impl Line {
    /// Passes over the value of an unknown option, which is not the command.
    fn skip_value(&mut self, has_value: bool, parser: &mut Parser) {
        let value = if has_value { parser.value().ok() } else { parser.optional_value() };
        self.after_unknown = value.is_none();
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
        let text = refused("--max-restart 3 -i two --stop-timeout 5 -x -w", &[("RINIT_LOG", "pretty")]);
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
    fn every_fault_is_reported_although_an_unknown_option_has_a_value_before_the_separator() {
        let text = refused("--frobnicate 3 -i two -X --stop-timeout 5 -- app -- x", &[]);
        for part in
            ["for 4 reasons", "--frobnicate: no such option", "-i=\"two\"", "-X: no such", "--stop-timeout=\"5\""]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let text = refused("--frobnicate -i two -- app", &[]);
        assert!(text.contains("for 2 reasons"), "{text}");
        let text = refused("--frobnicate=3 -i 2 app", &[]);
        assert!(text.contains("cannot start:\n"), "{text}");
    }

    #[test]
    fn options_of_pm2_are_answered_with_those_of_rinit() {
        let line =
            "-i 2 -n web --wait-ready --kill-timeout 5000 --listen-timeout=3000 --max-memory-restart 1G --watch -- app";
        let text = refused(line, &[]);
        for part in [
            "for 6 reasons",
            "-n: no such option; it is pm2's: write --name NAME",
            "--wait-ready: no such option; it is pm2's: write --ready message",
            "--kill-timeout: no such option; it is pm2's: write --stop-timeout D",
            "--listen-timeout: no such option; it is pm2's: write --ready-timeout D",
            "--watch: PATH is missing; for pm2's --watch write --watch .",
            "--max-memory-restart: no such option; it is pm2's: write --max-memory SIZE",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn flags_of_the_other_mode_are_refused_and_their_variables_are_not() {
        assert!(refused("--restart never app", &[]).contains("add -i N"));
        assert!(refused("-i 1 -w app", &[]).contains("-w: means something only without -i"));
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
    fn releases_of_tini_and_dumb_init_are_known_by_their_file_names() {
        let name_of = |file: &str| {
            let words = [file, "--", "app"].map(OsString::from).to_vec();
            match super::super::parse(words, &[]) {
                Invocation::Init(options) => options.name,
                other => panic!("{file}: {other:?}"),
            }
        };
        for file in ["tini", "/usr/bin/tini-static", "/tini-amd64", "tini-static-arm64", "docker-init"] {
            assert_eq!(name_of(file), "tini", "{file}");
        }
        for file in ["dumb-init", "/dumb-init_1.2.5_x86_64", "dumb-init_1.2.5_amd64"] {
            assert_eq!(name_of(file), "dumb-init", "{file}");
        }
        for file in ["rinit", "tinier", "my-tini", "dumb-initial", "rinit-amd64"] {
            assert_eq!(name_of(file), "rinit", "{file}");
        }
    }

    #[test]
    fn as_tini_posixly_correct_ends_the_options_at_the_command() {
        let parse = |environment: &[(OsString, OsString)]| {
            let words = ["tini", "-g", "sh", "-c", "exit", "--", "x"].map(OsString::from).to_vec();
            super::super::parse(words, environment)
        };
        assert!(matches!(parse(&[]), Invocation::Refuse(Refusal { code: 1, .. })));
        match parse(&[("POSIXLY_CORRECT".into(), "".into())]) {
            Invocation::Init(options) => assert_eq!(options.command, ["sh", "-c", "exit", "--", "x"]),
            other => panic!("{other:?}"),
        }
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
