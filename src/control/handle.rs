//! What the control plane has of rinit: calls to the loop, each answered between two turns, and what may be read without it.

use super::Journal;
use super::response::Failure;
use super::types::{Config, Description, Status};
use crate::core::{AppId, Signal, SlotId};
use crate::logs::LogHistory;
use hyper::StatusCode;
use nix::unistd::Pid;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::{mpsc, oneshot};

/// A call, and where its answer goes. An answer that never comes means that rinit is ending.
pub enum Call {
    /// How everything is.
    Status(oneshot::Sender<Status>),
    /// How one slot is, in detail; `None`: there is no such slot.
    Describe(SlotId, oneshot::Sender<Option<Description>>),
    /// Which slots a name means.
    Find(Target, oneshot::Sender<Result<Vec<SlotId>, String>>),
    /// Do something.
    Act(Action, oneshot::Sender<Result<Accepted, String>>),
}

/// Whom a call means, as it was written: `web-0`, `0`, `web`, `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub String);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Replace every worker.
    Reload,
    /// So many workers, as it was written: `4`, `+2`, `-1`, `0`, `max`.
    Scale {
        /// Which app; `None`: the one there is.
        app: Option<String>,
        /// How many.
        to: String,
    },
    /// Start the slot's worker.
    Start(SlotId),
    /// Stop it.
    Stop(SlotId),
    /// Stop it and start one.
    Restart(SlotId),
    /// Stop it and forget the slot.
    Drop(SlotId),
    /// Send it a signal.
    Signal(SlotId, Signal),
    /// End the container. Who asked for it, where that is a process that rinit can see, hears of it before rinit ends.
    Shutdown(Option<Pid>),
}

/// What was asked for is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The number of the first event that may be of it.
    pub events_from: u64,
    /// Of a reload: for each app the generation that it is for.
    pub generations: Vec<(AppId, u32)>,
    /// Of a scale: the app, and how many workers it had and is to have.
    pub scaled: Option<(AppId, u32, u32)>,
    /// What was done, when that is all.
    pub message: Option<String>,
}

/// What the server needs of rinit.
#[derive(Clone)]
pub struct SupervisorHandle {
    /// Where its calls go.
    pub calls: mpsc::Sender<Call>,
    /// What has happened.
    pub book: Arc<Journal>,
    /// What workers wrote.
    pub record: Arc<LogHistory>,
    /// The settings as they count.
    pub config: Arc<Config>,
    /// How many clients there are.
    pub clients: Arc<AtomicUsize>,
}

impl SupervisorHandle {
    /// Asks the loop.
    pub(super) async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let ending = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "rinit is ending");
        self.calls.send(call(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}
