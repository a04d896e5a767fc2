//! Resolves the settings of one app to what runs.

use super::command::name_of;
use super::faults::Faults;
use super::given::Place;
use super::hooks::{Hooks, Moment};
use super::instances::{InstanceCount, Instances};
use super::layer::Layer;
use super::policy::policy;
use super::probe::LiveCheck;
use super::process::{Limit, VariablePattern};
use super::reader::Reader;
use super::ready::ReadyCheck;
use super::schedule::Schedule;
use super::settings::{AppSettings, ProgramSettings, by_key};
use super::value::IncrementEnv;
use super::watch::WatchPattern;
use crate::control::types::SettingValue;
use crate::control::{MetricsPage, redacted_command};
use crate::core::{Kind, Policy, Restart, Scaling};
use crate::ports::{Balance, ListenAddress, Share, Sharing};
use crate::sys::user::Credentials;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One app, as it runs. Two that are equal run in the same way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppConfig {
    /// Its name.
    pub(crate) name: String,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// The names of the apps that it is started after; each is one of the container's.
    pub(crate) after: Vec<String>,
    /// The number of workers that it starts with, and why that many.
    pub(crate) instances: InstanceCount,
    /// The rules by which the core runs it.
    pub(crate) policy: Policy,
    /// The check by which a worker is ready.
    pub(crate) ready: ReadyCheck,
    /// The check by which it is learnt that they hang.
    pub(crate) live: Liveness,
    /// The page with each worker's own metrics.
    pub(crate) app_metrics: Option<MetricsPage>,
    /// The occasions for a reload that nobody asks for.
    pub(crate) reloads: ReloadTriggers,
    /// The commands that rinit runs at moments of a worker's life.
    pub(crate) hooks: Hooks,
    /// The mechanisms by which its workers share ports.
    pub(crate) sharing: Sharing,
    /// The way in which connections reach them.
    pub(crate) balance: Balance,
    /// The sockets that its workers inherit.
    pub(crate) listen: Vec<ListenAddress>,
    /// The variables that count its workers.
    pub(crate) increment_env: Vec<IncrementEnv>,
    /// The files of variables, a later one before an earlier one.
    pub(crate) env_files: Vec<PathBuf>,
    /// The variables of the configuration file, which go before those of the files.
    pub(crate) env: Vec<(String, String)>,
    /// The container's own variables that its workers do not get.
    pub(crate) filter_env: Vec<VariablePattern>,
    /// The user of its workers; `None`: rinit's own.
    pub(crate) user: Option<Credentials>,
    /// The further properties of its workers' processes.
    pub(crate) process: ProcessConfig,
}

impl AppConfig {
    /// True if a worker of the new settings is started in another way than one of these.
    pub(super) fn needs_new_workers(&self, new: &AppConfig) -> bool {
        let with_new_rules = AppConfig {
            after: new.after.clone(),
            instances: new.instances.clone(),
            policy: new.policy.clone(),
            reloads: new.reloads.clone(),
            hooks: new.hooks.clone(),
            app_metrics: new.app_metrics.clone(),
            ..self.clone()
        };
        with_new_rules != *new || self.policy.kind != new.policy.kind
    }
}

/// The properties of a worker's process; rinit's own where nothing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessConfig {
    /// The working directory.
    pub(crate) cwd: Option<PathBuf>,
    /// The mask of file modes.
    pub(crate) umask: Option<u32>,
    /// The nice value.
    pub(crate) nice: Option<i32>,
    /// The limits on resources.
    pub(crate) limits: Vec<Limit>,
}

/// The liveness probes of an app's workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// The check.
    pub(crate) check: LiveCheck,
    /// The time between two probes; for the watchdog, the time in which the worker must say `WATCHDOG=1`.
    pub(crate) interval: Duration,
    /// The time that a probe may take.
    pub(crate) timeout: Duration,
}

/// The occasions for a reload that nobody asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReloadTriggers {
    /// The times.
    pub(crate) cron: Option<Schedule>,
    /// The files and folders whose changes count.
    pub(crate) watch: Vec<PathBuf>,
    /// The changes that do not.
    pub(crate) ignore_watch: Vec<WatchPattern>,
}

