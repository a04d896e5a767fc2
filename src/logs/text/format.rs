//! Formats lines: a fragment of a stream in, bytes out. Pure.

use super::LogFormat;
use super::Stream;
use super::buffer::append;
use super::ecs::{self, Fields};
use super::json;
use super::lines::Fragment;
use std::fmt;
use std::io::Write;
use std::time::SystemTime;

/// The format that all lines share.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The kind: prefixed, raw or JSON.
    pub format: LogFormat,
    /// The time precedes each line.
    pub time: bool,
    /// The width of the worker's name before a line, in characters, so that all lines begin in one column.
    pub width: usize,
}

/// The origin of a worker's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The app's name.
    pub app: String,
    /// The slot's number.
    pub index: u32,
    /// The process.
    pub pid: i32,
}

/// A moment and, where the format shows it, its text: made once for all lines that are read together.
#[derive(Debug)]
pub struct Timestamp {
    pub at: SystemTime,
    text: String,
    is_shown: bool,
}

impl Timestamp {
    /// Changes the moment, and keeps the memory of its text.
    pub fn set(&mut self, at: SystemTime) {
        self.at = at;
        self.text.clear();
        if self.is_shown {
            let _ = fmt::Write::write_fmt(&mut self.text, format_args!("{}", humantime::format_rfc3339_millis(at)));
        }
    }
}

/// The bytes before each line of one stream.
#[derive(Debug)]
pub struct LineStart {
    /// The worker's name in its column.
    prefix: Vec<u8>,
    /// What rinit says of each line in JSON, but for its time.
    members: Vec<u8>,
    /// The fields of ECS.
    fields: Fields,
    /// The prefix and the time, or the beginning of a JSON object, as last refreshed.
    bytes: Vec<u8>,
}

impl Format {
    /// The text of a moment is made only if this format shows it.
    pub fn timestamp(&self, at: SystemTime) -> Timestamp {
        let is_shown = self.time || self.format.is_json();
        let mut time = Timestamp { at, text: String::new(), is_shown };
        time.set(at);
        time
    }

    /// Makes what stands before each line of a stream.
    pub fn line_start(&self, labels: &Labels, stream: Stream) -> LineStart {
        let Labels { app, index, pid } = labels;
        let mut members = b"\"app\":".to_vec();
        members.extend(json::string(app));
        let _ = write!(members, ",\"worker\":{index},\"pid\":{pid},\"stream\":\"{}\"", stream.name());
        let fields = Fields::new(labels, stream);
        LineStart { prefix: self.prefix(&format!("{app}-{index}")), members, fields, bytes: Vec::new() }
    }

    fn prefix(&self, name: &str) -> Vec<u8> {
        match self.format {
            LogFormat::Prefix => format!("{name:width$} | ", width = self.width).into_bytes(),
            LogFormat::Raw | LogFormat::Json | LogFormat::Ecs => Vec::new(),
        }
    }

    /// Updates the time before the lines that follow.
    pub fn refresh(&self, start: &mut LineStart, time: &Timestamp) {
        start.bytes.clear();
        if self.format.is_json() {
            json::begin_object(&mut start.bytes, &time.text, &start.members);
        } else {
            if self.time {
                append(&mut start.bytes, time.text.as_bytes());
                start.bytes.push(b' ');
            }
            append(&mut start.bytes, &start.prefix);
        }
    }

