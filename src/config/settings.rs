//! Defines every setting once: the flags, the variables, the defaults, `--help`, the README's tables and `rinit config`
//! are made from these tables.
//!
//! A row is `field: Type = default; flag, help`. The macro makes a struct of each table: the values as they were parsed from a
//! [`Layer`]. Its fields are private to `config`: a row that nothing reads does not compile.

use super::duration::PositiveDuration;
use super::hooks::HookSetting;
use super::instances::{Instances, WorkerCount};
use super::layer::Layer;
use super::probe::LiveCheck;
use super::process::{EnvironmentName, Limit, Nice, Umask, Variable, VariablePattern, Word};
use super::reader::{Field, Reader};
use super::ready::ReadyCheck;
use super::schedule::Schedule;
use super::value::{AppName, ExitCodes, IncrementEnv, Positive, Rewrite, VariableNames};
use super::watch::{WatchPath, WatchPattern};
use crate::control::{EndpointSetting, MetricsPage, SocketGroup, SocketMode};
use crate::core::{Backoff, Kind, MemoryLimit, OnExit, Reload, Restart, Signal};
use crate::logs::LogFormat;
use crate::ports::{Balance, ListenAddress, Share};
use crate::sys::user::Credentials;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// A setting as it is shown to people.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag without its dashes; the variable is `RINIT_` and this in capitals, with `_` for `-`; the key of a file is
    /// this, with `_` or `-`.
    pub flag: &'static str,
    /// The letter that stands for the flag, if there is one.
    pub letter: Option<char>,
    /// The form of its value; empty for a switch.
    pub form: &'static str,
    /// Its default, in the form of its value or in words.
    pub default: fn() -> String,
    /// True if it may be given several times (in a variable: separated by commas).
    pub repeats: bool,
    /// The part that it is a setting of.
    pub scope: Scope,
    /// The part of a value that may be shown.
    pub shown: fn(&str) -> &str,
    /// Its effect, for `--help`.
    pub help: &'static str,
}

/// The part that a setting is a setting of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One app, in supervisor mode.
    App,
    /// The container, in supervisor mode.
    Container,
    /// The only child, in init mode.
    Init,
    /// Both modes.
    Common,
    /// One app, in a file alone: it has no flag and no variable.
    Program,
}

impl Setting {
    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.flag.replace('-', "_").to_uppercase())
    }

    /// Its key in a file, as the documents write it.
    pub fn key(&self) -> String {
        self.flag.replace('-', "_")
    }
}

/// The first characters of the settings' variables.
pub const PREFIX: &str = "RINIT_";

/// The default of a setting that has none.
pub const NO_DEFAULT: &str = "–";