/// Merges what flags and variables give with an app's part of the file. A task has one worker, whatever number they give
/// to all apps.
pub(super) fn merge(above: &Layer, below: Layer) -> Layer {
    let is_task =
        by_key("kind").and_then(|kind| below.values(kind).first()).is_some_and(|kind| kind.text.trim() == "task");
    let above = above.clone();
    let above = if is_task { above.without(&["instances", "instances-min", "instances-max"]) } else { above };
    above.or(below)
}

/// Resolves the merged settings of one app, and lists them as they are in force. `command` is that of the command line;
/// `place`, where the app stands in a file.
pub(super) fn resolve(
    layer: &Layer,
    command: &[OsString],
    place: Option<&Place>,
    root: &Path,
    faults: &mut Faults,
) -> (AppConfig, Vec<SettingValue>) {
    let mut reader = Reader { faults, in_force: vec![] };
    let mut settings = AppSettings::parse(layer, &mut reader);
    let of_app = reader.in_force.len();
    let program = ProgramSettings::parse(layer, &mut reader);
    let command = match program.command.is_empty() {
        true => command.to_vec(),
        false => program.command.iter().map(|word| OsString::from(&word.0)).collect(),
    };
    if let (true, Some(place)) = (command.is_empty(), place) {
        reader.faults.note_place(place, "the app has no command");
    }
    let words = redacted_command(command.iter().map(|word| word.to_string_lossy().into_owned()));
    reader.resolved("command", shell_words::join(words), None);
    if program.kind == Kind::Task {
        as_task(&mut settings, layer, &mut reader);
    }
    let (instances, scaling) = scaling(&settings, layer, root, &mut reader);
    let name = settings.name.as_ref().map_or_else(|| name_of(&command), |name| name.0.clone());
    reader.resolved("name", name.clone(), settings.name.is_none().then(|| "from the command".into()));
    let located = located(&command, program.cwd.as_deref());
    let sharing =
        Sharing::of(&located, settings.share_ports, settings.stop_message || settings.ready == ReadyCheck::Message);
    if let Some(why) = contradiction(&settings.ready, settings.share_ports, settings.listen.len()) {
        reader.refuse(layer, "ready", why);
    }
    let missing = settings.user.as_ref().map(Credentials::missing_capabilities).unwrap_or_default();
    if !missing.is_empty() {
        reader.refuse(layer, "user", without_capabilities(&missing));
    }
    let most = scaling.max.unwrap_or(instances.count);
    for (at, variable) in settings.increment_env.iter().enumerate() {
        if let Some(why) = variable.overflow(most) {
            reader.refuse_nth(layer, "increment-env", at, why);
        }
    }
    let mut in_force = reader.in_force;
    // A setting that only a file has is listed where a file gives it.
    let mut at = 0;
    in_force.retain(|setting| {
        at += 1;
        at <= of_app || setting.source != "default"
    });
    in_force.iter_mut().for_each(|setting| setting.app = Some(name.clone()));
    let hooks = Hooks::of(program.hooks);
    let app = AppConfig {
        policy: Policy {
            kind: program.kind,
            scaling,
            on_exit: program.on_exit,
            ..policy(
                &settings,
                instances.count,
                sharing,
                sharing.sees_listening(&located),
                hooks.command(Moment::PreStop).is_some(),
            )
        },
        name,
        command,
        after: program.after.into_iter().map(|name| name.0).collect(),
        instances,
        ready: settings.ready,
        live: Liveness { check: settings.live, interval: settings.live_interval.0, timeout: settings.live_timeout.0 },
        app_metrics: settings.app_metrics,
        reloads: ReloadTriggers {
            cron: settings.cron,
            // From the app's directory, as its own paths are.
            watch: settings.watch.into_iter().map(|path| in_directory(path.0, program.cwd.as_deref())).collect(),
            ignore_watch: settings.ignore_watch,
        },
        hooks,
        sharing,
        balance: settings.balance,
        listen: settings.listen,
        increment_env: settings.increment_env,
        env_files: settings.env_file,
        env: program.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
        filter_env: program.filter_env,
        user: settings.user,
        process: ProcessConfig {
            cwd: program.cwd,
            umask: program.umask.map(|umask| umask.0),
            nice: program.nice.map(|nice| nice.0),
            limits: program.limits,
        },
    };
    (app, in_force)
}

