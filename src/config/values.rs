//! Reading values: each reader says what is wrong and what is allowed.

use crate::control::EndpointSetting;
use crate::core::{Backoff, Reload, Restart, Signal};
use crate::ports::{Balance, Share};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The longest time that a setting can hold.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the supervisor learns that a worker is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The first sign: a word by sd_notify, or `min_uptime`.
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

impl Ready {
    /// As it is written for `--ready`.
    pub fn name(&self) -> String {
        let text = self.to_string();
        text.split_once(": it ").map_or(text.clone(), |(name, _)| name.to_owned())
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Auto => f.write_str("auto"),
            Ready::Spawn => f.write_str("spawn"),
            Ready::Uptime => f.write_str("uptime"),
            Ready::Message => f.write_str("message: it has not sent 'ready'"),
            Ready::Listen => f.write_str("listen: it does not listen on a port that rinit shares"),
            Ready::Notify => f.write_str("notify: it has not said READY=1"),
            Ready::Fd(number) => write!(f, "fd:{number}: it has not written a newline there"),
            Ready::Tcp(address) => write!(f, "tcp:{address}"),
            Ready::Http { host, path } => write!(f, "http://{host}{path}"),
            Ready::Exec(command) => write!(f, "exec:{}", shell_words::join(command)),
        }
    }
}

/// How workers' lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `app-0 | ` in front.
    Prefix,
    /// As they are.
    Raw,
    /// A JSON object a line.
    Json,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// That many.
    Count(u32),
    /// As many as CPUs, less this.
    Cpus {
        /// How many fewer.
        less: u32,
    },
}

pub(super) fn instances(text: &str) -> Result<Instances, String> {
    const ALLOWED: &str = "allowed: 1 to 1024, 0 or max (as many as CPUs), -1, -2… (that many fewer)";
    if text == "max" {
        return Ok(Instances::Cpus { less: 0 });
    }
    match text.parse::<i64>() {
        Ok(count @ 1..=1024) => Ok(Instances::Count(count as u32)),
        Ok(less @ -1024..=0) => Ok(Instances::Cpus { less: less.unsigned_abs() as u32 }),
        Ok(_) => Err(format!("out of range; {ALLOWED}")),
        Err(_) => Err(format!("not a number; {ALLOWED}")),
    }
}

/// How many workers `text` asks for, when there are `now`: a number, `+N`, `-N`, `0` or `max` for as many as CPUs.
///
/// # Errors
/// Anything else, and less than one.
pub fn scaled(text: &str, now: u32) -> Result<u32, String> {
    const ALLOWED: &str = "allowed: 1 to 1024, +N, -N, 0 or max (as many as CPUs)";
    let by = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number; {ALLOWED}"));
    let count = if let Some(more) = text.strip_prefix('+') {
        now.saturating_add(by(more)?)
    } else if let Some(fewer) = text.strip_prefix('-') {
        now.saturating_sub(by(fewer)?)
    } else if matches!(text, "0" | "max") {
        crate::sys::cgroup::cpus(std::path::Path::new("/"))
    } else {
        by(text)?
    };
    match count {
        1..=1024 => Ok(count),
        0 => Err("the last worker stays; `stop` stops it, `delete all` ends the container".into()),
        _ => Err(format!("{count} workers are too many; {ALLOWED}")),
    }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
    fits.then(|| text.to_owned()).ok_or("allowed: up to 64 letters, digits, and - _ . @".into())
}

pub(super) fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "always" => Ok(Restart::Always),
        "on-failure" => Ok(Restart::OnFailure),
        "never" => Ok(Restart::Never),
        _ => Err("allowed: always, on-failure, never".into()),
    }
}

pub(super) fn exit_codes(text: &str) -> Result<Vec<u8>, String> {
    text.split(',').map(exit_code).collect()
}

/// An exit code, 0 to 255.
///
/// # Errors
/// Anything else.
pub fn exit_code(text: &str) -> Result<u8, String> {
    text.trim().parse().map_err(|_| "allowed: exit codes from 0 to 255, separated by commas".into())
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "not a number; allowed: 0 and more".into())
}

