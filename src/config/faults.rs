//! Collects everything that keeps rinit from starting, so that one start reports all of it.

use super::given::{Given, Place, Source};
use super::settings::Setting;
use crate::units::harmless;
use std::fmt;

/// A value is shown up to this length, in characters.
const MAX_SHOWN: usize = 200;
/// Exit code for settings that cannot be used: `EX_USAGE` of sysexits.h.
pub const BAD_SETTINGS: u8 = 64;

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place in a file, if it is in one.
    pub place: Option<Place>,
    /// The setting's name as it was written, with its value; empty for a fault of a file's form.
    pub what: String,
    /// The reason, and the values that are allowed.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.what.is_empty() {
            write!(f, "{}: ", self.what)?;
        }
        f.write_str(&self.why)
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
        self.0.push(Fault { place: None, what: what.into(), why: why.into() });
    }

    /// Notes a fault at a place in a file.
    pub fn note_place(&mut self, place: &Place, why: impl Into<String>) {
        self.0.push(Fault { place: Some(place.clone()), what: String::new(), why: why.into() });
    }

    /// Notes a fault of a setting's value, under the name that the setting was written with.
    pub fn note_value(&mut self, setting: &Setting, given: &Given, why: impl Into<String>) {
        let (name, place) = match &given.source {
            Source::Flag(written) => (written.clone(), None),
            Source::Variable => (setting.variable(), None),
            Source::File(place, key) => (key.clone(), Some(place.clone())),
        };
        let value = (setting.shown)(&given.text);
        let cut = value.char_indices().nth(MAX_SHOWN).map_or(value, |(end, _)| value.get(..end).unwrap_or_default());
        let more = if cut.len() < value.len() { "…" } else { "" };
        let what = format!("{name}={cut:?}{more}");
        self.0.push(Fault { place, what, why: why.into() });
    }

    /// All faults, a line each without control characters: those of a file in the order of its lines.
    pub fn lines(&self) -> Vec<String> {
        let mut faults: Vec<(usize, &Fault)> = self.0.iter().enumerate().collect();
        faults.sort_unstable_by_key(|(at, fault)| (&fault.place, *at));
        let mut lines: Vec<String> =
            faults.into_iter().map(|(_, fault)| harmless(&fault.to_string()).into_owned()).collect();
        // A value of `[defaults]` is wrong once, and not once for each app.
        lines.dedup();
        lines
    }

    /// The text of a start that is refused, with all faults.
    pub fn refusal(&self) -> Refusal {
        self.refusal_of("cannot start")
    }

    /// The text of something that is refused, with all faults.
    pub fn refusal_of(&self, what: &str) -> Refusal {
        let lines = self.lines();
        let mut text = match lines.len() {
            1 => format!("rinit: {what}:\n"),
            count => format!("rinit: {what}, for {count} reasons:\n"),
        };
        lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        Refusal { text, code: BAD_SETTINGS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_whatever_a_value_holds() {
        let mut faults = Faults::default();
        faults.note("--env-file=/x\nrinit | ready", "cannot read /x\nrinit | ready\u{1b}[2J");
        assert_eq!(faults.lines(), ["--env-file=/x rinit | ready: cannot read /x rinit | ready [2J"]);
    }

    #[test]
    fn a_long_value_is_cut() {
        let mut faults = Faults::default();
        let given = Given { text: "é".repeat(100_000), source: Source::Variable };
        faults.note_value(&super::super::settings::APP_SETTINGS[0], &given, "allowed: less");
        let line = faults.lines().remove(0);
        assert!(line.chars().count() < 260 && line.ends_with("é\"…: allowed: less"), "{line}");
    }
}