/// The settings of a task: one worker, which is not started again when it has succeeded.
fn as_task(settings: &mut AppSettings, layer: &Layer, reader: &mut Reader) {
    if settings.instances.is_some_and(|instances| instances != Instances::Count(1)) {
        reader.refuse(layer, "instances", "a task has one worker: leave it out");
    }
    if settings.restart == Restart::Always {
        reader.refuse(layer, "restart", "a task runs once; allowed: on-failure, never");
        settings.restart = Restart::Never;
        reader.resolved("restart", "never".into(), Some("a task runs once".into()));
    }
}

/// The number of workers that an app starts with, and the bounds of that number.
fn scaling(settings: &AppSettings, layer: &Layer, root: &Path, reader: &mut Reader) -> (InstanceCount, Scaling) {
    let min = settings.instances_min.map(|count| count.0);
    let max = settings.instances_max.map(|count| count.0);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        reader.refuse(layer, "instances-max", format!("it is below the fewest workers, {min}"));
    }
    let wanted = settings.instances.unwrap_or(Instances::Count(min.unwrap_or(1)));
    let bounds = min.unwrap_or(1)..=max.unwrap_or(super::instances::MAX_INSTANCES);
    let fewer_than_cpus = match wanted {
        Instances::Count(count) => {
            if !bounds.contains(&count) {
                let (least, most) = (bounds.start(), bounds.end());
                reader.refuse(
                    layer,
                    "instances",
                    format!("it is not within {least} to {most}, the bounds that are given"),
                );
            }
            None
        }
        Instances::Cpus { less } => Some(less),
    };
    let mut instances = InstanceCount::of(wanted, root);
    if fewer_than_cpus.is_some() {
        // Bounds that contradict each other are refused above.
        instances.count = instances.count.min(*bounds.end()).max(*bounds.start());
    }
    reader.resolved("instances", instances.count.to_string(), instances.why.clone());
    (instances, Scaling { fewer_than_cpus, min: *bounds.start(), max })
}

fn in_directory(path: PathBuf, cwd: Option<&Path>) -> PathBuf {
    cwd.map_or(path.clone(), |cwd| cwd.join(path))
}

/// The command with its program where it is found from rinit's own directory.
fn located(command: &[OsString], cwd: Option<&Path>) -> Vec<OsString> {
    let mut words = command.to_vec();
    if let (Some(program), Some(cwd)) = (words.first_mut(), cwd)
        && program.as_bytes().contains(&b'/')
    {
        *program = cwd.join(&*program).into_os_string();
    }
    words
}

/// The reason why workers cannot run as another user without these capabilities, and the cure.
fn without_capabilities(missing: &[&str]) -> String {
    let flags: Vec<String> =
        missing.iter().map(|name| format!("--cap-add {}", name.trim_start_matches("CAP_"))).collect();
    let verb = if missing.contains(&"CAP_SETUID") { "start" } else { "signal" };
    format!(
        "rinit cannot {verb} workers of that user without {}: docker run {} (Kubernetes: securityContext.capabilities.add), or run the container as that user",
        missing.join(", "),
        flags.join(" ")
    )
}

/// The reason why that readiness cannot come about with the other settings, if there is one.
fn contradiction(ready: &ReadyCheck, share: Share, sockets: usize) -> Option<String> {
    match ready {
        ReadyCheck::Listen if share == Share::Off => Some("no port is shared with --share-ports off".into()),
        ReadyCheck::Fd(number) if (3..3 + sockets as i32).contains(number) => {
            Some(format!("descriptors 3 to {} are the sockets of --listen", 2 + sockets))
        }
        ReadyCheck::Listen
        | ReadyCheck::Fd(_)
        | ReadyCheck::Auto
        | ReadyCheck::Spawn
        | ReadyCheck::Uptime
        | ReadyCheck::Message
        | ReadyCheck::Notify
        | ReadyCheck::Probe(_) => None,
    }
}