/// A time with its unit, such as `500ms`, `10s`, `1m30s`, or `0`.
///
/// # Errors
/// Anything else, and more than a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "allowed: a number with a unit, such as 500ms, 10s, 1m, or 0";
    if text.chars().all(|c| c.is_ascii_digit()) && text != "0" && !text.is_empty() {
        return Err(format!("the unit is missing; did you mean {text}s or {text}ms? {ALLOWED}"));
    }
    let duration = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match duration {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("longer than a year".into()),
        Err(_) => Err(format!("not a duration; {ALLOWED}")),
    }
}

/// A duration that is not nothing.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("no worker is ready in no time; allowed: more than 0, such as 30s".into()),
        time => Ok(time),
    }
}

pub(super) fn backoff(text: &str) -> Result<Backoff, String> {
    let (min, max) = text.split_once("..").ok_or("allowed: MIN..MAX, such as 100ms..15s")?;
    let backoff = Backoff { min: duration(min)?, max: duration(max)? };
    if backoff.min > backoff.max { Err("the first wait is longer than the longest".into()) } else { Ok(backoff) }
}

pub(super) fn ready(text: &str) -> Result<Ready, String> {
    const ALLOWED: &str =
        "allowed: auto, spawn, uptime, message, listen, notify, fd:N, tcp:HOST:PORT, http://HOST:PORT/PATH, exec:CMD";
    let host_and_port = |text: &str| match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no HOST:PORT; {ALLOWED}")),
    };
    match text {
        "auto" => return Ok(Ready::Auto),
        "spawn" => return Ok(Ready::Spawn),
        "uptime" => return Ok(Ready::Uptime),
        "message" => return Ok(Ready::Message),
        "listen" => return Ok(Ready::Listen),
        "notify" => return Ok(Ready::Notify),
        _ => {}
    }
    if let Some(number) = text.strip_prefix("fd:") {
        let number = number.parse().ok().filter(|number| (3..=255).contains(number));
        return number.map(Ready::Fd).ok_or("allowed: fd:3 to fd:255".into());
    }
    if let Some(address) = text.strip_prefix("tcp:") {
        return host_and_port(address).map(Ready::Tcp);
    }
    if let Some(rest) = text.strip_prefix("http://") {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a path has no spaces".into());
        }
        let host = if host.contains(':') { host_and_port(host)? } else { host_and_port(&format!("{host}:80"))? };
        return Ok(Ready::Http { host, path: if path.is_empty() { "/".into() } else { path.into() } });
    }
    if let Some(command) = text.strip_prefix("exec:") {
        let words = shell_words::split(command).map_err(|_| "a quote is not closed")?;
        return if words.is_empty() { Err("no command after exec:".into()) } else { Ok(Ready::Exec(words)) };
    }
    Err(ALLOWED.into())
}

pub(super) fn reload(text: &str) -> Result<Reload, String> {
    let parallel = |text: &str| text.parse().ok().filter(|width| *width > 0).map(Reload::Rolling);
    match text {
        "rolling" => Ok(Reload::Rolling(1)),
        "restart" => Ok(Reload::Restart),
        _ => text
            .strip_prefix("parallel:")
            .and_then(parallel)
            .ok_or("allowed: rolling, parallel:K (1 and more), restart".into()),
    }
}

pub(super) fn socket(text: &str) -> Result<EndpointSetting, String> {
    match text {
        "off" => Ok(EndpointSetting::Off),
        path if path.starts_with('/') => Ok(EndpointSetting::At(path.into())),
        _ => Err("allowed: an absolute path, or off".into()),
    }
}

/// Every address of the machine when only a port is given.
pub(super) fn web(text: &str) -> Result<Option<SocketAddr>, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let text = local.as_deref().unwrap_or(text);
    let port = text.trim_start_matches(':').parse::<u16>().map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
    match (text, port, text.parse()) {
        ("off", ..) => Ok(None),
        (_, Ok(address), _) | (_, _, Ok(address)) => Ok(Some(address)),
        _ => Err("allowed: PORT, ADDRESS:PORT, [ADDRESS6]:PORT, off".into()),
    }
}

