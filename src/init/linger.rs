//! `--linger`: what the child leaves behind gets SIGTERM and time to end, before the kernel kills it with PID 1.

use crate::core::Signal;
use crate::sys::process::kill;
use crate::sys::reap;
use crate::sys::signals;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Waits until nothing is left that is this process' own to wait for, the time is up, or a signal asks to end. The child has ended and is not collected.
pub(super) fn wait(child: Pid, patience: Duration, is_pid_1: bool) {
    if patience.is_zero() {
        return;
    }
    // To PID 1, -1 is everything else in the container. Elsewhere it would be everything that this user runs.
    let rest = if is_pid_1 { Pid::from_raw(-1) } else { Pid::from_raw(-child.as_raw()) };
    let _ = kill(rest, Signal::TERM);
    let end = now() + patience;
    reap::collect(child);
    loop {
        while let Some((pid, _)) = reap::peek() {
            reap::collect(pid);
        }
        let left = end.saturating_duration_since(now());
        if left.is_zero() || !reap::has_children() {
            break;
        }
        if let Some(Signal::TERM | Signal::INT | Signal::QUIT) = signals::wait(Some(left)) {
            return;
        }
    }
    if !is_pid_1 && reap::has_children() {
        let _ = kill(rest, Signal::KILL);
    }
}

#[expect(clippy::disallowed_methods, reason = "init mode's only clock, read only while it lingers")]
fn now() -> Instant {
    Instant::now()
}
