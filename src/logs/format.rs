//! How a line is written. Pure: a piece of a line in, bytes out.

use super::Stream;
use super::lines::Piece;
use crate::config::LogFormat;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::SystemTime;

/// The format that all lines share.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Which.
    pub format: LogFormat,
    /// Whether the time stands in front.
    pub time: bool,
    /// The width of the names in front, so that what follows is in one column.
    pub width: usize,
}

/// Who wrote a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The app.
    pub app: String,
    /// Its slot.
    pub index: u32,
    /// The process.
    pub pid: i32,
}

impl Format {
    /// Writes a piece of a worker's line.
    pub(super) fn piece(&self, out: &mut Vec<u8>, source: &Source, stream: Stream, time: SystemTime, piece: Piece) {
        match self.format {
            LogFormat::Json => return self.object(out, source, stream, time, piece),
            LogFormat::Prefix | LogFormat::Raw => {}
        }
        if piece.first {
            self.front(
                out,
                time,
                format_args!("{}-{}", source.app, source.index),
                source.app.len() + digits(source.index) + 1,
            );
        }
        out.extend_from_slice(piece.bytes);
        if piece.last {
            out.push(b'\n');
        }
    }

    /// Writes one of rinit's own events: a line, or more when the message has more.
    pub(super) fn own(&self, level: tracing::Level, message: &str, time: SystemTime) -> Vec<u8> {
        let mut out = Vec::new();
        if self.format == LogFormat::Json {
            let (time, level) = (humantime::format_rfc3339_millis(time), level.as_str().to_lowercase());
            let _ = write!(out, "{{\"time\":\"{time}\",\"app\":\"rinit\",\"level\":\"{level}\",\"message\":");
            string(&mut out, message);
            out.extend_from_slice(b"}\n");
            return out;
        }
        let mark = match level {
            tracing::Level::ERROR => "error: ",
            tracing::Level::WARN => "warning: ",
            tracing::Level::INFO => "",
            tracing::Level::DEBUG | tracing::Level::TRACE => "debug: ",
        };
        for (line, mark) in message.lines().zip(std::iter::once(mark).chain(std::iter::repeat(""))) {
            match self.format {
                LogFormat::Prefix => self.front(&mut out, time, format_args!("rinit"), "rinit".len()),
                LogFormat::Raw | LogFormat::Json => {
                    self.front(&mut out, time, format_args!(""), 0);
                    out.extend_from_slice(b"rinit: ");
                }
            }
            let _ = writeln!(out, "{mark}{line}");
        }
        out
    }

    fn front(&self, out: &mut Vec<u8>, time: SystemTime, name: fmt::Arguments, length: usize) {
        if self.time {
            let _ = write!(out, "{} ", humantime::format_rfc3339_millis(time));
        }
        if self.format == LogFormat::Prefix {
            let padding = self.width.saturating_sub(length);
            let _ = out.write_fmt(name);
            out.extend(std::iter::repeat_n(b' ', padding));
            out.extend_from_slice(b" | ");
        }
    }

