//! Parses probes: the ways in which rinit asks a worker whether it serves, for `--ready` and `--live`.

use super::reader::{Show, Value};
use std::fmt;

/// A question to a worker that is answered by yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection to `HOST:PORT` is accepted.
    Tcp(String),
    /// `GET` is answered with 200 to 399.
    Http {
        /// `HOST:PORT`.
        host: String,
        /// The path, from the slash on.
        path: String,
    },
    /// A program exits with 0.
    Exec(Vec<String>),
}

/// The check by which the supervisor learns that a worker hangs (`--live`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveCheck {
    /// None.
    Off,
    /// The worker says `WATCHDOG=1` in time, as `sd_notify(3)` does.
    Watchdog,
    /// A probe is answered.
    Probe(Probe),
}

impl Probe {
    /// Parses `tcp:HOST:PORT`, `http://HOST:PORT/PATH` or `exec:CMD`; `None`: it is none of these. `allowed` ends the reason.
    ///
    /// # Errors
    /// The reason for which it cannot be used.
    pub(super) fn parse(text: &str, allowed: &str) -> Option<Result<Probe, String>> {
        if let Some(address) = text.strip_prefix("tcp:") {
            return Some(host_and_port(address, allowed).map(Probe::Tcp));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return Some(http(rest, allowed));
        }
        let command = text.strip_prefix("exec:")?;
        Some(match shell_words::split(command) {
            Err(_) => Err("a quote is not closed".into()),
            Ok(words) if words.is_empty() => Err("no command after exec:".into()),
            Ok(words) => Ok(Probe::Exec(words)),
        })
    }
}

fn http(rest: &str, allowed: &str) -> Result<Probe, String> {
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a path has no spaces".into());
    }
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let host = host_and_port(&host, allowed)?;
    Ok(Probe::Http { host, path: if path.is_empty() { "/".into() } else { path.into() } })
}

fn host_and_port(text: &str, allowed: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        Some(_) | None => Err(format!("{text:?} is no HOST:PORT; {allowed}")),
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(address) => write!(f, "tcp:{address}"),
            Probe::Http { host, path } => write!(f, "http://{host}{path}"),
            Probe::Exec(command) => write!(f, "exec:{}", shell_words::join(command)),
        }
    }
}

impl Show for LiveCheck {
    fn show(&self) -> String {
        match self {
            LiveCheck::Off => "off".into(),
            LiveCheck::Watchdog => "watchdog".into(),
            LiveCheck::Probe(probe) => probe.to_string(),
        }
    }
}

impl Value for LiveCheck {
    const FORM: &'static str = "HOW";

    fn parse(text: &str) -> Result<LiveCheck, String> {
        const ALLOWED: &str = "allowed: off, watchdog, tcp:HOST:PORT, http://HOST:PORT/PATH, exec:CMD";
        match text {
            "off" => Ok(LiveCheck::Off),
            "watchdog" => Ok(LiveCheck::Watchdog),
            _ => Probe::parse(text, ALLOWED).unwrap_or(Err(ALLOWED.into())).map(LiveCheck::Probe),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_is_read_in_every_form_and_shown_as_it_is_written() {
        for text in ["off", "watchdog", "tcp:h:1", "http://h:80/x", "exec:a 'b c'"] {
            assert_eq!(LiveCheck::parse(text).unwrap().show(), text);
        }
        for text in ["", "auto", "listen", "fd:3", "tcp:h", "http://h:x/", "exec:"] {
            assert!(LiveCheck::parse(text).is_err(), "{text:?}");
        }
    }
}