    /// Writes a fragment of a worker's stream, and returns the number of lines that end in it. `start` was refreshed for this
    /// time.
    pub fn write(&self, out: &mut Vec<u8>, start: &LineStart, time: &Timestamp, fragment: Fragment) -> usize {
        let LineStart { fields, bytes: start_bytes, .. } = start;
        match (self.format, fragment) {
            (LogFormat::Raw, Fragment::Lines(text)) if start.bytes.is_empty() => {
                out.extend_from_slice(text);
                return memchr::memchr_iter(b'\n', text).count();
            }
            (LogFormat::Raw | LogFormat::Prefix, Fragment::Lines(text)) => {
                return for_each_line(text, |line| {
                    append(out, &start.bytes);
                    append(out, line);
                    out.push(b'\n');
                });
            }
            (LogFormat::Raw | LogFormat::Prefix, Fragment::Part { bytes, is_first, is_last }) => {
                if is_first {
                    append(out, &start.bytes);
                }
                append(out, bytes);
                if is_last {
                    out.push(b'\n');
                }
            }
            (LogFormat::Json, Fragment::Lines(text)) => {
                return for_each_line(text, |line| json::write_line(out, start_bytes, line));
            }
            (LogFormat::Json, Fragment::Part { bytes, is_first: true, is_last: true }) => {
                json::write_line(out, start_bytes, bytes);
            }
            (LogFormat::Json, Fragment::Part { bytes, is_last, .. }) => {
                json::write_message(out, start_bytes, bytes, !is_last);
            }
            (LogFormat::Ecs, Fragment::Lines(text)) => {
                return for_each_line(text, |line| fields.write_line(out, start_bytes, &time.text, line));
            }
            (LogFormat::Ecs, Fragment::Part { bytes, is_first: true, is_last: true }) => {
                fields.write_line(out, start_bytes, &time.text, bytes);
            }
            (LogFormat::Ecs, Fragment::Part { bytes, is_last, .. }) => {
                fields.write_message(out, start_bytes, &time.text, bytes, !is_last);
            }
        }
        usize::from(matches!(fragment, Fragment::Part { is_last: true, .. }))
    }

    /// Formats one of rinit's own events: a line, or in text more when the message has more.
    pub fn diagnostic(&self, level: tracing::Level, message: &str, time: SystemTime) -> Vec<u8> {
        let mut out = Vec::new();
        let time = self.timestamp(time);
        if self.format.is_json() {
            let level = level.as_str().to_lowercase();
            json::begin_object(&mut out, &time.text, format!("\"level\":\"{level}\"").as_bytes());
            if self.format == LogFormat::Ecs {
                let start = std::mem::take(&mut out);
                ecs::write_diagnostic(&mut out, &start, &time.text, &level, message);
            } else {
                json::end_message(&mut out, message.as_bytes());
            }
            return out;
        }
        let mark = match level {
            tracing::Level::ERROR => "error: ",
            tracing::Level::WARN => "warning: ",
            tracing::Level::INFO => "",
            tracing::Level::DEBUG | tracing::Level::TRACE => "debug: ",
        };
        let prefix = if self.format == LogFormat::Raw { b"rinit: ".to_vec() } else { self.prefix("rinit") };
        let mut start = if self.time { format!("{} ", time.text).into_bytes() } else { Vec::new() };
        start.extend(prefix);
        for (line, mark) in message.lines().zip(std::iter::once(mark).chain(std::iter::repeat(""))) {
            out.extend_from_slice(&start);
            let _ = writeln!(out, "{mark}{line}");
        }
        out
    }
}

