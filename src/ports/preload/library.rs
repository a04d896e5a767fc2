//! Interposes socket functions in a worker (`LD_PRELOAD`), so that N copies of a program share a port without a change.
//!
//! `build.rs` makes a shared library of this file and its modules alone; it is no module of the crate. It interposes the C
//! library's `bind`, `listen`, `connect` and others, and sends requests to rinit's *broker*, the abstract unix socket of type
//! `SOCK_SEQPACKET` that `RINIT_PORTS=@NAME` names. Without a broker, and wherever a request fails, each of these is the
//! plain system call. A listening socket that came over Node's channel becomes an accept queue (`library/accept_queue.rs`).
//! Sockets are identified by their `SO_COOKIE`, which is never used twice and is the same in every process.
//! `library/wait.rs` interposes `accept`, `poll` and others, so that the program does not notice that its socket is shared.
//!
//! The library runs inside programs of others, so it brings no C library, allocates nothing, keeps only atomics, and touches
//! `errno` only to report. Of the C library, glibc or musl, it wants only `environ` and `__errno_location`, and uses
//! `dlsym` if that is there. Threads, forks and signal handlers may call it at any time.

#![no_std]
// No loop is to become a call of memcpy or memset, which this library does not have.
#![no_builtins]

#[path = "library/accept_queue.rs"]
mod accept_queue;
#[path = "library/client.rs"]
mod client;
#[path = "library/io_uring.rs"]
mod io_uring;
mod protocol;
#[path = "library/registry.rs"]
mod registry;
#[path = "library/syscalls.rs"]
mod syscalls;
#[path = "library/wait.rs"]
mod wait;

use client::{Descriptor, reply, request};
use core::ffi::{c_int, c_uint};
use protocol::{BIND, FORGET};
use registry::known;
use syscalls::*;

/// Runs when the loader has loaded the library.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    if client::find_broker() {
        registry::inherit();
        accept_queue::announce();
    }
}

/// Binds a socket; takes the port's shared socket where rinit has one.
///
/// # Safety
/// As `bind(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    // SAFETY: as `bind(2)`, by the caller's promise.
    let plain = || unsafe { call(SYS_BIND, [word(fd), address as usize, length as usize]) };
    // SAFETY: the caller's promise.
    returned(unsafe { share(fd, address, length) }.unwrap_or_else(plain))
}

/// Makes a socket listen, and tells rinit.
#[unsafe(no_mangle)]
pub extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if accept_queue::install(fd) {
        return 0;
    }
    // SAFETY: no pointers.
    let result = unsafe { call(SYS_LISTEN, [word(fd), word(backlog)]) };
    if result == 0 {
        registry::on_listen(fd);
    }
    returned(result)
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
    let behind = accept_queue::listener_behind(fd);
    let fd = behind.as_ref().map_or(fd, |listening| listening.0);
    let arguments = [word(fd), word(level), word(name), value as usize, length as usize];
    // SAFETY: as `getsockopt(2)`, by the caller's promise.
    let result = unsafe { call(SYS_GETSOCKOPT, arguments) };
    if result == 0
        && (level, name) == (SOL_SOCKET, SO_ACCEPTCONN)
        && known(fd).is_some_and(|entry| !entry.is_listening())
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

/// Connects a socket. One that was bound for that, and not to listen, is not shared any more.
///
/// # Safety
/// As `connect(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    if let Some(entry) = known(fd) {
        entry.forget(fd);
        // Whatever the reply is: when it arrives, rinit has released the socket.
        let _ = request(&[FORGET], &[], fd).and_then(|broker| reply(&broker));
    }
    // SAFETY: as `connect(2)`, by the caller's promise.
    returned(unsafe { call(SYS_CONNECT, [word(fd), address as usize, length as usize]) })
}

/// Shuts a socket down, but not a shared one: that would end it for every worker.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if accept_queue::is_queue(fd) || known(fd).is_some() && option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) == Some(1) {
        return 0;
    }
    // SAFETY: no pointers.
    returned(unsafe { call(SYS_SHUTDOWN, [word(fd), word(how)]) })
}

/// Asks rinit to bind a socket: 0 or a negative error number as from the kernel. `None`: the socket is not shared.
///
/// # Safety
/// As `bind`.
unsafe fn share(fd: c_int, address: *const u8, length: c_uint) -> Option<isize> {
    if address.is_null() || length < 16 {
        return None;
    }
    // SAFETY: the address has at least 16 bytes; family and port are its first two 16-bit words (`ip(7)`, `ipv6(7)`).
    let [family, port] = unsafe { address.cast::<[u16; 2]>().read_unaligned() };
    let length = match family {
        AF_INET => 16,
        AF_INET6 if length >= 28 => 28,
        _ => return None,
    };
    let stream = option::<c_int>(fd, SOL_SOCKET, SO_TYPE)? == SOCK_STREAM
        && option::<c_int>(fd, SOL_SOCKET, SO_PROTOCOL)? != IPPROTO_SCTP;
    let fits = option::<c_int>(fd, SOL_SOCKET, SO_DOMAIN)? == c_int::from(family);
    // A socket that is bound already goes to the kernel, which reports that.
    if port == 0 || !stream || !fits || known(fd).is_some() {
        return None;
    }
    let ipv6_only = family == AF_INET6 && option::<c_int>(fd, IPPROTO_IPV6, IPV6_V6ONLY)? != 0;
    // SAFETY: the address has `length` bytes, which the program leaves alone during its call of `bind`.
    let address = unsafe { core::slice::from_raw_parts(address, length) };
    let broker = request(&[BIND, u8::from(ipv6_only)], address, fd)?;
    // The program's own socket may be replaced below, so its mode is read now.
    let blocking = control(fd, F_GETFL, 0) as c_int & O_NONBLOCK == 0;
    let result = match reply(&broker)? {
        // The first program's own socket is the shared one.
        (0, None) => 0,
        (0, Some(shared)) => replace(fd, &shared),
        (error @ 1.., _) => -(error as isize),
        _ => return None,
    };
    if result == 0 {
        registry::remember(fd, blocking, false);
    }
    Some(result)
}

/// Puts the shared socket where the program's own was: under its number, closed on exec if that was.
fn replace(fd: c_int, shared: &Descriptor) -> isize {
    let flags = if control(fd, F_GETFD, 0) == FD_CLOEXEC { O_CLOEXEC } else { 0 };
    // SAFETY: the number stays the program's, which asked for another socket there.
    unsafe { call(SYS_DUP3, [word(shared.0), word(fd), word(flags)]) }.min(0)
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
