//! Interposes `connect`: until a worker has bound a port, it finds nobody at the ports of its siblings.
//!
//! So a program that connects to its port to find out if the port is free finds what it would find alone. Only rinit knows
//! which ports those are, and which process of the worker has bound one: it is asked about each connection to this machine
//! until it says that there is nothing more to ask.

use crate::client::ask;
use crate::descriptors::{find, replace};
use crate::next;
use crate::protocol::{Reply, Request};
use crate::syscalls::*;
use core::ffi::{c_int, c_uint};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The worker may connect to every port.
static MAY_CONNECT: AtomicBool = AtomicBool::new(false);

/// Connects a socket. One that was bound for that, and not to listen, is not shared any more.
///
/// # Safety
/// As `connect(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    if let Some(known) = find(fd) {
        let flags = control(fd, F_GETFL, 0);
        // Whatever the reply is: when it arrives, rinit has released the socket.
        if let Some((_, Some(own))) = ask(&Request::Forget, fd) {
            control(own.0, F_SETFL, flags as c_int);
            replace(fd, &own);
        }
        known.forget();
    }
    // SAFETY: the caller's promise.
    if !MAY_CONNECT.load(SeqCst) && unsafe { is_refused(fd, address, length) } {
        return returned(-(ECONNREFUSED as isize));
    }
    // SAFETY: as `connect(2)`, by the caller's promise.
    unsafe { next::connect(fd, address, length) }
}

/// Returns true if the program is to find nobody at that address.
///
/// # Safety
/// As `connect(2)`.
unsafe fn is_refused(fd: c_int, address: *const u8, length: c_uint) -> bool {
    if address.is_null() || length < 16 {
        return false;
    }
    // SAFETY: the address has at least 16 bytes, and its family is the first 16-bit word.
    let family = unsafe { address.cast::<u16>().read_unaligned() };
    let length = match family {
        AF_INET => 16,
        AF_INET6 if length >= 28 => 28,
        _ => return false,
    };
    // SAFETY: the address has `length` bytes, which the program leaves alone during its call of `connect`.
    let address = unsafe { core::slice::from_raw_parts(address, length) };
    if !is_loopback(address) || option(fd, SOL_SOCKET, SO_TYPE) != Some(SOCK_STREAM) {
        return false;
    }
    match ask(&Request::Connect { address }, fd) {
        Some((Reply::Failed(ECONNREFUSED), _)) => true,
        Some((Reply::Done, _)) => {
            MAY_CONNECT.store(true, SeqCst);
            false
        }
        Some((Reply::Failed(_) | Reply::DoneWithoutQueue | Reply::NotShared, _)) | None => false,
    }
}

/// Returns true if a connection to that address (`sockaddr_in`, `sockaddr_in6`) stays on the loopback interface.
fn is_loopback(address: &[u8]) -> bool {
    match address {
        [_, _, _, _, v4 @ ..] if v4.len() == 12 => is_v4_loopback(v4),
        [_, _, _, _, _, _, _, _, ip @ ..] => match ip.split_at_checked(12) {
            Some(([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], rest)) => matches!(rest, [0, 0, 0, 0 | 1, ..]),
            Some(([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], rest)) => is_v4_loopback(rest),
            Some(_) | None => false,
        },
        _ => false,
    }
}

fn is_v4_loopback(ip: &[u8]) -> bool {
    matches!(ip, [127, ..] | [0, 0, 0, 0, ..])
}
