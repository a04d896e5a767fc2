//! Parses probes: the ways in which rinit asks a worker whether it serves, for `--ready` and `--live`.

use super::reader::{Show, Value};
use crate::control::MetricsPage;
use std::fmt;

/// A question to a worker that is answered by yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection is accepted.
    Tcp(ProbeTarget),
    /// `GET` is answered with 200 to 399.
    Http {
        /// The server.
        target: ProbeTarget,
        /// The path, from the slash on.
        path: String,
    },
    /// A program exits with 0.
    Exec(Vec<String>),
}

/// The server that a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTarget {
    /// `HOST:PORT`.
    Address(String),
    /// The worker itself and no other, at that port or at the first where it listens.
    Worker(Option<u16>),
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
    /// Parses `tcp:[[HOST]:PORT]`, `http://HOST:PORT/PATH`, `http:/PATH` or `exec:CMD`; `None`: it is none of these. `allowed` ends the reason.
    ///
    /// # Errors
    /// The reason for which it cannot be used.
    pub(super) fn parse(text: &str, allowed: &str) -> Option<Result<Probe, String>> {
        if let Some(address) = text.strip_prefix("tcp:") {
            return Some(ProbeTarget::parse(address, allowed).map(Probe::Tcp));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return Some(http(rest, allowed));
        }
        if let Some(path) = text.strip_prefix("http:").filter(|path| path.starts_with('/')) {
            return Some(http_path(path).map(|path| Probe::Http { target: ProbeTarget::Worker(None), path }));
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
    let path = http_path(if path.is_empty() { "/" } else { path })?;
    if host.is_empty() {
        return Err(format!("no host and no port; {allowed}"));
    }
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    Ok(Probe::Http { target: ProbeTarget::parse(&host, allowed)?, path })
}

fn http_path(path: &str) -> Result<String, String> {
    let has_spaces = path.chars().any(|c| c.is_whitespace() || c.is_control());
    if has_spaces { Err("a path has no spaces".into()) } else { Ok(path.into()) }
}

impl ProbeTarget {
    /// Parses `HOST:PORT`; or `:PORT` or nothing, for the worker itself.
    fn parse(text: &str, allowed: &str) -> Result<ProbeTarget, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        match (host, port.parse::<u16>().ok().filter(|port| *port > 0)) {
            ("", None) if text.is_empty() => Ok(ProbeTarget::Worker(None)),
            ("", Some(port)) => Ok(ProbeTarget::Worker(Some(port))),
            (_, Some(_)) => Ok(ProbeTarget::Address(text.to_owned())),
            (_, None) => Err(format!("{text:?} is no HOST:PORT; {allowed}")),
        }
    }
}

impl fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeTarget::Address(address) => f.write_str(address),
            ProbeTarget::Worker(Some(port)) => write!(f, ":{port}"),
            ProbeTarget::Worker(None) => Ok(()),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(address) => write!(f, "tcp:{address}"),
            Probe::Http { target: ProbeTarget::Worker(None), path } => write!(f, "http:{path}"),
            Probe::Http { target, path } => write!(f, "http://{target}{path}"),
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
        const ALLOWED: &str =
            "allowed: off, watchdog, tcp:, http:/PATH, tcp:HOST:PORT, http://HOST:PORT/PATH, exec:CMD";
        match text {
            "off" => Ok(LiveCheck::Off),
            "watchdog" => Ok(LiveCheck::Watchdog),
            _ => Probe::parse(text, ALLOWED).unwrap_or(Err(ALLOWED.into())).map(LiveCheck::Probe),
        }
    }
}

impl Value for MetricsPage {
    const FORM: &'static str = "[:PORT]/PATH";

    fn parse(text: &str) -> Result<MetricsPage, String> {
        const ALLOWED: &str = "allowed: a path such as /metrics, or :9100/metrics on a port of its own";
        let (target, path) = text.split_at(text.find('/').ok_or(ALLOWED)?);
        match ProbeTarget::parse(target, ALLOWED)? {
            ProbeTarget::Worker(port) => Ok(MetricsPage { port, path: http_path(path)? }),
            ProbeTarget::Address(_) => Err(ALLOWED.into()),
        }
    }
}

impl Show for MetricsPage {
    fn show(&self) -> String {
        format!("{}{}", ProbeTarget::Worker(self.port), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_is_a_path_with_or_without_a_port() {
        for text in ["/metrics", ":9100/metrics?x=1"] {
            assert_eq!(MetricsPage::parse(text).unwrap().show(), text);
        }
        for text in ["", "metrics", "9100/metrics", "h:9100/metrics", ":x/metrics", "/a b"] {
            assert!(MetricsPage::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn liveness_is_read_in_every_form_and_shown_as_it_is_written() {
        for text in
            ["off", "watchdog", "tcp:", "http:/x?y=1", "http://:80/x", "tcp:h:1", "http://h:80/x", "exec:a 'b c'"]
        {
            assert_eq!(LiveCheck::parse(text).unwrap().show(), text);
        }
        for text in ["", "auto", "listen", "fd:3", "tcp:h", "http://h:x/", "exec:"] {
            assert!(LiveCheck::parse(text).is_err(), "{text:?}");
        }
    }
}
