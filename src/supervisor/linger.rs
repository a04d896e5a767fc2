//! Implements `--linger` in supervisor mode: gives processes that outlive their workers SIGTERM and time to end, before the container's end.
//!
//! A worker's group ends with the worker. A process that has left the group, as a daemon does, lives on.

use super::event_loop::now;
use super::signals::{SignalAction, SignalTable};
use crate::core::Signal;
use crate::sys::reap;
use crate::sys::signals::Signals;
use crate::sys::tree::{Descendant, descendants, signal_all};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// The maximum number of processes that are named in a message.
const MAX_NAMED: usize = 5;

/// Waits until no process below rinit is left, the time is up, or a signal asks to stop. Every worker has ended.
///
/// # Errors
/// The kernel refuses to wait for processes or signals.
pub(super) async fn linger(time: Duration, signals: &AsyncFd<Signals>, table: &mut SignalTable) -> io::Result<()> {
    // Every process below rinit has a child of rinit above it. Without one there is no need to look at all of /proc.
    let left = if reap::has_children() { descendants() } else { Vec::new() };
    if left.is_empty() {
        return Ok(());
    }
    let names = names(&left);
    if time.is_zero() {
        match table.is_pid_1 {
            true => tracing::warn!(
                "{names} outlived the workers: they are killed with the container; --linger D gives them SIGTERM and time to end"
            ),
            false => tracing::warn!("{names} outlived the workers and still run: --linger D ends them"),
        }
        return Ok(());
    }
    tracing::info!("{names} outlived the workers: SIGTERM, and {time:?} to end (--linger)");
    signal_all(&left, Signal::TERM);
    let end = sleep(time);
    tokio::pin!(end);
    loop {
        while let Some((pid, _)) = reap::peek()? {
            reap::collect(pid);
        }
        if !reap::has_children() {
            return Ok(());
        }
        tokio::select! {
            ready = signals.readable() => drop(ready?),
            () = &mut end => break,
        }
        while let Ok(caught) = signals.try_io(Interest::READABLE, Signals::next) {
            if table.receive(caught, now()) == SignalAction::Stop {
                return Ok(());
            }
        }
    }
    let left = descendants();
    tracing::warn!("{} did not end within {time:?}: SIGKILL", self::names(&left));
    if !table.is_pid_1 {
        signal_all(&left, Signal::KILL);
    }
    Ok(())
}

/// The processes in words: "2 processes (17 redis-server, 23 sh)".
fn names(processes: &[Descendant]) -> String {
    let named: Vec<_> = processes.iter().take(MAX_NAMED).map(|one| format!("{} {}", one.pid, one.name)).collect();
    let more = if processes.len() > MAX_NAMED { ", …" } else { "" };
    let noun = if processes.len() == 1 { "process" } else { "processes" };
    format!("{} {noun} ({}{more})", processes.len(), named.join(", "))
}
