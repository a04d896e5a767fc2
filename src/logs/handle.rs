//! Passes the event loop's requests to the log thread without waiting for it.

use super::format::Labels;
use super::history::LogHistory;
use super::limits::MAX_WAITING_DIAGNOSTICS;
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

/// The log, for those who give it work.
#[derive(Clone)]
pub struct Logs {
    pub(super) shared: Arc<Shared>,
}

/// The patience with a reader at the container's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The container has finished by itself: all is written, however long its reader takes, as without rinit.
    UntilRead,
    /// The container was asked to stop: a reader that takes nothing for a second is given up.
    WhileRead,
}

/// The state that the log thread shares with others.
pub(super) struct Shared {
    /// The last lines of the workers.
    pub(super) history: Arc<LogHistory>,
    queue: Mutex<Queue>,
    /// Bytes of rinit's own lines that are not in a sink yet.
    pub(super) waiting_diagnostics: AtomicUsize,
    /// The number of turns in which the log has moved something.
    pub(super) progress: AtomicUsize,
    /// Wakes the log thread when there is something in the queue.
    pub(super) wakeup: EventFd,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: VecDeque<Command>,
    /// The number of rinit's own lines that found no room.
    pub(super) dropped: u64,
}

pub(super) enum Command {
    Add(WorkerId, Labels, Pipes),
    Drain(WorkerId, oneshot::Sender<Vec<String>>),
    Diagnostic(Vec<u8>),
    Finish(Patience, oneshot::Sender<()>),
}

impl Logs {
    /// Reads these pipes from now on.
    pub fn add(&self, worker: WorkerId, labels: Labels, pipes: Pipes) {
        self.send(Command::Add(worker, labels, pipes));
    }

    /// Waits until all that the worker wrote before this call is written, or at least read; gives its last lines on
    /// stderr. The sender is dropped without an answer when the log has failed.
    pub fn drain(&self, worker: WorkerId) -> oneshot::Receiver<Vec<String>> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Drain(worker, done));
        answer
    }

    /// Writes one of rinit's own lines, unless too many of them wait already.
    pub(super) fn write_diagnostic(&self, line: Vec<u8>) {
        let waiting = &self.shared.waiting_diagnostics;
        if waiting.fetch_add(line.len(), Ordering::Relaxed) + line.len() > MAX_WAITING_DIAGNOSTICS {
            waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.shared.queue().dropped += 1;
            return;
        }
        self.send(Command::Diagnostic(line));
    }

    /// Writes all that is left in the pipes, and ends. A second call replaces the first: its patience holds, and the first
    /// one's sender is dropped.
    pub fn finish(&self, patience: Patience) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Finish(patience, done));
        answer
    }

    /// The last lines of the workers.
    pub fn history(&self) -> Arc<LogHistory> {
        self.shared.history.clone()
    }

    /// A number that grows while bytes are moved.
    pub fn progress(&self) -> usize {
        self.shared.progress.load(Ordering::Relaxed)
    }

    fn send(&self, command: Command) {
        self.shared.queue().commands.push_back(command);
        // It fails only when the counter is full, and then the thread is woken anyway.
        let _ = self.shared.wakeup.write(1);
    }
}

impl Shared {
    /// # Errors
    /// The kernel has no descriptor left.
    pub(super) fn new() -> io::Result<Shared> {
        Ok(Shared {
            history: Arc::new(LogHistory::new()),
            queue: Mutex::default(),
            waiting_diagnostics: AtomicUsize::new(0),
            progress: AtomicUsize::new(0),
            wakeup: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
