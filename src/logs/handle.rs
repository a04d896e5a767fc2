//! The hub's front desk: what the loop asks of the log, without ever waiting for it.

use super::format::Source;
use super::history::LogHistory;
use crate::core::WorkerId;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A worker's pipes, the ends that rinit reads. Non-blocking.
pub struct Pipes {
    /// Its descriptor 1.
    pub stdout: OwnedFd,
    /// Its descriptor 2.
    pub stderr: OwnedFd,
}

/// The hub, for those who have something for it.
#[derive(Clone)]
pub struct Logs {
    pub(super) shared: Arc<Shared>,
}

/// What both sides see.
pub(super) struct Shared {
    /// What workers wrote last.
    pub(super) record: Arc<LogHistory>,
    queue: Mutex<Queue>,
    /// Bytes of rinit's own lines that are not in a sink yet.
    pub(super) own: AtomicUsize,
    /// Counts up whenever the hub has moved something.
    pub(super) moves: AtomicUsize,
    /// Rings when there is something in the queue.
    pub(super) bell: EventFd,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: VecDeque<Command>,
    /// Own lines that found no room.
    pub(super) dropped: u64,
}

pub(super) enum Command {
    Add(WorkerId, Source, Pipes),
    Drain(WorkerId, oneshot::Sender<Vec<String>>),
    Own(Vec<u8>),
    Finish(oneshot::Sender<()>),
}

/// More of rinit's own lines than this do not wait: the oldest stay, the newest are counted.
const OWN_AT_MOST: usize = 256 * 1024;

impl Logs {
    /// Reads these pipes from now on.
    pub fn add(&self, worker: WorkerId, source: Source, pipes: Pipes) {
        self.give(Command::Add(worker, source, pipes));
    }

    /// Waits until all that the worker wrote before this call is written, or at least read; gives its last lines.
    /// Without an answer the hub has failed.
    pub fn drain(&self, worker: WorkerId) -> oneshot::Receiver<Vec<String>> {
        let (done, answer) = oneshot::channel();
        self.give(Command::Drain(worker, done));
        answer
    }

    /// Writes one of rinit's own lines, unless too many of them wait already.
    pub(super) fn own(&self, line: Vec<u8>) {
        let own = &self.shared.own;
        if own.fetch_add(line.len(), Ordering::Relaxed) + line.len() > OWN_AT_MOST {
            own.fetch_sub(line.len(), Ordering::Relaxed);
            self.shared.queue().dropped += 1;
            return;
        }
        self.give(Command::Own(line));
    }

    /// Writes all that is left in the pipes, and ends. Waits for a sink as long as it takes something every now and then.
    pub fn finish(&self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.give(Command::Finish(done));
        answer
    }

    /// What workers wrote last.
    pub fn record(&self) -> Arc<LogHistory> {
        self.shared.record.clone()
    }

    /// A number that goes on while bytes are moved.
    pub fn moves(&self) -> usize {
        self.shared.moves.load(Ordering::Relaxed)
    }

    fn give(&self, command: Command) {
        self.shared.queue().commands.push_back(command);
        // It fails only when it has been rung four billion times and not heard.
        let _ = self.shared.bell.write(1);
    }
}

impl Shared {
    /// # Errors
    /// The kernel has no descriptor left.
    pub(super) fn new() -> io::Result<Shared> {
        Ok(Shared {
            record: Arc::new(LogHistory::new()),
            queue: Mutex::default(),
            own: AtomicUsize::new(0),
            moves: AtomicUsize::new(0),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
