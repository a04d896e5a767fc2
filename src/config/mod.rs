//! From what was written (flags, variables) to settings that are ready to use, or to every fault at once.

mod env_file;
mod settings;
mod values;

pub use env_file::{EnvFileError, read_env_file};
pub use settings::{Given, Mode, PREFIX, Raw, SETTINGS, Setting};
pub use values::{Instances, LogFormat, Ready, duration, exit_code, rewrite, scaled};

use crate::control::types::{Config, SettingValue};
use crate::control::{EndpointSetting, EndpointSettings};
use crate::core::{Backoff, DrainKind, Policy, Readiness, ReadySignal, Reload, Restart, Signal, StopPolicy};
use crate::ports::{Balance, ListenAddress, Share, Ways};
use crate::sys::user::Credentials;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the supervisor runs, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The apps.
    pub apps: Vec<App>,
    /// The log.
    pub log: Log,
    /// Who may ask and steer, by which way.
    pub entrances: EndpointSettings,
    /// All settings as they count, for those who ask.
    pub shown: Config,
}

/// One app.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// By what rules it runs.
    pub policy: Policy,
    /// How its readiness is learnt.
    pub ready: Ready,
    /// How its workers share ports.
    pub ways: Ways,
    /// How connections reach them.
    pub balance: Balance,
    /// Whether `'shutdown'` goes before the stop signal.
    pub stop_message: bool,
    /// The sockets that it is handed.
    pub listen: Vec<ListenAddress>,
    /// Variables that differ from worker to worker.
    pub increment_env: Vec<(String, u64)>,
    /// Files of variables.
    pub env_files: Vec<PathBuf>,
    /// Who its workers run as.
    pub user: Option<Credentials>,
}

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// Workers' lines.
    pub format: LogFormat,
    /// Whether the time stands in front.
    pub time: bool,
    /// Which of rinit's own lines.
    pub level: tracing::Level,
}

/// What only init mode uses of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitSettings {
    /// How long what the child leaves behind may take to end.
    pub linger: Duration,
    /// What is sent in the place of a signal.
    pub rewrite: BTreeMap<Signal, Option<Signal>>,
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting's name as it was written, with its value.
    pub what: String,
    /// Why, and what is allowed.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Why nothing is started.
#[derive(Debug)]
pub struct Refusal {
    /// The text for stderr.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// Exit code for settings that cannot be used: `EX_USAGE` of sysexits.h.
pub const BAD_SETTINGS: u8 = 64;

/// Collects faults, so that one start reports all of them.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes one.
    pub fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.0.push(Fault { what: what.into(), why: why.into() });
    }

    /// All of them, a line each.
    pub fn refusal(&self) -> Refusal {
        let mut text = match self.0.len() {
            1 => "rinit: cannot start:\n".to_owned(),
            count => format!("rinit: cannot start, for {count} reasons:\n"),
        };
        self.0.iter().for_each(|fault| text.push_str(&format!("  {fault}\n")));
        Refusal { text, code: BAD_SETTINGS }
    }

    /// The value, or a note of what is wrong with it.
    fn read<T>(&mut self, flag: &str, given: &Given, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let name = if given.name.is_empty() { variable_of(flag) } else { given.name.clone() };
        read(given.text.trim()).map_err(|why| self.note(format!("{name}={:?}", given.text), why)).ok()
    }

    fn one<T>(&mut self, flag: &str, given: &Option<Given>, default: T, read: fn(&str) -> Result<T, String>) -> T {
        given.as_ref().and_then(|given| self.read(flag, given, read)).unwrap_or(default)
    }

    fn all<T>(&mut self, flag: &str, given: &[Given], read: fn(&str) -> Result<T, String>) -> Vec<T> {
        given.iter().filter_map(|given| self.read(flag, given, read)).collect()
    }
}

fn variable_of(flag: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.flag == flag);
    setting.map_or_else(|| flag.to_owned(), Setting::variable)
}

