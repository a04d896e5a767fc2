//! Takes connections from the worker's accept queue, where rinit puts them in.
//!
//! The queue is an end of a `SOCK_SEQPACKET` pair under the number of the listening socket, so `poll`, `epoll` and `close`
//! need no interposition, and the socket's mode and its timeout are the kernel's own. All processes of a worker have one
//! queue. A packet is the worker's turn to accept from the listening socket (`listeners.rs`); or it carries a connection, which
//! is for this worker alone; or it is a wake-up probe, by which rinit sees that the worker responds. Only queues that do not
//! block get probes.

use crate::client::{Buffer, Control, Descriptor, Message, ask, connect, variable};
use crate::descriptors::{Kind, Known, find, name_of, record, replace};
use crate::listeners::accept_in_turn;
use crate::next;
use crate::protocol::{PACKET_BYTES, Packet, Peer, Reply, Request, UnusedTurn};
use crate::syscalls::*;
use core::ffi::{c_int, c_uint};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// rinit sends this process listening sockets over Node's channel.
static IS_CLUSTER_WORKER: AtomicBool = AtomicBool::new(false);

/// Tells rinit that this library is in a Node worker: a connection to the broker says so.
pub fn announce() {
    if variable(b"NODE_UNIQUE_ID=").is_some() && connect().is_some() {
        IS_CLUSTER_WORKER.store(true, SeqCst);
    }
}

pub fn is_cluster_worker() -> bool {
    IS_CLUSTER_WORKER.load(SeqCst)
}

/// Puts the worker's accept queue where a shared listening socket is. Returns true if it is there now; otherwise the program
/// accepts from the socket itself.
pub fn take_place(fd: c_int, nonblocking: bool) -> bool {
    let Some(known) = find(fd) else { return false };
    let Some((Reply::Done, Some(queue))) = ask(&Request::Queue, fd) else {
        known.set_kind(Kind::Own);
        return false;
    };
    control(queue.0, F_SETFL, if nonblocking { O_NONBLOCK } else { 0 });
    let name = name_of(fd);
    replace(fd, &queue) == 0 && record(fd, Kind::Queue, name, known.is_listening()).is_some()
}

/// The listening socket behind an accept queue.
pub fn listener_behind(fd: c_int) -> Option<Descriptor> {
    find(fd).filter(|known| known.kind == Kind::Queue).and_then(|_| ask(&Request::Find, fd))?.1
}

/// The time that `accept` waits at most, if there is a limit.
pub fn timeout(fd: c_int) -> Option<Time> {
    option::<Time>(fd, SOL_SOCKET, SO_RCVTIMEO).filter(|limit| *limit != [0, 0])
}

pub fn set_timeout(fd: c_int, limit: &Time) {
    let arguments = [word(fd), word(SOL_SOCKET), word(SO_RCVTIMEO), limit as *const Time as usize, size_of::<Time>()];
    // SAFETY: the value is of the length that is said.
    unsafe { call(SYS_SETSOCKOPT, arguments) };
}

