//! Defines the reports: the one stream of facts that feeds log lines, events, metrics and the journal.

use super::{
    AppId, AppResult, Exit, Expectation, ReadySignal, RolloutReason, ScaleReason, Signal, SlotId, Time, WorkerId,
};

/// A fact that operators want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are of the types that explain them
pub enum Report {
    /// A worker's program runs.
    Started { slot: SlotId, worker: WorkerId, role: Role },
    /// It is ready, after this long.
    Ready { slot: SlotId, worker: WorkerId, signal: ReadySignal, took: Time },
    /// It has given no signal of readiness in all of the ready timeout, and counts as ready: workers of this app give none.
    Silent { slot: SlotId, worker: WorkerId, after: Time },
    /// It has given its first signal of readiness this long after its start, later than the ready timeout.
    LateSignal { slot: SlotId, worker: WorkerId, signal: ReadySignal, took: Time },
    /// A worker could not be started at all.
    StartFailed { slot: SlotId, worker: WorkerId, error: String, next: Next },
    /// It was not ready in time and is stopped.
    NotReady { slot: SlotId, worker: WorkerId, after: Time, missing: Missing },
    /// Its liveness probes have failed: it is replaced. `answer`: the last one.
    Unhealthy { slot: SlotId, worker: WorkerId, answer: String },
    /// It uses more memory than it may, in bytes, and is replaced; `drain_first`: both together have no room.
    Oversized { slot: SlotId, worker: WorkerId, used: u64, limit: u64, drain_first: bool },
    /// It uses more memory than it may, in bytes, as `before` others in its slot did soon after their start: it is replaced
    /// after that wait.
    OversizedAgain { slot: SlotId, worker: WorkerId, used: u64, limit: u64, before: u32, wait: Time },
    /// The container is nearly out of memory, in bytes, and this worker is the biggest: it is replaced.
    MemoryShort { slot: SlotId, worker: WorkerId, used: u64, container: u64, limit: Option<u64> },
    /// It was sent its stop signal, or else is asked to finish first, and has this long.
    Stopping { slot: SlotId, worker: WorkerId, signal: Option<Signal>, timeout: Time },
    /// SIGKILL to its group: its time was up (`is_late`), or a second stop came.
    Killed { slot: SlotId, worker: WorkerId, is_late: bool },
    /// The kernel did not let rinit send it a signal.
    SignalRefused { slot: SlotId, worker: WorkerId, signal: Signal, reason: String },
    /// It is still there long after SIGKILL, and is waited for no longer.
    GivenUp { slot: SlotId, worker: WorkerId },
    /// It ended, after this life; `stop_took`: the time since its stop began, if one had.
    Exited { slot: SlotId, worker: WorkerId, role: Role, exit: Exit, lived: Time, stop_took: Option<Time>, next: Next },
    /// A reload began.
    Reloading { app: AppId, generation: u32 },
    /// A reload was asked for while a rollout is in progress; it follows that one.
    ReloadQueued { app: AppId },
    /// Every worker is new.
    Reloaded { app: AppId, generation: u32, took: Time },
    /// The reload stopped; the old workers stay.
    ReloadFailed { app: AppId, generation: u32, error: RolloutError, took: Time },
    /// The replacement of one worker began.
    Replacing { slot: SlotId, worker: WorkerId, reason: RolloutReason },
    /// The worker was replaced.
    Replaced { app: AppId, reason: RolloutReason, took: Time },
    /// The replacement failed; the old worker stays.
    ReplaceFailed { app: AppId, reason: RolloutReason, error: RolloutError, took: Time },
    /// The app starts when these are up.
    Held { app: AppId, after: Vec<AppId> },
    /// The configuration has a new app.
    Added { app: AppId },
    /// The configuration has the app no more: its workers are asked to stop, after this delay.
    Removing { app: AppId, drain_delay: Time },
    /// The last worker of an app that the configuration has no more has ended.
    Removed { app: AppId },
    /// The container ends, because this app has: all workers are asked to stop, after this delay.
    Ending { app: AppId, result: AppResult, drain_delay: Time },
    /// The number of workers is to change by itself.
    Autoscaled { app: AppId, from: u32, to: u32, reason: ScaleReason },
    /// The load asks for one worker more, but the free memory is not enough for one as big as the biggest, in bytes.
    NoRoom { app: AppId, free: u64, biggest: u64 },
    /// Another number of workers is wanted.
    Scaled { app: AppId, from: u32, to: u32 },
    /// All workers are asked to stop, after this delay.
    Stop { drain_delay: Time },
}

