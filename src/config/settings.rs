//! Every setting, once: this table makes the flags, the `RINIT_*` variables, `--help` and the README's table.

use serde::Deserialize;

/// A setting as people see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag without its dashes; the variable is `RINIT_` and this, in capitals, `_` for `-`.
    pub flag: &'static str,
    /// A letter that stands for the flag.
    pub letter: Option<char>,
    /// What its value is called; empty for a switch.
    pub value: &'static str,
    /// What holds without it, in words.
    pub default: &'static str,
    /// Whether it may be given several times (in a variable: separated by commas).
    pub repeats: bool,
    /// In which mode it means something.
    pub mode: Mode,
    /// What it does.
    pub help: &'static str,
}

/// One child, or workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Init mode: no instance count is given.
    Init,
    /// Supervisor mode.
    Supervisor,
}

impl Setting {
    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.flag.replace('-', "_").to_uppercase())
    }
}

/// What the variables begin with.
pub const PREFIX: &str = "RINIT_";

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Given {
    /// The value's text.
    pub text: String,
    /// The setting's name as it was written; empty: the name of its variable.
    pub name: String,
}

impl From<String> for Given {
    fn from(text: String) -> Given {
        Given { text, name: String::new() }
    }
}

/// Where a value of a setting goes.
pub trait Field {
    /// Whether a second value is a second one, and not a better one.
    const REPEATS: bool;
    /// Takes a value.
    fn put(&mut self, given: Given);
    /// Leaves what is there, or takes what the layer below has.
    fn or(self, below: Self) -> Self;
}

impl Field for Option<Given> {
    const REPEATS: bool = false;
    fn put(&mut self, given: Given) {
        *self = Some(given);
    }
    fn or(self, below: Self) -> Self {
        Option::or(self, below)
    }
}

impl Field for Vec<Given> {
    const REPEATS: bool = true;
    fn put(&mut self, given: Given) {
        self.push(given);
    }
    fn or(self, below: Self) -> Self {
        if self.is_empty() { below } else { self }
    }
}

type One = Option<Given>;
type Many = Vec<Given>;

macro_rules! settings {
    ($($field:ident: $kind:ident, $flag:literal $(/ $letter:literal)?, $value:literal, $default:literal, $mode:ident, $help:literal;)*) => {
        /// The settings as one source gave them.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(default)]
        pub struct Raw {
            $(#[doc = $help] pub $field: $kind,)*
        }

        /// The table.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            flag: $flag,
            letter: { #[allow(unused_mut, unused_assignments)] let mut letter = None; $(letter = Some($letter);)? letter },
            value: $value,
            default: $default,
            repeats: <$kind as Field>::REPEATS,
            mode: Mode::$mode,
            help: $help,
        },)*];

        impl Raw {
            /// Takes a value for the setting of that flag; false if there is none.
            pub fn put(&mut self, flag: &str, given: Given) -> bool {
                match flag {
                    $($flag => Field::put(&mut self.$field, given),)*
                    _ => return false,
                }
                true
            }

            /// These settings, and where they are silent the ones below.
            pub fn or(self, below: Raw) -> Raw {
                Raw { $($field: Field::or(self.$field, below.$field),)* }
            }

            /// The settings that are given, each with all of its values.
            pub fn values(&self) -> Vec<(&'static Setting, Vec<&Given>)> {
                let mut fields = SETTINGS.iter();
                let mut values = Vec::new();
                $(if let Some(setting) = fields.next() {
                    values.push((setting, self.$field.iter().collect()));
                })*
                values
            }

            /// The settings that are given, each with its first value.
            pub fn given(&self) -> Vec<(&'static Setting, &Given)> {
                let mut fields = SETTINGS.iter();
                let mut given = Vec::new();
                $(if let (Some(setting), Some(value)) = (fields.next(), self.$field.iter().next()) {
                    given.push((setting, value));
                })*
                given
            }
        }
    };
}

