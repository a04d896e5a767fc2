//! Holds the values of a setting as text, each with the place that it was read from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A value of a setting, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value's text.
    pub text: String,
    /// The place that it was read from.
    pub source: Source,
}

/// The place that a value was read from. Without a value, the setting has its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag, as it was written: `-i`, `--stop-timeout`.
    Flag(String),
    /// The setting's environment variable.
    Variable,
    /// A place in a file, and the key as it was written there.
    File(Place, String),
}

/// A place in a file, as compilers write it: `/etc/rinit.toml:7:3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl Given {
    /// The value of an environment variable.
    pub fn by_variable(text: impl Into<String>) -> Given {
        Given { text: text.into(), source: Source::Variable }
    }

    /// The value of a flag, with the flag as it was written.
    pub fn by_flag(written: impl Into<String>, text: impl Into<String>) -> Given {
        Given { text: text.into(), source: Source::Flag(written.into()) }
    }

    /// The value of a key in a file, with the key as it was written.
    pub fn by_key(place: Place, key: impl Into<String>, text: impl Into<String>) -> Given {
        Given { text: text.into(), source: Source::File(place, key.into()) }
    }

    /// The flag as it was written, if it was one.
    pub fn flag(&self) -> Option<&str> {
        match &self.source {
            Source::Flag(written) => Some(written),
            Source::Variable | Source::File(..) => None,
        }
    }
}

/// The values that one source, or all sources together, gave for a setting; empty if none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<Given>);

impl Values {
    /// No values.
    pub(super) const NONE: Values = Values(Vec::new());

    /// Adds a value to a setting that repeats, and replaces the value of one that does not.
    pub fn put(&mut self, given: Given, repeats: bool) {
        if !repeats {
            self.0.clear();
        }
        self.0.push(given);
    }

    /// These values, or the ones of the layer below where there are none. A list is not mixed from two layers.
    pub fn or(self, below: Values) -> Values {
        if self.0.is_empty() { below } else { self }
    }

    /// The values of the layer below and then these: for variables, of which the last one of a name counts.
    pub fn after(self, below: Values) -> Values {
        Values(below.0.into_iter().chain(self.0).collect())
    }

    /// All values, in the order in which they were given.
    pub fn all(&self) -> &[Given] {
        &self.0
    }

    /// The first value, if there is one.
    pub fn first(&self) -> Option<&Given> {
        self.0.first()
    }
}
