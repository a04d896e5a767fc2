//! The only place that waits for processes.
//!
//! An ended child is looked at first and collected later. Until it is collected its number belongs to no other process,
//! so a signal to it, or to its group, cannot hit a stranger.

use crate::core::{Exit, ExitKind, Signal};
use nix::libc;
use nix::unistd::Pid;

/// The next child that has ended and is not collected yet. Never blocks.
pub fn peek() -> Option<(Pid, Exit)> {
    // SAFETY: a zeroed siginfo is a valid value to be written to. `si_pid` stays 0 when no child has ended.
    let (pid, status, code) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &mut info, options) != 0 {
            return None;
        }
        (info.si_pid(), info.si_status(), info.si_code)
    };
    (pid > 0).then(|| (Pid::from_raw(pid), explain(status, code)))
}

/// Collects an ended child: its number may be used again from now on. Never blocks.
pub fn collect(pid: Pid) {
    // SAFETY: WNOHANG, and no memory is passed.
    unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), libc::WNOHANG) };
}

/// Whether this process has any child, ended or not.
pub fn has_children() -> bool {
    // SAFETY: as in `peek`; WNOWAIT leaves what it finds.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

fn explain(status: i32, code: i32) -> Exit {
    let how = match code {
        libc::CLD_EXITED => ExitKind::Code(status as u8),
        _ => Signal::new(status).map_or(ExitKind::Code(status as u8), ExitKind::Signal),
    };
    Exit { kind: how, core_dumped: code == libc::CLD_DUMPED, oom_killed: false }
}
