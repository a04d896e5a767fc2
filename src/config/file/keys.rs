//! Puts the keys of a file in rinit's own form into layers: the container's settings, `[defaults]` and each `[[app]]`.
//!
//! A key is a flag without its dashes, with `_` or `-` between its words. A list is several values; a table is a list of
//! `NAME=VALUE`.

use super::super::environment::nearest;
use super::super::faults::Faults;
use super::super::given::{Given, Place};
use super::super::layer::Layer;
use super::super::settings::{self, Scope, Setting};
use super::super::shell::{self, Split};
use super::document::{Entry, Node, NodeValue};
use super::{ConfigFile, FileApp};
use std::collections::BTreeSet;

/// The tables of a file, and the key by which an editor finds the schema.
const TABLES: [&str; 3] = ["app", "defaults", "$schema"];

/// Reads the tree of a file.
pub(super) fn read(root: &Node, faults: &mut Faults) -> ConfigFile {
    let mut file = ConfigFile::default();
    let NodeValue::Table(entries) = &root.value else {
        faults.note_place(&root.place, format!("the file is {}, and not a table of settings", root.kind()));
        return file;
    };
    let mut general = Part::new("the general part", |scope| matches!(scope, Scope::Container | Scope::Common));
    for entry in entries {
        match (entry.key.as_str(), &entry.node.value) {
            ("$schema", _) => {}
            ("defaults", NodeValue::Table(defaults)) => {
                let mut part = Part::new("[defaults]", |scope| matches!(scope, Scope::App | Scope::Program));
                part.take_all(defaults, faults);
                part.refuse(&["name", "command", "after"], "is an app's own: write it below its [[app]]", faults);
                (file.defaults, file.warnings) = (part.layer, part.warnings);
            }
            ("app", NodeValue::List(apps)) => {
                for app in apps {
                    match &app.value {
                        NodeValue::Table(keys) => {
                            let mut part = Part::new("[[app]]", |scope| matches!(scope, Scope::App | Scope::Program));
                            part.take_all(keys, faults);
                            file.warnings.extend(part.warnings);
                            file.apps.push(FileApp { place: app.place.clone(), layer: part.layer });
                        }
                        NodeValue::Text(_) | NodeValue::Plain(_) | NodeValue::List(_) => {
                            faults.note_place(&app.place, format!("an app is a table, and this is {}", app.kind()));
                        }
                    }
                }
            }
            ("app", NodeValue::Table(_)) => {
                faults.note_place(&entry.place, "app is a list: write [[app]] in TOML, \"app\": [{…}] in JSON");
            }
            (key @ ("app" | "defaults"), _) => {
                faults.note_place(&entry.place, format!("{key} is {}, and not a table", entry.node.kind()));
            }
            _ => general.take(entry, faults),
        }
    }
    file.general = general.layer;
    file
}

/// A part of a file: a table whose keys are settings of certain scopes.
pub(super) struct Part {
    name: &'static str,
    allows: fn(Scope) -> bool,
    pub(super) layer: Layer,
    seen: BTreeSet<&'static str>,
    pub(super) warnings: Vec<String>,
}

impl Part {
    pub(super) fn new(name: &'static str, allows: fn(Scope) -> bool) -> Part {
        Part { name, allows, layer: Layer::default(), seen: BTreeSet::new(), warnings: vec![] }
    }

    fn take_all(&mut self, entries: &[Entry], faults: &mut Faults) {
        entries.iter().for_each(|entry| self.take(entry, faults));
    }

    /// True if a setting has that key, or one that is spelled nearly so.
    pub(super) fn has_setting(&self, key: &str) -> bool {
        let key = key.replace('_', "-");
        nearest(&key, settings::in_files().map(|setting| setting.flag)).is_some()
    }

    pub(super) fn take(&mut self, entry: &Entry, faults: &mut Faults) {
        let key = entry.key.replace('_', "-");
        let Some(setting) = settings::in_files().find(|setting| setting.flag == key) else {
            return faults.note_place(&entry.place, self.unknown(&entry.key, &key));
        };
        if !(self.allows)(setting.scope) {
            return faults.note_place(&entry.place, format!("{} {}", entry.key, elsewhere(setting.scope)));
        }
        if !self.seen.insert(setting.flag) {
            return faults.note_place(&entry.place, format!("{} is given twice", entry.key));
        }
        if setting.flag == "command" {
            return self.take_command(setting, entry, faults);
        }
        for value in values(setting, entry) {
            match value {
                Ok(given) => self.put(setting, given, faults),
                Err((place, why)) => faults.note_place(&place, why),
            }
        }
    }

