//! The machine that decides: plain functions of (state, event, now) to effects.
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

mod app;
mod backoff;
mod crash_budget;
mod exit;
mod fleet;
mod report;
mod rollout;
mod signal;
mod slot;
mod worker;

pub use app::App;
pub use backoff::{Backoff, Jitter};
use crash_budget::CrashBudget;
pub use exit::{Exit, ExitKind};
pub use fleet::Fleet;
pub use report::{Next, Report, Role, RolloutError};
pub use rollout::Rollout;
pub use signal::Signal;
pub use slot::{Desired, Slot, SlotState};
pub use worker::{Phase, StopReason, Worker};

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

/// What the machine must know of an app's settings. Their meaning is the README's settings table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the setting of the same name
pub struct Policy {
    pub instances: u32,
    pub restart: Restart,
    pub stop_exit_codes: Vec<u8>,
    pub min_uptime: Duration,
    pub max_restarts: u32,
    pub backoff: Backoff,
    pub ready: Readiness,
    pub ready_timeout: Duration,
    pub stop_signal: Signal,
    pub stop_timeout: Duration,
    /// A ready worker is first asked to finish, over its channel; the stop signal follows when it has, or after this.
    pub ask: Option<Duration>,
    pub drain_delay: Duration,
    pub reload: Reload,
}

/// Whether a worker that exited by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the setting's own words
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// When a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as its program runs.
    Spawn,
    /// When it has lived for `min_uptime`.
    Uptime,
    /// When it, or a probe, says so.
    Told,
    /// The first of a word of its own and `min_uptime`; but what its predecessor in the slot said, it must say too.
    Auto,
}

/// How a reload replaces workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// So many at a time, the new one beside the old.
    Rolling(u32),
    /// One at a time, the old one stopped before the new one starts.
    Restart,
}

/// By what a worker showed that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadySignal {
    /// Its program runs (`--ready spawn`).
    Spawned,
    /// It lived for `min_uptime`.
    Uptime,
    /// It said `READY=1` to its `NOTIFY_SOCKET`, as `sd_notify(3)` does.
    Notify,
    /// It answered rinit's probe, or wrote the newline that was asked for.
    Probe,
    /// It listens on a port that rinit shares among the workers.
    Listen,
    /// It sent `'ready'` over Node's channel.
    Message,
}

impl ReadySignal {
    /// Whether it is the worker's own word, which the next one in its slot must give as well under `--ready auto`.
    fn is_a_word(self) -> bool {
        match self {
            ReadySignal::Notify | ReadySignal::Probe | ReadySignal::Listen | ReadySignal::Message => true,
            ReadySignal::Spawned | ReadySignal::Uptime => false,
        }
    }
}

/// What happened.
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
    /// The worker, or a probe, says that it is ready.
    Ready(WorkerId, ReadySignal),
    /// The worker has finished what it was asked to finish: its channel is closed.
    Finished(WorkerId),
    /// The worker's process ended.
    Exited(WorkerId, Exit),
    /// What [`Effect::Prepare`] asked for is done, or could not be, for this reason.
    Prepared(AppId, u32, Result<(), String>),
    /// Replace every worker (SIGHUP).
    Reload,
    /// So many workers more or fewer in every app (SIGTTIN, SIGTTOU).
    Scale(i32),
    /// So many workers in that app, at least one.
    ScaleTo(AppId, u32),
    /// Start this slot's worker, whatever has become of the last one.
    StartSlot(SlotId),
    /// Stop this slot's worker, and start none until it is asked for.
    StopSlot(SlotId),
    /// Stop this slot's worker if there is one, and start one.
    RestartSlot(SlotId),
    /// Stop this slot's worker, and forget the slot. The last one stays.
    DropSlot(SlotId),
    /// Stop everything; the second time, kill (SIGTERM, SIGINT, SIGQUIT).
    Stop,
    /// A signal that is the workers' business.
    Forward(Signal),
}

/// Why a worker could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The kernel cannot start a process now (`EAGAIN`, `ENOMEM`, `EMFILE`, `ETXTBSY`): it is tried again, and not held
    /// against the app.
    NotNow(String),
    /// The program could not be run; `status` is what a shell would give: 127 not found, 126 otherwise.
    Program {
        /// 126 or 127.
        status: u8,
        /// What failed, on what, why.
        message: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a process for this slot. Answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// The process that is to be.
        worker: WorkerId,
        /// Where.
        slot: SlotId,
        /// Of which generation of the app's settings.
        generation: u32,
    },
    /// The worker's stop begins: no new work for it.
    Retire(WorkerId),
    /// Ask the worker over its channel to finish and go. Answered by `Finished`.
    Ask(WorkerId),
    /// Send the worker a signal.
    Signal(WorkerId, Signal),
    /// Send SIGKILL to the worker's whole group.
    Kill(WorkerId),
    /// Read again what a new generation of the app needs (its environment files). Answered by `Prepared`.
    Prepare(AppId, u32),
    /// Tell the people who watch.
    Report(Report),
}
