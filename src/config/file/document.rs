//! Holds a configuration file as a tree of values, each with the place where it stands.

use super::super::given::Place;
use std::path::Path;
use std::sync::Arc;

/// The number of tables and lists that may be inside each other.
pub(super) const MAX_DEPTH: usize = 16;
/// The reason for which a deeper one is refused.
pub(super) const TOO_DEEP: &str = "too many tables or lists inside each other";

/// A value, and the place where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: NodeValue,
    pub(super) place: Place,
}

/// A value of a file, the same for TOML and JSON.
#[derive(Clone, Debug)]
pub(super) enum NodeValue {
    /// A string.
    Text(String),
    /// A number or a boolean, as it was written.
    Plain(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<Entry>),
}

/// A key of a table, with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The place of the key.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// The text of a string, a number or a boolean.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) | NodeValue::Plain(text) => Some(text),
            NodeValue::List(_) | NodeValue::Table(_) => None,
        }
    }

    /// The value as JSON.
    pub(super) fn to_json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        match &self.value {
            NodeValue::Text(value) => text(value),
            NodeValue::Plain(value) => value.clone(),
            NodeValue::List(list) => {
                let values: Vec<String> = list.iter().map(Node::to_json).collect();
                format!("[{}]", values.join(","))
            }
            NodeValue::Table(entries) => {
                let pair = |entry: &Entry| format!("{}:{}", text(&entry.key), entry.node.to_json());
                let pairs: Vec<String> = entries.iter().map(pair).collect();
                format!("{{{}}}", pairs.join(","))
            }
        }
    }

    /// The kind of the value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Text(_) => "a string",
            NodeValue::Plain(_) => "a number or a boolean",
            NodeValue::List(_) => "a list",
            NodeValue::Table(_) => "a table",
        }
    }
}

/// The text of a file, which finds the line and the column of an offset.
pub(super) struct SourceText<'a> {
    path: Arc<Path>,
    pub(super) text: &'a str,
    /// The offset at which each line begins.
    lines: Vec<usize>,
}

impl<'a> SourceText<'a> {
    pub(super) fn new(path: Arc<Path>, text: &'a str) -> SourceText<'a> {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        SourceText { path, text, lines: std::iter::once(0).chain(breaks).collect() }
    }

    /// The place of a byte.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Place { path: self.path.clone(), line: line.max(1), column: before.chars().count() + 1 }
    }

    /// The place of the character at a line and a column in bytes, both counted from 1.
    pub(super) fn place_at(&self, line: usize, column: usize) -> Place {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        self.place(start + column.saturating_sub(1))
    }
}
