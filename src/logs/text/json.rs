//! Writes lines as JSON objects: wraps text, and merges rinit's members into lines that are objects already. Pure.

use super::buffer::append;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// The members that every line of a stream has.
pub struct Origin<'a> {
    pub time: &'a str,
    /// Keys, and values as JSON.
    pub members: &'a [(&'static str, Vec<u8>); 4],
    /// The beginning of an object that has all of it: `{"time":"…","app":"web",…`, without a comma at its end.
    pub start: &'a [u8],
}

/// Tells which of rinit's keys an object has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnKeys {
    time: bool,
    app: bool,
    worker: bool,
    pid: bool,
    stream: bool,
}

/// Writes a whole line. One that is an object keeps its own keys, and gets those of rinit's that it lacks.
#[inline]
pub fn write_line(out: &mut Vec<u8>, origin: &Origin, line: &[u8]) {
    match object_members(line) {
        Some((members, keys)) => write_merged(out, origin, members, keys),
        None => write_message(out, origin, line, false),
    }
}

/// Writes text, or with `is_partial` a part of a line other than its last.
#[inline]
pub fn write_message(out: &mut Vec<u8>, origin: &Origin, text: &[u8], is_partial: bool) {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    append(out, origin.start);
    append(out, b",\"message\":\"");
    if is_plain(text) {
        append(out, text);
    } else {
        // Bytes that are not UTF-8 become the replacement character: JSON can hold no others.
        escape(out, &String::from_utf8_lossy(text));
    }
    if is_partial {
        append(out, b"\",\"partial\":true}\n");
    } else {
        append(out, b"\"}\n");
    }
}

fn write_merged(out: &mut Vec<u8>, origin: &Origin, members: &[u8], keys: OwnKeys) {
    let start = out.len();
    if keys == OwnKeys::default() {
        append(out, origin.start);
    } else {
        begin_object(out, origin.time, origin.members, keys);
    }
    let is_empty = out.len() == start + 1;
    if !members.is_empty() && !is_empty {
        out.push(b',');
    }
    append(out, members);
    append(out, b"}\n");
}

/// Begins an object with the time and the members that it does not have already.
pub fn begin_object(out: &mut Vec<u8>, time: &str, members: &[(&str, Vec<u8>); 4], present: OwnKeys) {
    let mut separator = b'{';
    let mut key = |out: &mut Vec<u8>, name: &str| {
        out.push(std::mem::replace(&mut separator, b','));
        out.push(b'"');
        append(out, name.as_bytes());
        append(out, b"\":");
    };
    if !present.time {
        key(out, "time");
        out.push(b'"');
        append(out, time.as_bytes());
        out.push(b'"');
    }
    let present = [present.app, present.worker, present.pid, present.stream];
    for ((name, value), _) in members.iter().zip(present).filter(|(_, is_present)| !is_present) {
        key(out, name);
        append(out, value);
    }
    if separator == b'{' {
        out.push(b'{');
    }
}

/// A text as a JSON string.
pub fn string(text: &str) -> Vec<u8> {
    let mut out = vec![b'"'];
    escape(&mut out, text);
    out.push(b'"');
    out
}

/// True for ASCII without quote, backslash and control characters below the space, which JSON holds as it is.
///
/// Eight bytes are checked at once, without an early end: in a word whose bytes are all below 0x80, a subtraction sets
/// the high bit of the lowest byte that is less than what is taken from it.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    const fn every(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let special = |word: u64| {
        let quote = (word ^ every(b'"')).wrapping_sub(every(1));
        let backslash = (word ^ every(b'\\')).wrapping_sub(every(1));
        word | word.wrapping_sub(every(b' ')) | quote | backslash
    };
    let (words, rest) = text.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| found | special(u64::from_ne_bytes(*word)));
    found & every(0x80) == 0 && rest.iter().all(|byte| !matches!(byte, ..b' ' | b'"' | b'\\' | 0x80..))
}

/// Writes the inside of a JSON string (RFC 8259, section 7).
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\')
        && let Some((verbatim, [byte, after @ ..])) = rest.split_at_checked(at)
    {
        append(out, verbatim);
        out.push(b'\\');
        match byte {
            b'\n' => out.push(b'n'),
            b'\r' => out.push(b'r'),
            b'\t' => out.push(b't'),
            b'"' | b'\\' => out.push(*byte),
            control => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                append(out, &[b'u', b'0', b'0', digit(control >> 4), digit(control & 0xF)]);
            }
        }
        rest = after;
    }
    append(out, rest);
}

/// The members of a JSON object without its braces, and which of rinit's keys are among them. `None`: no valid object.
fn object_members(bytes: &[u8]) -> Option<(&[u8], OwnKeys)> {
    let members = bytes.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    // What the parser skips it does not check.
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(bytes).ok()?);
    let keys = deserializer.deserialize_map(KeysOfObject).ok()?;
    deserializer.end().ok()?;
    Some((members.trim_ascii(), keys))
}

struct KeysOfObject;

impl<'de> Visitor<'de> for KeysOfObject {
    type Value = OwnKeys;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnKeys, A::Error> {
        let mut keys = OwnKeys::default();
        while map.next_key_seed(NoteKey(&mut keys))?.is_some() {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(keys)
    }
}

/// Notes a key if it is one of rinit's, without a copy of it.
struct NoteKey<'a>(&'a mut OwnKeys);

impl<'de> DeserializeSeed<'de> for NoteKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NoteKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        match key {
            "time" => self.0.time = true,
            "app" => self.0.app = true,
            "worker" => self.0.worker = true,
            "pid" => self.0.pid = true,
            "stream" => self.0.stream = true,
            _ => {}
        }
        Ok(())
    }
}
