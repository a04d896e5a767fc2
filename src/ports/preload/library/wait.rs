//! Interposes the functions by which a program waits for connections: `accept`, `poll` and others.
//!
//! The first of them takes the worker's accept queue for a listening socket that blocks, and tells rinit that the worker
//! serves: a master that listens before any of its children has loaded the app does not serve yet.

use crate::accept_queue::{is_blocking, take, take_place};
use crate::client::ask;
use crate::descriptors::{Kind, Known, find, glance, identify};
use crate::next;
use crate::protocol::Request;
use crate::syscalls::*;
use core::ffi::{c_int, c_uint};

/// # Safety
/// As `accept(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accept_with(fd, address, length, 0, || next::accept(fd, address, length)) }
}

/// # Safety
/// As `accept(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accept_with(fd, address, length, flags, || next::accept4(fd, address, length, flags)) }
}

/// # Safety
/// As `accept4(2)`.
unsafe fn accept_with(
    fd: c_int,
    address: *mut u8,
    length: *mut c_uint,
    flags: c_int,
    plain: impl Fn() -> c_int,
) -> c_int {
    loop {
        on_wait(fd, flags & O_NONBLOCK != 0);
        if let Some(known) = glance(fd).filter(|known| known.kind == Kind::Queue)
            // SAFETY: the caller's promise.
            && let Some(taken) = unsafe { take(&known, fd, address, length, flags) }
        {
            return returned(taken);
        }
        if glance(fd).is_some_and(|known| known.kind == Kind::Own && known.takes_readable() && would_wait(&known, fd)) {
            return returned(-(ECONNABORTED as isize));
        }
        let before = errno();
        let result = plain();
        // An accept queue that this library has not seen coming does not listen.
        let is_queue = || identify(fd).is_some_and(|known| known.kind == Kind::Queue);
        if result >= 0 || errno() != EINVAL || !is_queue() {
            return result;
        }
        set_errno(before);
    }
}

/// Returns true if `accept` would wait at a listening socket for which the program was told that there is a connection: another
/// worker has taken that. The kernel has no `accept` that does not wait at a socket that blocks, and the socket's mode is
/// everybody's, so one that goes between these two calls is waited for.
fn would_wait(known: &Known, fd: c_int) -> bool {
    if known.is_nonblocking() {
        return false;
    }
    let (mut polled, no_time): (_, Time) = (Poll { fd, events: POLLIN, returned: 0 }, [0, 0]);
    let arguments = [&raw mut polled as usize, 1, &raw const no_time as usize, 0, SIGNAL_SET];
    // SAFETY: one descriptor is polled, and the time is valid.
    let has_none = unsafe { call(SYS_PPOLL, arguments) } == 0;
    if has_none && !is_blocking(fd) {
        known.set_nonblocking();
        return false;
    }
    has_none
}

/// The program waits for connections at that descriptor, if it is one for that.
fn on_wait(fd: c_int, nonblocking: bool) {
    let Some(known) = glance(fd) else { return };
    if known.kind != Kind::Shared && known.is_reported() {
        return;
    }
    // The number may be another socket's by now.
    if find(fd).is_none() {
        return;
    }
    if known.kind == Kind::Shared {
        take_place(fd, false);
    }
    if !known.is_reported() {
        known.set_reported();
        if nonblocking {
            known.learns_nonblocking();
        }
        // The program goes on if rinit cannot be told.
        let _ = ask(&Request::Wait { nonblocking }, fd);
    }
}

/// The program was told that there is a connection at that descriptor, if it is one for that.
fn on_readable(fd: c_int) {
    if let Some(known) = glance(fd) {
        known.set_readable();
    }
}

/// Polls. `all` and `count` are the program's.
///
/// # Safety
/// As `poll(2)`.
unsafe fn poll_with(all: *const Poll, count: usize, plain: impl Fn() -> c_int) -> c_int {
    // SAFETY: the caller's promise.
    let one_at = |at| unsafe { all.add(at).read_unaligned() };
    let each = || (0..if all.is_null() { 0 } else { count }).map(one_at);
    each().filter(|one| one.events & READ != 0).for_each(|one| on_wait(one.fd, false));
    let result = plain();
    if result > 0 {
        each().filter(|one| one.returned & READ != 0).for_each(|one| on_readable(one.fd));
    }
    result
}

/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(all: *mut Poll, count: usize, milliseconds: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { poll_with(all, count, || next::poll(all, count, milliseconds)) }
}

/// # Safety
/// As `ppoll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(all: *mut Poll, count: usize, time: *const Time, mask: *const u64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { poll_with(all, count, || next::ppoll(all, count, time, mask)) }
}

/// `poll` of a program that glibc's headers check (`_FORTIFY_SOURCE`).
///
/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(all: *mut Poll, count: usize, milliseconds: c_int, size: usize) -> c_int {
    let checked = count.min(size / size_of::<Poll>());
    // SAFETY: the caller's promise.
    unsafe { poll_with(all, checked, || next::__poll_chk(all, count, milliseconds, size)) }
}

/// # Safety
/// As `ppoll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    all: *mut Poll,
    count: usize,
    time: *const Time,
    mask: *const u64,
    size: usize,
) -> c_int {
    let checked = count.min(size / size_of::<Poll>());
    // SAFETY: the caller's promise.
    unsafe { poll_with(all, checked, || next::__ppoll_chk(all, count, time, mask, size)) }
}

/// Selects. `end` and `read` are the program's.
///
/// # Safety
/// As `select(2)`.
unsafe fn select_with(end: c_int, read: *const u64, plain: impl Fn() -> c_int) -> c_int {
    // SAFETY: the caller's promise: a set has a bit for each number below `end`.
    let is_in = |fd: &c_int| unsafe { *read.add(*fd as usize / 64) } >> (fd % 64) & 1 == 1;
    let all = || if read.is_null() { 0..0 } else { 0..end };
    all().filter(is_in).for_each(|fd| on_wait(fd, false));
    let result = plain();
    if result > 0 {
        all().filter(is_in).for_each(on_readable);
    }
    result
}

/// # Safety
/// As `select(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    end: c_int,
    read: *mut u64,
    write: *mut u64,
    except: *mut u64,
    time: *mut Time,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { select_with(end, read, || next::select(end, read, write, except, time)) }
}

/// # Safety
/// As `pselect(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    end: c_int,
    read: *mut u64,
    write: *mut u64,
    except: *mut u64,
    time: *const Time,
    mask: *const u64,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { select_with(end, read, || next::pselect(end, read, write, except, time, mask)) }
}

/// An epoll instance tells the program of connections at that descriptor, if it is one for that.
pub fn on_epoll(fd: c_int) {
    on_wait(fd, false);
    if let Some(known) = glance(fd) {
        known.set_in_epoll();
    }
}

/// # Safety
/// As `epoll_ctl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(epoll: c_int, command: c_int, fd: c_int, event: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise: an event begins with what is waited for.
    if command != EPOLL_CTL_DEL && !event.is_null() && unsafe { event.read_unaligned() } & READ as c_uint != 0 {
        on_epoll(fd);
    }
    // SAFETY: as `epoll_ctl(2)`, by the caller's promise.
    returned(unsafe { call(SYS_EPOLL_CTL, [word(epoll), word(command), word(fd), event as usize]) })
}
