//! An accept queue of the worker's own: rinit accepts, and puts connections in when it is the worker's turn.
//!
//! It is an end of a `SOCK_SEQPACKET` pair and stands under the number of the listening socket, so `poll`, `epoll`, `dup`
//! and `close` are the kernel's alone. A packet is a connection; one without is a knock, by which rinit sees that
//! the worker is awake. What asks about the listening socket is told of that one.

use crate::door::{BEHIND, Buffer, Control, Descriptor, QUEUE, answer, ask, open, pass, variable};
use crate::kernel::*;
use crate::{replace, table::known};
use core::ffi::{c_int, c_uint};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// rinit gives this process listening sockets by Node's channel.
static OFFERED: AtomicBool = AtomicBool::new(false);

/// There has been a queue. Until then nothing is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// A queue, and the address of the listening socket behind it: it is asked for also when rinit has closed that.
struct Known {
    /// 0: nothing is here.
    cookie: AtomicU64,
    name: [AtomicU64; 4],
    /// 0: the address is a longer one.
    length: AtomicU32,
}

/// Each is at its descriptor's number modulo the table's size, as in `table.rs`. What is overwritten is accepted from all
/// the same.
static QUEUES: [Known; 64] =
    [const { Known { cookie: AtomicU64::new(0), name: [const { AtomicU64::new(0) }; 4], length: AtomicU32::new(0) } };
        64];

/// Tells a Node worker's primary that this library is here: a call at the door says so.
pub fn offer() {
    if variable(b"NODE_UNIQUE_ID=").is_some() && open().is_some() {
        OFFERED.store(true, SeqCst);
    }
}

/// Takes the queue that rinit has for a listening socket that came from it.
pub fn replaces(fd: c_int) -> bool {
    if !OFFERED.load(SeqCst) || known(fd).is_some() || option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) != Some(1) {
        return is_known(fd);
    }
    let Some((0, Some(queue))) = ask(&[QUEUE], &[], fd).and_then(|door| answer(&door)) else { return false };
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
    let known = &QUEUES[fd as usize % QUEUES.len()];
    known.cookie.store(0, SeqCst);
    known.name.iter().zip(name).for_each(|(place, part)| place.store(part, SeqCst));
    known.length.store(length, SeqCst);
    known.cookie.store(option(fd, SOL_SOCKET, SO_COOKIE).unwrap_or(0), SeqCst);
    ANY.store(true, SeqCst);
    true
}

fn find(fd: c_int) -> Option<&'static Known> {
    if !ANY.load(SeqCst) {
        return None;
    }
    let cookie = option(fd, SOL_SOCKET, SO_COOKIE)?;
    QUEUES.iter().find(|known| known.cookie.load(SeqCst) == cookie)
}

/// Whether that is a queue.
pub fn is_known(fd: c_int) -> bool {
    find(fd).is_some()
}

/// The listening socket behind a queue.
pub fn behind(fd: c_int) -> Option<Descriptor> {
    find(fd).and_then(|_| ask(&[BEHIND], &[], fd)).and_then(|door| answer(&door))?.1
}

/// What `accept4` does on a queue; `None`: it is none.
///
/// # Safety
/// As `accept4(2)`.
pub unsafe fn take(fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> Option<isize> {
    // Or another socket of this rare kind.
    if !ANY.load(SeqCst) || option::<c_int>(fd, SOL_SOCKET, SO_TYPE) != Some(SOCK_SEQPACKET) {
        return None;
    }
    // A descriptor that finds no free number is lost with its packet. With EMFILE libuv would close what waits; so it
    // waits on, until a number is free or rinit takes it back, and the program comes by a thousand times a second.
    let free = control(fd, F_DUPFD_CLOEXEC, 0);
    if free < 0 {
        let nap: Time = [0, 1_000_000];
        // SAFETY: nothing is looked at, and the time is there.
        unsafe { call(SYS_PPOLL, [0, 0, &raw const nap as usize, 0, SIGNAL_SET]) };
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
            // rinit has let go of it.
            0 => return Some(-(EAGAIN as isize)),
            // A socket that listens itself.
            error if error == -(ENOTCONN as isize) => return None,
            error => return Some(error),
        }
    }
}

/// # Safety
/// As `getsockname(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockname(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    let Some(known) = find(fd).filter(|known| known.length.load(SeqCst) > 0) else {
        // SAFETY: the caller's promise.
        return returned(unsafe { call(SYS_GETSOCKNAME, [word(fd), address as usize, length as usize]) });
    };
    let name = known.name.each_ref().map(|part| part.load(SeqCst).to_ne_bytes());
    let whole = known.length.load(SeqCst);
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
    let behind = behind(fd);
    let fd = behind.as_ref().map_or(fd, |listening| listening.0);
    let arguments = [word(fd), word(level), word(name), value as usize, length as usize];
    // SAFETY: the caller's promise.
    returned(unsafe { call(SYS_SETSOCKOPT, arguments) })
}
