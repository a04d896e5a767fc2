//! What touches the kernel: the only place with `unsafe`, and with none of rinit's decisions.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod descriptors;
pub mod peer;
pub mod process;
pub mod reap;
pub mod signals;
pub mod socket;
pub mod tty;
pub mod user;

/// Threads of rinit's do little, and no deep calls.
const THREAD_STACK: usize = 128 * 1024;

use crate::core::Signal;
use nix::libc;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

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

/// Starts a thread that no signal is for; above all not the SIGPIPE of a stdout that is gone.
///
/// # Errors
/// The limit on processes is reached.
pub fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_thread_with(name, THREAD_STACK, work)
}

/// The same, with a stack of so many bytes.
///
/// # Errors
/// The limit on processes is reached.
pub fn spawn_thread_with(name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let before = signals::block_all();
    let thread = std::thread::Builder::new().name(name.into()).stack_size(stack).spawn(work);
    signals::set_mask(before);
    thread.map(drop)
}

/// Lets a thread that is not the loop's rest.
#[expect(clippy::disallowed_methods, reason = "never on the loop's thread")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Descriptor 1, which rinit never closes.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: see above; Rust's runtime has opened /dev/null where it was closed at start.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Descriptor 2, which rinit never closes.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for stdout.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// How many bytes wait in a pipe (`FIONREAD`, ioctl_tty(2)).
pub fn bytes_waiting(pipe: BorrowedFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: one int is written to.
    match unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) } {
        0 => usize::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// Watches a descriptor in the event loop.
///
/// # Errors
/// The kernel refuses, or there is no event loop.
pub fn watch<T: AsFd + AsRawFd + 'static>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what lends out a descriptor as `AsFd` keeps it open while it lives, and it lives in the `AsyncFd`.
    unsafe { AsyncFd::register(owner) }.map_err(io::Error::from)
}

/// `KEY=VALUE`, as an environment holds it.
pub fn pair(key: OsString, value: &OsStr) -> OsString {
    let mut pair = key;
    pair.push("=");
    pair.push(value);
    pair
}
