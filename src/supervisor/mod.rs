//! Runs supervisor mode, the shell around the core: tells the fleet what happened, and performs its effects.
//!
//! ```text
//! signals ─┐                      ┌─ spawn, signal, kill   (workers)
//! notices ─┼─ turn ── Fleet ──────┼─ report                (report → log)
//! deadline ┘                      └─ prepare               (launch)
//! ```
//!
//! Everything runs on one thread; the log's bytes are moved by another. No call in here waits for anything.

mod app_files;
mod condition;
mod effects;
mod event_loop;
mod helper;
mod hooks;
mod launch;
mod launches;
mod linger;
mod message;
mod notify;
mod output;
mod panic;
mod probe;
mod ready;
mod reaping;
mod reconfigure;
mod reporter;
mod sampling;
mod service_manager;
mod signals;
mod status;
mod triggers;
mod watching;
mod workers;

use crate::config::{AppConfig, Faults, LogFormat, Refusal, SupervisorConfig};
use crate::control::{Call, EndpointSetting, Endpoints, Journal, SOCKET_PATHS, SharedConfig, SupervisorHandle};
use crate::core::{AppId, Event, WorkerId};
use crate::logs::{self, Format};
use crate::ports::{ListenSocket, Ports};
use crate::sys::signals::{Inherited, Signals};
use crate::sys::{adopt_orphans, spawn_thread};
use app_files::{AppFiles, Variables};
use event_loop::Supervisor;
use launch::LaunchSpec;
use launches::Launches;
use reconfigure::{Configuration, NewConfiguration, Request};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use triggers::WatchedByApp;

/// A message from a task to the event loop.
enum Notice {
    /// There is news of the worker's exec.
    Exec(WorkerId),
    /// A worker has shown something, or answered.
    Event(Event),
    /// The control plane wants something.
    Call(Call),
    /// The workers that may have to be sampled are asked for.
    ListSubjects(oneshot::Sender<sampling::Subjects>),
    /// An app is to be reloaded, for this reason.
    Trigger(AppId, String),
    /// A worker's `pre_start` hook has ended.
    PreStartDone(WorkerId, Result<(), String>),
    /// A worker's `pre_stop` hook has ended, or has had its time.
    PreStopDone(WorkerId),
    /// A new generation's variables are read, or could not be.
    Prepared(AppId, u32, Result<Box<(AppConfig, Variables)>, String>),
    /// The configuration file is read again for these requests, or has faults.
    Configuration(Result<Box<NewConfiguration>, String>, Vec<Request>),
}

/// The number of the control plane's calls that wait for the loop; the next one waits to be sent.
const MAX_QUEUED_CALLS: usize = 64;

/// The time that reading files may take, for a reload.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The exit code when something of rinit itself failed.
const INTERNAL_ERROR: u8 = 70;

