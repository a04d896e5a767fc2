//! Holds the values of a setting as text, each with the place that it was read from.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::path::PathBuf;

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
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A document whose reader does not tell lines, such as JSON read by serde.
    Document,
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

    /// The flag as it was written, if it was one.
    pub fn flag(&self) -> Option<&str> {
        match &self.source {
            Source::Flag(written) => Some(written),
            Source::Variable | Source::File { .. } | Source::Document => None,
        }
    }
}

/// The values that one source, or all sources together, gave for a setting; empty if none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<Given>);

impl Values {
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

    /// All values, in the order in which they were given.
    pub fn all(&self) -> &[Given] {
        &self.0
    }

    /// The first value, if there is one.
    pub fn first(&self) -> Option<&Given> {
        self.0.first()
    }
}

/// A text, a number, a boolean, or a list of these.
impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct AnyValues;

        impl<'de> Visitor<'de> for AnyValues {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a boolean, or a list of these")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![Given { text: text.to_owned(), source: Source::Document }]))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Values, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Values, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Values, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some(Values(one)) = list.next_element()? {
                    values.0.extend(one);
                }
                Ok(values)
            }
        }

        deserializer.deserialize_any(AnyValues)
    }
}
