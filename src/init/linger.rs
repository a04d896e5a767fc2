//! Implements `--linger` in init mode: gives what the child leaves behind SIGTERM and time to end, before the kernel kills it with PID 1.

use crate::core::Signal;
use crate::sys::process::kill;
use crate::sys::tree::{descendants, signal_all};
use crate::sys::{reap, signals};
use nix::unistd::Pid;
use std::io;
use std::time::{Duration, Instant};

/// Waits until this process has no child left, the time is up, or a second signal asks to end. The child has ended and is
/// not collected.
///
/// # Errors
/// The kernel refuses to wait.
pub(super) fn wait(child: Pid, time: Duration, is_pid_1: bool) -> io::Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    if is_pid_1 {
        // Everything else in the container.
        let _ = kill(Pid::from_raw(-1), Signal::TERM);
    } else {
        signal_all(&descendants(), Signal::TERM);
    }
    let end = now() + time;
    reap::collect(child);
    loop {
        while let Some((pid, _)) = reap::peek()? {
            reap::collect(pid);
        }
        let left = end.saturating_duration_since(now());
        if left.is_zero() || !reap::has_children() {
            break;
        }
        let caught = signals::wait(Some(left))?;
        if caught.is_some_and(|caught| matches!(caught.signal, Signal::TERM | Signal::INT | Signal::QUIT)) {
            return Ok(());
        }
    }
    if !is_pid_1 {
        signal_all(&descendants(), Signal::KILL);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "init mode's only clock, read only while it lingers")]
fn now() -> Instant {
    Instant::now()
}
