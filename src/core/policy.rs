//! Defines an app's policy: the settings that the machine decides by.

use super::{AppId, Backoff, MemoryLimit, ReadySignal, Scaling, Signal};
use std::time::Duration;

/// The settings of an app that the machine decides by. Their meaning is the README's settings table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the setting of the same name
pub struct Policy {
    /// The app runs on, or once.
    pub kind: Kind,
    /// Apps that have to be up before this one starts, and that stop after it.
    pub after: Vec<AppId>,
    pub on_exit: OnExit,
    pub instances: u32,
    /// The way in which the number of workers changes by itself.
    pub scaling: Scaling,
    pub restart: Restart,
    pub stop_exit_codes: Vec<u8>,
    pub min_uptime: Duration,
    pub stable_after: Duration,
    pub max_restarts: u32,
    pub backoff: Backoff,
    pub readiness: Readiness,
    pub ready_timeout: Duration,
    /// Liveness probes in a row that fail before the worker is replaced; 0: there are no probes.
    pub live_failures: u32,
    pub stop: StopPolicy,
    /// The longest life of a worker; a tenth less at the least.
    pub max_uptime: Option<Duration>,
    pub max_memory: Option<MemoryLimit>,
    pub drain_delay: Duration,
    pub reload: Reload,
}

/// The settings by which a worker is stopped: [`StopPlan`](super::StopPlan) is made from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPolicy {
    /// The signal that asks a worker to stop.
    pub signal: Signal,
    /// The time from the request to SIGKILL.
    pub timeout: Duration,
    /// What comes before the signal.
    pub request: Option<DrainKind>,
    /// The signal goes to the worker's whole process group from the start.
    pub to_group: bool,
}

/// The way in which a worker finishes what is under way before it gets the stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainKind {
    /// By Node's cluster module: its servers hand out no more connections, and what is under way is finished.
    Cluster,
    /// By the message `'shutdown'` (`--stop-message`).
    Message,
    /// A command that comes before the signal is waited for, and then its connections, as with `Connections`.
    Hook,
    /// It is asked nothing, gets no more connections, and is left alone while those that it has are in use.
    Connections,
}

/// The kind of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is to run as long as the container does. It is up when a worker is ready.
    Service,
    /// It is to run once. It is up when it has succeeded.
    Task,
}

/// The consequence of an app's end for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The container ends when the app has failed for good.
    EndOnFailure,
    /// The container ends when the app has ended, whatever its status.
    End,
    /// The other apps go on.
    Ignore,
}

/// The choice of exits after which a worker is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the setting's own words
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// The way by which a worker becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as its program runs.
    Spawn,
    /// When it has lived for `min_uptime`.
    Uptime,
    /// When it gives this signal.
    Signal(ReadySignal),
    /// By the first signal that it gives, or by its uptime; a successor must give the signal that its predecessor gave.
    Auto {
        /// rinit can see whether a worker listens. Then uptime counts only when `ready_timeout` is over without a signal.
        sees_listening: bool,
    },
}

impl Readiness {
    /// True if workers are judged by the signals that they and their predecessors have given.
    pub(super) fn is_auto(self) -> bool {
        matches!(self, Readiness::Auto { .. })
    }
}

/// The way in which a reload replaces workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// This many at a time, the new one beside the old.
    Rolling(u32),
    /// One at a time, the old one stopped before the new one starts.
    Restart,
}