/// The settings that the environment gives, and a warning for each variable that looks like one and is none.
pub fn from_environment(environment: &[(OsString, OsString)], faults: &mut Faults) -> (Raw, Vec<String>) {
    let mut pairs = Vec::new();
    let mut warnings = Vec::new();
    for (key, value) in environment {
        let Some(key) = key.to_str().filter(|key| key.starts_with(PREFIX)) else { continue };
        let known = SETTINGS.iter().any(|setting| setting.variable() == key);
        match value.to_str() {
            Some("") => {}
            Some(value) if known => pairs.push((key.to_owned(), value.to_owned())),
            None if known => faults.note(format!("{key}={value:?}"), "not UTF-8"),
            Some(_) | None if is_kubernetes_variable(key) || FOR_WORKERS.contains(&key) => {}
            Some(_) | None => {
                let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
                let meant = nearest(key, variables.iter().map(String::as_str));
                let advice = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                warnings.push(format!("{key} is no setting of rinit{advice}"));
            }
        }
    }
    match envy::prefixed(PREFIX).from_iter::<_, Raw>(pairs) {
        Ok(raw) => (raw, warnings),
        Err(error) => {
            faults.note("the environment", error.to_string());
            (Raw::default(), warnings)
        }
    }
}

/// What workers are given; a rinit inside a worker sees them too.
const FOR_WORKERS: [&str; 4] = ["RINIT_APP", "RINIT_WORKER", "RINIT_WORKERS", "RINIT_PORTS"];

/// Whether Kubernetes puts variables of that form into every pod beside a Service called `rinit…`: `RINIT_PORT`,
/// `RINIT_SERVICE_HOST`, `RINIT_SERVICE_PORT_HTTP`, `RINIT_PORT_80_TCP_ADDR`.
pub fn is_kubernetes_variable(key: &str) -> bool {
    let port_of = |key: &str| {
        key.split("_PORT_").skip(1).any(|rest| {
            let mut parts = rest.split('_');
            let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
            number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        })
    };
    key.ends_with("_SERVICE_HOST") || key.ends_with("_PORT") || key.contains("_SERVICE_PORT") || port_of(key)
}

/// The known name that is nearest to what was given, if one is near.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known.map(|name| (strsim::damerau_levenshtein(given, name), name)).min()?;
    (distance <= 3 && distance < name.len() / 2).then_some(name)
}

/// Whether these settings ask for a supervisor.
pub fn is_supervisor(raw: &Raw) -> bool {
    raw.instances.is_some()
}

/// What init mode uses; the others are refused where they were written for it on the command line.
pub fn for_init(raw: &Raw, faults: &mut Faults) -> InitSettings {
    for (setting, given) in raw.given() {
        if setting.mode == Mode::Supervisor && !given.name.is_empty() {
            faults.note(&given.name, "means something only with workers: add -i N (-i 0: one for each CPU)");
        }
    }
    let rewrite = faults.all("rewrite", &raw.rewrite, values::rewrite);
    InitSettings {
        linger: faults.one("linger", &raw.linger, Duration::ZERO, duration),
        rewrite: rewrite.into_iter().collect(),
    }
}

