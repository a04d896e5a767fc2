//! Waits for processes, here and nowhere else.
//!
//! An ended child is looked at first and collected later. Until it is collected its number belongs to no other process,
//! so a signal to it, or to its group, cannot hit a stranger.

use super::signals::refused;
use crate::core::{Exit, ExitKind, Signal};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use std::io;

/// Returns the next child that has ended and is not collected yet. Never blocks.
///
/// Where a seccomp profile refuses waitid(2), the child is collected at once, by wait4(2).
///
/// # Errors
/// The kernel refuses both calls.
pub fn peek() -> io::Result<Option<(Pid, Exit)>> {
    match wait_for(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT) {
        Ok(found) => Ok(found.map(|(pid, status, code)| (pid, exit_of(status, code)))),
        Err(Errno::ECHILD | Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(_) => collect_next(),
    }
}

/// Collects an ended child: its number may be used again from now on. Never blocks.
pub fn collect(pid: Pid) {
    // SAFETY: WNOHANG, and no memory is passed.
    unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), libc::WNOHANG) };
}

/// Returns the signal that has stopped the child, once for each stop.
pub fn take_stop(child: Pid) -> Option<Signal> {
    let found = wait_for(libc::P_PID, child.as_raw().unsigned_abs(), libc::WSTOPPED);
    found.ok().flatten().and_then(|(_, status, _)| Signal::new(status))
}

/// Returns a child that was stopped, with the signal that did it, or continued: once for each change. Never blocks.
pub fn take_change() -> Option<(Pid, Option<Signal>)> {
    let (pid, status, code) = wait_for(libc::P_ALL, 0, libc::WSTOPPED | libc::WCONTINUED).ok().flatten()?;
    Some((pid, Signal::new(status).filter(|_| code == libc::CLD_STOPPED)))
}

/// True if this process has any child, ended or not.
pub fn has_children() -> bool {
    !matches!(wait_for(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT), Err(Errno::ECHILD))
}

/// The child's number, its status and the status' kind (`si_code`); `None` when no child is in such a state.
fn wait_for(kind: libc::idtype_t, id: libc::id_t, states: i32) -> Result<Option<(Pid, i32, i32)>, Errno> {
    // SAFETY: a zeroed siginfo is a valid value to be written to. `si_pid` stays 0 when there is no such child.
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::waitid(kind, id, &mut info, states | libc::WNOHANG), info)
    };
    Errno::result(result)?;
    // SAFETY: waitid(2) fills in these fields.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid > 0).then(|| (Pid::from_raw(pid), status, info.si_code)))
}

fn collect_next() -> io::Result<Option<(Pid, Exit)>> {
    let mut status = 0;
    // SAFETY: one int is written to.
    let pid = match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
        Ok(0) | Err(Errno::ECHILD | Errno::EINTR | Errno::EAGAIN) => return Ok(None),
        Ok(pid) => Pid::from_raw(pid),
        Err(errno) => return Err(refused("waitid(2) and wait4", errno)),
    };
    let exit = if libc::WIFEXITED(status) {
        exit_of(libc::WEXITSTATUS(status), libc::CLD_EXITED)
    } else {
        let code = if libc::WCOREDUMP(status) { libc::CLD_DUMPED } else { libc::CLD_KILLED };
        exit_of(libc::WTERMSIG(status), code)
    };
    Ok(Some((pid, exit)))
}

fn exit_of(status: i32, code: i32) -> Exit {
    let kind = match code {
        libc::CLD_EXITED => ExitKind::Code(status as u8),
        _ => Signal::new(status).map_or(ExitKind::Code(status as u8), ExitKind::Signal),
    };
    Exit { kind, core_dumped: code == libc::CLD_DUMPED, oom_killed: false }
}
