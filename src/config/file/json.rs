//! Reads JSON into a tree of values; keys that are given twice are noted, and so is the first fault of the syntax.

use super::super::faults::Faults;
use super::document::{Entry, MAX_DEPTH, Node, NodeValue, SourceText, TOO_DEEP};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;

/// Reads a whole file; `None`: its syntax has a fault, which is noted.
pub(super) fn read(source: &SourceText, faults: &mut Faults) -> Option<Node> {
    match serde_json::from_str::<&RawValue>(source.text) {
        Ok(raw) => node(raw, source, 0, faults).flatten(),
        Err(error) => {
            // The parser of whole values tells more: of a trailing comma, for one.
            let error = serde_json::from_str::<serde_json::Value>(source.text).err().unwrap_or(error);
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let comment = match has_comment(source.text, &error) {
                true => ": JSON has no comments: take them out, or write the file in TOML",
                false => "",
            };
            faults.note_place(&source.place_at(error.line(), error.column()), format!("{message}{comment}"));
            None
        }
    }
}

/// True if a comment begins where the fault is.
fn has_comment(text: &str, error: &serde_json::Error) -> bool {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    line.get(error.column().saturating_sub(1)..).is_some_and(|rest| rest.starts_with("//") || rest.starts_with("/*"))
}

/// Reads a value whose syntax has been checked. The outer `None`: it is nested too deeply; the inner one: it is `null`,
/// which counts as not given.
fn node(raw: &RawValue, source: &SourceText, depth: usize, faults: &mut Faults) -> Option<Option<Node>> {
    let text = raw.get();
    // The value is a part of the file's text.
    let offset = (text.as_ptr() as usize).saturating_sub(source.text.as_ptr() as usize);
    let place = source.place(offset);
    if depth > MAX_DEPTH {
        faults.note_place(&place, TOO_DEEP);
        return None;
    }
    let value = match text.as_bytes().first() {
        Some(b'n') => return Some(None),
        Some(b'"') => NodeValue::Text(serde_json::from_str(text).ok()?),
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let mut nodes = Vec::new();
            for one in list {
                nodes.extend(node(one, source, depth + 1, faults)?);
            }
            NodeValue::List(nodes)
        }
        Some(b'{') => {
            let Pairs(pairs) = serde_json::from_str(text).ok()?;
            let mut entries: Vec<Entry> = Vec::new();
            let mut keys = BTreeSet::new();
            for (key, value) in pairs {
                let begin = (value.get().as_ptr() as usize).saturating_sub(source.text.as_ptr() as usize);
                let place = source.place(key_before(source.text, begin));
                if !keys.insert(key.clone()) {
                    faults.note_place(&place, format!("{key:?} is given twice"));
                }
                let node = node(value, source, depth + 1, faults)?;
                entries.extend(node.map(|node| Entry { key, place, node }));
            }
            NodeValue::Table(entries)
        }
        Some(_) | None => NodeValue::Plain(text.to_owned()),
    };
    Some(Some(Node { value, place }))
}

/// The offset of the key whose value begins at that offset: of the quote that opens it.
fn key_before(text: &str, value: usize) -> usize {
    let bytes = text.as_bytes();
    let before = |end: usize| bytes.get(..end).unwrap_or_default();
    let Some(end) = memchr::memrchr(b'"', before(value)) else { return value };
    let mut at = end;
    while let Some(quote) = memchr::memrchr(b'"', before(at)) {
        let backslashes = before(quote).iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return quote;
        }
        at = quote;
    }
    value
}

/// The keys and values of an object, in the order of the file.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'de>, D::Error> {
        struct AnyPairs;

        impl<'de> Visitor<'de> for AnyPairs {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(AnyPairs)
    }
}