/// What the supervisor uses. `root` is `/` but in tests.
pub fn for_supervisor(raw: &Raw, command: Vec<OsString>, root: &Path, faults: &mut Faults) -> Settings {
    for (setting, given) in raw.given() {
        if setting.mode == Mode::Init && !given.name.is_empty() {
            faults.note(&given.name, "means something only without -i");
        }
    }
    let ready = faults.one("ready", &raw.ready, Ready::Auto, values::ready);
    let instances = faults.one("instances", &raw.instances, Instances::Count(1), values::instances);
    let codes = faults.all("stop-exit-codes", &raw.stop_exit_codes, values::exit_codes);
    let second = Duration::from_secs(1);
    let stop_message = faults.one("stop-message", &raw.stop_message, false, values::switch);
    let share = faults.one("share-ports", &raw.share_ports, Share::Auto, values::share);
    let ways = Ways::of(&command, share, stop_message || ready == Ready::Message);
    if let (Ready::Listen, Share::Off, Some(given)) = (&ready, share, &raw.ready) {
        faults.read("ready", given, |_| Err::<(), _>("no port is shared with --share-ports off".into()));
    }
    let stop_message_or_cluster = match stop_message {
        true => Some(DrainKind::Message),
        false => ways.cluster.then_some(DrainKind::Cluster),
    };
    let policy = Policy {
        instances: match instances {
            Instances::Count(count) => count,
            Instances::Cpus { less } => crate::sys::cgroup::cpus(root).saturating_sub(less).max(1),
        },
        restart: faults.one("restart", &raw.restart, Restart::Always, values::restart),
        stop_exit_codes: codes.concat(),
        min_uptime: faults.one("min-uptime", &raw.min_uptime, second, duration),
        stable_after: faults.one("stable-after", &raw.stable_after, 10 * second, duration),
        max_restarts: faults.one("max-restarts", &raw.max_restarts, 16, values::count),
        backoff: faults.one("backoff", &raw.backoff, Backoff { min: second / 10, max: 15 * second }, values::backoff),
        readiness: match &ready {
            Ready::Auto => Readiness::Auto { sees_listening: ways.cluster || ways.preload },
            Ready::Spawn => Readiness::Spawn,
            Ready::Uptime => Readiness::Uptime,
            Ready::Message => Readiness::Signal(ReadySignal::Message),
            Ready::Listen => Readiness::Signal(ReadySignal::Listen),
            Ready::Notify => Readiness::Signal(ReadySignal::Notify),
            Ready::Fd(_) | Ready::Tcp(_) | Ready::Http { .. } | Ready::Exec(_) => Readiness::Signal(ReadySignal::Probe),
        },
        ready_timeout: faults.one("ready-timeout", &raw.ready_timeout, 30 * second, values::some_time),
        live_failures: 0,
        stop: StopPolicy {
            signal: faults.one("stop-signal", &raw.stop_signal, Signal::TERM, values::stop_signal),
            timeout: faults.one("stop-timeout", &raw.stop_timeout, 8 * second, duration),
            request: stop_message_or_cluster,
            to_group: false,
        },
        drain_delay: faults.one("drain-delay", &raw.drain_delay, Duration::ZERO, duration),
        reload: faults.one("reload", &raw.reload, Reload::Rolling(1), values::reload),
    };
    let listen = faults.all("listen", &raw.listen, ListenAddress::parse);
    if let (Ready::Fd(number), Some(given)) = (&ready, &raw.ready)
        && (3..3 + listen.len() as i32).contains(number)
    {
        let last = 2 + listen.len();
        faults.read("ready", given, |_| Err::<(), _>(format!("descriptors 3 to {last} are the sockets of --listen")));
    }
    let app = App {
        name: faults.one("name", &raw.name, name_of(&command), values::name),
        command,
        policy,
        ready,
        ways,
        balance: faults.one("balance", &raw.balance, Balance::RoundRobin, values::balance),
        stop_message,
        listen,
        increment_env: faults.all("increment-env", &raw.increment_env, values::increment_env),
        env_files: faults.all("env-file", &raw.env_file, |path| Ok(PathBuf::from(path))),
        user: faults.one("user", &raw.user, None, |user| Credentials::parse(user).map(Some)),
    };
    let log = Log {
        format: faults.one("log", &raw.log, LogFormat::Prefix, values::log_format),
        time: faults.one("log-time", &raw.log_time, false, values::switch),
        level: faults.one("log-level", &raw.log_level, tracing::Level::INFO, values::log_level),
    };
    let entrances = EndpointSettings {
        socket: faults.one("socket", &raw.socket, EndpointSetting::Anywhere, values::socket),
        web: faults.one("web", &raw.web, None, values::web),
        token_file: faults.one("web-token-file", &raw.web_token_file, None, |path| Ok(Some(PathBuf::from(path)))),
        hosts: faults.all("web-host", &raw.web_host, |name| Ok(name.to_owned())),
    };
    Settings { apps: vec![app], log, entrances, shown: shown(raw) }
}

/// Every setting of the supervisor's as it counts.
fn shown(raw: &Raw) -> Config {
    let is_one = |setting: &&Setting| setting.mode == Mode::Supervisor;
    let values = raw.values().into_iter().filter(|(setting, _)| is_one(setting));
    let settings = values.map(|(setting, given)| {
        let texts: Vec<&str> = given.iter().map(|given| given.text.as_str()).collect();
        let (value, source) = match given.first() {
            None => (setting.default.to_owned(), "default"),
            Some(first) => (texts.join(","), if first.name.is_empty() { "environment" } else { "flag" }),
        };
        SettingValue { name: setting.flag.into(), value, source: source.into() }
    });
    Config { settings: settings.collect() }
}

/// The command's base name; for an interpreter its script's stem: `node dist/server.js` is `server`.
fn name_of(command: &[OsString]) -> String {
    let base = |word: &OsString| Path::new(word).file_name().and_then(OsStr::to_str).map(str::to_owned);
    let program = command.first().and_then(base).unwrap_or_default();
    let is_interpreter = INTERPRETERS
        .iter()
        .any(|known| program.strip_prefix(known).is_some_and(|version| !version.contains(char::is_alphabetic)));
    // What follows -c or -e is a program and not its name.
    let words = || command.iter().skip(1).filter_map(|word| word.to_str());
    let is_inline = words().take_while(|word| word.starts_with('-')).any(|word| matches!(word, "-c" | "-e" | "--eval"));
    let script = words().find(|word| !word.starts_with('-')).filter(|_| is_interpreter && !is_inline);
    let file = script.map(Path::new).filter(|file| file.extension().is_some());
    let name = file.and_then(Path::file_stem).and_then(OsStr::to_str).map_or(program, str::to_owned);
    let fits: String =
        name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@')).take(64).collect();
    if fits.is_empty() { "app".into() } else { fits }
}

