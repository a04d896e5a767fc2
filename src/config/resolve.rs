//! Resolves merged settings to what runs: the container, its apps, or the only child of init mode.

use super::advice;
use super::app::{self, AppConfig};
use super::dependencies;
use super::faults::Faults;
use super::file::{ConfigFile, read_file};
use super::layer::Layer;
use super::reader::Reader;
use super::settings::{CommonSettings, ContainerSettings, InitSettings, Scope};
use crate::control::EndpointSettings;
use crate::control::types::{Config, SettingValue};
use crate::core::{Kind, Signal};
use crate::logs::LogFormat;
use crate::ordered::ordered;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The apps that the supervisor runs, and the container's settings.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// The apps; at least one.
    pub(crate) apps: Vec<AppConfig>,
    /// The settings that all apps share.
    pub(crate) container: ContainerConfig,
    /// The time that processes which outlive their workers have to end.
    pub(crate) linger: Duration,
    /// The file that they were read from, if there is one.
    pub(crate) source: Option<ConfigSource>,
    /// The mistakes that keep nothing from starting, to be logged.
    pub warnings: Vec<String>,
    in_force: Vec<SettingValue>,
}

/// Everything that is needed to read the settings again.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSource {
    /// What flags and variables give.
    layer: Layer,
    /// The command of the command line; empty where the file has apps.
    command: Vec<OsString>,
    /// The file.
    path: PathBuf,
}

impl ConfigSource {
    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again and resolves it with the same flags and variables. It may take as long as the file system takes,
    /// so it is not for the event loop.
    ///
    /// # Errors
    /// Every fault, in a line each: nothing is to change then.
    pub(crate) fn read_again(&self) -> Result<SupervisorConfig, Vec<String>> {
        let mut faults = Faults::default();
        let file = read_file(&self.path, &self.layer, &mut faults);
        if file.apps.is_empty() && self.command.is_empty() && faults.0.is_empty() {
            faults.note(self.path.display().to_string(), "there is no app in it any more");
        }
        let config = for_supervisor(&self.layer, &file, &self.command, Path::new("/"), &mut faults);
        if faults.0.is_empty() { Ok(config) } else { Err(faults.lines()) }
    }
}

impl SupervisorConfig {
    /// The name of each app, and the number of its workers in words.
    pub fn app_summaries(&self) -> impl Iterator<Item = (&str, String)> {
        self.apps.iter().map(|app| {
            let kind = if app.policy.kind == Kind::Task { "task" } else { "worker" };
            (app.name.as_str(), crate::units::count(app.instances.count, kind))
        })
    }

    /// The apps' stop signals: to rinit each of them is a request to stop.
    pub(crate) fn stop_signals(&self) -> Vec<Signal> {
        self.apps.iter().map(|app| app.policy.stop.signal).collect()
    }

    /// Every setting, as it is listed.
    pub(super) fn listed(&self) -> &[SettingValue] {
        &self.in_force
    }

    /// Every setting in force with its source, when the control socket was made there; `None`: there is none.
    pub(crate) fn in_force(&self, socket: Option<&Path>) -> Config {
        let mut settings = self.in_force.clone();
        if let Some(setting) = settings.iter_mut().find(|setting| setting.name == "socket") {
            setting.value = socket.map_or("off".into(), |path| path.display().to_string());
        }
        Config { settings }
    }
}

/// The settings of the container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerConfig {
    /// The log.
    pub(crate) log: LogConfig,
    /// The control socket and the web.
    pub(crate) endpoints: EndpointSettings,
}

/// The form of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig {
    /// The format of workers' lines.
    pub(crate) format: LogFormat,
    /// True if each line begins with the time.
    pub(crate) time: bool,
    /// The least severe of rinit's own lines that is written.
    pub(crate) level: tracing::Level,
}

/// The settings of init mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitConfig {
    /// The time that processes which outlive the child have to end.
    pub linger: Duration,
    /// The signals that are replaced, and the signals sent in their place.
    pub rewrite: BTreeMap<Signal, Option<Signal>>,
}

/// Resolves the settings of init mode. Flags that are only for workers are refused; their variables are not.
pub fn for_init(layer: &Layer, faults: &mut Faults) -> InitConfig {
    refuse_flags(
        layer,
        |scope| matches!(scope, Scope::App | Scope::Container),
        "means something only with workers: add -i N (-i 0: one for each CPU)",
        faults,
    );
    let reader = &mut Reader { faults, in_force: vec![] };
    let (common, settings) = (CommonSettings::parse(layer, reader), InitSettings::parse(layer, reader));
    InitConfig {
        linger: common.linger,
        rewrite: ordered(settings.rewrite.into_iter().map(|rewrite| (rewrite.0, rewrite.1))),
    }
}

