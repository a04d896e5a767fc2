//! Wraps the kernel's calls. All `unsafe` code is here, and none of rinit's decisions.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod container;
mod exec_error;
pub mod fd_limit;
pub mod memory_gauge;
pub mod peer;
pub mod poll;
pub mod process;
pub mod reap;
pub mod signals;
pub mod sock_diag;
pub mod socket;
pub mod startup;
pub mod tree;
pub mod tty;
pub mod user;

/// The stack of rinit's threads, in bytes: none of them makes deep calls.
const THREAD_STACK: usize = 128 * 1024;

use crate::core::Signal;
use nix::libc;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Makes this process the parent of orphans below it, as PID 1 is (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
///
/// # Errors
/// A kernel before 3.4, or a seccomp filter.
pub fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// True if orphans among the descendants become children of this process: it is a child subreaper (prctl(2)), perhaps since
/// before its exec.
pub fn adopts_orphans() -> bool {
    nix::sys::prctl::get_child_subreaper().unwrap_or(false)
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

/// Starts a thread with every signal blocked; above all the SIGPIPE of a stdout that is gone.
///
/// # Errors
/// The limit on processes is reached.
pub fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawn_thread_with(name, THREAD_STACK, work)
}

/// The same, with a stack of `stack` bytes.
///
/// # Errors
/// The limit on processes is reached.
pub fn spawn_thread_with(name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let before = signals::block_all();
    let thread = std::thread::Builder::new().name(name.into()).stack_size(stack).spawn(work);
    signals::set_mask(before);
    thread.map(drop)
}

/// Sleeps, in a thread that is not the event loop's.
#[expect(clippy::disallowed_methods, reason = "never on the loop's thread")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Descriptor 1, which rinit never closes.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: see above; `startup` has opened it if it was closed.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Descriptor 2, which rinit never closes.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for stdout.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// The number of bytes that wait in a pipe (`FIONREAD`, ioctl_tty(2)).
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
    // SAFETY: an owner that is `AsFd` keeps its descriptor open while it lives, and it lives in the `AsyncFd`.
    unsafe { AsyncFd::register(owner) }.map_err(io::Error::from)
}

/// `KEY=VALUE`, as an environment holds it.
pub fn pair(key: OsString, value: &OsStr) -> OsString {
    let mut pair = key;
    pair.push("=");
    pair.push(value);
    pair
}

/// This process' environment, entry by entry as it is: duplicates and entries without `=` too, which
/// [`std::env::vars_os`] leaves out.
pub fn raw_environment() -> Vec<OsString> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: rinit never changes its environment, so the list and its strings stay as the kernel has made them: the list
    // ends with a null pointer, each string with a NUL.
    unsafe {
        let entry = |at| (!environ.is_null()).then(|| *environ.add(at)).filter(|entry| !entry.is_null());
        (0..).map_while(entry).map(|entry| OsString::from_vec(CStr::from_ptr(entry).to_bytes().to_vec())).collect()
    }
}
