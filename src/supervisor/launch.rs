//! Builds what a worker is started with: its command, its environment and its sockets.

use super::app_files::Variables;
use crate::config::{AppConfig, HANDED_OVER, LiveCheck, PREFIX, ProcessConfig, ReadyCheck, is_kubernetes_variable};
use crate::core::{AppId, WorkerId};
use crate::ordered::ordered;
use crate::ports::{
    AppPorts, FIRST_SOCKET, Injected, Library, ListenSocket, takes_option, with_inspector_port, with_option,
};
use crate::sys::fd_limit::childs_limit;
use crate::sys::pair;
use crate::sys::process::{PID_PLACEHOLDER, Properties};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;

/// The way in which one generation of an app is started.
#[derive(Clone)]
pub(super) struct LaunchSpec {
    pub(super) id: AppId,
    pub(super) app: AppConfig,
    /// The files that rinit adds to its workers.
    pub(super) injected: Injected,
    listeners: Vec<Rc<ListenSocket>>,
    /// The variables of the `--env-file`s.
    variables: Variables,
}

/// What a worker is handed: where it finds each.
#[derive(Default)]
pub(super) struct InheritedFds<'a> {
    /// `NOTIFY_SOCKET`.
    pub(super) notify: Option<&'a OsStr>,
    /// The number of its end of Node's channel.
    pub(super) channel: Option<RawFd>,
    /// The path of the preloaded library.
    pub(super) library: Option<OsString>,
    /// The name of the library's broker.
    pub(super) broker: Option<&'a OsStr>,
}

/// Which worker an environment is for.
#[derive(Clone, Copy)]
pub(super) struct WorkerEnv {
    pub(super) worker: WorkerId,
    pub(super) index: u32,
    pub(super) workers: u32,
    /// There is no other app.
    pub(super) is_only_app: bool,
}

impl LaunchSpec {
    /// The first generation. What rinit adds to its workers is not made yet.
    pub(super) fn new(id: AppId, app: AppConfig, listeners: Vec<Rc<ListenSocket>>, variables: Variables) -> LaunchSpec {
        LaunchSpec { id, app, injected: Injected::default(), listeners, variables }
    }

    /// Makes the files that rinit adds to its workers.
    pub(super) fn inject(&mut self) {
        let AppConfig { sharing, name, command, listen, .. } = &self.app;
        self.injected = Injected::new(*sharing, name, command, !listen.is_empty());
    }

    /// The same generation with settings by which nothing is started.
    pub(super) fn with(&self, app: AppConfig) -> LaunchSpec {
        LaunchSpec { app, ..self.clone() }
    }

    /// The next generation, with what it has read. Sockets that both have stay open.
    ///
    /// # Errors
    /// A socket that cannot be opened.
    pub(super) fn next(&self, app: AppConfig, variables: Variables) -> Result<LaunchSpec, String> {
        let is_alike = app.sharing == self.app.sharing && app.command == self.app.command;
        // Those that rinit was started with come first.
        let handed = self.listeners.len() - self.app.listen.len().min(self.listeners.len());
        let mut listeners: Vec<_> = self.listeners.iter().take(handed).cloned().collect();
        for address in &app.listen {
            let open = self.listeners.iter().skip(handed).find(|listener| listener.address() == address);
            listeners.push(match open {
                Some(listener) => listener.clone(),
                None => Rc::new(address.open().map_err(|why| format!("--listen: {why}"))?),
            });
        }
        let mut next = LaunchSpec { id: self.id, app, injected: self.injected.clone(), listeners, variables };
        if !is_alike {
            next.inject();
        }
        Ok(next)
    }