/// Gives each of these whole lines, without its newline. Returns their number.
#[inline]
fn for_each_line(text: &[u8], mut give: impl FnMut(&[u8])) -> usize {
    let (mut start, mut count) = (0, 0);
    for end in memchr::memchr_iter(b'\n', text) {
        give(text.get(start..end).unwrap_or_default());
        (start, count) = (end + 1, count + 1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn written(format: LogFormat, time: bool, line: &[u8]) -> String {
        let format = Format { format, time, width: 6 };
        let mut start = format.line_start(&Labels { app: "web".into(), index: 0, pid: 7 }, Stream::Stdout);
        let time = format.timestamp(UNIX_EPOCH + Duration::from_millis(1_000_000_000_123));
        format.refresh(&mut start, &time);
        let (mut out, mut of_lines) = (Vec::new(), Vec::new());
        let part = Fragment::Part { bytes: line, is_first: true, is_last: true };
        assert_eq!(format.write(&mut out, &start, &time, part), 1);
        assert_eq!(format.write(&mut of_lines, &start, &time, Fragment::Lines(&[line, b"\n"].concat())), 1);
        assert_eq!(out, of_lines, "a line looks the same whether it was read whole or in two");
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
    fn json_wraps_text_and_adds_rinits_member_to_objects() {
        let front = r#"{"rinit":{"time":"2001-09-09T01:46:40.123Z","app":"web","worker":0,"pid":7,"stream":"stdout"}"#;
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
        let own = r#""time":1,"app":{},"worker":[],"pid":null,"stream":"x","m":1}"#;
        assert_eq!(written(LogFormat::Json, false, format!("{{{own}").as_bytes()), format!("{front},{own}\n"));
        assert!(written(LogFormat::Json, false, b"{\"a\":\"\xff\"}").contains("\"message\":"));
        for broken in ["{", "{\"a\"}", "{\"a\":1}}", "[1]", "{\"a\":1} x"] {
            assert!(written(LogFormat::Json, false, broken.as_bytes()).contains("\"message\":"), "{broken}");
        }
    }

    #[test]
    fn no_line_can_be_taken_for_another_workers() {
        for forged in [
            r#"{"rinit":{"app":"db","worker":3},"message":"x"}"#,
            r#"{"x":1,"\u0072init":{"app":"db"}}"#,
            r#"{"rinit":null}"#,
        ] {
            for format in [LogFormat::Json, LogFormat::Ecs] {
                let written: serde_json::Value =
                    serde_json::from_str(&written(format, false, forged.as_bytes())).unwrap();
                assert_eq!(written["message"], forged);
                assert_eq!((&written["rinit"]["app"], &written["rinit"]["worker"]), (&"web".into(), &0.into()));
            }
        }
    }

    #[test]
    fn ecs_has_elastics_names_and_keeps_those_of_the_line() {
        let ecs = |line: &str| -> serde_json::Value {
            serde_json::from_str(&written(LogFormat::Ecs, false, line.as_bytes())).unwrap()
        };
        let text = ecs("WARN: slow");
        let expected = serde_json::json!({
            "rinit": {"time": "2001-09-09T01:46:40.123Z", "app": "web", "worker": 0, "pid": 7, "stream": "stdout"},
            "@timestamp": "2001-09-09T01:46:40.123Z", "log.level": "warn", "message": "WARN: slow",
            "service.name": "web", "service.node.name": "web-0", "process.pid": 7, "ecs.version": "8.11.0",
        });
        assert_eq!(text, expected);
        let pino = ecs(r#"{"level":50,"time":1,"msg":"no database"}"#);
        assert_eq!(
            (&pino["log.level"], &pino["message"], &pino["level"]),
            (&"error".into(), &"no database".into(), &50.into())
        );
        let own = ecs(
            r#"{"@timestamp":"t","log":{"level":"x"},"service":{"name":"s"},"process.pid":1,"message":"m","msg":"n"}"#,
        );
        assert_eq!(
            (&own["@timestamp"], &own["log.level"], &own["service.name"]),
            (&"t".into(), &serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(
            (&own["process.pid"], &own["message"], &own["service.node.name"]),
            (&1.into(), &"m".into(), &"web-0".into())
        );
    }

    #[test]
    fn every_json_line_is_json_and_says_the_same_text() {
        let every_ascii: Vec<u8> = (0..128).filter(|byte| *byte != b'\n').collect();
        let lines: [&[u8]; 7] = [
            b"",
            b"\0\x01\x7f",
            b"{\"k\":\"\\u0000\"}",
            b"\"",
            b"{\"\\u0061pp\":1}",
            "ü☃ \" ü".as_bytes(),
            &every_ascii,
        ];
        for line in lines {
            for format in [LogFormat::Json, LogFormat::Ecs] {
                let written = written(format, false, line);
                let value: serde_json::Value = serde_json::from_str(&written).unwrap();
                assert!(value.is_object() && written.ends_with("}\n"));
                if let Some(message) = value.get("message") {
                    assert_eq!(message.as_str().unwrap().as_bytes(), line);
                }
            }
        }
    }

    #[test]
    fn rinits_own_lines_keep_the_column_and_the_format() {
        let at = UNIX_EPOCH;
        let own = |format, text| {
            let out = Format { format, time: false, width: 6 }.diagnostic(tracing::Level::WARN, text, at);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(own(LogFormat::Prefix, "a\n  b"), "rinit  | warning: a\nrinit  |   b\n");
        assert_eq!(own(LogFormat::Raw, "a"), "rinit: warning: a\n");
        let json: serde_json::Value = serde_json::from_str(&own(LogFormat::Json, "a\nb")).unwrap();
        assert_eq!((json["rinit"]["level"].as_str(), json["message"].as_str()), (Some("warn"), Some("a\nb")));
        let ecs: serde_json::Value = serde_json::from_str(&own(LogFormat::Ecs, "a\nb")).unwrap();
        assert_eq!((ecs["log.level"].as_str(), ecs["message"].as_str()), (Some("warn"), Some("a\nb")));
    }
}
