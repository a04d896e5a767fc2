//! Handles a panic in the event loop: prints the last events, stops the workers in order, and exits with 70.

use super::INTERNAL_ERROR;
use super::event_loop::Supervisor;
use crate::control::{Endpoints, SupervisorHandle};
use crate::core::Signal;
use crate::logs::Patience;
use crate::sys::process::kill;
use crate::sys::reap;
use crate::sys::signals::Signals;
use nix::poll::{PollTimeout, poll};
use nix::unistd::Pid;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::LocalSet;

/// How long workers have to end after rinit's own failure.
const PATIENCE: Duration = Duration::from_secs(5);
/// And the log, to write what they said.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Runs the loop to its exit code, whatever happens in it.
pub(super) fn guard(
    supervisor: &mut Supervisor,
    runtime: &Runtime,
    signals: Signals,
    control: (Endpoints, SupervisorHandle),
) -> u8 {
    let tasks = LocalSet::new();
    let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(tasks.run_until(supervisor.run(signals, control)))));
    let what = match ran {
        Ok(Ok(code)) => return code,
        Ok(Err(error)) => format!("the event loop failed: {error}"),
        Err(_) => "rinit has a fault of its own (above); please report it".to_owned(),
    };
    // Not through the log, which may be part of what is broken.
    let _ = writeln!(std::io::stderr(), "rinit: {what}; stopping every worker\n{}", supervisor.history());
    let (workers, logs) = supervisor.left();
    stop_all(workers);
    let mut done = logs.finish(Patience::WhileRead);
    wait_until(LAST_PATIENCE, || done.try_recv() != Err(TryRecvError::Empty));
    INTERNAL_ERROR
}

/// SIGTERM, time to end, SIGKILL.
fn stop_all(mut left: Vec<Pid>) {
    for pid in &left {
        let _ = kill(*pid, Signal::TERM);
    }
    wait_until(PATIENCE, || {
        while let Ok(Some((pid, _))) = reap::peek() {
            reap::collect(pid);
            left.retain(|other| *other != pid);
        }
        left.is_empty()
    });
    for pid in left {
        let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::KILL);
    }
}

/// Looks every now and then whether it is so, but not for longer than that.
#[expect(clippy::disallowed_methods, reason = "the loop and its clock are gone")]
fn wait_until(patience: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !is_so() && Instant::now() < end {
        let _ = poll(&mut [], PollTimeout::from(20u8));
    }
}