macro_rules! settings {
    (@row $scope:ident; $type:ty = $default:expr $(, shown as $words:literal)?;
     $flag:literal $(/ $letter:literal)?; $help:literal) => {
        Setting {
            flag: $flag,
            letter: { #[allow(unused_mut, unused_assignments)] let mut letter = None; $(letter = Some($letter);)? letter },
            form: <$type as Field>::FORM,
            default: || {
                $(if true { return $words.into(); })?
                #[allow(unreachable_code)]
                Field::show(&{ let default: $type = $default; default })
            },
            repeats: <$type as Field>::REPEATS,
            scope: Scope::$scope,
            shown: <$type as Field>::shown,
            help: $help,
        }
    };
    (
        $(#[$parsed:meta])* $Settings:ident, $(#[$listed:meta])* $TABLE:ident: $scope:ident;
        $($field:ident: $type:ty = $default:expr $(, shown as $words:literal)?;
          $flag:literal $(/ $letter:literal)?; $help:literal;)*
    ) => {
        $(#[$parsed])*
        #[derive(Clone, Debug)]
        #[deny(dead_code)]
        pub(super) struct $Settings {
            $(#[doc = $help] pub(super) $field: $type,)*
        }

        $(#[$listed])*
        pub const $TABLE: &[Setting] = &[
            $(settings!(@row $scope; $type = $default $(, shown as $words)?; $flag $(/ $letter)?; $help),)*
        ];

        impl $Settings {
            /// Parses every value; a setting without one has its default.
            pub(super) fn parse(layer: &Layer, reader: &mut Reader<'_>) -> $Settings {
                $Settings {
                    $($field: {
                        const ROW: Setting =
                            settings!(@row $scope; $type = $default $(, shown as $words)?; $flag $(/ $letter)?; $help);
                        reader.field(&ROW, layer.values(&ROW), || $default)
                    },)*
                }
            }
        }
    };
}

const SECOND: Duration = Duration::from_secs(1);

settings! {
    /// The parsed settings of one app.
    AppSettings,
    /// The table of an app's settings.
    APP_SETTINGS: App;

    instances: Option<Instances> = None; "instances" / 'i';
        "workers; `0` or `max`: as many as the CPUs that this container may use; `-1`, `-2`…: that less 1, 2…; with it, rinit is a supervisor";
    name: Option<AppName> = None, shown as "the command's name; for an interpreter its script's"; "name";
        "the app's name in logs and lists";
    restart: Restart = Restart::Always; "restart";
        "whether a worker that exited is started again";
    stop_exit_codes: Vec<ExitCodes> = vec![]; "stop-exit-codes";
        "exit codes after which it is not";
    min_uptime: Duration = SECOND; "min-uptime";
        "a replacement that has been ready this long takes the old one's place; a worker that has no other way to show it is ready after this";
    stable_after: Duration = 10 * SECOND; "stable-after";
        "alive this long counts as stable: backoff and crash count start afresh, and the next restart is immediate";
    max_restarts: u32 = 16; "max-restarts";
        "unstable restarts in a row before the worker has failed; `0`: never gives up";
    backoff: Backoff = Backoff { min: SECOND / 10, max: 15 * SECOND }; "backoff";
        "wait before restart n: MIN·1.5ⁿ up to MAX, ±10 %; the first restart after a stable life is immediate";
    ready: ReadyCheck = ReadyCheck::Auto; "ready";
        "when a worker is ready: `auto`, `spawn`, `uptime`, `message` (`process.send('ready')`), `listen` (it listens on a shared port), `notify` (sd_notify `READY=1`), `fd:N` (a newline on that descriptor), `http:/PATH` and `tcp:` (this worker answers), `http://HOST:PORT/PATH`, `tcp:HOST:PORT`, `exec:CMD` (no shell: `exec:sh -c '…'`)";
    ready_timeout: PositiveDuration = PositiveDuration(30 * SECOND); "ready-timeout";
        "not ready by then is a failed start; under `auto`, an app that gives no signal counts as ready then";
    live: LiveCheck = LiveCheck::Off; "live";
        "whether a worker that is ready still serves: `http:/PATH`, `tcp:`, `http://HOST:PORT/PATH`, `tcp:HOST:PORT`, `exec:CMD` as for `--ready`, or `watchdog` (sd_notify `WATCHDOG=1` within the interval); one that fails is replaced as in a reload";
    live_interval: PositiveDuration = PositiveDuration(10 * SECOND); "live-interval";
        "the time between two liveness probes";
    live_timeout: PositiveDuration = PositiveDuration(5 * SECOND); "live-timeout";
        "the time that a liveness probe may take";
    live_failures: Positive = Positive(3); "live-failures";
        "liveness probes that fail in a row before the worker is replaced";
    app_metrics: Option<MetricsPage> = None; "app-metrics";
        "page of each worker with its own Prometheus metrics, such as `/metrics`: rinit's `/metrics` has them all, with the worker's number, and keeps the counts of workers that were replaced";
    stop_signal: Signal = Signal::TERM; "stop-signal";
        "what asks a worker to stop";
    stop_message: bool = false; "stop-message";
        "a worker that is to stop gets the message `'shutdown'` over Node's channel, and the stop signal at half the stop timeout";
    stop_timeout: Duration = 8 * SECOND; "stop-timeout";
        "then SIGKILL to the worker's group; under Docker's 10 s on purpose";
    kill_process_group: bool = false; "kill-process-group";
        "`-g` for short: the stop signal goes to the worker's whole process group from the start; without it, to those who are left in the group when the worker has ended";
    drain_delay: Duration = Duration::ZERO; "drain-delay";
        "when the container stops, workers go on serving this long before they are asked to stop; it adds to the stop timeout";
    reload: Reload = Reload::Rolling(1); "reload";
        "one at a time, K at a time, or stop-then-start for apps that cannot overlap";
    share_ports: Share = Share::Auto; "share-ports";
        "how workers that listen on the same port share it: `node`, by Node's cluster module; `preload`, by a library in any dynamically linked program; `auto`, whichever fits";
    balance: Balance = Balance::RoundRobin; "balance";
        "how connections reach workers that share a port: handed out in turn; by a socket each; from one socket";
    listen: Vec<ListenAddress> = vec![]; "listen";
        "socket that rinit opens and hands to every worker as `LISTEN_FDS`: `PORT`, `HOST:PORT`, `[HOST6]:PORT` or `/PATH`; it outlives every worker";
    increment_env: Vec<IncrementEnv> = vec![]; "increment-env";
        "worker k gets NAME=BASE+k";
    env_file: Vec<PathBuf> = vec![]; "env-file";
        "variables for the workers, as Docker's `--env-file` reads them, and again at every reload; `KEY_FILE=/run/secrets/key` sets KEY to what that file holds";
    user: Option<Credentials> = None, shown as "rinit's own"; "user";
        "the user that the workers run as, by number or name";
    max_memory: Option<MemoryLimit> = None; "max-memory";
        "a worker whose processes use more than this is replaced as in a reload: `300M`, `1.5G`, or `P%` of the container's limit";
    max_uptime: Option<PositiveDuration> = None; "max-uptime";
        "a worker is replaced as in a reload when it is this old, less up to a tenth at random";
    cron: Option<Schedule> = None; "cron";
        "reload at these times: the five fields of crontab, such as `0 3 * * *`, or `@daily`; local time, by `TZ`";
    watch: Vec<WatchPath> = vec![]; "watch";
        "reload when this file or folder changes";
    ignore_watch: Vec<WatchPattern> = vec![]; "ignore-watch";
        "what changes below a watched folder without a reload: a name or path with `*` and `?`, such as `node_modules` or `*.log`";
    instances_min: Option<WorkerCount> = None, shown as "1"; "instances-min";
        "the fewest workers, where their number follows the CPUs or the load";
    instances_max: Option<WorkerCount> = None; "instances-max";
        "the most workers; without `-i 0` the number follows the load between both bounds";
}

settings! {
    /// The parsed settings that an app has in a file alone.
    ProgramSettings,
    /// The table of the settings that an app has in a file alone.
    PROGRAM_SETTINGS: Program;

    command: Vec<Word> = vec![]; "command";
        "the program and its arguments: a list of words, or a string; shell syntax in a string is run by `sh -c`";
    kind: Kind = Kind::Service; "kind";
        "`service` runs until it is stopped; `task` runs once";
    after: Vec<AppName> = vec![]; "after";
        "the apps that must be ready before this one is started, tasks that must have succeeded; they are stopped after it";
    on_exit: OnExit = OnExit::EndOnFailure; "on-exit";
        "what ends the container: this app's `failure` for good, its `end` whatever the status, or neither (`ignore`)";
    cwd: Option<PathBuf> = None, shown as "rinit's own"; "cwd";
        "the working directory";
    env: Vec<Variable> = vec![]; "env";
        "variables, a table; those of `[defaults]` and then the app's own";
    filter_env: Vec<VariablePattern> = vec![]; "filter-env";
        "the container's own variables that the workers do not get: names with `*` and `?`";
    umask: Option<Umask> = None, shown as "rinit's own"; "umask";
        "the mask of file modes, in octal, as text: `\"027\"`";
    nice: Option<Nice> = None, shown as "rinit's own"; "nice";
        "the nice value: -20 to 19";
    limits: Vec<Limit> = vec![]; "limits";
        "limits on resources, a table: `nofile`, `nproc`, `core`, each `N`, `SOFT:HARD` or `unlimited`";
    hooks: Vec<HookSetting> = vec![]; "hooks";
        "commands at moments of a worker's life, a table: `pre_start`, `post_ready`, `pre_stop`, `post_exit`, `on_failed`, and the `timeout` of each";
}

settings! {
    /// The parsed settings of the container.
    ContainerSettings,
    /// The table of the container's settings.
    CONTAINER_SETTINGS: Container;

    config: Option<PathBuf> = None, shown as "/etc/rinit.toml, if it exists and no command is given"; "config";
        "file of settings, `.toml` or `.json`, with several apps; pm2's ecosystem files in JSON too";
    env: Option<EnvironmentName> = None; "env";
        "the environment whose variables are taken from pm2's file: `production` for `env_production`";
    log: LogFormat = LogFormat::Prefix; "log";
        "how workers' lines are written: with `app-0 | ` in front, as they are, as JSON, or as JSON with Elastic's names (ECS)";
    log_time: bool = false; "log-time";
        "RFC 3339 time in front of every line";
    log_level: Level = Level::INFO; "log-level";
        "which of rinit's own lines are written, on stderr";
    socket: EndpointSetting = EndpointSetting::Anywhere; "socket";
        "control socket, by which `rinit list` and the other verbs talk to rinit; root and rinit's own user may use it";
    socket_mode: Option<SocketMode> = None, shown as "0600"; "socket-mode";
        "file mode of the control socket; other users whom it lets in may read, and change nothing";
    socket_group: Option<SocketGroup> = None, shown as "rinit's own"; "socket-group";
        "group of the control socket, by number or name, for a monitoring user; the mode is then `0660` by default";
    web: Option<SocketAddr> = None; "web";
        "the same API over TCP, with metrics and a dashboard: `PORT` or `HOST:PORT`; without a token it shows probes, metrics, states, counts and usage";
    web_token_file: Option<PathBuf> = None; "web-token-file";
        "file with the tokens that changes over `--web` need, a line each, read again at SIGHUP; without it changes are refused";
    web_read_token_file: Option<PathBuf> = None; "web-read-token-file";
        "file with the tokens that reading over `--web` needs: log lines, events, commands, settings";
    web_public: bool = false; "web-public";
        "everybody who can connect to `--web` may read: log lines, events, commands, settings";
    web_host: Vec<String> = vec![]; "web-host";
        "name by which `--web` may be called, beside addresses, `localhost` and the host's own";
    show_env: Vec<VariableNames> = vec![]; "show-env";
        "variables of the workers whose values everybody who may read sees, beside a few harmless ones such as `PORT`; others are shown to root and rinit's own user only, without secrets";
}

settings! {
    /// The parsed settings of both modes.
    CommonSettings,
    /// The table of the settings of both modes.
    COMMON_SETTINGS: Common;

    linger: Duration = Duration::ZERO; "linger";
        "at the container's end: processes that outlive the child or their worker get SIGTERM, and this time to end";
}

settings! {
    /// The parsed settings of init mode.
    InitSettings,
    /// The table of init mode's settings.
    INIT_SETTINGS: Init;

    rewrite: Vec<Rewrite> = vec![]; "rewrite" / 'r';
        "signal S reaches the child as R, by name or number; R = 0: not at all";
}

/// Every setting that has a flag, in the order of the README's tables.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [APP_SETTINGS, CONTAINER_SETTINGS, COMMON_SETTINGS, INIT_SETTINGS].into_iter().flatten()
}

/// Every setting that has a key in a file, or that a user may try there.
pub fn in_files() -> impl Iterator<Item = &'static Setting> {
    let is_for_the_command_line =
        |setting: &&Setting| matches!(setting.flag, "config" | "env") && setting.scope == Scope::Container;
    PROGRAM_SETTINGS.iter().chain(all()).filter(move |setting| !is_for_the_command_line(setting))
}

/// The setting of that flag (without dashes), if there is one.
pub fn by_flag(flag: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.flag == flag)
}

/// The setting of an app that only a file has, by its flag's form of the key, if there is one.
pub fn by_key(flag: &str) -> Option<&'static Setting> {
    PROGRAM_SETTINGS.iter().find(|setting| setting.flag == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_has_a_name_that_kubernetes_gives_to_a_service() {
        for setting in all() {
            assert!(!crate::config::is_kubernetes_variable(&setting.variable()), "{}", setting.variable());
        }
    }
}
