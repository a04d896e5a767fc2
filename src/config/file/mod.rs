//! Reads the file of `--config`: TOML or JSON, by its ending, in rinit's own form or in that of pm2's ecosystem files.
//!
//! ```text
//! TOML ─┐                ┌─ keys (rinit's own form) ─┐
//! JSON ─┴─ tree of nodes ┴─ pm2 (ecosystem file) ────┴─ ConfigFile: a Layer for each part
//! ```

mod document;
mod json;
mod keys;
mod pm2;
mod pm2_fields;
mod toml;

use super::env_file::read_text;
use super::faults::Faults;
use super::given::Place;
use super::layer::Layer;
use document::SourceText;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that is read where neither a file nor a command is given.
pub const DEFAULT_FILE: &str = "/etc/rinit.toml";
/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The largest number of apps.
const MAX_APPS: usize = 128;
/// The mark that some editors put at the beginning of UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The settings of a file, as text.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    /// The file; none if no file is read.
    pub path: Option<PathBuf>,
    /// The settings of the container.
    pub general: Layer,
    /// The settings of every app that does not set them itself.
    pub defaults: Layer,
    /// The apps, in the order of the file.
    pub apps: Vec<FileApp>,
    /// It is pm2's ecosystem file.
    pub is_pm2: bool,
    /// Remarks on values that are used, to be logged.
    pub warnings: Vec<String>,
}

/// An app of a file.
#[derive(Clone, Debug)]
pub struct FileApp {
    /// The place where it begins.
    pub place: Place,
    /// Its settings.
    pub layer: Layer,
}

/// Returns the file to be read: the one that is given, else the default one where no command is given and it exists.
pub fn file_of(layer: &Layer, command: &[OsString]) -> Option<PathBuf> {
    let given = layer.by_flag("config").first().map(|given| PathBuf::from(&given.text));
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| command.is_empty() && path.exists());
    given.or_else(default)
}

/// Reads a file as [`parse_file`] does. It may take as long as the file system takes.
pub fn read_file(path: &Path, layer: &Layer, faults: &mut Faults) -> ConfigFile {
    let read = read_text(path, MAX_FILE);
    let text = read.unwrap_or_else(|why| {
        faults.note(path.display().to_string(), format!("cannot read it: {why}"));
        String::new()
    });
    if text.is_empty() {
        ConfigFile { path: Some(path.to_owned()), ..ConfigFile::default() }
    } else {
        parse_file(path, &text, layer, faults)
    }
}

