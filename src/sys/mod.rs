//! What touches the kernel: the only place with `unsafe`, and with none of rinit's decisions.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod process;
pub mod reap;
pub mod signals;
pub mod tty;
pub mod user;

use crate::core::Signal;
use nix::libc;
use std::io;

/// Makes this process the one to which orphans below it go, as they go to PID 1 (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
///
/// # Errors
/// A kernel before 3.4, or a seccomp filter.
pub fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Has the kernel send this process that signal when its parent dies (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// # Errors
/// A seccomp filter.
pub fn die_with_parent(signal: Signal) -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
