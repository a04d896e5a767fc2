//! Connects the control plane with the event loop: calls, which the loop answers between two turns, and shared data, which
//! is read without it.

use super::app_metrics::MetricsPage;
use super::response::Failure;
use super::types::{Config, Description, Status};
use super::{Journal, UsageHistory};
use crate::core::{AppId, Signal, SlotId, Target, WorkerId};
use crate::logs::LogHistory;
use crate::ports::Ports;
use hyper::StatusCode;
use nix::unistd::Pid;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// A call, and the channel for its answer. An answer that never comes means that rinit is ending.
pub enum Call {
    /// The state of everything.
    Status(oneshot::Sender<Status>),
    /// One slot in detail; `None`: there is no such slot.
    Describe(SlotId, oneshot::Sender<Option<Description>>),
    /// The target that a name means (`web-0`, `0`, `web`, `all`), and its slots.
    Resolve(String, oneshot::Sender<Result<(Target, Vec<SlotId>), String>>),
    /// The processes that hold the slots.
    Holders(oneshot::Sender<Vec<Holder>>),
    /// A change.
    Act(Action, oneshot::Sender<Result<Accepted, String>>),
}

/// The process that holds a slot: the worker that serves, or is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The slot.
    pub slot: SlotId,
    /// Its name: `web-0`.
    pub name: String,
    /// The app's name.
    pub app: String,
    /// The page with its own metrics.
    pub app_metrics: Option<MetricsPage>,
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub pid: Pid,
}

/// The settings in force, which change when the file is read again.
#[derive(Clone, Default)]
pub struct SharedConfig(Arc<Mutex<Arc<Config>>>);

impl SharedConfig {
    /// The settings that are in force now.
    pub fn get(&self) -> Arc<Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn set(&self, config: Config) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace the target's workers, without losing one that serves.
    Reload(Target),
    /// Run this many workers of the app, as it was written: `4`, `+2`, `-1`, `0`, `max`.
    Scale {
        /// The app.
        app: AppId,
        /// The number.
        to: String,
    },
    /// Start the slot's worker.
    Start(SlotId),
    /// Stop it.
    Stop(SlotId),
    /// Stop it and start a new one.
    Restart(SlotId),
    /// Stop it and remove the slot.
    Delete(SlotId),
    /// Send it a signal.
    Signal(SlotId, Signal),
    /// End the container. The client's process, where rinit can see it, gets its answer before rinit ends.
    Shutdown(Option<Pid>),
}

/// A change that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The number of the first event that may belong to it.
    pub events_from: u64,
    /// The generation of a reload, for each app.
    pub generations: Vec<(AppId, u32)>,
    /// A scale's app, its number of slots before, and after.
    pub scaled: Option<(AppId, u32, u32)>,
    /// The result, if it is done already.
    pub message: Option<String>,
}

/// The server's way to the rest of rinit.
#[derive(Clone)]
pub struct SupervisorHandle {
    /// Calls to the event loop.
    pub calls: mpsc::Sender<Call>,
    /// Events, histories and counters.
    pub journal: Arc<Journal>,
    /// The workers' usage in the last hour.
    pub usage_history: Arc<UsageHistory>,
    /// Lines of the workers.
    pub log_history: Arc<LogHistory>,
    /// The settings in force.
    pub config: SharedConfig,
    /// Connections to single workers.
    pub ports: Ports,
    /// The number of connections.
    pub connections: Arc<AtomicUsize>,
}

impl SupervisorHandle {
    /// Makes a call, and waits for its answer.
    pub(super) async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let ending = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "rinit is ending");
        self.calls.send(call(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}