    /// An object a line; a line that is an object already keeps its own keys, and gets those of ours that it lacks.
    /// Parts of a long line are objects of their own, all but the last marked as partial.
    fn object(&self, out: &mut Vec<u8>, source: &Source, stream: Stream, time: SystemTime, piece: Piece) {
        let Source { app, index, pid } = source;
        let whole = piece.first && piece.last;
        let inner = if whole { inner_of_object(piece.bytes) } else { None };
        let taken = inner.as_ref().map_or(Keys::default(), |(_, keys)| *keys);
        let start = out.len();
        let mut comma = b'{';
        let mut key = |out: &mut Vec<u8>, name: &str| {
            out.push(std::mem::replace(&mut comma, b','));
            let _ = write!(out, "\"{name}\":");
        };
        if !taken.time {
            key(out, "time");
            let _ = write!(out, "\"{}\"", humantime::format_rfc3339_millis(time));
        }
        if !taken.app {
            key(out, "app");
            string(out, app);
        }
        if !taken.worker {
            key(out, "worker");
            let _ = write!(out, "{index}");
        }
        if !taken.pid {
            key(out, "pid");
            let _ = write!(out, "{pid}");
        }
        if !taken.stream {
            key(out, "stream");
            string(out, stream.name());
        }
        match inner {
            Some((inner, _)) => {
                if out.len() == start {
                    out.push(b'{');
                } else if !inner.is_empty() {
                    out.push(b',');
                }
                out.extend_from_slice(inner);
            }
            None => {
                key(out, "message");
                string(out, &text(piece.bytes));
                if !piece.last {
                    key(out, "partial");
                    out.extend_from_slice(b"true");
                }
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

fn digits(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Bytes that are not UTF-8 become the replacement character.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes))
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and a string is always JSON.
    let _ = serde_json::to_writer(out, text);
}

/// Which of rinit's keys an object has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Keys {
    time: bool,
    app: bool,
    worker: bool,
    pid: bool,
    stream: bool,
}

/// What stands between the braces of a JSON object, and which of our keys are among its own. `None`: no valid object.
fn inner_of_object(bytes: &[u8]) -> Option<(&[u8], Keys)> {
    let inner = bytes.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let keys = deserializer.deserialize_map(KeysOfObject).ok()?;
    deserializer.end().ok()?;
    Some((inner.trim_ascii(), keys))
}

struct KeysOfObject;

impl<'de> Visitor<'de> for KeysOfObject {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some((key, IgnoredAny)) = map.next_entry::<Cow<str>, IgnoredAny>()? {
            match &*key {
                "time" => keys.time = true,
                "app" => keys.app = true,
                "worker" => keys.worker = true,
                "pid" => keys.pid = true,
                "stream" => keys.stream = true,
                _ => {}
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn written(format: LogFormat, time: bool, line: &[u8]) -> String {
        let source = Source { app: "web".into(), index: 0, pid: 7 };
        let mut out = Vec::new();
        let piece = Piece { bytes: line, first: true, last: true };
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_000_123);
        Format { format, time, width: 6 }.piece(&mut out, &source, Stream::Stdout, at, piece);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn prefix_and_raw() {
        assert_eq!(written(LogFormat::Prefix, false, b"hello"), "web-0  | hello\n");
        assert_eq!(written(LogFormat::Raw, false, b"hello"), "hello\n");
        assert_eq!(written(LogFormat::Prefix, true, b"x"), "2001-09-09T01:46:40.123Z web-0  | x\n");
        assert_eq!(written(LogFormat::Raw, true, b"x"), "2001-09-09T01:46:40.123Z x\n");
    }

    #[test]
    fn json_wraps_text_and_merges_objects() {
        let front = r#"{"time":"2001-09-09T01:46:40.123Z","app":"web","worker":0,"pid":7,"stream":"stdout""#;
        assert_eq!(
            written(LogFormat::Json, false, b"a \"b\"\t"),
            format!("{front},\"message\":\"a \\\"b\\\"\\t\"}}\n")
        );
        assert_eq!(written(LogFormat::Json, false, b"\xff"), format!("{front},\"message\":\"\u{fffd}\"}}\n"));
        assert_eq!(
            written(LogFormat::Json, false, br#" {"level":"info"} "#),
            format!("{front},\"level\":\"info\"}}\n")
        );
        assert_eq!(written(LogFormat::Json, false, b"{}"), format!("{front}}}\n"));
        let own = r#"{"time":1,"app":{},"worker":[],"pid":null,"stream":"x","m":1}"#;
        assert_eq!(written(LogFormat::Json, false, own.as_bytes()), format!("{own}\n"));
        for broken in ["{", "{\"a\"}", "{\"a\":1}}", "[1]", "{\"a\":1} x"] {
            assert!(written(LogFormat::Json, false, broken.as_bytes()).contains("\"message\":"), "{broken}");
        }
    }

    #[test]
    fn every_json_line_is_json() {
        let lines: [&[u8]; 6] =
            [b"", b"\0\x01\x7f", b"{\"k\":\"\\u0000\"}", b"\"", b"{\"\\u0061pp\":1}", "ü☃".as_bytes()];
        for line in lines {
            let written = written(LogFormat::Json, false, line);
            let value: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert!(value.is_object() && written.ends_with("}\n"));
        }
    }

    #[test]
    fn own_lines_keep_the_column_and_the_format() {
        let at = UNIX_EPOCH;
        let own = |format, text| {
            let out = Format { format, time: false, width: 6 }.own(tracing::Level::WARN, text, at);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(own(LogFormat::Prefix, "a\n  b"), "rinit  | warning: a\nrinit  |   b\n");
        assert_eq!(own(LogFormat::Raw, "a"), "rinit: warning: a\n");
        let json: serde_json::Value = serde_json::from_str(&own(LogFormat::Json, "a\nb")).unwrap();
        assert_eq!((json["level"].as_str(), json["message"].as_str()), (Some("warn"), Some("a\nb")));
    }
}
