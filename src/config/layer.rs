//! Holds the settings that one source gives, as text, and merges sources in the order of precedence.

use super::given::{Given, Values};
use super::settings::{PROGRAM_SETTINGS, Scope, Setting, all, by_flag, in_files};
use std::collections::BTreeMap;

/// The settings of one source: the command line, the environment, or a part of a file. Layers are merged in the order of
/// precedence with [`Layer::or`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<Key, Values>);

/// A setting's scope and flag: a file's key may have the name of a flag.
type Key = (Scope, &'static str);

/// The setting that is merged variable by variable.
const VARIABLES: Key = (Scope::Program, "env");

/// No values.
static NONE: Values = Values::NONE;

impl Layer {
    /// Takes a value for the setting of that flag; false if there is none.
    pub fn put(&mut self, flag: &str, given: Given) -> bool {
        by_flag(flag).map(|setting| self.put_value(setting, given)).is_some()
    }

    /// Takes a value for the setting of that key in a file; false if there is none.
    pub fn put_key(&mut self, flag: &str, given: Given) -> bool {
        let setting = in_files().find(|setting| setting.flag == flag);
        setting.map(|setting| self.put_value(setting, given)).is_some()
    }

    fn put_value(&mut self, setting: &'static Setting, given: Given) {
        self.0.entry((setting.scope, setting.flag)).or_default().put(given, setting.repeats);
    }

    /// These values, and the ones of the layer below for settings that have none here. An app's variables come after those
    /// of the layer below, of which they take no place.
    pub fn or(mut self, below: Layer) -> Layer {
        for (key, values) in below.0 {
            let above = self.0.remove(&key).unwrap_or_default();
            let merged = if key == VARIABLES { above.after(values) } else { above.or(values) };
            self.0.insert(key, merged);
        }
        self
    }

    /// The same without the settings of these flags.
    pub(super) fn without(mut self, flags: &[&str]) -> Layer {
        self.0.retain(|(_, flag), _| !flags.contains(flag));
        self
    }

    /// The values of a setting; empty if it has none.
    pub(super) fn values(&self, setting: &Setting) -> &Values {
        self.0.get(&(setting.scope, setting.flag)).unwrap_or(&NONE)
    }

    /// The values of the setting of that flag.
    pub(super) fn by_flag(&self, flag: &str) -> &Values {
        by_flag(flag).map_or(&NONE, |setting| self.values(setting))
    }

    /// The settings that have values, in the order of the tables.
    pub fn given(&self) -> impl Iterator<Item = (&'static Setting, &Values)> {
        all()
            .chain(PROGRAM_SETTINGS)
            .map(|setting| (setting, self.values(setting)))
            .filter(|(_, values)| values.first().is_some())
    }

    /// True if these settings ask for a supervisor.
    pub fn is_supervisor(&self) -> bool {
        ["instances", "instances-max"].iter().any(|flag| self.by_flag(flag).first().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::given::Place;
    use super::*;
    use std::path::Path;

    #[test]
    fn every_row_takes_its_value_by_its_flag() {
        for setting in all().chain(PROGRAM_SETTINGS) {
            let mut layer = Layer::default();
            let put = if setting.scope == Scope::Program { Layer::put_key } else { Layer::put };
            assert!(put(&mut layer, setting.flag, Given::by_variable("x")), "{}", setting.flag);
            let names: Vec<&str> = layer.given().map(|(setting, _)| setting.flag).collect();
            assert_eq!(names, [setting.flag]);
        }
        assert!(!Layer::default().put("command", Given::by_variable("x")), "a key of files has no flag");
    }

    #[test]
    fn a_higher_layers_value_is_the_value_and_its_list_is_the_list() {
        let in_file = |text: &str, line| {
            Given::by_key(Place { path: Path::new("rinit.toml").into(), line, column: 1 }, "key", text)
        };
        let (mut flags, mut variables, mut file, mut defaults) = Default::default();
        let layers: [(&mut Layer, &[(&str, Given)]); 4] = [
            (&mut flags, &[("listen", Given::by_flag("--listen", "1"))]),
            (&mut variables, &[("name", Given::by_variable("variable")), ("listen", Given::by_variable("2"))]),
            (&mut file, &[("name", in_file("file", 3)), ("backoff", in_file("1s..2s", 4))]),
            (&mut defaults, &[("backoff", in_file("5s..6s", 9)), ("listen", in_file("3", 10))]),
        ];
        for (layer, values) in layers {
            values.iter().for_each(|(flag, given)| assert!(layer.put(flag, given.clone())));
        }
        let merged = flags.or(variables).or(file).or(defaults);
        assert_eq!(merged.by_flag("name").all(), [Given::by_variable("variable")]);
        assert_eq!(merged.by_flag("listen").all(), [Given::by_flag("--listen", "1")]);
        assert_eq!(merged.by_flag("backoff").all(), [in_file("1s..2s", 4)]);
    }

    #[test]
    fn an_apps_variables_come_after_those_of_every_app() {
        let (mut app, mut defaults) = (Layer::default(), Layer::default());
        app.put_key("env", Given::by_variable("A=2"));
        defaults.put_key("env", Given::by_variable("A=1"));
        let merged = app.or(defaults);
        let (_, values) = merged.given().next().unwrap();
        assert_eq!(values.all().iter().map(|given| given.text.as_str()).collect::<Vec<_>>(), ["A=1", "A=2"]);
    }
}
