//! Interposes the calls that ask about a socket or change it: an accept queue answers as the listening socket behind it.

use crate::accept_queue::{listener_behind, take_place};
use crate::descriptors::{Kind, Name, find, on_duplicate};
use crate::next;
use crate::syscalls::*;
use core::ffi::{c_int, c_uint};

/// # Safety
/// As `getsockname(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockname(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    let known = find(fd).filter(|known| known.kind == Kind::Queue);
    let Some(Name(name, whole @ 1..)) = known.map(|known| known.name()) else {
        // SAFETY: the caller's promise.
        return returned(unsafe { call(SYS_GETSOCKNAME, [word(fd), address as usize, length as usize]) });
    };
    // SAFETY: the caller's promise: `address` has as many bytes as `length` says. It is told how many there are.
    unsafe {
        let room = (*length).min(whole) as usize;
        let bytes = name.iter().flat_map(|part| part.to_ne_bytes());
        for (at, byte) in bytes.enumerate().take(room) {
            address.add(at).write(byte);
        }
        *length = whole;
    }
    0
}

/// # Safety
/// As `getpeername(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpeername(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    if find(fd).is_some_and(|known| known.kind == Kind::Queue) {
        return returned(-(ENOTCONN as isize));
    }
    // SAFETY: the caller's promise.
    returned(unsafe { call(SYS_GETPEERNAME, [word(fd), address as usize, length as usize]) })
}

/// Reports of a shared socket that it does not listen yet, until the program itself has called `listen`: some programs
/// (gunicorn) call it only then, and rinit would not learn of it.
///
/// # Safety
/// As `getsockopt(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_int,
    length: *mut c_uint,
) -> c_int {
    let behind = if is_queues_own(level, name) { None } else { listener_behind(fd) };
    let target = behind.as_ref().map_or(fd, |listening| listening.0);
    let arguments = [word(target), word(level), word(name), value as usize, length as usize];
    // SAFETY: as `getsockopt(2)`, by the caller's promise.
    let result = unsafe { call(SYS_GETSOCKOPT, arguments) };
    if result == 0
        && (level, name) == (SOL_SOCKET, SO_ACCEPTCONN)
        && find(fd).is_some_and(|known| !known.is_listening())
    {
        // SAFETY: the kernel has written as many bytes as `length` then says.
        unsafe {
            if *length as usize == size_of::<c_int>() {
                value.write_unaligned(0);
            }
        }
    }
    returned(result)
}

/// # Safety
/// As `setsockopt(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const u8, length: c_uint) -> c_int {
    let is_queues_own = is_queues_own(level, name);
    if is_queues_own && find(fd).is_some_and(|known| known.kind == Kind::Shared) {
        take_place(fd, false);
    }
    let behind = if is_queues_own { None } else { listener_behind(fd) };
    let target = behind.as_ref().map_or(fd, |listening| listening.0);
    let arguments = [word(target), word(level), word(name), value as usize, length as usize];
    // SAFETY: the caller's promise.
    returned(unsafe { call(SYS_SETSOCKOPT, arguments) })
}

/// Returns true for the option that says how long `accept` waits. All others are for the listening socket and its connections.
fn is_queues_own(level: c_int, name: c_int) -> bool {
    (level, name) == (SOL_SOCKET, SO_RCVTIMEO)
}

/// # Safety
/// As `fcntl(2)`: the third argument, which a caller may leave out, is read only where the command has one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    control_file(fd, command, argument, || unsafe { next::fcntl(fd, command, argument) })
}

/// `fcntl` of a program that is built for large files (glibc 2.28 and later).
///
/// # Safety
/// As `fcntl`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    control_file(fd, command, argument, || unsafe { next::fcntl64(fd, command, argument) })
}

fn control_file(fd: c_int, command: c_int, argument: usize, plain: impl Fn() -> c_int) -> c_int {
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let result = plain();
            on_duplicate(fd, result);
            result
        }
        F_SETFL if !set_mode(fd, argument & word(O_NONBLOCK) != 0) => 0,
        F_GETFL if find(fd).is_some_and(|known| known.kind == Kind::Shared) => match plain() {
            error @ ..0 => error,
            flags => flags & !O_NONBLOCK,
        },
        _ => plain(),
    }
}

/// # Safety
/// As `ioctl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: usize, argument: usize) -> c_int {
    // SAFETY: this request has a pointer to an `int`.
    let nonblocking = || unsafe { (argument as *const c_int).as_ref() }.copied();
    if request as c_uint as usize == FIONBIO
        && let Some(nonblocking) = nonblocking()
        && !set_mode(fd, nonblocking != 0)
    {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { next::ioctl(fd, request, argument) }
}

/// Prepares a change of the mode. Returns true if the program's call is to make it.
///
/// The mode of a shared listening socket is everybody's, and rinit accepts from it. A program that makes it non-blocking is
/// about to poll, so it gets its queue now, whose mode is its own. One that makes it blocking may be about to accept by an
/// io_uring; the socket that it finds is one that blocks.
fn set_mode(fd: c_int, nonblocking: bool) -> bool {
    match find(fd).map(|known| known.kind) {
        Some(Kind::Shared) if nonblocking => {
            take_place(fd, true);
            true
        }
        Some(Kind::Shared) => false,
        Some(Kind::Own | Kind::Queue) | None => true,
    }
}
