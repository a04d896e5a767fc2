//! Decides what the supervisor does: plain functions of (state, event, now) to effects.
//!
//! Nothing here reads a clock, a file or a socket; only `std` is used. The supervisor's loop tells the [`Fleet`] what
//! happened and when, performs the [`Effect`]s it asks for, and wakes it at [`Fleet::next_deadline`].
//!
//! ```text
//! Fleet ── App ── Slot 0..N-1 ── Worker (a process)
//!           └──── Rollout (the reload in progress)
//! ```
//!
//! # A worker's states
//!
//! | state | means | leaves it when |
//! |---|---|---|
//! | starting | forked, not ready yet | it is ready; it exits; its time is up |
//! | ready | serves | it exits; it is replaced or stopped |
//! | draining | was asked to stop, or sent the stop signal | it exits; its time is up: killed |
//!
//! and of a slot without a process: backoff (waits for its next start), stopped (not to be started again), failed
//! (crashed too often). During a reload a slot holds two processes: the one that serves and its replacement.

mod admission;
mod app;
mod autoscale;
mod backoff;
mod container_end;
mod crash_budget;
mod exit;
mod fleet;
mod memory;
mod order;
mod policy;
mod readiness;
mod report;
mod rollout;
mod signal;
mod slot;
mod stop_plan;
mod usage;
mod worker;

pub use admission::Refused;
pub use app::{App, AppResult, Count};
use app::{Context, Profile};
use autoscale::Trend;
pub use autoscale::{ScaleReason, Scaling};
pub use backoff::{Backoff, Jitter};
pub use container_end::{ContainerEnd, EndReason};
use crash_budget::CrashBudget;
pub use exit::{Exit, ExitKind};
pub use fleet::Fleet;
use memory::MemoryBackoff;
pub use memory::MemoryLimit;
pub use policy::{DrainKind, Kind, OnExit, Policy, Readiness, Reload, Restart, StopPolicy};
use readiness::UptimeRule;
pub use readiness::{Evidence, Expectation, ReadySignal};
pub use report::{Missing, Next, Report, Role, RolloutError};
pub use rollout::{Rollout, RolloutReason};
pub use signal::Signal;
pub use slot::{Desired, Slot, SlotState};
pub use stop_plan::{StopContext, StopPlan};
pub use usage::{UsageSample, WantedUsage, WorkerUsage};
pub use worker::{Phase, StopReason, Worker};

use rollout::Replacement;
use std::sync::Arc;
use std::time::Duration;

/// A moment, as the time since rinit started.
pub type Time = Duration;

/// An app's number, given once and never reused: it stays when other apps come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(pub u32);

/// One process, never reused: the fifth process that rinit starts has 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// A slot of an app: a place, numbered from 0, that outlives its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    /// Which app.
    pub app: AppId,
    /// Which of its places: `RINIT_WORKER`.
    pub index: u32,
}

/// The part of the fleet that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every app.
    All,
    /// One app.
    App(AppId),
    /// One slot of an app.
    Slot(SlotId),
}

impl Target {
    /// True if some of that app is meant.
    pub fn has_app(self, app: AppId) -> bool {
        match self {
            Target::All => true,
            Target::App(id) => id == app,
            Target::Slot(id) => id.app == app,
        }
    }

