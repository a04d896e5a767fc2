//! Finds the level of a line: the one that it names itself, otherwise that of its stream. Pure.

use super::Stream;
use serde_json::{Map, Value};

/// The severity of a line, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The program has failed at something.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// For the program's authors.
    Debug,
    /// More of that.
    Trace,
}

/// The number of words at the beginning of a line among which its level is looked for.
const WORDS_BEFORE_LEVEL: usize = 4;
/// The members in which loggers put their level.
const LEVEL_KEYS: [&str; 4] = ["level", "severity", "lvl", "log.level"];

impl Level {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// The level that a word names, in any logger's spelling.
    pub fn of_word(word: &str) -> Option<Level> {
        Some(match word.to_ascii_lowercase().as_str() {
            "error" | "err" | "fatal" | "critical" | "crit" | "panic" | "alert" | "emerg" | "severe" => Level::Error,
            "warn" | "warning" => Level::Warn,
            "info" | "notice" | "information" => Level::Info,
            "debug" => Level::Debug,
            "trace" | "verbose" => Level::Trace,
            _ => return None,
        })
    }

    /// The level of lines that name none.
    fn of_stream(stream: Stream) -> Level {
        match stream {
            Stream::Stdout => Level::Info,
            Stream::Stderr => Level::Error,
        }
    }

    /// The level of a line: the one in its JSON, else the first of its words that names one, else by the stream.
    pub fn of_line(line: &str, stream: Stream) -> Level {
        if line.starts_with('{')
            && let Ok(object) = serde_json::from_str(line)
        {
            return Level::of_object(&object, stream);
        }
        let words = line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        words.take(WORDS_BEFORE_LEVEL).find_map(Level::of_word).unwrap_or(Level::of_stream(stream))
    }

    /// The level of a line that is a JSON object.
    pub fn of_object(object: &Map<String, Value>, stream: Stream) -> Level {
        let value = LEVEL_KEYS.iter().find_map(|key| object.get(*key));
        value.and_then(Level::of_value).unwrap_or(Level::of_stream(stream))
    }

    /// The level in a JSON log: a word, or a number as pino and bunyan have them (10 trace to 60 fatal).
    fn of_value(value: &Value) -> Option<Level> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lines_level_is_what_it_says_else_that_of_its_stream() {
        for (stream, text, expected) in [
            (Stream::Stdout, "GET / 200", Level::Info),
            (Stream::Stderr, "    at main.js:3", Level::Error),
            (Stream::Stderr, "WARNING: deprecated", Level::Warn),
            (Stream::Stderr, "2026-01-01 12:00:00 [info] ready", Level::Info),
            (Stream::Stdout, "[ERROR] no database, no warning", Level::Error),
            (Stream::Stdout, r#"{"level":30,"msg":"error"}"#, Level::Info),
            (Stream::Stdout, r#"{"level":50,"msg":"x"}"#, Level::Error),
            (Stream::Stdout, r#"{"severity":"WARNING"}"#, Level::Warn),
            (Stream::Stdout, r#"{"msg":"no level"}"#, Level::Info),
            (Stream::Stdout, "the user said: it is an error", Level::Info),
        ] {
            assert_eq!(Level::of_line(text, stream), expected, "{text}");
        }
    }
}
