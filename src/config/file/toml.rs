//! Reads TOML into a tree of values; every fault of the syntax is noted at its place.

use super::super::faults::Faults;
use super::document::{Entry, MAX_DEPTH, Node, NodeValue, SourceText, TOO_DEEP};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The number of faults of the syntax that are told: behind the first ones, most follow from those before.
const MAX_SYNTAX_FAULTS: usize = 10;

/// Reads a whole file; `None`: it has faults, and they are noted.
pub(super) fn read(source: &SourceText, faults: &mut Faults) -> Option<Node> {
    let (document, errors) = DeTable::parse_recoverable(source.text);
    for error in errors.iter().take(MAX_SYNTAX_FAULTS) {
        let at = error.span().map_or(0, |span| span.start);
        faults.note_place(&source.place(at), error.message());
    }
    let place = source.place(0);
    let table = table(document.get_ref(), source, 0, faults);
    errors.is_empty().then_some(Node { value: NodeValue::Table(table), place })
}

fn table(table: &DeTable, source: &SourceText, depth: usize, faults: &mut Faults) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue>)| {
        let (key, place) = (key.get_ref(), source.place(key.span().start));
        let node = node(value, source, depth + 1, faults)?;
        Some(Entry { key: AsRef::<str>::as_ref(key).to_owned(), place, node })
    };
    let mut entries: Vec<Entry> = table.iter().filter_map(entry).collect();
    // The parser's table is in the order of the alphabet.
    entries.sort_unstable_by(|one, other| one.place.cmp(&other.place));
    entries
}

fn node(value: &Spanned<DeValue>, source: &SourceText, depth: usize, faults: &mut Faults) -> Option<Node> {
    let place = source.place(value.span().start);
    if depth > MAX_DEPTH {
        faults.note_place(&place, TOO_DEEP);
        return None;
    }
    let value = match value.get_ref() {
        DeValue::String(text) => NodeValue::Text(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => NodeValue::Plain(number.as_str().to_owned()),
        // An octal mode is written as people write it: 0o022 is 022.
        DeValue::Integer(number) if number.radix() == 8 => NodeValue::Plain(format!("0{}", number.as_str())),
        DeValue::Integer(number) => NodeValue::Plain(number.to_string()),
        DeValue::Float(number) => NodeValue::Plain(number.as_str().to_owned()),
        DeValue::Boolean(value) => NodeValue::Plain(value.to_string()),
        DeValue::Datetime(time) => NodeValue::Plain(time.to_string()),
        DeValue::Array(list) => {
            NodeValue::List(list.iter().filter_map(|value| node(value, source, depth + 1, faults)).collect())
        }
        DeValue::Table(inner) => NodeValue::Table(table(inner, source, depth, faults)),
    };
    Some(Node { value, place })
}