/// Resolves the settings of the supervisor and its apps: those of the file, or the one that the command line names. `layer`
/// holds what flags and variables give, which goes before the file. Flags that are only for init mode are refused; their
/// variables are not. `root` is `/` but in tests.
pub fn for_supervisor(
    layer: &Layer,
    file: &ConfigFile,
    command: &[OsString],
    root: &Path,
    faults: &mut Faults,
) -> SupervisorConfig {
    refuse_flags(layer, |scope| scope == Scope::Init, "means something only without -i", faults);
    if let (Some(app), false) = (file.apps.first(), command.is_empty()) {
        faults.note_place(&app.place, "the file has apps, and a command is given too: leave out one of them");
    }
    let of_file = file.apps.iter().map(|app| (Some(&app.place), app.layer.clone().or(file.defaults.clone())));
    let of_command = file.apps.is_empty().then(|| (None, file.defaults.clone()));
    let mut in_force = vec![];
    let mut apps = vec![];
    for (place, below) in of_file.chain(of_command) {
        let merged = app::merge(layer, below);
        let command = if place.is_some() { &[] } else { command };
        let (app, settings) = app::resolve(&merged, command, place, root, faults);
        in_force.extend(settings);
        apps.push((app, place.cloned(), merged));
    }
    dependencies::check(&apps, faults);
    let on_apps = apps.iter().filter_map(|(app, _, layer)| advice::on_end(app, layer));
    let warnings = file.warnings.iter().cloned().chain(on_apps).collect();
    let general = layer.clone().or(file.general.clone());
    let (container, of_container) = resolve_container(&general, file, faults);
    in_force.extend(of_container);
    let mut reader = Reader { faults, in_force: vec![] };
    let linger = CommonSettings::parse(&general, &mut reader).linger;
    in_force.extend(reader.in_force);
    let apps = apps.into_iter().map(|(app, ..)| app).collect();
    let source = file.path.clone().map(|path| ConfigSource { layer: layer.clone(), command: command.to_vec(), path });
    SupervisorConfig { apps, container, linger, source, warnings, in_force }
}

fn refuse_flags(layer: &Layer, is_refused: impl Fn(Scope) -> bool, why: &str, faults: &mut Faults) {
    for (setting, values) in layer.given() {
        if let Some(written) = values.first().and_then(|given| given.flag()).filter(|_| is_refused(setting.scope)) {
            faults.note(written, why);
        }
    }
}

/// Resolves the settings of the container, and lists them as they are in force.
fn resolve_container(layer: &Layer, file: &ConfigFile, faults: &mut Faults) -> (ContainerConfig, Vec<SettingValue>) {
    let mut reader = Reader { faults, in_force: vec![] };
    let settings = ContainerSettings::parse(layer, &mut reader);
    if settings.env.is_some() && !file.is_pm2 {
        reader.refuse(layer, "env", "means something only with pm2's file: --config ecosystem.json");
    }
    if let Some(path) = settings.config.as_ref().or(file.path.as_ref()) {
        reader.resolved("config", path.display().to_string(), None);
    }
    let container = ContainerConfig {
        log: LogConfig { format: settings.log, time: settings.log_time, level: settings.log_level },
        endpoints: EndpointSettings {
            socket: settings.socket,
            web: settings.web,
            socket_mode: settings.socket_mode,
            socket_group: settings.socket_group,
            token_file: settings.web_token_file,
            read_token_file: settings.web_read_token_file,
            is_public: settings.web_public,
            hosts: settings.web_host,
            shown_variables: settings.show_env.into_iter().flat_map(|names| names.0).collect(),
        },
    };
    (container, reader.in_force)
}