pub(super) fn share(text: &str) -> Result<Share, String> {
    match text {
        "auto" => Ok(Share::Auto),
        "node" => Ok(Share::Node),
        "preload" => Ok(Share::Preload),
        "off" => Ok(Share::Off),
        _ => Err("allowed: auto, node, preload, off".into()),
    }
}

pub(super) fn balance(text: &str) -> Result<Balance, String> {
    match text {
        "round-robin" => Ok(Balance::RoundRobin),
        "reuseport" => Ok(Balance::Reuseport),
        "shared" => Ok(Balance::Shared),
        _ => Err("allowed: round-robin, reuseport, shared".into()),
    }
}

pub(super) fn stop_signal(text: &str) -> Result<Signal, String> {
    text.parse()
}

pub(super) fn increment_env(text: &str) -> Result<(String, u64), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.and_then(|(name, base)| Some((name.to_owned(), base.parse().ok()?)))
        .ok_or("allowed: NAME=NUMBER, such as PORT=3000".into())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "prefix" => Ok(LogFormat::Prefix),
        "raw" => Ok(LogFormat::Raw),
        "json" => Ok(LogFormat::Json),
        _ => Err("allowed: prefix, raw, json".into()),
    }
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, String> {
    text.parse().map_err(|_| "allowed: error, warn, info, debug, trace".into())
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err("allowed: true, false".into()),
    }
}

/// A signal and what is sent in its place; `None`: nothing.
///
/// # Errors
/// Anything but `S:R` with names or numbers.
pub fn rewrite(text: &str) -> Result<(Signal, Option<Signal>), String> {
    const ALLOWED: &str = "allowed: S:R, names or numbers, such as TERM:QUIT; R = 0: not at all";
    let (from, to) = text.split_once(':').ok_or(ALLOWED)?;
    let to = if to.trim() == "0" { None } else { Some(to.parse()?) };
    Ok((from.parse()?, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("10").unwrap_err().contains("10s"));
        for text in ["", "s", "-1s", "1y1d", "9999999999999999999s", "1.5", "ten seconds"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn readiness_is_read_in_every_form() {
        assert_eq!(ready("fd:3"), Ok(Ready::Fd(3)));
        assert_eq!(ready("tcp:127.0.0.1:80"), Ok(Ready::Tcp("127.0.0.1:80".into())));
        let http = |host: &str, path: &str| Ok(Ready::Http { host: host.into(), path: path.into() });
        assert_eq!(ready("http://localhost/health?x=1"), http("localhost:80", "/health?x=1"));
        assert_eq!(ready("http://[::1]:8080"), http("[::1]:8080", "/"));
        assert_eq!(
            ready("exec:sh -c 'test -f /tmp/x'"),
            Ok(Ready::Exec(vec!["sh".into(), "-c".into(), "test -f /tmp/x".into()]))
        );
        for text in
            ["", "fd:2", "fd:x", "tcp:80", "tcp::80", "tcp:h:0", "http://", "exec:", "exec:'x", "soon", "http://h/a b"]
        {
            assert!(ready(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn instances_are_counts_or_relative_to_the_cpus() {
        assert_eq!(instances("4"), Ok(Instances::Count(4)));
        assert_eq!(instances("max"), Ok(Instances::Cpus { less: 0 }));
        assert_eq!(instances("-2"), Ok(Instances::Cpus { less: 2 }));
        assert!(instances("1025").is_err() && instances("two").is_err() && instances("").is_err());
    }

    #[test]
    fn rewrites_take_names_and_numbers() {
        assert_eq!(rewrite("15:3"), Ok((Signal::TERM, Some(Signal::QUIT))));
        assert_eq!(rewrite("HUP:0"), Ok((Signal::HUP, None)));
        assert!(rewrite("TERM").is_err() && rewrite("TERM:65").is_err() && rewrite(":").is_err());
    }
}