    /// What the ports must know of it.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn ports(&self) -> io::Result<AppPorts> {
        let inherited = self.listeners.iter().map(|one| one.as_fd().try_clone_to_owned().map(Arc::new));
        let inherited = inherited.collect::<io::Result<_>>()?;
        let AppConfig { name, command, balance, .. } = &self.app;
        Ok(AppPorts { id: self.id, name: name.clone(), command: command.clone(), balance: *balance, inherited })
    }

    /// The sockets, each with the number that it has in the worker.
    pub(super) fn sockets(&self) -> Vec<(RawFd, RawFd)> {
        self.listeners.iter().map(|listener| listener.as_raw_fd()).zip(FIRST_SOCKET..).collect()
    }

    /// The numbers of a worker's end of Node's channel, and of the library: that one out of the way of shell scripts.
    fn free_numbers(&self) -> [RawFd; 2] {
        let taken = match self.app.ready {
            ReadyCheck::Fd(number) => number,
            _ => -1,
        };
        let first = FIRST_SOCKET + self.listeners.len() as RawFd;
        let [channel, next] = if taken == first {
            [first + 1, first + 2]
        } else {
            [first, if taken == first + 1 { first + 2 } else { first + 1 }]
        };
        let has_room = next < LIBRARY_AT && taken != LIBRARY_AT && childs_limit() > 2 * LIBRARY_AT as u64;
        [channel, if has_room { LIBRARY_AT } else { next }]
    }

    /// The number of a worker's end of Node's channel.
    pub(super) fn channel_number(&self) -> RawFd {
        let [channel, _] = self.free_numbers();
        channel
    }

    /// The command as that slot's worker runs it.
    pub(super) fn command(&self, slot: u32) -> Vec<OsString> {
        if !self.app.sharing.cluster {
            return self.app.command.clone();
        }
        let command = with_inspector_port(&self.app.command, slot);
        match self.script() {
            Some(script) => with_option(command, &script),
            None => command,
        }
    }

    /// The option of Node that loads rinit's script, if there is one.
    fn script(&self) -> Option<String> {
        let option = self.injected.script.as_ref()?.option();
        let warn = |error: &io::Error| {
            tracing::warn!(
                "{}: the script for its workers was removed, and cannot be written again: {error}",
                self.app.name
            );
        };
        option.inspect_err(warn).ok()
    }

    /// The path of the preloaded library in a worker, which needs its descriptor at the number that is returned with it.
    pub(super) fn library(&self) -> (Option<OsString>, Option<(RawFd, RawFd)>) {
        let [_, number] = self.free_numbers();
        match self.injected.library.as_deref() {
            Some(Library::File(file)) => match file.path() {
                Ok(path) => (Some(path.into()), None),
                Err(error) => {
                    tracing::warn!(
                        "{}: the library for its workers was removed, and cannot be written again: {error}",
                        self.app.name
                    );
                    (None, None)
                }
            },
            // By the worker's own number: so the processes that it starts find it too.
            Some(Library::Memory(file)) => {
                (Some(format!("/proc/{PID_PLACEHOLDER}/fd/{number}").into()), Some((file.as_raw_fd(), number)))
            }
            None => (None, None),
        }
    }

    fn is_filtered(&self, key: &OsStr) -> bool {
        self.app.filter_env.iter().any(|pattern| pattern.fits(key))
    }

    /// The properties of its workers' processes.
    ///
    /// # Errors
    /// A working directory with a NUL byte in its path.
    pub(super) fn properties(&self) -> Result<Properties, String> {
        let ProcessConfig { cwd, umask, nice, limits } = &self.app.process;
        let cwd = cwd.as_ref().map(|path| CString::new(path.as_os_str().as_bytes())).transpose();
        Ok(Properties {
            cwd: cwd.map_err(|error| format!("the working directory is not one: {error}"))?,
            umask: *umask,
            nice: *nice,
            limits: limits.iter().map(|limit| (limit.resource, limit.soft, limit.hard)).collect(),
        })
    }

    /// The worker's environment, `KEY=VALUE` each: the container's without rinit's settings, then the files', then the
    /// configuration file's, then what
    /// tells the worker who it is, then what it is handed.
    pub(super) fn environment(&self, worker_env: &WorkerEnv, handed: &InheritedFds) -> Vec<OsString> {
        let WorkerEnv { worker, index, workers, .. } = worker_env;
        let mut variables: BTreeMap<OsString, OsString> =
            ordered(std::env::vars_os().filter(|(key, _)| is_the_workers(key) && !self.is_filtered(key)));
        let mut set = |key: &str, value: &OsStr| {
            variables.insert(key.into(), value.into());
        };
        if let Some(home) = self.app.user.as_ref().and_then(|user| user.home.as_ref()) {
            set("HOME", home.as_os_str());
        }
        for (key, value) in &self.variables {
            set(key, value.as_ref());
        }
        for (key, value) in &self.app.env {
            set(key, value.as_ref());
        }
        for variable in &self.app.increment_env {
            set(&variable.name, variable.base.saturating_add(u64::from(*index)).to_string().as_ref());
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
        if !self.listeners.is_empty() {
            set("LISTEN_PID", PID_PLACEHOLDER.as_ref());
        }
        if let Some(number) = handed.channel {
            set("NODE_CHANNEL_FD", number.to_string().as_ref());
            set("NODE_CHANNEL_SERIALIZATION_MODE", "json".as_ref());
        }
        if self.app.sharing.cluster {
            // What `cluster.worker.id` is.
            set("NODE_UNIQUE_ID", worker.0.to_string().as_ref());
        }
        handed.notify.iter().for_each(|name| set("NOTIFY_SOCKET", name));
        if self.app.live.check == LiveCheck::Watchdog {
            set("WATCHDOG_USEC", self.app.live.interval.as_micros().to_string().as_ref());
            set("WATCHDOG_PID", PID_PLACEHOLDER.as_ref());
        }
        handed.broker.iter().for_each(|name| set("RINIT_PORTS", name));
        let is_option = self.app.sharing.cluster && takes_option(&self.app.command);
        if let Some(script) = self.script().filter(|_| !is_option) {
            append(&mut variables, "NODE_OPTIONS", " ", script.as_ref());
        }
        if let Some(path) = &handed.library {
            append(&mut variables, "LD_PRELOAD", ":", path);
        }
        variables.into_iter().map(|(key, value)| pair(key, &value)).collect()
    }
}