    /// True if that slot is meant.
    pub fn has_slot(self, slot: SlotId) -> bool {
        match self {
            Target::All => true,
            Target::App(id) => id == slot.app,
            Target::Slot(id) => id == slot,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The container starts.
    Boot,
    /// A deadline may have come.
    Tick,
    /// The worker's program runs: `execve` succeeded.
    Spawned(WorkerId),
    /// It could not be started.
    SpawnFailed(WorkerId, SpawnError),
    /// The worker has bound a port that rinit shares; nobody waits for connections there yet.
    Bound(WorkerId),
    /// The worker waits for connections at this address, which rinit shares.
    Listens(WorkerId, String),
    /// The worker, or a readiness probe, says that it is ready.
    Ready(WorkerId, ReadySignal),
    /// A liveness probe of the worker was answered, or else this came back.
    Probed(WorkerId, Result<(), String>),
    /// This much is used.
    Sampled(UsageSample),
    /// The worker has finished what it was asked to finish: its channel is closed.
    Drained(WorkerId),
    /// The worker has sent itself the stop signal of its plan, as its program handles that.
    Signalled(WorkerId),
    /// The worker's first process ended. [`Event::GroupEnded`] follows when no other of its group is left, unless the worker
    /// was released.
    Exited(WorkerId, Exit),
    /// No process of the worker's group is left.
    GroupEnded(WorkerId),
    /// The worker's group was sent SIGKILL.
    Killed(WorkerId),
    /// The kernel refused to send the worker this signal, for this reason.
    SignalRefused(WorkerId, Signal, String),
    /// [`Effect::Prepare`] is done, or could not be done for this reason.
    Prepared(AppId, u32, Result<(), String>),
    /// Replace the workers: of apps by a new generation (SIGHUP), of a slot by one of the same.
    Reload(Target),
    /// Change the number of workers of each app (SIGTTIN, SIGTTOU); at least one stays.
    Scale(Target, Count),
    /// Start the slots' workers, whatever has become of the last ones.
    Start(Target),
    /// Stop the slots' workers, and start none until it is asked for.
    Stop(Target),
    /// Stop the slots' workers if there are any, and start new ones.
    Restart(Target),
    /// Stop the slots' workers, and forget the slots. The last one of an app stays.
    Remove(Target),
    /// The configuration has a new app.
    AddApp(AppId, Arc<Policy>),
    /// The configuration has other settings for an app: a reload brings them.
    ConfigureApp(AppId, Arc<Policy>),
    /// The configuration has other settings for an app by which no process is started: they are in force at once.
    AdjustApp(AppId, Arc<Policy>),
    /// The configuration has the app no more: stop its workers, and forget it.
    RemoveApp(AppId),
    /// Stop the container; the second time, kill (SIGTERM, SIGINT, SIGQUIT).
    Shutdown,
    /// Pass a signal on to every worker.
    Forward(Signal),
}

impl Event {
    /// True if it asks for a change of what is to run: nothing that a container which stops still does.
    fn is_change(&self) -> bool {
        matches!(
            self,
            Event::Reload(_)
                | Event::Scale(..)
                | Event::Start(_)
                | Event::Stop(_)
                | Event::Restart(_)
                | Event::Remove(_)
                | Event::AddApp(..)
                | Event::ConfigureApp(..)
                | Event::AdjustApp(..)
                | Event::RemoveApp(_)
        )
    }
}

/// The reason for which a worker could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The kernel cannot start a process now (`EAGAIN`, `ENOMEM`, `EMFILE`, `ETXTBSY`): it is tried again, and not held
    /// against the app.
    NotNow(String),
    /// A command that comes before its start has failed.
    Hook(String),
    /// The program could not be run; `status` is what a shell would give: 127 not found, 126 otherwise.
    Program {
        /// 126 or 127.
        status: u8,
        /// The reason: the call that failed, on which file, and why.
        message: String,
    },
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a process for this slot. Answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// The process that is to be.
        worker: WorkerId,
        /// Its slot.
        slot: SlotId,
        /// The generation of the app's settings that it runs.
        generation: u32,
        /// The number of workers that the app is to have (`RINIT_WORKERS`).
        workers: u32,
    },
    /// Begin the worker's stop: give it no new connections, and make the plan's request, if it has one. The signals of the
    /// plan follow as effects of their own. Answered by `Drained` if the worker finishes.
    Drain(WorkerId, StopPlan),
    /// Send the worker a signal. Answered by `SignalRefused` if that cannot be done.
    Signal {
        /// The worker.
        worker: WorkerId,
        /// The signal.
        signal: Signal,
        /// To every process of its group.
        to_group: bool,
    },
    /// Send SIGKILL to the worker's whole group. Answered by `Killed`, by `SignalRefused`, or, when nobody is left there, by
    /// `GroupEnded`.
    Kill(WorkerId),
    /// Forget the worker, which has ended, and kill what remains in its group.
    Release(WorkerId),
    /// Refuse new connections to the app's ports, after those that wait have been handed out.
    ClosePorts(AppId),
    /// Read again what a new generation of the app needs (its environment files). Answered by `Prepared`.
    Prepare(AppId, u32),
    /// Forget the settings of all but these generations of the app.
    KeepGenerations(AppId, Vec<u32>),
    /// Forget the slot: a later one of that number is another.
    SlotRemoved(SlotId),
    /// Forget the app: its last worker has ended, and the configuration has it no more.
    ForgetApp(AppId),
    /// Tell the service manager that every app has a ready worker, for the first time.
    AnnounceReady,
    /// Tell the service manager that the container stops.
    AnnounceStopping,
    /// Tell those who watch.
    Report(Report),
}
