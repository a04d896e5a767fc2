//! Puts the fields of pm2's ecosystem file, under its own names and in its own units, into layers.
//!
//! Source: `lib/Common.js` and `lib/God/` of pm2 7.0. Fields that pm2 has and rinit does not do are
//! told of with what to do instead. rinit's own keys are read too, where pm2 has none of that name.

use super::super::environment::nearest;
use super::super::faults::Faults;
use super::super::given::{Given, Place};
use super::super::layer::Layer;
use super::super::settings::{Scope, by_flag, by_key};
use super::document::{Entry, Node, NodeValue};
use super::keys::Part;
use super::pm2_fields::FIELDS;
use super::pm2_fields::Meaning::{Instead, Milliseconds, Refused, Same, Silent, Special};
use super::{ConfigFile, FileApp};
use std::io::Read;
use std::path::Path;

/// The apps of a file in pm2's form: `{apps: […]}`, `{pm2: […]}`, a list of apps, or one app; `None`: it is in rinit's form.
pub(super) fn apps(root: &Node) -> Option<Vec<&Node>> {
    match &root.value {
        NodeValue::List(apps) => Some(apps.iter().collect()),
        NodeValue::Table(entries) => {
            let named = |name: &str| entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node);
            match named("apps").or_else(|| named("pm2")) {
                Some(Node { value: NodeValue::List(apps), .. }) => Some(apps.iter().collect()),
                Some(app) => Some(vec![app]),
                None => named("script").map(|_| vec![root]),
            }
        }
        NodeValue::Text(_) | NodeValue::Plain(_) => None,
    }
}

/// Reads the apps. `environment` is the one whose variables are taken: `env_production` for `production`.
pub(super) fn read(apps: &[&Node], environment: Option<&str>, faults: &mut Faults) -> ConfigFile {
    let mut file = ConfigFile { is_pm2: true, ..ConfigFile::default() };
    let mut has_environment = environment.is_none();
    for node in apps {
        let NodeValue::Table(entries) = &node.value else {
            faults.note_place(&node.place, format!("an app is a table, and this is {}", node.kind()));
            continue;
        };
        let mut app = App::new(&node.place, entries);
        entries.iter().for_each(|entry| app.take(entry, faults));
        app.take_variables(environment, &mut has_environment, faults);
        app.take_command(faults);
        let of_app = app.part.layer;
        file.general = std::mem::take(&mut file.general).or(app.general);
        file.warnings.extend(app.warnings.into_iter().chain(app.part.warnings));
        file.apps.push(FileApp { place: node.place.clone(), layer: of_app });
    }
    if let (false, Some(name)) = (has_environment, environment) {
        faults.note("--env", format!("no app has env_{name}"));
    }
    file
}

/// An app of pm2's.
struct App<'a> {
    entries: &'a [Entry],
    part: Part,
    general: Layer,
    warnings: Vec<String>,
}

