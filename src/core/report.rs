//! What the machine tells the people who watch: the one stream that feeds log lines (and whatever else shows them).

use super::{AppId, Exit, ReadySignal, Signal, SlotId, Time, WorkerId};

/// Something that people want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are of the types that explain them
pub enum Report {
    /// A worker's program runs.
    Started { slot: SlotId, worker: WorkerId, role: Role },
    /// It is ready, after this long.
    Ready { slot: SlotId, worker: WorkerId, sign: ReadySignal, took: Time },
    /// A worker could not be started at all.
    StartFailed { slot: SlotId, worker: WorkerId, error: String, next: Next },
    /// It was not ready in time and is stopped.
    NotReady { slot: SlotId, worker: WorkerId, after: Time, missing: Option<ReadySignal> },
    /// It was sent its stop signal, or else is asked to finish first, and has this long.
    Stopping { slot: SlotId, worker: WorkerId, signal: Option<Signal>, timeout: Time },
    /// SIGKILL to its group: its time was up (`late`), or a second stop came.
    Killed { slot: SlotId, worker: WorkerId, late: bool },
    /// It is there still, long after SIGKILL, and is waited for no longer.
    GivenUp { slot: SlotId, worker: WorkerId },
    /// It ended.
    Exited { slot: SlotId, worker: WorkerId, role: Role, exit: Exit, lived: Time, next: Next },
    /// A reload began.
    Reloading { app: AppId, generation: u32 },
    /// A reload was asked for while one runs; it follows that one.
    ReloadQueued { app: AppId },
    /// Every worker is new.
    Reloaded { app: AppId, generation: u32, took: Time },
    /// The reload stopped; the old workers stay.
    ReloadFailed { app: AppId, generation: u32, trouble: RolloutError, took: Time },
    /// So many workers are wanted now.
    Scaled { app: AppId, from: u32, to: u32 },
    /// All workers are asked to stop, after this delay.
    Stop { drain_delay: Time },
}

impl Report {
    /// The app that it is about.
    pub fn app(&self) -> Option<AppId> {
        match self {
            Report::Started { slot, .. }
            | Report::Ready { slot, .. }
            | Report::StartFailed { slot, .. }
            | Report::NotReady { slot, .. }
            | Report::Stopping { slot, .. }
            | Report::Killed { slot, .. }
            | Report::GivenUp { slot, .. }
            | Report::Exited { slot, .. } => Some(slot.app),
            Report::Reloading { app, .. }
            | Report::ReloadQueued { app }
            | Report::Reloaded { app, .. }
            | Report::ReloadFailed { app, .. }
            | Report::Scaled { app, .. } => Some(*app),
            Report::Stop { .. } => None,
        }
    }

    /// The worker that it is about.
    pub fn worker(&self) -> Option<WorkerId> {
        match self {
            Report::Started { worker, .. }
            | Report::Ready { worker, .. }
            | Report::StartFailed { worker, .. }
            | Report::NotReady { worker, .. }
            | Report::Stopping { worker, .. }
            | Report::Killed { worker, .. }
            | Report::GivenUp { worker, .. }
            | Report::Exited { worker, .. } => Some(*worker),
            Report::Reloading { .. }
            | Report::ReloadQueued { .. }
            | Report::Reloaded { .. }
            | Report::ReloadFailed { .. }
            | Report::Scaled { .. }
            | Report::Stop { .. } => None,
        }
    }

    /// Whether it is of a worker that is there no more.
    pub fn is_an_end(&self) -> bool {
        matches!(self, Report::Exited { .. } | Report::StartFailed { .. })
    }
}

/// What a worker was to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The slot's worker.
    Holder,
    /// Its replacement, not in its place yet.
    Replacement,
    /// On its way out, because it was replaced or asked to stop.
    Leaving,
    /// On its way out, because it was not ready in time.
    Late,
}

/// What follows an exit or a failed start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Started again at once.
    Restart,
    /// Started again after this wait; this was the n-th crash in a row.
    Backoff {
        /// Until the next start.
        wait: Time,
        /// Crashes in a row.
        crashes: u32,
    },
    /// Not started again: it crashed this often in a row.
    GiveUp {
        /// Crashes in a row.
        crashes: u32,
    },
    /// Not started again: `--restart` or `--stop-exit-codes` says so.
    Finished,
    /// Nothing: it was asked to go.
    Gone,
}

/// Why a reload stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are of the types that explain them
pub enum RolloutError {
    /// The new generation's settings could not be read.
    Prepare(String),
    /// A replacement could not be started.
    Start { slot: SlotId, error: String },
    /// A replacement exited.
    Exited { slot: SlotId, worker: WorkerId, exit: Exit, lived: Time },
    /// A replacement was not ready in time.
    NotReady { slot: SlotId, worker: WorkerId, after: Time, missing: Option<ReadySignal> },
    /// The container is asked to stop.
    Stopped,
}
