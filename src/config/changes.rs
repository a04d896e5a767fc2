//! Compares two configurations: the apps that a file has got, has lost and has changed.

use super::app::AppConfig;
use super::resolve::SupervisorConfig;

/// The differences between the configuration in force and a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// The apps that only the new one has.
    pub(crate) added: Vec<AppConfig>,
    /// The names of the apps that only the old one has.
    pub(crate) removed: Vec<String>,
    /// The apps that differ.
    pub(crate) changed: Vec<AppChange>,
    /// The settings of the container that differ. They are read at the start alone.
    pub(crate) container: Vec<String>,
}

/// An app that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppChange {
    /// The app as it is to be.
    pub(crate) app: AppConfig,
    /// The settings that differ; never empty.
    pub(crate) settings: Vec<String>,
    /// True if a process is started in another way than before, so that the workers must be replaced.
    pub(crate) needs_new_workers: bool,
}

impl Changes {
    /// Compares the apps by their names, and the settings by their values.
    pub(crate) fn between(old: &SupervisorConfig, new: &SupervisorConfig) -> Changes {
        let find = |config: &SupervisorConfig, name: &str| config.apps.iter().find(|app| app.name == name).cloned();
        let missing_in = |config: &SupervisorConfig, app: &&AppConfig| find(config, &app.name).is_none();
        let change = |app: &AppConfig| {
            let before = find(old, &app.name)?;
            (before != *app).then(|| AppChange {
                settings: differing(old, new, app, &before),
                needs_new_workers: before.needs_new_workers(app),
                app: app.clone(),
            })
        };
        Changes {
            added: new.apps.iter().filter(|app| missing_in(old, app)).cloned().collect(),
            removed: old.apps.iter().filter(|app| missing_in(new, app)).map(|app| app.name.clone()).collect(),
            changed: new.apps.iter().filter_map(change).collect(),
            container: listed_differences(old, new, None),
        }
    }

    /// True if nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// The settings of an app that differ. Values of variables are not listed, so they are compared here.
fn differing(old: &SupervisorConfig, new: &SupervisorConfig, app: &AppConfig, before: &AppConfig) -> Vec<String> {
    let mut settings = listed_differences(old, new, Some(&app.name));
    if app.env != before.env && !settings.iter().any(|name| name == "env") {
        settings.push("env".into());
    }
    if settings.is_empty() {
        // What the command's file is has changed, and so how its ports are shared.
        settings.push("command".into());
    }
    settings
}

/// The settings whose listed values differ, of an app or of the container.
fn listed_differences(old: &SupervisorConfig, new: &SupervisorConfig, app: Option<&str>) -> Vec<String> {
    let of = |config: &SupervisorConfig| -> Vec<(String, String)> {
        let listed = config.listed().iter().filter(|setting| setting.app.as_deref() == app);
        listed.map(|setting| (setting.name.clone(), setting.value.clone())).collect()
    };
    let (before, after) = (of(old), of(new));
    let is_in = |list: &[(String, String)], setting: &(String, String)| list.contains(setting);
    let gone = before.iter().filter(|setting| !is_in(&after, setting));
    let come = after.iter().filter(|setting| !is_in(&before, setting));
    let mut names: Vec<String> = come.chain(gone).map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::{Layer, for_supervisor, read_file};
    use super::*;
    use crate::config::Faults;
    use std::path::Path;

    /// The configuration of one file with that text, and then with the other.
    fn read(first: &str, then: &str) -> (SupervisorConfig, Result<SupervisorConfig, Vec<String>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, first).unwrap();
        let mut faults = Faults::default();
        let file = read_file(&path, &Layer::default(), &mut faults);
        let config = for_supervisor(&Layer::default(), &file, &[], Path::new("/"), &mut faults);
        assert_eq!(faults.lines(), [""; 0]);
        std::fs::write(&path, then).unwrap();
        let again = config.source.as_ref().unwrap().read_again();
        (config, again)
    }

    fn changes(first: &str, then: &str) -> Changes {
        let (old, new) = read(first, then);
        Changes::between(&old, &new.unwrap())
    }

    fn app(name: &str, more: &str) -> String {
        format!("[[app]]\nname = \"{name}\"\ncommand = [\"x\"]\n{more}\n")
    }

    #[test]
    fn apps_that_are_the_same_do_not_change_whatever_their_order_and_place() {
        let old = app("a", "") + &app("b", "instances = 2");
        let new = format!("# a comment\n\n{}{}", app("b", "instances = 2"), app("a", ""));
        assert!(changes(&old, &new).is_empty());
    }

    #[test]
    fn added_removed_and_changed_apps_are_found_by_name() {
        let old = app("a", "") + &app("b", "stop_timeout = \"1s\"") + &app("c", "");
        let new = app("b", "stop_timeout = \"2s\"\nmax_memory = \"1G\"") + &app("c", "") + &app("d", "");
        let changes = changes(&old, &new);
        assert_eq!(changes.removed, ["a"]);
        assert_eq!(changes.added.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["d"]);
        let [change] = &changes.changed[..] else { panic!("{changes:?}") };
        assert_eq!((change.app.name.as_str(), change.needs_new_workers), ("b", false));
        assert_eq!(change.settings, ["max-memory", "stop-timeout"]);
    }

    #[test]
    fn what_a_process_is_started_with_needs_new_workers() {
        for (more, setting) in [
            ("env = { A = \"2\" }", "env"),
            ("env = { A = \"1\" }\ncwd = \"/\"", "cwd"),
            ("env = { A = \"1\" }\nlisten = [9]", "listen"),
            ("env = { A = \"1\" }\nlimits = { core = 0 }", "limits"),
        ] {
            let changes = changes(&app("a", "env = { A = \"1\" }"), &app("a", more));
            let [change] = &changes.changed[..] else { panic!("{changes:?}") };
            assert_eq!((change.settings.as_slice(), change.needs_new_workers), (&[setting.to_owned()][..], true));
        }
    }

    #[test]
    fn changed_settings_of_the_container_are_named() {
        assert_eq!(changes(&app("a", ""), &format!("log = \"json\"\n{}", app("a", ""))).container, ["log"]);
    }

    #[test]
    fn a_file_with_a_fault_is_refused_when_it_is_read_again() {
        for (text, part) in
            [("[[app]", "f.toml:1:"), ("", "there is no app in it any more"), ("[[app]]\n", "no command")]
        {
            let faults = read(&app("a", ""), text).1.unwrap_err();
            assert!(faults[0].contains(part), "{text}: {faults:?}");
        }
    }
}
