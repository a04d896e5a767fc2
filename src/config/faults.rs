//! Collects everything that keeps rinit from starting, so that one start reports all of it.

use super::given::{Given, Source};
use super::settings::Setting;
use std::fmt;

/// Exit code for settings that cannot be used: `EX_USAGE` of sysexits.h.
pub const BAD_SETTINGS: u8 = 64;

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting's name as it was written, with its value.
    pub what: String,
    /// The reason, and the values that are allowed.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// A start that is refused.
#[derive(Debug)]
pub struct Refusal {
    /// The text for stderr.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.0.push(Fault { what: what.into(), why: why.into() });
    }

    /// Notes a fault of a setting's value, under the name that the setting was written with.
    pub fn note_value(&mut self, setting: &Setting, given: &Given, why: impl Into<String>) {
        let Given { text, source } = given;
        let name = match source {
            Source::Flag(written) => written.clone(),
            Source::Variable => setting.variable(),
            Source::File { path, line } => format!("{} line {line}: {}", path.display(), setting.flag),
            Source::Document => setting.flag.to_owned(),
        };
        self.note(format!("{name}={text:?}"), why);
    }

    /// All faults, a line each.
    pub fn refusal(&self) -> Refusal {
        let mut text = match self.0.len() {
            1 => "rinit: cannot start:\n".to_owned(),
            count => format!("rinit: cannot start, for {count} reasons:\n"),
        };
        self.0.iter().for_each(|fault| text.push_str(&format!("  {fault}\n")));
        Refusal { text, code: BAD_SETTINGS }
    }
}
