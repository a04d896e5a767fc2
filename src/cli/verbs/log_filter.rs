//! Decides which log lines `rinit logs` prints: by time, level and regular expression.

use super::{Call, Failure};
use crate::config::duration;
use crate::control::types::LogLine;
use crate::logs::{Level, Stream};
use regex_lite::Regex;
use std::time::SystemTime;

/// A moment, as `--since` and `--until` give it.
#[derive(Clone, Copy, Debug)]
pub struct Since(SystemTime);

impl Since {
    /// Reads a time, or how long ago it was.
    pub fn read(option: &str, text: &str) -> Result<Since, Failure> {
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            return Ok(Since(time));
        }
        let ago = duration(text)
            .map_err(|why| Failure::Usage(format!("{option} {text}: {why}; or a time such as 2026-01-31T12:00:00Z")))?;
        Ok(Since(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)))
    }

    /// True if the moment is before a time of the API's, or the same.
    pub fn is_before(&self, time: &str) -> bool {
        humantime::parse_rfc3339(time).is_ok_and(|time| self.0 <= time)
    }
}

/// The conditions on a line that the API does not know.
pub struct LogFilter {
    until: Option<Since>,
    level: Option<Level>,
    pattern: Option<Regex>,
}

impl LogFilter {
    pub fn of(call: &Call) -> Result<LogFilter, Failure> {
        let until = call.option("until").map(|text| Since::read("--until", text)).transpose()?;
        let level = call.option("level").map(|text| {
            Level::of_word(text)
                .ok_or_else(|| Failure::Usage(format!("--level {text}: allowed: error, warn, info, debug, trace")))
        });
        let pattern = call.option("grep").map(|text| {
            Regex::new(text).map_err(|error| Failure::Usage(format!("--grep {text}: no regular expression: {error}")))
        });
        Ok(LogFilter { until, level: level.transpose()?, pattern: pattern.transpose()? })
    }

    /// True if every line passes.
    pub fn is_empty(&self) -> bool {
        self.until.is_none() && self.level.is_none() && self.pattern.is_none()
    }

    /// True if no later line can pass.
    pub fn has_end(&self) -> bool {
        self.until.is_some()
    }

    pub fn passes(&self, line: &LogLine) -> bool {
        self.until.is_none_or(|until| !until.is_before(&line.time))
            && self.level.is_none_or(|level| Level::of_line(&line.line, stream_of(line)) <= level)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.line))
    }
}

/// The stream of a line.
pub fn stream_of(line: &LogLine) -> Stream {
    if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout }
}
