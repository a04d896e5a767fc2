//! The last duties: a panic in the loop tells what happened, stops the workers in order, and exits with 70.

use super::INTERNAL_ERROR;
use super::turn::Supervisor;
use super::workers::Workers;
use crate::core::Signal;
use crate::sys::process::kill;
use crate::sys::reap;
use crate::sys::signals::Signals;
use nix::poll::{PollTimeout, poll};
use nix::unistd::Pid;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// How long workers have to end after rinit's own failure, in tenths of a second.
const PATIENCE: u32 = 50;

/// Runs the loop to its exit code, whatever happens in it.
pub(super) fn guard(supervisor: &mut Supervisor, runtime: &Runtime, signals: Signals) -> u8 {
    let tasks = LocalSet::new();
    let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(tasks.run_until(supervisor.run(signals)))));
    let what = match ran {
        Ok(Ok(code)) => return code,
        Ok(Err(error)) => format!("the event loop failed: {error}"),
        Err(_) => "rinit has a fault of its own (above); please report it".to_owned(),
    };
    // Not through the log, which may be part of what is broken.
    let _ = writeln!(std::io::stderr(), "rinit: {what}; stopping every worker\n{}", supervisor.history());
    stop_all(supervisor.workers());
    INTERNAL_ERROR
}

/// SIGTERM, time to end, SIGKILL.
fn stop_all(workers: &mut Workers) {
    let mut left = workers.pids();
    for pid in &left {
        let _ = kill(*pid, Signal::TERM);
    }
    for _ in 0..PATIENCE {
        while let Some((pid, _)) = reap::peek() {
            reap::collect(pid);
            left.retain(|other| *other != pid);
        }
        if left.is_empty() {
            return;
        }
        let _ = poll(&mut [], PollTimeout::from(100u8));
    }
    for pid in left {
        let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::KILL);
    }
}