/// Runs the workers until the container's end, and returns its exit code; or the refusal when it cannot start.
///
/// # Errors
/// Sockets that cannot be opened and files that cannot be read, all at once; a kernel without room for rinit itself.
pub fn run(config: SupervisorConfig, warnings: &[String], inherited: Inherited) -> Result<u8, Refusal> {
    crate::sys::fd_limit::raise_limit();
    let (opened, watched, gate) = open_everything(&config)?;
    let cannot = |what: &str, error: io::Error| Refusal {
        text: format!("rinit: cannot start: {what}: {error}\n"),
        code: INTERNAL_ERROR,
    };
    let format = format_of(&config);
    let logs = logs::start(format, gate.is_open()).map_err(|error| cannot("no thread for the log", error))?;
    logs::install(&logs, format, config.container.log.level);
    let signals = Signals::catch_all().map_err(|error| cannot("no handler for signals", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| cannot("no event loop", error))?;

    config.apps.iter().for_each(log_start);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if nix::unistd::getpid().as_raw() != 1 {
        match adopt_orphans() {
            Ok(()) => tracing::debug!("not PID 1: orphans are taken in as a child subreaper"),
            Err(error) => tracing::warn!("not PID 1, and not a child subreaper: {error}: orphans are not reaped"),
        }
    }
    let (caller, calls) = mpsc::channel(MAX_QUEUED_CALLS);
    let journal = Arc::new(Journal::default());
    let mut launches = Launches::default();
    for mut launch in opened {
        launch.inject();
        launches.add(launch);
    }
    let ports = launches.iter().map(|(_, launch)| launch.ports()).collect::<io::Result<_>>();
    let ports = ports.and_then(Ports::new).map_err(|error| cannot("no descriptors for the ports", error))?;
    if gate.path().is_none() && config.container.endpoints.socket == EndpointSetting::Anywhere {
        tracing::info!(
            "no control socket, so no verbs: no place for it among {} (--socket PATH)",
            SOCKET_PATHS.join(", ")
        );
    }
    let shown = SharedConfig::default();
    let configuration = Configuration::new(config, shown.clone(), gate.path().map(Path::to_owned));
    let rinit = SupervisorHandle {
        calls: caller,
        journal: journal.clone(),
        usage_history: Arc::default(),
        log_history: logs.history(),
        config: shown.clone(),
        ports: ports.clone(),
        connections: Arc::default(),
    };
    let mut supervisor = Supervisor::new(launches, logs, ports, inherited, configuration, (journal, calls), watched)
        .map_err(|error| cannot("no descriptors", error))?;
    Ok(panic::guard(&mut supervisor, &runtime, signals, (gate, rinit)))
}

/// Opens the sockets and reads the files of every app, or refuses with everything that cannot be.
fn open_everything(config: &SupervisorConfig) -> Result<(Vec<LaunchSpec>, WatchedByApp, Endpoints), Refusal> {
    let mut faults = Faults::default();
    let mut launches = Vec::new();
    // The first app's, as if rinit were not there.
    let mut inherited = ListenSocket::inherited();
    let mut watched = WatchedByApp::new();
    for ((id, app), files) in (0..).zip(&config.apps).zip(app_files::read_all(config)?) {
        let files = files.unwrap_or_else(|unread| {
            unread.into_iter().for_each(|(what, why)| faults.note(what, why));
            AppFiles::default()
        });
        watched.extend(files.watched.map(|files| (app.name.clone(), files)));
        let mut listeners: Vec<_> = std::mem::take(&mut inherited).into_iter().map(Rc::new).collect();
        for address in &app.listen {
            match address.open() {
                Ok(listener) => listeners.push(Rc::new(listener)),
                Err(why) => faults.note("--listen", why),
            }
        }
        launches.push(LaunchSpec::new(AppId(id), app.clone(), listeners, files.variables));
    }
    let gate = Endpoints::open(&config.container.endpoints).unwrap_or_else(|(name, why)| {
        faults.note(name, why);
        Endpoints::default()
    });
    if faults.0.is_empty() { Ok((launches, watched, gate)) } else { Err(faults.refusal()) }
}

/// Logs the version, the number of workers, and the reason for that number.
fn log_start(app: &AppConfig) {
    let (name, count) = (&app.name, &app.instances);
    let noun = if count.count == 1 { "worker" } else { "workers" };
    let why = count.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    tracing::info!("rinit {}: {name} with {} {noun}{why}", env!("CARGO_PKG_VERSION"), count.count);
}

fn format_of(config: &SupervisorConfig) -> Format {
    let name_of_last = |app: &AppConfig| format!("{}-{}", app.name, app.instances.count.saturating_sub(1)).len();
    let width = config.apps.iter().map(name_of_last).chain(["rinit".len()]).max().unwrap_or_default();
    let log = config.container.log;
    Format { format: log.format, time: log.time, width: if log.format == LogFormat::Prefix { width } else { 0 } }
}

/// Reads files on a thread of their own, for so long at most.
async fn within_time<T: Send + 'static>(
    what: &str,
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match timeout(READ_TIMEOUT, on_a_thread(read)).await {
        Ok(Ok(read)) => read,
        Ok(Err(failed)) => Err(format!("cannot read {what}: {failed}")),
        Err(_) => Err(format!("reading {what} took longer than {READ_TIMEOUT:?}")),
    }
}

/// Does work that may take as long as a file system or a name server takes on a thread of its own. The event loop's own pool
/// of threads ends the task when the kernel has no room for one.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, answer) = oneshot::channel();
    spawn_thread("files", move || drop(done.send(work())))?;
    answer.await.map_err(io::Error::other)
}
