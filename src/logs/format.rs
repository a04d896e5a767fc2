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

/// One stream of one worker, with what stands in every line of it made once.
#[derive(Debug)]
pub(super) struct Voice {
    /// `web-0 | `.
    prefix: Vec<u8>,
    /// What a JSON line says of its origin: key and value, already as JSON.
    members: [(&'static str, Vec<u8>); 4],
}

/// The time as it is written, made once for all lines that are read together.
#[derive(Debug)]
pub(super) struct Stamp {
    pub(super) at: SystemTime,
    text: String,
}

impl Stamp {
    pub(super) fn new(at: SystemTime) -> Stamp {
        Stamp { at, text: humantime::format_rfc3339_millis(at).to_string() }
    }
}

impl Format {
    pub(super) fn voice(&self, source: &Source, stream: Stream) -> Voice {
        let Source { app, index, pid } = source;
        let text = |text: &str| {
            let mut out = Vec::new();
            string(&mut out, text);
            out
        };
        Voice {
            prefix: self.prefix(&format!("{app}-{index}")),
            members: [
                ("app", text(app)),
                ("worker", index.to_string().into_bytes()),
                ("pid", pid.to_string().into_bytes()),
                ("stream", text(stream.name())),
            ],
        }
    }

    fn prefix(&self, name: &str) -> Vec<u8> {
        match self.format {
            LogFormat::Prefix => format!("{name:width$} | ", width = self.width).into_bytes(),
            LogFormat::Raw | LogFormat::Json => Vec::new(),
        }
    }

    /// Writes a piece of a worker's line.
    pub(super) fn piece(&self, out: &mut Vec<u8>, voice: &Voice, time: &Stamp, piece: Piece) {
        if self.format == LogFormat::Json {
            return object(out, voice, time, piece);
        }
        if piece.first {
            if self.time {
                out.extend_from_slice(time.text.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(&voice.prefix);
        }
        out.extend_from_slice(piece.bytes);
        if piece.last {
            out.push(b'\n');
        }
    }

    /// One of rinit's own events: a line, or in text more when the message has more.
    pub(super) fn own(&self, level: tracing::Level, message: &str, time: SystemTime) -> Vec<u8> {
        let mut out = Vec::new();
        let stamp = Stamp::new(time);
        if self.format == LogFormat::Json {
            let level = level.as_str().to_lowercase();
            let _ = write!(out, "{{\"time\":\"{}\",\"app\":\"rinit\",\"level\":\"{level}\",\"message\":", stamp.text);
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
        let prefix = if self.format == LogFormat::Raw { b"rinit: ".to_vec() } else { self.prefix("rinit") };
        let own = Voice { prefix, members: Default::default() };
        for (line, mark) in message.lines().zip(std::iter::once(mark).chain(std::iter::repeat(""))) {
            let line = format!("{mark}{line}");
            self.piece(&mut out, &own, &stamp, Piece { bytes: line.as_bytes(), first: true, last: true });
        }
        out
    }
}

/// An object a line; a line that is an object already keeps its own keys, and gets those of ours that it lacks. Parts of
/// a long line are objects of their own, all but the last marked as partial.
fn object(out: &mut Vec<u8>, voice: &Voice, time: &Stamp, piece: Piece) {
    let inner = if piece.first && piece.last { inner_of_object(piece.bytes) } else { None };
    let taken = inner.as_ref().map_or(Keys::default(), |(_, keys)| *keys);
    let mut comma: &[u8] = b"{";
    let mut key = |out: &mut Vec<u8>, name: &str| {
        out.extend_from_slice(std::mem::replace(&mut comma, b","));
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    };
    if !taken.time {
        key(out, "time");
        out.push(b'"');
        out.extend_from_slice(time.text.as_bytes());
        out.push(b'"');
    }
    for ((name, value), taken) in voice.members.iter().zip([taken.app, taken.worker, taken.pid, taken.stream]) {
        if !taken {
            key(out, name);
            out.extend_from_slice(value);
        }
    }
    match inner {
        Some((b"", _)) => out.extend_from_slice(if comma == b"{" { b"{" } else { b"" }),
        Some((inner, _)) => {
            out.extend_from_slice(comma);
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

/// Bytes that are not UTF-8 become the replacement character.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes))
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Without an early end, so that many bytes are looked at at once.
    let needs_escape = text.bytes().fold(false, |any, byte| any | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
    if needs_escape {
        // Writing to memory cannot fail, and a string is always JSON.
        let _ = serde_json::to_writer(out, text);
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
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
    // What is passed over by the parser is not checked by it.
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(bytes).ok()?);
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
        let format = Format { format, time, width: 6 };
        let voice = format.voice(&Source { app: "web".into(), index: 0, pid: 7 }, Stream::Stdout);
        let stamp = Stamp::new(UNIX_EPOCH + Duration::from_millis(1_000_000_000_123));
        let mut out = Vec::new();
        format.piece(&mut out, &voice, &stamp, Piece { bytes: line, first: true, last: true });
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
        assert!(written(LogFormat::Json, false, b"{\"a\":\"\xff\"}").contains("\"message\":"));
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