impl<'a> App<'a> {
    fn new(place: &'a Place, entries: &'a [Entry]) -> App<'a> {
        let part = Part::new("an app", |scope| matches!(scope, Scope::App | Scope::Program));
        let mut app = App { entries, part, general: Layer::default(), warnings: vec![] };
        // The signal that pm2 sends, and to the whole process tree (treekill). The app's handler is for that one.
        app.put("stop-signal", place, "stop_signal", "SIGINT");
        app.put("kill-process-group", place, "kill_process_group", "true");
        app
    }

    /// The value of the first of these fields that is there.
    fn get(&self, names: &[&str]) -> Option<&'a Entry> {
        let is_off = |node: &Node| matches!(&node.value, NodeValue::Plain(text) if text == "false");
        let found = self.entries.iter().find(|entry| names.contains(&entry.key.as_str()))?;
        (!is_off(&found.node)).then_some(found)
    }

    fn put(&mut self, flag: &str, place: &Place, key: &str, text: impl Into<String>) {
        self.part.layer.put_key(flag, Given::by_key(place.clone(), key, text));
    }

    fn put_general(&mut self, flag: &str, node: &Node, key: &str, text: &str) {
        self.general.put(flag, Given::by_key(node.place.clone(), key, text));
    }

    fn take(&mut self, entry: &Entry, faults: &mut Faults) {
        let Entry { key, place, node } = entry;
        let Some((_, meaning)) = FIELDS.iter().find(|(names, _)| names.contains(&key.as_str())) else {
            // An environment that is not the one to be taken; one of rinit's own keys; or a field that pm2 ignores too.
            if is_environment(entry) {
                return;
            }
            if self.part.has_setting(key) {
                return self.part.take(entry, faults);
            }
            return match nearest(key, FIELDS.iter().flat_map(|(names, _)| names.iter().copied())) {
                Some(field) => faults.note_place(place, format!("{key} is no field; did you mean {field}?")),
                None => self.warnings.push(format!("{place}: {key} has no effect: pm2 has no field of that name")),
            };
        };
        match meaning {
            Same(flag) => {
                let Some(setting) = by_key(flag).or(by_flag(flag)) else { return };
                // pm2 has a text with commas, or a value, where a list is meant.
                let values: Vec<&Node> = match &node.value {
                    NodeValue::List(list) => list.iter().collect(),
                    NodeValue::Text(_) | NodeValue::Plain(_) | NodeValue::Table(_) => vec![node],
                };
                for value in values {
                    match value.text() {
                        Some(text) => self.part.put(setting, Given::by_key(value.place.clone(), key, text), faults),
                        None => faults.note_place(&value.place, format!("{key} is {}", value.kind())),
                    }
                }
            }
            Milliseconds(flag) => {
                if let (Some(text), Some(setting)) = (time(node), by_flag(flag)) {
                    self.part.put(setting, Given::by_key(node.place.clone(), key, text), faults);
                } else {
                    faults.note_place(&node.place, format!("{key}: allowed: milliseconds, or a time such as 10s"));
                }
            }
            Special => self.take_part(entry, faults),
            Silent => {}
            Instead(advice) => self.warnings.push(format!("{place}: {key} has no effect: {advice}")),
            Refused(advice) => faults.note_place(place, format!("{key}: {advice}")),
        }
    }

    /// Takes a field whose value decides what is made of it.
    fn take_part(&mut self, entry: &Entry, faults: &mut Faults) {
        let Entry { key, place, node } = entry;
        let text = node.text().unwrap_or_default();
        let is_on = !matches!(text, "false" | "" | "0");
        match key.as_str() {
            "instances" => self.put("instances", &node.place, key, text),
            "autorestart" if text == "false" => self.put("restart", &node.place, key, "never"),
            "wait_ready" if is_on => self.put("ready", &node.place, key, "message"),
            "restart_delay" | "exp_backoff_restart_delay" if is_on => match time(node) {
                Some(delay) if key == "restart_delay" => {
                    self.put("backoff", &node.place, key, format!("{delay}..{delay}"));
                }
                // It grows by half, up to 15 s, in both.
                Some(delay) => self.put("backoff", &node.place, key, format!("{delay}..15s")),
                None => faults.note_place(&node.place, format!("{key}: allowed: milliseconds")),
            },
            "max_memory_restart" if is_on => {
                let unit = if text.ends_with(|c: char| c.is_ascii_digit()) { "B" } else { "" };
                self.put("max-memory", &node.place, key, format!("{text}{unit}"));
            }
            "cron_restart" | "cron" if is_on => self.put("cron", &node.place, key, text),
            "watch" => match &node.value {
                NodeValue::List(paths) => {
                    paths.iter().for_each(|path| self.put("watch", &path.place, key, path.text().unwrap_or_default()));
                }
                NodeValue::Text(path) => self.put("watch", &node.place, key, path),
                NodeValue::Plain(_) | NodeValue::Table(_) if is_on => self.put("watch", &node.place, key, "."),
                NodeValue::Plain(_) | NodeValue::Table(_) => {}
            },
            "filter_env" => match &node.value {
                NodeValue::List(names) => {
                    for name in names {
                        let pattern = format!("*{}*", name.text().unwrap_or_default());
                        self.put("filter-env", &name.place, key, pattern);
                    }
                }
                NodeValue::Text(name) => self.put("filter-env", &node.place, key, name),
                NodeValue::Plain(_) | NodeValue::Table(_) if is_on => self.put("filter-env", &node.place, key, "*"),
                NodeValue::Plain(_) | NodeValue::Table(_) => {}
            },
            "treekill" if !is_on => self.put("kill-process-group", &node.place, key, "false"),
            "uid" | "user" | "gid" => self.take_user(key),
            "log_type" if matches!(text, "json" | "raw") => self.put_general("log", node, key, text),
            "time" if is_on => self.put_general("log-time", node, key, "true"),
            "log_date_format" if is_on => {
                self.put_general("log-time", node, key, "true");
                self.warnings.push(format!("{place}: {key}: the time is in the form of RFC 3339"));
            }
            "autostart" if text == "false" => {
                faults.note_place(
                    place,
                    "autostart: rinit starts every app: leave this one out, or stop it with rinit stop",
                );
            }
            "source_map_support" if is_on => {
                self.warnings
                    .push(format!("{place}: {key} has no effect: write \"node_args\": \"--enable-source-maps\""));
            }
            "instance_var" if text != "NODE_APP_INSTANCE" => {
                self.put("increment-env", &node.place, key, format!("{text}=0"));
            }
            // With the command, or with the variables.
            _ => {}
        }
    }

    /// One setting is made of the user and the group.
    fn take_user(&mut self, key: &str) {
        let (user, group) = (self.get(&["uid", "user"]), self.get(&["gid"]));
        // Once, by the first of the two.
        if self
            .entries
            .iter()
            .find(|entry| ["uid", "user", "gid"].contains(&entry.key.as_str()))
            .is_none_or(|entry| entry.key != key)
        {
            return;
        }
        let text = |entry: Option<&Entry>| entry.and_then(|entry| entry.node.text()).map(str::to_owned);
        let own = || nix::unistd::getuid().to_string();
        let text = match (text(user), text(group)) {
            (user, Some(group)) => format!("{}:{group}", user.unwrap_or_else(own)),
            (user, None) => user.unwrap_or_else(own),
        };
        if let Some(entry) = user.or(group) {
            self.put("user", &entry.node.place, key, text);
        }
    }

    /// `env`, then the environment that was asked for; of these, the base of `increment_var`.
    fn take_variables(&mut self, environment: Option<&str>, has_environment: &mut bool, faults: &mut Faults) {
        let mut variables: Vec<(String, String)> = vec![];
        if let Some(port) = self.get(&["port"]) {
            variables.push(("PORT".into(), port.node.text().unwrap_or_default().into()));
        }
        let wanted = environment.map(|name| format!("env_{name}")).unwrap_or_default();
        for name in ["env", wanted.as_str()] {
            let Some(entry) = self.entries.iter().find(|entry| entry.key == name) else { continue };
            *has_environment |= name == wanted;
            let NodeValue::Table(pairs) = &entry.node.value else {
                faults.note_place(&entry.node.place, format!("{name} is {}, and not a table", entry.node.kind()));
                continue;
            };
            for pair in pairs {
                // pm2 writes tables and lists as JSON.
                let text = pair.node.text().map_or_else(|| pair.node.to_json(), str::to_owned);
                if let Some(setting) = by_key("env") {
                    let text = format!("{}={text}", pair.key);
                    self.part.put(setting, Given::by_key(pair.node.place.clone(), name, text), faults);
                }
                variables.push((pair.key.clone(), text));
            }
        }
        if let Some(port) = self.get(&["port"]) {
            let text = format!("PORT={}", port.node.text().unwrap_or_default());
            self.put("env", &port.node.place, "port", text);
        }
        if let Some(entry) = self.get(&["increment_var"]) {
            let name = entry.node.text().unwrap_or_default();
            let base = variables.iter().rev().find(|(variable, _)| variable == name).map(|(_, base)| base.as_str());
            match base {
                Some(base) => {
                    let text = format!("{name}={base}");
                    self.put("increment-env", &entry.node.place, "increment_var", text);
                }
                None => faults.note_place(
                    &entry.node.place,
                    format!("increment_var: {name} is not in env: give its first value there"),
                ),
            }
        }
    }

    /// The interpreter with its arguments, the script and its arguments.
    fn take_command(&mut self, faults: &mut Faults) {
        let Some(script) = self.get(&["script", "exec", "cmd", "command"]) else {
            // It is told of as an app without a command.
            return;
        };
        let Some(path) = script.node.text() else {
            return faults.note_place(&script.node.place, format!("{} is {}", script.key, script.node.kind()));
        };
        let words = |names: &[&str], faults: &mut Faults| match self.get(names) {
            Some(entry) => words(entry, faults),
            None => vec![],
        };
        let interpreter = self.get(&["interpreter", "exec_interpreter"]).and_then(|entry| entry.node.text());
        let options = words(&["node_args", "interpreter_args", "interpreterArgs"], faults);
        let arguments = words(&["args"], faults);
        let cwd = self.get(&["cwd"]).and_then(|entry| entry.node.text()).unwrap_or_default();
        // pm2 looks in the working directory before PATH.
        let is_in_cwd = !path.contains('/') && Path::new(cwd).join(path).is_file();
        let in_cwd = format!("./{path}");
        let mut command: Vec<String> = match interpreter {
            Some("none") => vec![],
            Some(interpreter) => std::iter::once(interpreter.to_owned()).chain(options).collect(),
            // A whole command, which pm2 gives to a shell.
            None if path.contains(char::is_whitespace) => vec!["sh".into(), "-c".into()],
            None => {
                let file = if is_in_cwd { &in_cwd } else { path };
                interpreter_of(file, Path::new(cwd)).map(str::to_owned).into_iter().chain(options).collect()
            }
        };
        command.push(if command.is_empty() && is_in_cwd { in_cwd } else { path.to_owned() });
        command.extend(arguments);
        let (place, key) = (script.node.place.clone(), script.key.clone());
        for word in command {
            if let Some(setting) = by_key("command") {
                self.part.put(setting, Given::by_key(place.clone(), &key, word), faults);
            }
        }
    }
}

