//! What the control plane asks of the loop: calls, each answered between two turns.

use super::types::{Description, Status};
use crate::core::{AppId, Signal, SlotId};
use nix::unistd::Pid;
use tokio::sync::oneshot;

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
    /// Of a scale: the app, and how many workers it is to have.
    pub wanted: Option<(AppId, u32)>,
    /// What was done, when that is all.
    pub message: Option<String>,
}
