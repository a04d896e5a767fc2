//! Writes lines as JSON objects: wraps text, and adds rinit's member to lines that are objects already. Pure.
//!
//! What rinit says of a line stands in the member `rinit`, which comes first. A line that has such a member itself is text,
//! so that no worker's line can be taken for another's.

use super::buffer::append;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// The member that is rinit's alone.
const OWN_KEY: &str = "rinit";

/// Writes a whole line. `start` is `{"rinit":{…}`. One that is an object keeps its own members.
#[inline]
pub fn write_line(out: &mut Vec<u8>, start: &[u8], line: &[u8]) {
    match object_members(line) {
        Some(members) => {
            append(out, start);
            end_object(out, members);
        }
        None => write_message(out, start, line, false),
    }
}

/// Writes text, or with `is_partial` a part of a line other than its last.
#[inline]
pub fn write_message(out: &mut Vec<u8>, start: &[u8], text: &[u8], is_partial: bool) {
    begin_message(out, start, is_partial);
    end_message(out, text);
}

/// Begins an object for text.
#[inline]
pub fn begin_message(out: &mut Vec<u8>, start: &[u8], is_partial: bool) {
    match start.split_last() {
        Some((_, open)) if is_partial => {
            append(out, open);
            append(out, b",\"partial\":true}");
        }
        _ => append(out, start),
    }
}

/// Ends an object with its text.
#[inline]
pub fn end_message(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    append(out, b",\"message\":\"");
    if is_plain(text) {
        append(out, text);
    } else {
        // Bytes that are not UTF-8 become the replacement character: JSON can hold no others.
        escape(out, &String::from_utf8_lossy(text));
    }
    append(out, b"\"}\n");
}

/// Ends an object with the members of a line.
#[inline]
pub fn end_object(out: &mut Vec<u8>, members: &[u8]) {
    if !members.is_empty() {
        out.push(b',');
    }
    append(out, members);
    append(out, b"}\n");
}

/// Begins an object with rinit's member: its time, and what else it says as JSON.
pub fn begin_object(out: &mut Vec<u8>, time: &str, members: &[u8]) {
    append(out, b"{\"");
    append(out, OWN_KEY.as_bytes());
    append(out, b"\":{\"time\":\"");
    append(out, time.as_bytes());
    append(out, b"\",");
    append(out, members);
    out.push(b'}');
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

/// The members of a JSON object without its braces. `None`: no valid object, or one with a member that is rinit's alone.
pub fn object_members(bytes: &[u8]) -> Option<&[u8]> {
    let members = bytes.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    // What the parser skips it does not check.
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(bytes).ok()?);
    let has_own_key = deserializer.deserialize_map(HasOwnKey).ok()?;
    deserializer.end().ok()?;
    (!has_own_key).then(|| members.trim_ascii())
}

/// Finds out whether an object has rinit's member.
struct HasOwnKey;

impl<'de> Visitor<'de> for HasOwnKey {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has_own_key = false;
        while let Some(is_own) = map.next_key_seed(IsOwnKey)? {
            has_own_key |= is_own;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(has_own_key)
    }
}

/// Compares a key with rinit's, without a copy of it.
struct IsOwnKey;

impl<'de> DeserializeSeed<'de> for IsOwnKey {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsOwnKey {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == OWN_KEY)
    }
}