    pub(super) fn put(&mut self, setting: &Setting, given: Given, faults: &mut Faults) {
        // The kernel's strings end there.
        match given.text.contains('\0') {
            true => faults.note_value(setting, &given, "there is a NUL byte in it"),
            false => drop(self.layer.put_key(setting.flag, given)),
        }
    }

    /// A list is the words. A string is taken apart into words, or is a shell's to run if only a shell understands it.
    fn take_command(&mut self, setting: &Setting, entry: &Entry, faults: &mut Faults) {
        let given = |node: &Node, text: &str| Given::by_key(node.place.clone(), &entry.key, text);
        match &entry.node.value {
            NodeValue::Text(text) => match shell::split(text) {
                Ok(Split::Words(words)) => {
                    words.iter().for_each(|word| self.put(setting, given(&entry.node, word), faults));
                }
                Ok(Split::ForShell(words)) => {
                    let place = &entry.node.place;
                    self.warnings.push(format!(
                        "{place}: the command has shell syntax, so sh -c runs it; as a list it would need no shell"
                    ));
                    words.iter().for_each(|word| self.put(setting, given(&entry.node, word), faults));
                }
                Err(why) => faults.note_place(&entry.node.place, format!("command: {why}")),
            },
            NodeValue::List(words) if !words.is_empty() => {
                for word in words {
                    match word.text() {
                        Some(text) => self.put(setting, given(word, text), faults),
                        None => faults.note_place(&word.place, format!("a word of command is {}", word.kind())),
                    }
                }
            }
            NodeValue::List(_) | NodeValue::Plain(_) | NodeValue::Table(_) => {
                faults.note_place(&entry.node.place, "command: allowed: a list of words, or a string");
            }
        }
    }

    fn refuse(&mut self, flags: &[&str], why: &str, faults: &mut Faults) {
        for (setting, values) in self.layer.given().filter(|(setting, _)| flags.contains(&setting.flag)) {
            if let Some(given) = values.first() {
                faults.note_value(setting, given, why);
            }
        }
    }

    /// The answer to a key that is no setting.
    fn unknown(&self, written: &str, key: &str) -> String {
        let known = settings::in_files().filter(|setting| (self.allows)(setting.scope)).map(|setting| setting.flag);
        let known = known.chain(TABLES);
        let advice = match nearest(key, known) {
            Some(near) => format!("; did you mean {}?", near.replace('-', "_")),
            None => format!(" of {}", self.name),
        };
        format!("{written} is no setting{advice}")
    }
}

/// The place in which a setting of that scope belongs.
fn elsewhere(scope: Scope) -> &'static str {
    match scope {
        Scope::App | Scope::Program => "is a setting of an app: write it below [[app]] or [defaults]",
        Scope::Container | Scope::Common => "is a setting of the container: write it above every [table]",
        Scope::Init => "is for one child without workers, which has no file",
    }
}

/// The values of a key as texts, or the reasons for which there is none.
fn values(setting: &Setting, entry: &Entry) -> Vec<Result<Given, (Place, String)>> {
    let given = |node: &Node, text: String| Ok(Given::by_key(node.place.clone(), &entry.key, text));
    let refused = |name: &str, node: &Node, allowed: &str| {
        Err((node.place.clone(), format!("{name} is {}; allowed: {allowed}", node.kind())))
    };
    let one = |name: &str, node: &Node, text: &dyn Fn(&str) -> String| match node.text() {
        Some(value) => given(node, text(value)),
        None => refused(name, node, "a string, a number or a boolean"),
    };
    let is_table = setting.form.contains('=');
    match &entry.node.value {
        NodeValue::Text(text) | NodeValue::Plain(text) => vec![given(&entry.node, text.clone())],
        NodeValue::List(list) if setting.repeats => {
            list.iter().map(|node| one("a value", node, &str::to_owned)).collect()
        }
        NodeValue::Table(table) if is_table => {
            let pair = |pair: &Entry| match &pair.node.value {
                // The words of a command.
                NodeValue::List(words) if setting.flag == "hooks" && words.iter().all(|word| word.text().is_some()) => {
                    let words = shell_words::join(words.iter().filter_map(Node::text));
                    given(&pair.node, format!("{}={words}", pair.key))
                }
                NodeValue::Text(_) | NodeValue::Plain(_) | NodeValue::List(_) | NodeValue::Table(_) => {
                    one(&pair.key, &pair.node, &|value| format!("{}={value}", pair.key))
                }
            };
            table.iter().map(pair).collect()
        }
        NodeValue::List(_) | NodeValue::Table(_) => {
            let allowed = match (setting.repeats, is_table) {
                (_, true) => "a table or a list",
                (true, false) => "a value or a list of values",
                (false, false) => "one value",
            };
            vec![refused(&entry.key, &entry.node, allowed)]
        }
    }
}