/// Does what `accept4` does, on an accept queue; `None`: there is none under that number.
///
/// # Safety
/// As `accept4(2)`.
pub unsafe fn take(known: &Known, fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> Option<isize> {
    // rinit may have taken back the connection of which the program was told, and the program must not wait for the next.
    let dont_wait = if known.takes_readable() { MSG_DONTWAIT } else { 0 };
    let close_on_exec = if flags & O_CLOEXEC != 0 { MSG_CMSG_CLOEXEC } else { 0 };
    // SAFETY: the caller's promise.
    let accept = || unsafe { accept_in_turn(known, fd, [address as usize, length as usize, word(flags)]) };
    loop {
        // A descriptor stays with a packet that is only looked at.
        let seen = receive(fd, MSG_PEEK | dont_wait, &mut Control::receiving(), 0);
        let failed = match seen {
            (1.., Packet::Connection { .. }) => match has_no_room(fd) {
                None => None,
                error => return error,
            },
            // A turn stays while it lasts, so that what waits for the queue goes on.
            (1.., Packet::Turn { connections: connections @ 2.. }) if known.accepted_in_turn() < connections => {
                match accept() {
                    error @ ..0 => Some(error),
                    connection => {
                        known.set_accepted_in_turn(known.accepted_in_turn() + 1);
                        return Some(connection);
                    }
                }
            }
            (_, Packet::Turn { .. } | Packet::WakeUpProbe) => None,
            (..=0, Packet::Connection { .. }) => None,
        };
        let mut control_data = Control::receiving();
        let mut take = || receive(fd, close_on_exec | dont_wait, &mut control_data, Control::LENGTH);
        match if seen.0 > 0 { take() } else { seen } {
            // rinit has closed its end of a Node server's, or the program has shut it down.
            (0, _) if is_cluster_worker() => return Some(-(EAGAIN as isize)),
            (0, _) => return Some(-(EINVAL as isize)),
            (1.., Packet::Connection { nonblocking, peer }) => {
                if control_data.descriptor < 0 {
                    // Another thread has taken the free number.
                    return Some(-(EMFILE as isize));
                }
                // SAFETY: the caller's promise.
                unsafe { copy_address(&peer, address, length) };
                set_mode(known, fd, control_data.descriptor, nonblocking, flags & O_NONBLOCK != 0);
                return Some(control_data.descriptor as isize);
            }
            (1.., Packet::Turn { connections }) => {
                let accepted = match failed {
                    Some(error) => error,
                    None if connections == 1 => accept(),
                    // It is used up, or another thread had one of these as well.
                    None => -(EAGAIN as isize),
                };
                if accepted >= 0 {
                    return Some(accepted);
                }
                let has_room = accepted == -(EAGAIN as isize);
                end_turn(known, fd, connections, has_room);
                if !has_room {
                    // After EMFILE libuv closes waiting connections.
                    return Some(if is_blocking(fd) { accepted } else { -(EAGAIN as isize) });
                }
            }
            (1.., Packet::WakeUpProbe) => {}
            (error, _) if error == -(ENOTCONN as isize) => {
                // The number is another socket's, which listens.
                known.forget();
                return None;
            }
            (error, _) => return Some(error_of_accept(fd, error, dont_wait != 0)),
        }
    }
}

/// The error of `accept` if there is no free number for a descriptor, which would be lost with its packet. After EMFILE libuv
/// closes waiting connections, so the connection stays in the queue until a number is free or rinit takes it back. A program
/// that polls tries again a thousand times a second.
fn has_no_room(fd: c_int) -> Option<isize> {
    let free = control(fd, F_DUPFD_CLOEXEC, 0);
    if free >= 0 {
        drop(Descriptor(free as c_int));
        return None;
    }
    if is_blocking(fd) {
        return Some(free);
    }
    let pause: Time = [0, 1_000_000];
    // SAFETY: no descriptors are polled, and the time is valid.
    unsafe { call(SYS_PPOLL, [0, 0, &raw const pause as usize, 0, SIGNAL_SET]) };
    Some(-(EAGAIN as isize))
}

/// Reports a turn to rinit that is over before it is used up.
fn end_turn(known: &Known, fd: c_int, connections: u8, has_room: bool) {
    // Several threads may have accepted in it.
    let used = known.accepted_in_turn().min(connections);
    known.set_accepted_in_turn(known.accepted_in_turn() - used);
    if used < connections || !has_room {
        let report = UnusedTurn { connections: connections - used, has_room }.encode();
        let flags = word(MSG_DONTWAIT | MSG_NOSIGNAL);
        // SAFETY: the report is here until the call is over.
        unsafe { call(SYS_SENDTO, [word(fd), &raw const report as usize, report.len(), flags]) };
    }
}

/// The error that `accept` reports. On a socket that blocks it is one of those that a connection may have that is gone before
/// it is accepted (accept(2), "Error handling").
fn error_of_accept(fd: c_int, error: isize, has_not_waited: bool) -> isize {
    if has_not_waited && error == -(EAGAIN as isize) && is_blocking(fd) { -(ECONNABORTED as isize) } else { error }
}

pub fn is_blocking(fd: c_int) -> bool {
    control(fd, F_GETFL, 0) as c_int & O_NONBLOCK == 0
}

/// Sets the mode of a connection, and tells rinit, once, which one the program wants.
fn set_mode(known: &Known, fd: c_int, connection: c_int, is_nonblocking: bool, should_be: bool) {
    if is_nonblocking != should_be {
        // `O_NONBLOCK` is all that rinit has set.
        control(connection, F_SETFL, if should_be { O_NONBLOCK } else { 0 });
        if should_be && known.learns_nonblocking() {
            let _ = ask(&Request::Wait { nonblocking: true }, fd);
        }
    }
}

/// Writes a client's address where `accept` is asked to.
///
/// # Safety
/// As `accept(2)`.
unsafe fn copy_address(peer: &Peer, address: *mut u8, length: *mut c_uint) {
    if address.is_null() || length.is_null() {
        return;
    }
    // SAFETY: the caller's promise: `address` has as many bytes as `length` says. It is told how many there are.
    unsafe {
        let room = (*length).min(c_uint::from(peer.length)) as usize;
        for (at, byte) in peer.bytes.iter().enumerate().take(room) {
            address.add(at).write(*byte);
        }
        *length = c_uint::from(peer.length);
    }
}

/// Receives a packet, or looks at it, with room for control data of that length. The number of bytes, or a negative error
/// number, and the packet.
fn receive(fd: c_int, flags: c_int, control_data: &mut Control, control_length: usize) -> (isize, Packet) {
    let mut packet = [0u8; PACKET_BYTES];
    let buffer = Buffer { bytes: (&raw mut packet).cast(), length: PACKET_BYTES };
    let mut message = Message::new(&buffer, control_data);
    message.control_length = control_length;
    let before = errno();
    // SAFETY: the message and what it points to are here until the call is over.
    let received = match unsafe { next::recvmsg(fd, &mut message, flags) } {
        -1 => {
            let error = errno();
            set_errno(before);
            -(error as isize)
        }
        count => count,
    };
    (received, Packet::decode(&packet))
}
