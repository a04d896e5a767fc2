//! Reads each app's env files and the state of its watched files before its workers start.

use super::watching::Watched;
use crate::config::{Refusal, SupervisorConfig, read_env_file};
use crate::core::Signal;
use crate::sys::{signals, spawn_thread};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// The time after which a file system counts as slow, and a stop is looked for.
const SLOW_AFTER: Duration = Duration::from_millis(200);
/// The interval between two looks at whether a slow file system has answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// An app's variables, in the order of precedence from low to high.
pub(super) type Variables = Vec<(String, String)>;

/// An app's variables and watched files, as they are before its workers start.
#[derive(Default)]
pub(super) struct AppFiles {
    pub(super) variables: Variables,
    /// The state of its watched files: a change since then is one that its workers may not have seen.
    pub(super) watched: Option<Watched>,
}

/// Reads every app's files for the first generation; all faults at once, each with its file.
///
/// # Errors
/// SIGTERM, SIGINT or SIGQUIT came while a file system did not answer: exit code 0, since nothing was started.
pub(super) fn read_all(config: &SupervisorConfig) -> Result<Vec<Result<AppFiles, Vec<Fault>>>, Refusal> {
    let paths = config.apps.iter().flat_map(|app| app.env_files.iter().chain(&app.reloads.watch));
    let files = paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    if files.is_empty() {
        return Ok(config.apps.iter().map(|_| Ok(AppFiles::default())).collect());
    }
    let apps: Vec<_> = config.apps.iter().map(|app| (app.env_files.clone(), app.reloads.clone())).collect();
    let read_each = move || {
        let read = |(paths, reloads): &(Vec<PathBuf>, _)| {
            Ok(AppFiles { variables: read(paths)?, watched: Watched::new(reloads) })
        };
        apps.iter().map(read).collect()
    };
    let (sender, result) = mpsc::channel();
    let refuse = |text: String, code| Refusal { text: format!("rinit: {text}\n"), code };
    spawn_thread("files", move || drop(sender.send(read_each())))
        .map_err(|error| refuse(format!("cannot start: no thread: {error}"), super::INTERNAL_ERROR))?;
    match result.recv_timeout(SLOW_AFTER) {
        Ok(read) => return Ok(read),
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => {
            return Err(refuse(format!("cannot read {files}"), super::INTERNAL_ERROR));
        }
    }
    // No handler is installed yet: every signal is blocked, and taken here.
    loop {
        let caught = signals::wait(Some(CHECK_INTERVAL))
            .map_err(|error| refuse(format!("cannot start: {error}"), super::INTERNAL_ERROR))?;
        if caught.is_some_and(|caught| matches!(caught.signal, Signal::TERM | Signal::INT | Signal::QUIT)) {
            return Err(refuse(format!("asked to stop while files were being read ({files}): nothing was started"), 0));
        }
        if let Ok(read) = result.try_recv() {
            return Ok(read);
        }
    }
}

/// A file that could not be read: the setting with its value, and the reason.
pub(super) type Fault = (String, String);

fn read(paths: &[PathBuf]) -> Result<Variables, Vec<Fault>> {
    let mut variables = Variables::new();
    let mut faults = Vec::new();
    for path in paths {
        match read_env_file(path) {
            Ok(more) => variables.extend(more),
            Err(error) => faults.push((format!("--env-file={}", path.display()), error.to_string())),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

/// Reads an app's files again for a new generation. It may take as long as a file system does: not for the loop's thread.
pub(super) fn read_again(paths: &[PathBuf]) -> Result<Variables, String> {
    read(paths).map_err(|faults| {
        let faults = faults.into_iter().map(|(_, why)| format!("--env-file: {why}"));
        faults.collect::<Vec<_>>().join("; ")
    })
}
