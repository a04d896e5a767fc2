//! Takes connections from the worker's accept queue, where rinit puts them in.
//!
//! The queue is an end of a `SOCK_SEQPACKET` pair under the number of the listening socket, so `poll`, `epoll`, `dup` and
//! `close` need no interposition. A packet carries a connection, or none: a wake-up probe, by which rinit sees that the worker
//! responds. Calls that ask about the listening socket get the answers of that socket.

use crate::client::{Buffer, Control, Descriptor, connect, pass, reply, request, variable};
use crate::protocol::{BEHIND, QUEUE};
use crate::syscalls::*;
use crate::{registry::known, replace};
use core::ffi::{c_int, c_uint};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// rinit sends this process listening sockets over Node's channel.
static IS_CLUSTER_WORKER: AtomicBool = AtomicBool::new(false);

/// There has been a queue. Until then no socket is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// A queue, and the address of the listening socket behind it, which is kept for the time after rinit has closed that.
struct Entry {
    /// 0: the entry is free.
    cookie: AtomicU64,
    name: [AtomicU64; 4],
    /// 0: the address is a longer one.
    length: AtomicU32,
}

/// Each entry is at its descriptor's number modulo the table's size, as in `registry.rs`. `accept` works for a queue whose
/// entry is overwritten too.
static QUEUES: [Entry; 64] =
    [const { Entry { cookie: AtomicU64::new(0), name: [const { AtomicU64::new(0) }; 4], length: AtomicU32::new(0) } };
        64];

/// Tells rinit that this library is in a Node worker: a connection to the broker says so.
pub fn announce() {
    if variable(b"NODE_UNIQUE_ID=").is_some() && connect().is_some() {
        IS_CLUSTER_WORKER.store(true, SeqCst);
    }
}

/// Replaces a listening socket that came from rinit by its accept queue. True if it is a queue now.
pub fn install(fd: c_int) -> bool {
    if !IS_CLUSTER_WORKER.load(SeqCst)
        || known(fd).is_some()
        || option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) != Some(1)
    {
        return is_queue(fd);
    }
    let Some((0, Some(queue))) = request(&[QUEUE], &[], fd).and_then(|broker| reply(&broker)) else { return false };
    control(queue.0, F_SETFL, control(fd, F_GETFL, 0) as c_int);
    let (mut name, mut length) = ([0u64; 4], size_of::<[u64; 4]>() as c_uint);
    // SAFETY: the kernel writes no more than `length` says, and then how much it would have written.
    let named = unsafe { call(SYS_GETSOCKNAME, [word(fd), &raw mut name as usize, &raw mut length as usize]) };
    if named != 0 || length as usize > size_of::<[u64; 4]>() {
        length = 0;
    }
    if replace(fd, &queue) != 0 {
        return false;
    }
    let entry = &QUEUES[fd as usize % QUEUES.len()];
    entry.cookie.store(0, SeqCst);
    entry.name.iter().zip(name).for_each(|(place, part)| place.store(part, SeqCst));
    entry.length.store(length, SeqCst);
    entry.cookie.store(option(fd, SOL_SOCKET, SO_COOKIE).unwrap_or(0), SeqCst);
    ANY.store(true, SeqCst);
    true
}

fn find(fd: c_int) -> Option<&'static Entry> {
    if !ANY.load(SeqCst) {
        return None;
    }
    let cookie = option(fd, SOL_SOCKET, SO_COOKIE)?;
    QUEUES.iter().find(|entry| entry.cookie.load(SeqCst) == cookie)
}

/// Returns true if that is an accept queue.
pub fn is_queue(fd: c_int) -> bool {
    find(fd).is_some()
}

/// The listening socket behind an accept queue.
pub fn listener_behind(fd: c_int) -> Option<Descriptor> {
    find(fd).and_then(|_| request(&[BEHIND], &[], fd)).and_then(|broker| reply(&broker))?.1
}

/// Does what `accept4` does, on an accept queue; `None`: the socket is none.
///
/// # Safety
/// As `accept4(2)`.
pub unsafe fn take(fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> Option<isize> {
    // A socket of this rare type may also be the program's own.
    if !ANY.load(SeqCst) || option::<c_int>(fd, SOL_SOCKET, SO_TYPE) != Some(SOCK_SEQPACKET) {
        return None;
    }
    // A descriptor for which there is no free number would be lost with its packet, and after EMFILE libuv closes waiting
    // connections. So the connection stays in the queue until a number is free or rinit takes it back. The program tries
    // again a thousand times a second.
    let free = control(fd, F_DUPFD_CLOEXEC, 0);
    if free < 0 {
        let pause: Time = [0, 1_000_000];
        // SAFETY: no descriptors are polled, and the time is valid.
        unsafe { call(SYS_PPOLL, [0, 0, &raw const pause as usize, 0, SIGNAL_SET]) };
        return Some(-(EAGAIN as isize));
    }
    drop(Descriptor(free as c_int));
    loop {
        let mut byte = 0u8;
        let mut control_data = Control(0, [0, 0], -1);
        let close_on_exec = if flags & O_CLOEXEC != 0 { MSG_CMSG_CLOEXEC } else { 0 };
        let buffer = Buffer((&raw mut byte).cast(), 1);
        let (received, _) = pass(SYS_RECVMSG, fd, &[buffer], &mut control_data, close_on_exec);
        let connection = control_data.2;
        match received {
            1 if connection >= 0 => {
                if flags & O_NONBLOCK == 0 {
                    control(connection, F_SETFL, control(connection, F_GETFL, 0) as c_int & !O_NONBLOCK);
                }
                if !address.is_null() {
                    // SAFETY: the caller's promise.
                    unsafe { call(SYS_GETPEERNAME, [word(connection), address as usize, length as usize]) };
                }
                return Some(connection as isize);
            }
            1 => {}
            // rinit has closed its end.
            0 => return Some(-(EAGAIN as isize)),
            // A socket of this type that listens itself.
            error if error == -(ENOTCONN as isize) => return None,
            error => return Some(error),
        }
    }
}

/// # Safety
/// As `getsockname(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockname(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    let Some(entry) = find(fd).filter(|entry| entry.length.load(SeqCst) > 0) else {
        // SAFETY: the caller's promise.
        return returned(unsafe { call(SYS_GETSOCKNAME, [word(fd), address as usize, length as usize]) });
    };
    let name = entry.name.each_ref().map(|part| part.load(SeqCst).to_ne_bytes());
    let whole = entry.length.load(SeqCst);
    // SAFETY: the caller's promise: `address` has as many bytes as `length` says. It is told how many there are.
    unsafe {
        let room = (*length).min(whole) as usize;
        for (at, byte) in name.as_flattened().iter().enumerate().take(room) {
            address.add(at).write(*byte);
        }
        *length = whole;
    }
    0
}

/// # Safety
/// As `setsockopt(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const u8, length: c_uint) -> c_int {
    let behind = listener_behind(fd);
    let fd = behind.as_ref().map_or(fd, |listening| listening.0);
    let arguments = [word(fd), word(level), word(name), value as usize, length as usize];
    // SAFETY: the caller's promise.
    returned(unsafe { call(SYS_SETSOCKOPT, arguments) })
}