#[cfg(test)]
mod tests {
    use super::super::environment::from_environment;
    use super::super::faults::Fault;
    use super::super::given::{Given, Place};
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn variables(pairs: &[(&str, &str)], faults: &mut Faults) -> Layer {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.into(), value.into())).collect();
        from_environment(&pairs, faults).0
    }

    #[test]
    fn all_faults_are_reported_at_once_under_the_names_that_were_written() {
        let mut faults = Faults::default();
        let below =
            variables(&[("RINIT_STOP_TIMEOUT", "10"), ("RINIT_READY", "soon"), ("RINIT_INSTANCES", "2")], &mut faults);
        let mut layer = Layer::default();
        layer.put("backoff", Given::by_flag("--backoff", "5s"));
        let place = Place { path: Path::new("/etc/rinit.toml").into(), line: 7, column: 1 };
        layer.put("log", Given::by_key(place, "log", "pretty"));
        let config =
            for_supervisor(&layer.or(below), &ConfigFile::default(), &words("app"), Path::new("/"), &mut faults);
        assert_eq!(config.apps[0].policy.instances, 2);
        let text: Vec<String> = faults.0.iter().map(Fault::to_string).collect();
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(text[0].starts_with("--backoff=\"5s\": allowed: MIN..MAX"), "{text:?}");
        assert!(text[1].starts_with("RINIT_READY=\"soon\": allowed: auto"), "{text:?}");
        assert!(text[2].contains("did you mean 10s or 10ms?"), "{text:?}");
        assert!(text[3].starts_with("/etc/rinit.toml:7:1: log=\"pretty\": allowed: prefix"), "{text:?}");
    }

    #[test]
    fn flags_go_before_variables() {
        let mut faults = Faults::default();
        let below = variables(&[("RINIT_NAME", "below"), ("RINIT_LISTEN", "1,2")], &mut faults);
        let mut flags = Layer::default();
        flags.put("name", Given::by_flag("--name", "above"));
        flags.put("listen", Given::by_flag("--listen", "3"));
        let config =
            for_supervisor(&flags.or(below), &ConfigFile::default(), &words("app"), Path::new("/"), &mut faults);
        assert!(faults.0.is_empty(), "{faults:?}");
        assert_eq!(config.apps[0].name, "above");
        assert_eq!(config.apps[0].listen.len(), 1);
    }

    #[test]
    fn the_readiness_descriptor_must_not_be_one_of_the_sockets() {
        let mut faults = Faults::default();
        let mut layer = Layer::default();
        layer.put("ready", Given::by_flag("--ready", "fd:3"));
        layer.put("listen", Given::by_flag("--listen", "8080"));
        for_supervisor(&layer, &ConfigFile::default(), &words("app"), Path::new("/"), &mut faults);
        assert!(faults.0[0].why.contains("sockets of --listen"), "{faults:?}");
    }

    #[test]
    fn a_variable_that_cannot_be_counted_up_is_refused() {
        for (text, part) in [
            ("N=18446744073709551615", "too large to be counted up"),
            ("PORT=65535", "worker 1 would get 65536, and the highest port is 65535"),
            ("RINIT_WORKER=0", "RINIT_WORKER is rinit's own to set"),
        ] {
            let mut faults = Faults::default();
            let mut layer = Layer::default();
            layer.put("instances", Given::by_flag("-i", "2"));
            layer.put("increment-env", Given::by_flag("--increment-env", text));
            for_supervisor(&layer, &ConfigFile::default(), &words("app"), Path::new("/"), &mut faults);
            assert!(faults.0.len() == 1 && faults.0[0].why.contains(part), "{text}: {faults:?}");
        }
    }

    #[test]
    fn each_setting_in_force_is_listed_once_with_its_value_its_source_and_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("sys/fs/cgroup");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cpu.max"), "50000 100000\n").unwrap();
        let mut faults = Faults::default();
        let mut layer = variables(&[("RINIT_STOP_MESSAGE", "1")], &mut faults);
        layer.put("instances", Given::by_flag("-i", "max"));
        let config =
            for_supervisor(&layer, &ConfigFile::default(), &words("node dist/shop.js"), root.path(), &mut faults);
        assert!(faults.0.is_empty(), "{faults:?}");
        assert_eq!(config.apps[0].instances.to_string(), "1 (0: of 0.5 CPUs by quota)");
        let listed = |name: &str| {
            let found: Vec<_> = config.in_force.iter().filter(|setting| setting.name == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            let SettingValue { app, value, note, source, place, .. } = found[0].clone();
            [app, Some(value), note, Some(source), place].map(Option::unwrap_or_default).join("|")
        };
        assert_eq!(listed("instances"), "shop|1|0: of 0.5 CPUs by quota|flag|-i");
        assert_eq!(listed("name"), "shop|shop|from the command|default|");
        assert_eq!(listed("stop-message"), "shop|on||environment|RINIT_STOP_MESSAGE");
        assert_eq!(listed("backoff"), "shop|100ms..15s||default|");
        assert_eq!(listed("web"), "|off||default|");
        let rows = super::super::settings::all().filter(|setting| setting.scope != Scope::Init).count();
        assert_eq!(config.in_force.len(), rows);
    }
}
