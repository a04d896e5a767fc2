//! Parses `--ready`: the check by which the supervisor learns that a worker is ready.

use super::reader::{Show, Value};
use crate::core::{Readiness, ReadySignal};
use std::fmt;

/// The check by which the supervisor learns that a worker is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyCheck {
    /// The first sign: a ready signal of the worker's own, or `min_uptime`.
    Auto,
    /// Its program runs.
    Spawn,
    /// It has lived for `min_uptime`.
    Uptime,
    /// `process.send('ready')` over Node's channel.
    Message,
    /// It listens on a shared port.
    Listen,
    /// `READY=1` by sd_notify.
    Notify,
    /// A newline on that descriptor.
    Fd(i32),
    /// A connection to `HOST:PORT`.
    Tcp(String),
    /// `GET` answered with 200 to 399.
    Http {
        /// `HOST:PORT`.
        host: String,
        /// From the slash on.
        path: String,
    },
    /// That program exits with 0.
    Exec(Vec<String>),
}

impl ReadyCheck {
    /// The rule by which the core decides that a worker is ready. `sees_listening`: rinit can see whether it listens.
    pub fn rule(&self, sees_listening: bool) -> Readiness {
        match self {
            ReadyCheck::Auto => Readiness::Auto { sees_listening },
            ReadyCheck::Spawn => Readiness::Spawn,
            ReadyCheck::Uptime => Readiness::Uptime,
            ReadyCheck::Message => Readiness::Signal(ReadySignal::Message),
            ReadyCheck::Listen => Readiness::Signal(ReadySignal::Listen),
            ReadyCheck::Notify => Readiness::Signal(ReadySignal::Notify),
            ReadyCheck::Fd(_) | ReadyCheck::Tcp(_) | ReadyCheck::Http { .. } | ReadyCheck::Exec(_) => {
                Readiness::Signal(ReadySignal::Probe)
            }
        }
    }

    /// The check as it is written for `--ready`.
    pub fn name(&self) -> String {
        match self {
            ReadyCheck::Auto => "auto".into(),
            ReadyCheck::Spawn => "spawn".into(),
            ReadyCheck::Uptime => "uptime".into(),
            ReadyCheck::Message => "message".into(),
            ReadyCheck::Listen => "listen".into(),
            ReadyCheck::Notify => "notify".into(),
            ReadyCheck::Fd(number) => format!("fd:{number}"),
            ReadyCheck::Tcp(address) => format!("tcp:{address}"),
            ReadyCheck::Http { host, path } => format!("http://{host}{path}"),
            ReadyCheck::Exec(command) => format!("exec:{}", shell_words::join(command)),
        }
    }
}

/// The check, and what a worker that is not ready has not done.
impl fmt::Display for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = match self {
            ReadyCheck::Message => ": it has not sent 'ready'",
            ReadyCheck::Listen => ": it does not listen on a port that rinit shares",
            ReadyCheck::Notify => ": it has not said READY=1",
            ReadyCheck::Fd(_) => ": it has not written a newline there",
            ReadyCheck::Auto
            | ReadyCheck::Spawn
            | ReadyCheck::Uptime
            | ReadyCheck::Tcp(_)
            | ReadyCheck::Http { .. }
            | ReadyCheck::Exec(_) => "",
        };
        write!(f, "{}{missing}", self.name())
    }
}

impl Show for ReadyCheck {
    fn show(&self) -> String {
        self.name()
    }
}

impl Value for ReadyCheck {
    const FORM: &'static str = "HOW";

    fn parse(text: &str) -> Result<ReadyCheck, String> {
        match text {
            "auto" => return Ok(ReadyCheck::Auto),
            "spawn" => return Ok(ReadyCheck::Spawn),
            "uptime" => return Ok(ReadyCheck::Uptime),
            "message" => return Ok(ReadyCheck::Message),
            "listen" => return Ok(ReadyCheck::Listen),
            "notify" => return Ok(ReadyCheck::Notify),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("fd:") {
            let number = number.parse().ok().filter(|number| (3..=255).contains(number));
            return number.map(ReadyCheck::Fd).ok_or("allowed: fd:3 to fd:255".into());
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            return host_and_port(address).map(ReadyCheck::Tcp);
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err("a path has no spaces".into());
            }
            let host = if host.contains(':') { host_and_port(host)? } else { host_and_port(&format!("{host}:80"))? };
            return Ok(ReadyCheck::Http { host, path: if path.is_empty() { "/".into() } else { path.into() } });
        }
        if let Some(command) = text.strip_prefix("exec:") {
            let words = shell_words::split(command).map_err(|_| "a quote is not closed")?;
            return if words.is_empty() { Err("no command after exec:".into()) } else { Ok(ReadyCheck::Exec(words)) };
        }
        Err(ALLOWED.into())
    }
}

const ALLOWED: &str =
    "allowed: auto, spawn, uptime, message, listen, notify, fd:N, tcp:HOST:PORT, http://HOST:PORT/PATH, exec:CMD";

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        Some(_) | None => Err(format!("{text:?} is no HOST:PORT; {ALLOWED}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(text: &str) -> Result<ReadyCheck, String> {
        ReadyCheck::parse(text)
    }

    #[test]
    fn readiness_is_read_in_every_form() {
        assert_eq!(ready("fd:3"), Ok(ReadyCheck::Fd(3)));
        assert_eq!(ready("tcp:127.0.0.1:80"), Ok(ReadyCheck::Tcp("127.0.0.1:80".into())));
        let http = |host: &str, path: &str| Ok(ReadyCheck::Http { host: host.into(), path: path.into() });
        assert_eq!(ready("http://localhost/health?x=1"), http("localhost:80", "/health?x=1"));
        assert_eq!(ready("http://[::1]:8080"), http("[::1]:8080", "/"));
        assert_eq!(
            ready("exec:sh -c 'test -f /tmp/x'"),
            Ok(ReadyCheck::Exec(vec!["sh".into(), "-c".into(), "test -f /tmp/x".into()]))
        );
        for text in
            ["", "fd:2", "fd:x", "tcp:80", "tcp::80", "tcp:h:0", "http://", "exec:", "exec:'x", "soon", "http://h/a b"]
        {
            assert!(ready(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_check_is_shown_as_it_is_written() {
        for text in [
            "auto",
            "spawn",
            "uptime",
            "message",
            "listen",
            "notify",
            "fd:3",
            "tcp:h:1",
            "http://h:80/x",
            "exec:a 'b c'",
        ] {
            assert_eq!(ready(text).unwrap().show(), text);
        }
    }
}
