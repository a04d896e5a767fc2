//! What a worker is started with: its command, its environment, its sockets.

use crate::config::{App, PREFIX, is_kubernetes_variable, read_env_file};
use crate::ports::Listener;
use crate::sys::pair;
use crate::sys::process::LISTEN_PID_ROOM;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor of `LISTEN_FDS` (`sd_listen_fds(3)`).
const FIRST_SOCKET: RawFd = 3;

/// An app as it is started, with what each generation of it has read.
pub(super) struct Launch {
    pub(super) app: App,
    /// A thread reads the files again. When their file system hangs it may do so for ever, and no second one is started.
    is_being_read: Arc<AtomicBool>,
    listeners: Vec<Listener>,
    /// What the `--env-file`s held, by generation.
    variables: BTreeMap<u32, Vec<(String, String)>>,
}

/// Leave to read the files, given back when it is dropped.
pub(super) struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Which worker an environment is for.
pub(super) struct Seat {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) workers: u32,
}

impl Launch {
    pub(super) fn new(app: App, listeners: Vec<Listener>, variables: Vec<(String, String)>) -> Launch {
        Launch { app, is_being_read: Arc::default(), listeners, variables: BTreeMap::from([(1, variables)]) }
    }

    /// Leave to read the files again, while nobody else has it.
    pub(super) fn begin_reading(&self) -> Option<Reading> {
        let taken = self.is_being_read.swap(true, Ordering::Relaxed);
        (!taken).then(|| Reading(self.is_being_read.clone()))
    }

    /// Keeps what a new generation has read.
    pub(super) fn keep(&mut self, generation: u32, variables: Vec<(String, String)>) {
        self.variables.insert(generation, variables);
    }

    /// Forgets generations that nobody will be started with any more.
    pub(super) fn forget_unless(&mut self, is_used: impl Fn(u32) -> bool) {
        self.variables.retain(|generation, _| is_used(*generation));
    }

    /// The sockets, each with the number that it has in the worker.
    pub(super) fn sockets(&self) -> Vec<(RawFd, RawFd)> {
        self.listeners.iter().map(Listener::as_raw_fd).zip(FIRST_SOCKET..).collect()
    }

    /// The worker's environment, `KEY=VALUE` each: the container's without rinit's settings, then the files', then what
    /// tells the worker who it is, then `extra`.
    pub(super) fn environment(&self, seat: &Seat, extra: &[(&str, &OsStr)]) -> Vec<OsString> {
        let Seat { index, generation, workers } = seat;
        let mut variables: BTreeMap<OsString, OsString> =
            std::env::vars_os().filter(|(key, _)| is_the_workers(key)).collect();
        let mut set = |key: &str, value: &OsStr| {
            variables.insert(key.into(), value.into());
        };
        if let Some(home) = self.app.user.as_ref().and_then(|user| user.home.as_ref()) {
            set("HOME", home.as_os_str());
        }
        for (key, value) in self.variables.get(generation).into_iter().flatten() {
            set(key, value.as_ref());
        }
        for (key, base) in &self.app.increment_env {
            set(key, (base + u64::from(*index)).to_string().as_ref());
        }
        set("RINIT_APP", self.app.name.as_ref());
        set("RINIT_WORKER", index.to_string().as_ref());
        set("RINIT_WORKERS", workers.to_string().as_ref());
        set("NODE_APP_INSTANCE", index.to_string().as_ref());
        if !self.listeners.is_empty() {
            let names: Vec<&str> = self.listeners.iter().map(|listener| listener.address().name.as_str()).collect();
            set("LISTEN_FDS", self.listeners.len().to_string().as_ref());
            set("LISTEN_FDNAMES", names.join(":").as_ref());
        }
        extra.iter().for_each(|(key, value)| set(key, value));
        let mut pairs: Vec<OsString> = variables.into_iter().map(|(key, value)| pair(key, &value)).collect();
        if !self.listeners.is_empty() {
            pairs.push(LISTEN_PID_ROOM.into());
        }
        pairs
    }
}

/// rinit's settings are its own, and so are sockets that somebody handed to rinit.
fn is_the_workers(key: &OsStr) -> bool {
    let Some(key) = key.to_str() else { return true };
    let own = key.starts_with(PREFIX) && !is_kubernetes_variable(key);
    !own && !matches!(key, "LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES" | "NOTIFY_SOCKET")
}

/// Reads the files again for a new generation. May take as long as a file system does: not for the loop's thread.
pub(super) fn read_again(paths: &[PathBuf]) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for path in paths {
        variables.extend(read_env_file(path).map_err(|error| format!("--env-file: {error}"))?);
    }
    Ok(variables)
}