/// True if the field is the variables of one environment.
fn is_environment(entry: &Entry) -> bool {
    let is_named = entry.key.strip_prefix("env_").is_some_and(|name| name != "file");
    is_named && matches!(entry.node.value, NodeValue::Table(_))
}

/// A time of pm2's: milliseconds as a number, or with a unit.
fn time(node: &Node) -> Option<String> {
    let text = node.text()?.trim();
    let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    Some(if is_number { format!("{text}ms") } else { text.to_owned() })
}

/// Words: a list, or a text that is taken apart at its spaces.
fn words(entry: &Entry, faults: &mut Faults) -> Vec<String> {
    let words = match &entry.node.value {
        NodeValue::List(list) => list.iter().map(|word| word.text().map(str::to_owned)).collect(),
        NodeValue::Text(text) | NodeValue::Plain(text) => shell_words::split(text).ok(),
        NodeValue::Table(_) => None,
    };
    words.unwrap_or_else(|| {
        faults.note_place(&entry.node.place, format!("{}: allowed: words, as a text or a list", entry.key));
        vec![]
    })
}

/// The interpreter that pm2 takes for a script without one: by its ending; for a path without an ending Node, unless it is
/// a binary; none for the name of a program.
fn interpreter_of(script: &str, cwd: &Path) -> Option<&'static str> {
    let extension = Path::new(script).extension().and_then(|extension| extension.to_str());
    match extension {
        Some("py") => Some("python3"),
        Some("rb") => Some("ruby"),
        Some("php") => Some("php"),
        Some("pl") => Some("perl"),
        Some("sh") => Some("bash"),
        Some("js" | "mjs" | "cjs" | "ts") => Some("node"),
        Some(_) | None if script.contains('/') && !is_binary(&cwd.join(script)) => Some("node"),
        Some(_) | None => None,
    }
}

