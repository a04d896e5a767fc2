//! Parses `--ready`: the check by which the supervisor learns that a worker is ready.

use super::probe::Probe;
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
    /// A probe is answered.
    Probe(Probe),
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
            ReadyCheck::Fd(_) => Readiness::Signal(ReadySignal::Newline),
            ReadyCheck::Probe(_) => Readiness::Signal(ReadySignal::Probe),
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
            ReadyCheck::Probe(probe) => probe.to_string(),
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
            ReadyCheck::Auto | ReadyCheck::Spawn | ReadyCheck::Uptime | ReadyCheck::Probe(_) => "",
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
        Probe::parse(text, ALLOWED).unwrap_or(Err(ALLOWED.into())).map(ReadyCheck::Probe)
    }
}

const ALLOWED: &str = "allowed: auto, spawn, uptime, message, listen, notify, fd:N, tcp:, http:/PATH, tcp:HOST:PORT, http://HOST:PORT/PATH, exec:CMD";

#[cfg(test)]
mod tests {
    use super::super::probe::ProbeTarget;
    use super::*;

    fn ready(text: &str) -> Result<ReadyCheck, String> {
        ReadyCheck::parse(text)
    }

    #[test]
    fn readiness_is_read_in_every_form() {
        assert_eq!(ready("fd:3"), Ok(ReadyCheck::Fd(3)));
        let address = |address: &str| ProbeTarget::Address(address.into());
        assert_eq!(ready("tcp:127.0.0.1:80"), Ok(ReadyCheck::Probe(Probe::Tcp(address("127.0.0.1:80")))));
        let asked = |target, path: &str| Ok(ReadyCheck::Probe(Probe::Http { target, path: path.into() }));
        let http = |host: &str, path: &str| asked(address(host), path);
        // Without a host it is the worker itself.
        assert_eq!(ready("tcp:"), Ok(ReadyCheck::Probe(Probe::Tcp(ProbeTarget::Worker(None)))));
        assert_eq!(ready("tcp::80"), Ok(ReadyCheck::Probe(Probe::Tcp(ProbeTarget::Worker(Some(80))))));
        assert_eq!(ready("http:/healthz"), asked(ProbeTarget::Worker(None), "/healthz"));
        assert_eq!(ready("http://:8080/healthz"), asked(ProbeTarget::Worker(Some(8080)), "/healthz"));
        assert_eq!(ready("http://localhost/health?x=1"), http("localhost:80", "/health?x=1"));
        assert_eq!(ready("http://[::1]:8080"), http("[::1]:8080", "/"));
        assert_eq!(
            ready("exec:sh -c 'test -f /tmp/x'"),
            Ok(ReadyCheck::Probe(Probe::Exec(vec!["sh".into(), "-c".into(), "test -f /tmp/x".into()])))
        );
        for text in [
            "",
            "fd:2",
            "fd:x",
            "tcp:80",
            "tcp::x",
            "tcp::0",
            "tcp:h:0",
            "http://",
            "http:",
            "http:x",
            "exec:",
            "exec:'x",
            "soon",
            "http://h/a b",
        ] {
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
            "tcp:",
            "tcp::1",
            "http:/x",
            "http://:80/x",
            "tcp:h:1",
            "http://h:80/x",
            "exec:a 'b c'",
        ] {
            assert_eq!(ready(text).unwrap().show(), text);
        }
    }
}