/// Adds a word to what the app itself has in that variable.
fn append(variables: &mut BTreeMap<OsString, OsString>, key: &str, separator: &str, word: &OsStr) {
    let value = variables.entry(key.into()).or_default();
    if !value.is_empty() {
        value.push(separator);
    }
    value.push(word);
}

/// True unless that variable hands a worker something that its probes and hooks do not get.
pub(super) fn is_for_helpers(pair: &OsString) -> bool {
    !NOT_FOR_HELPERS.iter().any(|key| pair.as_encoded_bytes().starts_with(key.as_bytes()))
}

/// What a worker is told of rinit's, that its probes and hooks are not.
const NOT_FOR_HELPERS: [&str; 9] = [
    "LISTEN_FDS=",
    "LISTEN_FDNAMES=",
    "LISTEN_PID=",
    "NOTIFY_SOCKET=",
    "NODE_CHANNEL_FD=",
    "NODE_CHANNEL_SERIALIZATION_MODE=",
    "NODE_UNIQUE_ID=",
    "RINIT_PORTS=",
    "LD_PRELOAD=",
];

/// The library's number in a worker, where so many may be open.
const LIBRARY_AT: RawFd = 250;

/// rinit's settings are its own, and so are sockets that somebody handed to rinit.
fn is_the_workers(key: &OsStr) -> bool {
    let Some(key) = key.to_str() else { return true };
    let own = key.starts_with(PREFIX) && !is_kubernetes_variable(key);
    !own && !HANDED_OVER.contains(&key)
}