/// True if the file is a program for the kernel, and not a script.
fn is_binary(path: &Path) -> bool {
    let mut start = [0u8; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok_and(|()| start == *b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::super::super::resolve::{SupervisorConfig, for_supervisor};
    use super::super::parse_file;
    use super::*;
    use crate::core::MemoryLimit;
    use crate::core::{Restart, Signal};

    fn resolved(text: &str, environment: Option<&str>) -> (SupervisorConfig, Vec<String>, Vec<String>) {
        let mut faults = Faults::default();
        let mut layer = Layer::default();
        environment.map(|name| layer.put("env", Given::by_flag("--env", name)));
        let file = parse_file(Path::new("f.json"), text, &layer, &mut faults);
        let config = for_supervisor(&layer, &file, &[], Path::new("/"), &mut faults);
        (config, faults.lines(), file.warnings)
    }

    #[test]
    fn every_field_is_read_in_the_units_of_pm2() {
        let (config, faults, warnings) = resolved(
            r#"{ "apps": [{
                "name": "api", "script": "./api.js", "args": "--port 80 'a b'", "node_args": ["--max-old-space-size=64"],
                "instances": 2, "exec_mode": "cluster", "cwd": "/app", "env": { "A": 1, "PORT": 3000 },
                "env_production": { "A": 2 }, "wait_ready": true, "listen_timeout": 5000, "kill_timeout": 1600,
                "shutdown_with_message": true, "stop_exit_codes": [0, 3], "max_restarts": 5, "min_uptime": "5s",
                "exp_backoff_restart_delay": 100, "max_memory_restart": "300M", "cron_restart": "0 3 * * *",
                "watch": ["src"], "ignore_watch": "node_modules", "increment_var": "PORT", "log_type": "json", "time": true,
                "merge_logs": true, "out_file": "/dev/null", "filter_env": ["SECRET"], "instance_var": "NODE_APP_INSTANCE"
            }] }"#,
            Some("production"),
        );
        assert_eq!(faults, [""; 0]);
        let app = &config.apps[0];
        assert_eq!(app.command, ["node", "--max-old-space-size=64", "./api.js", "--port", "80", "a b"]);
        assert_eq!((app.name.as_str(), app.instances.count), ("api", 2));
        let env: Vec<String> = app.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=1", "PORT=3000", "A=2"]);
        assert_eq!((app.increment_env[0].name.as_str(), app.increment_env[0].base), ("PORT", 3000));
        let policy = &app.policy;
        assert_eq!((policy.ready_timeout.as_millis(), policy.stop.timeout.as_millis()), (5000, 1600));
        assert_eq!((policy.stable_after.as_secs(), policy.max_restarts), (5, 5));
        assert_eq!((policy.backoff.min.as_millis(), policy.backoff.max.as_secs()), (100, 15));
        assert_eq!((policy.stop.signal, policy.stop_exit_codes.as_slice()), (Signal::INT, &[0, 3][..]));
        assert_eq!(app.policy.max_memory, Some(MemoryLimit::Bytes(300 << 20)));
        assert!(app.reloads.cron.is_some());
        assert_eq!(app.reloads.watch, [Path::new("/app/src")]);
        assert!(app.filter_env[0].fits("MY_SECRET_KEY".as_ref()) && !app.filter_env[0].fits("PATH".as_ref()));
        assert_eq!(config.container.log.format, crate::logs::LogFormat::Json);
        assert!(config.container.log.time);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].ends_with("out_file has no effect: rinit writes all lines to its own output, for docker logs")
        );
    }

    #[test]
    fn fields_that_are_off_change_nothing_and_delays_may_be_constant() {
        let (config, faults, warnings) = resolved(
            r#"[{ "script": "a.py", "wait_ready": false, "watch": false, "cron_restart": 0, "restart_delay": 500,
                 "max_memory_restart": 1000000, "autorestart": false, "time": false, "env_dev": { "A": 1 } }]"#,
            None,
        );
        assert_eq!((faults, warnings), (vec![], vec![]));
        let app = &config.apps[0];
        assert_eq!(app.command, ["python3", "a.py"]);
        assert_eq!((app.policy.restart, app.reloads.watch.len(), app.env.len()), (Restart::Never, 0, 0));
        assert_eq!((app.policy.backoff.min.as_millis(), app.policy.backoff.max.as_millis()), (500, 500));
        assert_eq!((app.policy.max_memory, &app.reloads.cron), (Some(MemoryLimit::Bytes(1_000_000)), &None));
    }

    #[test]
    fn the_interpreter_is_found_as_pm2_finds_it() {
        let command = |fields: &str| {
            let (config, faults, _) = resolved(&format!("{{ {fields} }}"), None);
            assert_eq!(faults, [""; 0], "{fields}");
            let words: Vec<_> = config.apps[0].command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            words.join("|")
        };
        for (fields, words) in [
            (r#""script": "npm", "args": "run start""#, "npm|run|start"),
            (r#""script": "./bin/www""#, "node|./bin/www"),
            (r#""script": "/bin/true""#, "/bin/true"),
            (r#""script": "app.sh""#, "bash|app.sh"),
            (r#""script": "./server", "interpreter": "none""#, "./server"),
            (r#""script": "app", "interpreter": "python3.12", "interpreter_args": "-u""#, "python3.12|-u|app"),
            (r#""script": "node app.js $PORT""#, "sh|-c|node app.js $PORT"),
        ] {
            assert_eq!(command(fields), words, "{fields}");
        }
    }

    #[test]
    fn what_pm2_reads_and_ignores_is_no_fault() {
        let (config, faults, warnings) = resolved(
            r#"{ "apps": [{ "script": "a.js", "description": "x", "env": { "LIST": { "a": [1, "b\"", true] }, "NONE": null } },
                         { "name": "b", "script": "b.js", "treekill": false }] }"#,
            None,
        );
        assert_eq!(faults, [""; 0]);
        assert_eq!(warnings, ["f.json:1:32: description has no effect: pm2 has no field of that name"]);
        let [a, b] = &config.apps[..] else { panic!("{config:?}") };
        let env: Vec<String> = a.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, [r#"LIST={"a":[1,"b\"",true]}"#]);
        assert!(a.policy.stop.to_group && !b.policy.stop.to_group, "treekill is pm2's default");
    }

    #[test]
    fn a_program_in_the_working_directory_goes_before_one_in_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy("/proc/self/exe", folder.path().join("server")).unwrap();
        std::fs::write(folder.path().join("true"), "console.log(1)").unwrap();
        for (script, words) in [("server", vec!["./server"]), ("true", vec!["node", "true"]), ("false", vec!["false"])]
        {
            let text = format!("{{ \"script\": \"{script}\", \"cwd\": {:?} }}", folder.path());
            assert_eq!(resolved(&text, None).0.apps[0].command, words, "{script}");
        }
    }

    #[test]
    fn faults_name_the_field_and_what_to_do() {
        let (_, faults, _) = resolved(
            r#"{ "apps": [
{ "script": "a.js", "instanses": 2 },
{ "name": "b" },
{ "name": "c", "script": "c.js", "kill_timeout": "soon", "autostart": false },
{ "name": "d", "script": "d.js", "increment_var": "PORT", "stop_timeout": "3s", "after": ["a"] } ] }"#,
            Some("staging"),
        );
        for (at, part) in [
            "--env: no app has env_staging",
            "f.json:2:21: instanses is no setting; did you mean instances?",
            "f.json:3:1: the app has no command",
            "f.json:4:50: kill_timeout=\"soon\": not a duration",
            "f.json:4:58: autostart: rinit starts every app",
            "f.json:5:51: increment_var: PORT is not in env",
        ]
        .iter()
        .enumerate()
        {
            assert!(faults.get(at).is_some_and(|fault| fault.starts_with(part)), "{part:?} at {at} of {faults:#?}");
        }
        assert_eq!(faults.len(), 6, "{faults:#?}");
    }

    #[test]
    fn a_user_and_a_group_are_one_setting() {
        for (fields, user) in [(r#""uid": 7, "gid": 8"#, (7, 8)), (r#""gid": 9, "uid": 7"#, (7, 9))] {
            let (config, _, _) = resolved(&format!("{{ \"script\": \"a.js\", {fields} }}"), None);
            let given = config.apps[0].user.as_ref().unwrap();
            assert_eq!((given.uid.as_raw(), given.gid.as_raw()), user);
        }
    }
}