settings! {
    instances: One, "instances" / 'i', "N", "–", Supervisor,
        "workers; `0` or `max`: as many as the CPUs that this container may use; `-1`, `-2`…: that less 1, 2…; with it, rinit is a supervisor";
    name: One, "name", "NAME", "the command's name; for an interpreter its script's", Supervisor,
        "the app's name in logs and lists";
    restart: One, "restart", "always|on-failure|never", "always", Supervisor,
        "whether a worker that exited is started again";
    stop_exit_codes: Many, "stop-exit-codes", "CODE,CODE", "–", Supervisor,
        "exit codes after which it is not";
    min_uptime: One, "min-uptime", "D", "1s", Supervisor,
        "a replacement that has been ready this long takes the old one's place; a worker that has no other way to show it is ready after this";
    stable_after: One, "stable-after", "D", "10s", Supervisor,
        "alive this long counts as stable: backoff and crash count start afresh, and the next restart is immediate";
    max_restarts: One, "max-restarts", "N", "16", Supervisor,
        "unstable restarts in a row before the worker has failed; `0`: never gives up";
    backoff: One, "backoff", "MIN..MAX", "100ms..15s", Supervisor,
        "wait before restart n: MIN·1.5ⁿ up to MAX, ±10 %; the first restart after a stable life is immediate";
    ready: One, "ready", "HOW", "auto", Supervisor,
        "when a worker is ready: `auto`, `spawn`, `uptime`, `message` (`process.send('ready')`), `listen` (it listens on a shared port), `notify` (sd_notify `READY=1`), `fd:N` (a newline on that descriptor), `tcp:HOST:PORT`, `http://HOST:PORT/PATH`, `exec:CMD` (no shell: `exec:sh -c '…'`)";
    ready_timeout: One, "ready-timeout", "D", "30s", Supervisor,
        "not ready by then is a failed start";
    stop_signal: One, "stop-signal", "SIG", "SIGTERM", Supervisor,
        "what asks a worker to stop";
    stop_message: One, "stop-message", "", "off", Supervisor,
        "a worker that is to stop gets the message `'shutdown'` over Node's channel, and the stop signal at half the stop timeout";
    stop_timeout: One, "stop-timeout", "D", "8s", Supervisor,
        "then SIGKILL to the worker's group; under Docker's 10 s on purpose";
    drain_delay: One, "drain-delay", "D", "0", Supervisor,
        "when the container stops, workers go on serving this long before they are asked to stop; it adds to the stop timeout";
    reload: One, "reload", "rolling|parallel:K|restart", "rolling", Supervisor,
        "one at a time, K at a time, or stop-then-start for apps that cannot overlap";
    share_ports: One, "share-ports", "auto|node|preload|off", "auto", Supervisor,
        "how workers that listen on the same port share it: `node`, by Node's cluster module; `preload`, by a library in any dynamically linked program; `auto`, whichever fits";
    balance: One, "balance", "round-robin|reuseport|shared", "round-robin", Supervisor,
        "how connections reach workers that share a port: handed out in turn; by a socket each; from one socket";
    listen: Many, "listen", "[NAME=]ADDR", "–", Supervisor,
        "socket that rinit opens and hands to every worker as `LISTEN_FDS`: `PORT`, `HOST:PORT`, `[HOST6]:PORT` or `/PATH`; it outlives every worker";
    increment_env: Many, "increment-env", "NAME=BASE", "–", Supervisor,
        "worker k gets NAME=BASE+k";
    socket: One, "socket", "PATH|off", "/run/rinit.sock, or in /dev/shm or /tmp", Supervisor,
        "control socket, by which `rinit list` and the other verbs talk to rinit; root and rinit's own user may use it";
    web: One, "web", "ADDR", "off", Supervisor,
        "the same API over TCP, with metrics and a dashboard: `PORT` or `HOST:PORT`; reading is open to all who can connect";
    web_token_file: One, "web-token-file", "PATH", "–", Supervisor,
        "file with the token that changes over `--web` need; without it they are refused";
    web_host: Many, "web-host", "NAME", "–", Supervisor,
        "name by which `--web` may be called, beside addresses, `localhost` and the host's own";
    log: One, "log", "prefix|raw|json", "prefix", Supervisor,
        "how workers' lines are written: with `app-0 | ` in front, as they are, or as JSON";
    log_time: One, "log-time", "", "off", Supervisor,
        "RFC 3339 time in front of every line";
    log_level: One, "log-level", "error|warn|info|debug|trace", "info", Supervisor,
        "which of rinit's own lines are written, on stderr";
    env_file: Many, "env-file", "PATH", "–", Supervisor,
        "`KEY=VALUE` lines for the workers, read again at every reload; `KEY_FILE=/run/secrets/key` sets KEY to what that file holds";
    user: One, "user", "UID[:GID]", "rinit's own", Supervisor,
        "who the workers run as, by number or name";
    linger: One, "linger", "D", "0", Init,
        "when the child has exited, what still runs gets SIGTERM and this long before the kernel kills it";
    rewrite: Many, "rewrite" / 'r', "S:R", "–", Init,
        "signal S reaches the child as R, by name or number; R = 0: not at all";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_has_a_name_that_kubernetes_gives_to_a_service() {
        for setting in SETTINGS {
            assert!(!crate::config::is_kubernetes_variable(&setting.variable()), "{}", setting.variable());
        }
    }

    #[test]
    fn flags_and_variables_fill_the_same_fields() {
        for setting in SETTINGS {
            let mut by_flag = Raw::default();
            assert!(by_flag.put(setting.flag, Given::from("x".to_owned())), "{}", setting.flag);
            let pairs = [(setting.variable(), "x".to_owned())];
            let by_variable: Raw = envy::prefixed(PREFIX).from_iter(pairs).unwrap();
            assert_eq!(by_flag, by_variable, "{}", setting.flag);
            assert_eq!(by_flag.given().len(), 1);
        }
    }
}