const INTERPRETERS: [&str; 10] = ["node", "nodejs", "python", "pypy", "ruby", "perl", "php", "bun", "deno", "sh"];

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn all_faults_are_reported_at_once_under_the_names_that_were_written() {
        let mut faults = Faults::default();
        let pairs = environment(&[("RINIT_STOP_TIMEOUT", "10"), ("RINIT_READY", "soon"), ("RINIT_INSTANCES", "2")]);
        let (below, _) = from_environment(&pairs, &mut faults);
        let mut flags = Raw::default();
        flags.put("backoff", Given { text: "5s".into(), name: "--backoff".into() });
        let settings = for_supervisor(&flags.or(below), words("app"), Path::new("/"), &mut faults);
        assert_eq!(settings.apps[0].policy.instances, 2);
        let text: Vec<String> = faults.0.iter().map(Fault::to_string).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text[0].starts_with("RINIT_READY=\"soon\": allowed: auto"), "{text:?}");
        assert!(text[1].starts_with("--backoff=\"5s\": allowed: MIN..MAX"), "{text:?}");
        assert!(text[2].contains("did you mean 10s or 10ms?"), "{text:?}");
    }

    #[test]
    fn flags_go_before_variables_and_empty_variables_are_none() {
        let mut faults = Faults::default();
        let pairs = environment(&[("RINIT_NAME", "below"), ("RINIT_RELOAD", ""), ("RINIT_LISTEN", "1,2")]);
        let (below, warnings) = from_environment(&pairs, &mut faults);
        let mut flags = Raw::default();
        flags.put("name", Given::from("above".to_owned()));
        flags.put("listen", Given::from("3".to_owned()));
        let settings = for_supervisor(&flags.or(below), words("app"), Path::new("/"), &mut faults);
        assert!(faults.0.is_empty() && warnings.is_empty(), "{faults:?} {warnings:?}");
        assert_eq!(settings.apps[0].name, "above");
        assert_eq!(settings.apps[0].listen.len(), 1, "the higher layer's list is the list");
    }

    #[test]
    fn an_unknown_variable_is_a_warning_and_kubernetes_ones_are_passed_over() {
        let mut faults = Faults::default();
        let pairs = environment(&[
            ("RINIT_INSTANCE", "2"),
            ("RINIT_PORT", "tcp://10.0.0.1:80"),
            ("RINIT_SERVICE_HOST", "10.0.0.1"),
            ("RINIT_SERVICE_PORT_HTTP", "80"),
            ("RINIT_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("RINIT_WORKER", "0"),
        ]);
        let (raw, warnings) = from_environment(&pairs, &mut faults);
        assert_eq!(raw, Raw::default());
        assert_eq!(warnings, ["RINIT_INSTANCE is no setting of rinit; did you mean RINIT_INSTANCES?"]);
    }

    #[test]
    fn apps_are_named_after_their_program_or_their_script() {
        let names = [
            ("node dist/server.js", "server"),
            ("/usr/bin/python3.11 -u app.py --x", "app"),
            ("python3 -m http.server", "http"),
            ("node --enable-source-maps bin/www", "node"),
            ("gunicorn app:app", "gunicorn"),
            ("./run.sh", "run.sh"),
            ("shellac x.js", "shellac"),
            ("sh -c ./server.sh;true", "sh"),
        ];
        for (command, name) in names {
            assert_eq!(name_of(&words(command)), name, "{command}");
        }
    }

    #[test]
    fn the_readiness_descriptor_must_not_be_one_of_the_sockets() {
        let mut faults = Faults::default();
        let mut raw = Raw::default();
        raw.put("ready", Given { text: "fd:3".into(), name: "--ready".into() });
        raw.put("listen", Given::from("8080".to_owned()));
        for_supervisor(&raw, words("app"), Path::new("/"), &mut faults);
        assert!(faults.0[0].why.contains("sockets of --listen"), "{faults:?}");
    }
}