impl Report {
    /// The app that the report is about.
    pub fn app(&self) -> Option<AppId> {
        match self {
            Report::Started { slot, .. }
            | Report::Ready { slot, .. }
            | Report::StartFailed { slot, .. }
            | Report::Silent { slot, .. }
            | Report::LateSignal { slot, .. }
            | Report::NotReady { slot, .. }
            | Report::Unhealthy { slot, .. }
            | Report::Oversized { slot, .. }
            | Report::OversizedAgain { slot, .. }
            | Report::MemoryShort { slot, .. }
            | Report::Stopping { slot, .. }
            | Report::Killed { slot, .. }
            | Report::SignalRefused { slot, .. }
            | Report::GivenUp { slot, .. }
            | Report::Replacing { slot, .. }
            | Report::Exited { slot, .. } => Some(slot.app),
            Report::Reloading { app, .. }
            | Report::ReloadQueued { app }
            | Report::Reloaded { app, .. }
            | Report::ReloadFailed { app, .. }
            | Report::Replaced { app, .. }
            | Report::ReplaceFailed { app, .. }
            | Report::Held { app, .. }
            | Report::Added { app }
            | Report::Removing { app, .. }
            | Report::Removed { app }
            | Report::Ending { app, .. }
            | Report::Autoscaled { app, .. }
            | Report::NoRoom { app, .. }
            | Report::Scaled { app, .. } => Some(*app),
            Report::Stop { .. } => None,
        }
    }

    /// The worker that the report is about.
    pub fn worker(&self) -> Option<WorkerId> {
        match self {
            Report::Started { worker, .. }
            | Report::Ready { worker, .. }
            | Report::StartFailed { worker, .. }
            | Report::Silent { worker, .. }
            | Report::LateSignal { worker, .. }
            | Report::NotReady { worker, .. }
            | Report::Unhealthy { worker, .. }
            | Report::Oversized { worker, .. }
            | Report::OversizedAgain { worker, .. }
            | Report::MemoryShort { worker, .. }
            | Report::Stopping { worker, .. }
            | Report::Killed { worker, .. }
            | Report::SignalRefused { worker, .. }
            | Report::GivenUp { worker, .. }
            | Report::Replacing { worker, .. }
            | Report::Exited { worker, .. } => Some(*worker),
            Report::Reloading { .. }
            | Report::ReloadQueued { .. }
            | Report::Reloaded { .. }
            | Report::ReloadFailed { .. }
            | Report::Replaced { .. }
            | Report::ReplaceFailed { .. }
            | Report::Held { .. }
            | Report::Added { .. }
            | Report::Removing { .. }
            | Report::Removed { .. }
            | Report::Ending { .. }
            | Report::Autoscaled { .. }
            | Report::NoRoom { .. }
            | Report::Scaled { .. }
            | Report::Stop { .. } => None,
        }
    }

    /// True if the report is about a worker that is there no more.
    pub fn is_an_end(&self) -> bool {
        matches!(self, Report::Exited { .. } | Report::StartFailed { .. })
    }
}

/// The role that a worker had in its slot.
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

/// The consequence of an exit or a failed start for the slot.
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
    /// Nothing: the worker is not wanted any more.
    Gone,
}

/// The signals that a worker did not give in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The signals that its predecessor gave; `None`: the one that `--ready` asks for.
    pub expected: Option<Expectation>,
    /// The addresses at which it listened.
    pub addresses: Vec<String>,
}

/// The reason for which a rollout stopped.
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
    NotReady { slot: SlotId, worker: WorkerId, after: Time, missing: Missing },
    /// The replaced worker is still there, long after SIGKILL: it may serve on.
    OldRemains { slot: SlotId, worker: WorkerId },
    /// The task failed: its worker ended so.
    Task { slot: SlotId, exit: Option<Exit> },
    /// The reload of an app that this one comes after has failed.
    Dependency(AppId),
    /// The container is asked to stop.
    Stopped,
    /// The configuration has the app no more.
    Removed,
}