/// Parses the text of a file: TOML or JSON, by its ending. Every fault is noted at its place. `layer` holds what flags and
/// variables give: of pm2's environments, the one of `--env` is taken.
pub fn parse_file(path: &Path, text: &str, layer: &Layer, faults: &mut Faults) -> ConfigFile {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let source = SourceText::new(Arc::from(path), text);
    let root = match path.extension().and_then(OsStr::to_str).unwrap_or_default() {
        "toml" => toml::read(&source, faults),
        "json" => json::read(&source, faults),
        ending => {
            // As require() wants it.
            let is_complete = path.is_absolute() || path.starts_with(".");
            let module = if is_complete { path.to_owned() } else { Path::new(".").join(path) };
            let why = match ending {
                "js" | "cjs" | "mjs" => format!(
                    "JavaScript is not read: write it as JSON with node -p 'JSON.stringify(require(\"{}\"))' > ecosystem.json",
                    module.display()
                ),
                _ => "its ending says neither .toml nor .json".into(),
            };
            faults.note(path.display().to_string(), why);
            None
        }
    };
    let environment = layer.by_flag("env").first().map(|given| given.text.as_str());
    let mut file = match &root {
        None => ConfigFile::default(),
        Some(root) => match pm2::apps(root) {
            Some(apps) => pm2::read(&apps, environment, faults),
            None => keys::read(root, faults),
        },
    };
    file.path = Some(path.to_owned());
    if let Some(app) = file.apps.get(MAX_APPS) {
        faults.note_place(&app.place, format!("more than {MAX_APPS} apps"));
        file.apps.truncate(MAX_APPS);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::super::resolve::{SupervisorConfig, for_supervisor};
    use super::super::{Given, Layer};
    use super::*;
    use std::ffi::OsString;

    fn read(name: &str, text: &str) -> (ConfigFile, Vec<String>) {
        let mut faults = Faults::default();
        let file = parse_file(Path::new(name), text, &Layer::default(), &mut faults);
        (file, faults.lines())
    }

    fn resolved(layer: &Layer, text: &str) -> (SupervisorConfig, Vec<String>) {
        let mut faults = Faults::default();
        let name = if text.starts_with('{') { "f.json" } else { "f.toml" };
        let file = parse_file(Path::new(name), text, &Layer::default(), &mut faults);
        let config = for_supervisor(layer, &file, &[], Path::new("/"), &mut faults);
        (config, faults.lines())
    }

    const TOML: &str = r#"
log = "json"
linger = "2s"

[defaults]
stop_timeout = "20s"
env = { LANG = "C", PORT = 1 }

[[app]]
name = "api"
command = ["node", "api.js", " spaces "]
instances = 2
stop-exit-codes = [0, 3]
env = { PORT = 8080, URL = "a=b" }
limits = { nofile = "1024:4096", core = 0 }
umask = 0o027
nice = 5
cwd = "/app"
after = ["db"]

[[app]]
name = "db"
command = "python3 -m db --x 'a b'"
stop_timeout = "1s"
env_file = ["/a", "/b"]
hooks = { pre_start = ["./migrate", "a b"], timeout = "5s" }
"#;

    const JSON: &str = r#"{
"$schema": "x", "log": "json", "linger": "2s", "web": null,
"defaults": { "stop_timeout": "20s", "env": { "LANG": "C", "PORT": 1 } },
"app": [
  { "name": "api", "command": ["node", "api.js", " spaces "], "instances": 2, "stop-exit-codes": [0, 3],
    "env": { "PORT": 8080, "URL": "a=b" }, "limits": { "nofile": "1024:4096", "core": 0 }, "umask": "027", "nice": 5,
    "cwd": "/app", "after": ["db"] },
  { "name": "db", "command": "python3 -m db --x 'a b'", "stop_timeout": "1s", "env_file": ["/a", "/b"],
    "hooks": { "pre_start": ["./migrate", "a b"], "timeout": "5s" } }
] }"#;

    #[test]
    fn the_same_apps_are_read_from_toml_and_from_json() {
        for text in [TOML, JSON] {
            let (config, faults) = resolved(&Layer::default(), text);
            assert_eq!(faults, [""; 0]);
            let [api, db] = &config.apps[..] else { panic!("{config:?}") };
            assert_eq!(api.command, ["node", "api.js", " spaces "]);
            assert_eq!((api.instances.count, api.policy.stop.timeout.as_secs()), (2, 20));
            assert_eq!(api.policy.stop_exit_codes, [0, 3]);
            let env: Vec<String> = api.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(env, ["LANG=C", "PORT=1", "PORT=8080", "URL=a=b"]);
            assert_eq!((api.process.umask, api.process.nice, api.process.limits.len()), (Some(0o27), Some(5), 2));
            assert_eq!(
                (api.process.cwd.as_deref(), api.after.as_slice()),
                (Some(Path::new("/app")), &["db".to_owned()][..])
            );
            assert_eq!(db.command, ["python3", "-m", "db", "--x", "a b"]);
            assert_eq!((db.policy.stop.timeout.as_secs(), db.env_files.len()), (1, 2));
            assert_eq!(db.hooks.pre_start.as_deref(), Some(&["./migrate".to_owned(), "a b".to_owned()][..]));
            assert_eq!((config.linger.as_secs(), config.container.log.format), (2, crate::logs::LogFormat::Json));
        }
    }

    #[test]
    fn flags_and_variables_go_before_every_app_of_the_file() {
        let mut layer = Layer::default();
        layer.put("stop-timeout", Given::by_flag("--stop-timeout", "3s"));
        layer.put("log", Given::by_variable("raw"));
        let (config, faults) = resolved(&layer, TOML);
        assert_eq!(faults, [""; 0]);
        assert!(config.apps.iter().all(|app| app.policy.stop.timeout.as_secs() == 3));
        assert_eq!(config.container.log.format, crate::logs::LogFormat::Raw);
    }

    #[test]
    fn every_fault_is_told_with_its_line_and_column() {
        let text = r#"colour = "red"
stop_timeout = "5s"
config = "x"

[defaults]
name = "x"
max_restart = 3

[[app]]
log = "json"
command = ["a", ["b"]]
stop_timeout = 5
stop-timeout = "5s"
ready = ["auto"]
instances = "two"
env = { RINIT_WORKER = 1 }
cwd = "a\u0000b"

[[app]]
name = "b"
command = "node 'x"
"#;
        let (_, faults) = resolved(&Layer::default(), text);
        for (at, part) in [
            "f.toml:1:1: colour is no setting",
            "f.toml:2:1: stop_timeout is a setting of an app: write it below [[app]] or [defaults]",
            "f.toml:3:1: config is no setting",
            "f.toml:6:8: name=\"x\": is an app's own",
            "f.toml:7:1: max_restart is no setting; did you mean max_restarts?",
            "f.toml:10:1: log is a setting of the container",
            "f.toml:11:17: a word of command is a list",
            "f.toml:12:16: stop_timeout=\"5\": the unit is missing; did you mean 5s or 5ms?",
            "f.toml:13:1: stop-timeout is given twice",
            "f.toml:14:9: ready is a list; allowed: one value",
            "f.toml:15:13: instances=\"two\": not a number",
            "f.toml:16:24: env=\"RINIT_WORKER\": rinit sets it itself",
            "f.toml:17:7: cwd=\"a\\0b\": there is a NUL byte in it",
            "f.toml:19:1: the app has no command",
            "f.toml:21:11: command: a quote is not closed",
        ]
        .iter()
        .enumerate()
        {
            assert!(faults.get(at).is_some_and(|fault| fault.starts_with(part)), "{part:?} at {at} of {faults:#?}");
        }
        assert_eq!(faults.len(), 15, "{faults:#?}");
    }

    #[test]
    fn faults_of_the_syntax_are_told_with_their_places() {
        let lines = |name: &str, text: &str| read(name, text).1.join("\n");
        let toml = lines("f.toml", "a = = 1\n[[app]]\nb = [1\n");
        assert!(toml.starts_with("f.toml:1:5: ") && toml.contains("\nf.toml:3:"), "{toml}");
        assert_eq!(lines("f.json", "{\n \"a\": 1,\n}"), "f.json:3:1: trailing comma");
        assert!(
            lines("f.json", "{ // x\n}").contains("f.json:1:3: ")
                && lines("f.json", "{ // x\n}").contains("no comments")
        );
        assert!(
            lines("f.json", "{\"log\": 1, \"l\\\"g\": 1, \"log\": 2}").contains("f.json:1:23: \"log\" is given twice")
        );
        assert!(lines("f.json", "[1]").contains("f.json:1:2: an app is a table"));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(lines("f.json", &deep).contains("inside each other"));
        assert!(!lines("f.toml", &format!("a = {deep}")).is_empty());
        assert!(
            lines("f.toml", &format!("{} = 1", "k".repeat(1_000_000))).ends_with("is no setting of the general part")
        );
        assert!(!lines("f.toml", &format!("a{} = 1", ".a".repeat(100_000))).is_empty());
    }

    #[test]
    fn apps_that_cannot_belong_together_are_refused() {
        let app = |name: &str, after: &str| format!("[[app]]\nname = \"{name}\"\ncommand = \"x\"\nafter = {after}\n");
        let faults = |apps: &[String]| resolved(&Layer::default(), &apps.concat()).1.join("\n");
        assert_eq!(faults(&[app("a", "[]"), app("b", "[\"a\"]"), app("c", "[\"a\", \"b\"]")]), "");
        assert!(faults(&[app("a", "[]"), app("a", "[]")]).contains("f.toml:5:1: two apps are called a"));
        assert!(faults(&[app("web", "[]"), app("web-1", "[]")]).contains("that of a worker of web"));
        assert!(
            faults(&[app("database", "[]"), app("b", "[\"databse\"]")])
                .contains("f.toml:8:10: after=\"databse\": there is no app databse; did you mean database?")
        );
        assert!(faults(&[app("a", "[\"a\"]")]).contains("wait for each other: a after a"));
        let cycle = faults(&[app("x", "[\"a\"]"), app("a", "[\"b\"]"), app("b", "[\"c\"]"), app("c", "[\"a\"]")]);
        assert!(cycle.contains("f.toml:5:1: these apps wait for each other: a after b after c after a"), "{cycle}");
    }

    #[test]
    fn a_task_has_one_worker_that_is_not_started_again() {
        let task = |more: &str| {
            format!("[[app]]\ncommand = \"./migrate\"\nkind = \"task\"\n{more}\n[[app]]\ncommand = \"x\"\n")
        };
        let mut layer = Layer::default();
        layer.put("instances", Given::by_flag("-i", "4"));
        let (config, faults) = resolved(&layer, &task(""));
        assert_eq!(faults, [""; 0]);
        assert_eq!((config.apps[0].instances.count, config.apps[0].policy.restart), (1, crate::core::Restart::Never));
        assert_eq!((config.apps[1].instances.count, config.apps[1].policy.restart), (4, crate::core::Restart::Always));
        for (more, part) in [("instances = 2", "a task has one worker"), ("restart = \"always\"", "a task runs once")] {
            let (_, faults) = resolved(&layer, &task(more));
            assert!(faults.len() == 1 && faults[0].contains(part), "{faults:?}");
        }
        assert_eq!(resolved(&layer, &task("restart = \"on-failure\"")).1, [""; 0]);
    }

    #[test]
    fn a_command_and_a_file_with_apps_contradict_each_other_and_defaults_do_not() {
        let run = |text: &str| {
            let mut faults = Faults::default();
            let file = parse_file(Path::new("f.toml"), text, &Layer::default(), &mut faults);
            let config =
                for_supervisor(&Layer::default(), &file, &[OsString::from("app")], Path::new("/"), &mut faults);
            (config, faults.lines())
        };
        let (config, faults) = run("[defaults]\ninstances = 3\nenv = { A = 1 }\n");
        assert_eq!((config.apps.len(), config.apps[0].instances.count, config.apps[0].env.len()), (1, 3, 1));
        assert_eq!(faults, [""; 0]);
        assert!(
            run("[[app]]\ncommand = \"x\"\n").1[0]
                .contains("f.toml:1:1: the file has apps, and a command is given too")
        );
    }

    #[test]
    fn an_app_whose_end_is_awaited_and_that_is_started_again_is_told_of() {
        let warnings = |more: &str| {
            let text = format!("[[app]]\nname = \"cmd\"\ncommand = [\"x\"]\non_exit = \"end\"\n{more}");
            resolved(&Layer::default(), &text).0.warnings
        };
        let [warning] = &warnings("")[..] else { panic!("{:?}", warnings("")) };
        assert!(warning.starts_with("f.toml:4:11: cmd is started again when it ends"), "{warning}");
        assert_eq!(warnings("restart = \"always\"\nmax_restarts = 0").len(), 1);
        for more in ["restart = \"never\"", "restart = \"on-failure\"", "kind = \"task\"", "stop_exit_codes = [0]"] {
            assert_eq!(warnings(more), [""; 0], "{more}");
        }
        let of_defaults = "[defaults]\non_exit = \"end\"\n[[app]]\nname = \"a\"\ncommand = [\"x\"]\n";
        assert!(resolved(&Layer::default(), of_defaults).0.warnings[0].starts_with("f.toml:2:11: a is started"));
    }

    #[test]
    fn shell_syntax_in_a_command_is_told_of() {
        let (file, _) = read("f.toml", "[[app]]\ncommand = \"cd /app && node app.js\"\n");
        assert_eq!(file.warnings.len(), 1);
        assert!(file.warnings[0].starts_with("f.toml:2:11: the command has shell syntax, so sh -c runs it"));
    }

    #[test]
    fn no_text_makes_the_parser_fail_and_every_fault_is_in_the_text() {
        use proptest::prelude::*;
        let pieces = prop::sample::select(vec![
            "[[app]]",
            "[defaults]",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'",
            ",",
            ":",
            "=",
            "\n",
            " ",
            "command",
            "env",
            "limits",
            "\"app\"",
            "\"apps\"",
            "\"script\"",
            "hooks",
            "a.b",
            "1",
            "true",
            "null",
            "\\u0000",
            "\\",
            "#",
            "\u{feff}",
            "é",
            "\"\"\"",
        ]);
        let text = prop_oneof![prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat()), "\\PC*"];
        let cut = (prop_oneof![Just(TOML), Just(JSON)], any::<prop::sample::Index>(), 0usize..40).prop_map(
            |(text, at, length)| {
                let characters: Vec<char> = text.chars().collect();
                let at = at.index(characters.len());
                characters[..at].iter().chain(characters.get(at + length..).unwrap_or_default()).collect::<String>()
            },
        );
        proptest!(|(text in prop_oneof![text, cut], name in prop_oneof![Just("f.toml"), Just("f.json")])| {
            let mut faults = Faults::default();
            let file = parse_file(Path::new(name), &text, &Layer::default(), &mut faults);
            for_supervisor(&Layer::default(), &file, &[], Path::new("/"), &mut faults);
            let lines = text.split('\n').count();
            for place in faults.0.iter().filter_map(|fault| fault.place.as_ref()) {
                prop_assert!(place.line <= lines && place.column <= text.chars().count() + 1, "{place} in {text:?}");
            }
        });
    }

    #[test]
    fn javascript_is_answered_with_the_command_that_makes_it_json() {
        let mut faults = Faults::default();
        parse_file(Path::new("/app/ecosystem.config.js"), "x", &Layer::default(), &mut faults);
        parse_file(Path::new("dist/app.config.cjs"), "x", &Layer::default(), &mut faults);
        parse_file(Path::new("/app/pm2.yaml"), "x", &Layer::default(), &mut faults);
        read_file(Path::new("/none.toml"), &Layer::default(), &mut faults);
        let faults = faults.lines();
        assert!(faults[0].contains("node -p 'JSON.stringify(require(\"/app/ecosystem.config.js\"))' > ecosystem.json"));
        assert!(faults[1].contains("require(\"./dist/app.config.cjs\")"));
        assert!(faults[2].contains("neither .toml nor .json"));
        assert!(faults[3].contains("/none.toml: cannot read it: No such file"));
    }
}
