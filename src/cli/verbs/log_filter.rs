//! Decides which log lines `rinit logs` prints: by time, level and regular expression.

use super::{Call, Failure};
use crate::config::duration;
use crate::control::types::LogLine;
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

/// The severity of a line, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
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
            && self.level.is_none_or(|level| Level::of_line(line) <= level)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.line))
    }
}

impl Level {
    /// The level that a word names, in any logger's spelling.
    fn of_word(word: &str) -> Option<Level> {
        Some(match word.to_ascii_lowercase().as_str() {
            "error" | "err" | "fatal" | "critical" | "crit" | "panic" | "alert" | "emerg" | "severe" => Level::Error,
            "warn" | "warning" => Level::Warn,
            "info" | "notice" | "information" => Level::Info,
            "debug" => Level::Debug,
            "trace" | "verbose" => Level::Trace,
            _ => return None,
        })
    }

    /// The level of a line: the one in its JSON, else the first of its words that names one, else by the stream.
    fn of_line(line: &LogLine) -> Level {
        let by_stream = if line.stream == "stderr" { Level::Error } else { Level::Info };
        if line.line.starts_with('{')
            && let Ok(object) = serde_json::from_str::<serde_json::Value>(&line.line)
        {
            let value = ["level", "severity", "lvl", "log.level"].iter().find_map(|key| object.get(key));
            return value.and_then(Level::of_value).unwrap_or(by_stream);
        }
        let words = line.line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        words.take(WORDS_BEFORE_LEVEL).find_map(Level::of_word).unwrap_or(by_stream)
    }

    /// The level in a JSON log: a word, or a number as pino and bunyan have them (10 trace to 60 fatal).
    fn of_value(value: &serde_json::Value) -> Option<Level> {
        match value.as_u64() {
            Some(50..) => Some(Level::Error),
            Some(40..) => Some(Level::Warn),
            Some(30..) => Some(Level::Info),
            Some(20..) => Some(Level::Debug),
            Some(_) => Some(Level::Trace),
            None => Level::of_word(value.as_str()?),
        }
    }
}

/// The number of words at the beginning of a line among which its level is looked for.
const WORDS_BEFORE_LEVEL: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn level(stream: &str, text: &str) -> Level {
        let (time, worker) = ("2026-01-01T12:00:00.000Z".into(), "web-0".into());
        Level::of_line(&LogLine { seq: 1, time, worker, stream: stream.into(), line: text.into() })
    }

    #[test]
    fn a_lines_level_is_what_it_says_else_that_of_its_stream() {
        for (stream, text, expected) in [
            ("stdout", "GET / 200", Level::Info),
            ("stderr", "    at main.js:3", Level::Error),
            ("stderr", "WARNING: deprecated", Level::Warn),
            ("stderr", "2026-01-01 12:00:00 [info] ready", Level::Info),
            ("stdout", "[ERROR] no database, no warning", Level::Error),
            ("stdout", r#"{"level":30,"msg":"error"}"#, Level::Info),
            ("stdout", r#"{"level":50,"msg":"x"}"#, Level::Error),
            ("stdout", r#"{"severity":"WARNING"}"#, Level::Warn),
            ("stdout", r#"{"msg":"no level"}"#, Level::Info),
            ("stdout", "the user said: it is an error", Level::Info),
        ] {
            assert_eq!(level(stream, text), expected, "{text}");
        }
    }
}
