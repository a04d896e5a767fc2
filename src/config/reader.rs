//! Parses the values of settings, collects every fault, and records each value in force with its source.

use super::faults::Faults;
use super::given::{Source, Values};
use super::layer::Layer;
use super::settings::{Setting, by_flag};
use crate::control::types::SettingValue;

/// A type that a value is parsed to.
pub trait Value: Sized {
    /// The form of the text, for `--help`: `D`, `always|never`; empty for a switch.
    const FORM: &'static str;

    /// True if spaces around the text are a part of it.
    const IS_VERBATIM: bool = false;

    /// Parses the text.
    ///
    /// # Errors
    /// The reason, and the values that are allowed.
    fn parse(text: &str) -> Result<Self, String>;

    /// The part of the text that may be shown: all of it, unless there may be a secret in it.
    fn shown(text: &str) -> &str {
        text
    }

    /// Parses the text as it was given.
    ///
    /// # Errors
    /// As [`Value::parse`].
    fn parse_given(text: &str) -> Result<Self, String> {
        Self::parse(if Self::IS_VERBATIM { text } else { text.trim() })
    }
}

/// A value that is written back as a user would write it.
pub trait Show {
    /// Returns the value's text.
    fn show(&self) -> String;
}

/// The type of a setting: one value, or a list of values for a setting that repeats.
pub trait Field: Sized {
    /// The form of a value.
    const FORM: &'static str;
    /// True if the setting repeats.
    const REPEATS: bool;
    /// Parses the values, of which there is at least one. `refuse` takes a value's index and the reason.
    fn parse(values: &Values, refuse: &mut dyn FnMut(usize, String)) -> Option<Self>;
    /// Returns the text of the value in force, for `--help` and `rinit config`.
    fn show(&self) -> String;
    /// Returns the text of a value that was given.
    fn show_given(&self, values: &Values) -> String;
    /// The part of a value's text that may be shown.
    fn shown(text: &str) -> &str;
}

impl<T: Value + Show> Field for T {
    const FORM: &'static str = T::FORM;
    const REPEATS: bool = false;
    fn parse(values: &Values, refuse: &mut dyn FnMut(usize, String)) -> Option<T> {
        T::parse_given(&values.first()?.text).map_err(|why| refuse(0, why)).ok()
    }
    fn show(&self) -> String {
        Show::show(self)
    }
    fn show_given(&self, _: &Values) -> String {
        Show::show(self)
    }
    fn shown(text: &str) -> &str {
        T::shown(text)
    }
}

impl<T: Value> Field for Vec<T> {
    const FORM: &'static str = T::FORM;
    const REPEATS: bool = true;
    fn parse(values: &Values, refuse: &mut dyn FnMut(usize, String)) -> Option<Vec<T>> {
        let parsed = values.all().iter().enumerate();
        Some(parsed.filter_map(|(at, given)| T::parse_given(&given.text).map_err(|why| refuse(at, why)).ok()).collect())
    }
    /// The default of every list is the empty one.
    fn show(&self) -> String {
        super::settings::NO_DEFAULT.into()
    }
    fn show_given(&self, values: &Values) -> String {
        values.all().iter().map(|given| T::shown(&given.text)).collect::<Vec<_>>().join(",")
    }
    fn shown(text: &str) -> &str {
        T::shown(text)
    }
}

/// Parses the settings of an app or of the container.
pub(super) struct Reader<'a> {
    /// The faults found so far.
    pub(super) faults: &'a mut Faults,
    /// The values in force, in the order of the tables.
    pub(super) in_force: Vec<SettingValue>,
}

impl Reader<'_> {
    /// Parses a setting's values, or returns its default where there are none or a fault was noted.
    pub(super) fn field<T: Field>(&mut self, setting: &Setting, values: &Values, default: impl Fn() -> T) -> T {
        if values.first().is_none() {
            self.record(setting, values, (setting.default)());
            return default();
        }
        let mut refuse = |at: usize, why: String| self.note(setting, values, at, why);
        let value = T::parse(values, &mut refuse).unwrap_or_else(default);
        self.record(setting, values, value.show_given(values));
        value
    }

    fn note(&mut self, setting: &Setting, values: &Values, at: usize, why: String) {
        if let Some(given) = values.all().get(at) {
            self.faults.note_value(setting, given, why);
        }
    }

    /// Notes a fault of the first value of the setting of that flag, if it has one.
    pub(super) fn refuse(&mut self, layer: &Layer, flag: &str, why: impl Into<String>) {
        self.refuse_nth(layer, flag, 0, why);
    }

    /// The same for another value of a setting that repeats.
    pub(super) fn refuse_nth(&mut self, layer: &Layer, flag: &str, at: usize, why: impl Into<String>) {
        if let Some(setting) = by_flag(flag) {
            self.note(setting, layer.values(setting), at, why.into());
        }
    }

    /// Records the value in force, with the source of the first of these.
    fn record(&mut self, setting: &Setting, values: &Values, value: String) {
        let (source, place) = match values.first().map(|given| &given.source) {
            None => ("default", None),
            Some(Source::Flag(written)) => ("flag", Some(written.clone())),
            Some(Source::Variable) => ("environment", Some(setting.variable())),
            Some(Source::File(place, _)) => ("file", Some(place.to_string())),
        };
        self.in_force.push(SettingValue {
            app: None,
            name: setting.flag.into(),
            value,
            note: None,
            source: source.into(),
            place,
        });
    }

    /// Replaces a setting's recorded value by the one that was resolved from it.
    pub(super) fn resolved(&mut self, flag: &str, value: String, note: Option<String>) {
        if let Some(recorded) = self.in_force.iter_mut().find(|recorded| recorded.name == flag) {
            recorded.value = value;
            recorded.note = note;
        }
    }
}
