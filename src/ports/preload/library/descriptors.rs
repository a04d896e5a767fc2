//! Records the descriptors of the program that stand for sockets of rinit.
//!
//! A record is found by its descriptor's number, and is valid while the socket there has the record's `SO_COOKIE`, which is
//! never used twice and is the same in every process. Descriptors that come by `dup`, `recvmsg` or `exec` are looked at when
//! the program first uses them for something that this library interposes.

use crate::client::{Descriptor, ask};
use crate::epoll_instances::Registrations;
use crate::protocol::{Reply, Request};
use crate::syscalls::*;
use core::ffi::{c_int, c_uint};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};

/// What stands under a descriptor's number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A listening socket that all workers share, and for which there may be an accept queue. The program has not made it
    /// non-blocking: it would have taken the queue.
    Shared,
    /// A listening socket from which the program itself accepts.
    Own,
    /// The worker's accept queue for a listening socket.
    Queue,
}

/// An address (`sockaddr`) and its length in bytes, which is 0 if it is longer than an internet address.
#[derive(Clone, Copy)]
pub struct Name(pub [u64; 4], pub c_uint);

/// A descriptor that stands for a socket of rinit.
#[derive(Clone, Copy)]
pub struct Known {
    pub kind: Kind,
    fd: c_int,
    record: &'static Record,
}

/// The record of a descriptor. Plain stores suffice, because each number has its own: on aarch64 `core`'s other atomic
/// operations look up the machine's features when the program starts.
struct Record {
    cookie: AtomicU64,
    /// The number of the listening socket behind an accept queue, by which its copy is found. 0: there is no copy.
    listener: AtomicU64,
    /// The address of the listening socket, kept for the time after rinit has closed that.
    name: [AtomicU64; 4],
    /// 0: the address is a longer one.
    name_length: AtomicU32,
    /// The program has called `listen`, or its parent has.
    is_listening: AtomicBool,
    /// rinit knows that the program waits for connections here.
    is_reported: AtomicBool,
    /// rinit knows that the program wants non-blocking connections.
    wants_nonblocking: AtomicBool,
    /// The number of connections that were accepted in a turn that lasts.
    accepted_in_turn: AtomicU8,
    /// `poll` or `select` has said that there is a connection.
    is_readable: AtomicBool,
    /// It is in an epoll instance, which says so.
    is_in_epoll: AtomicBool,
    /// A listening socket that was seen not to block.
    is_nonblocking: AtomicBool,
}

/// The highest number of a descriptor that can be shared, and one more.
const MAX_DESCRIPTORS: usize = 65_536;

/// No socket of rinit, as far as this library has seen.
const NONE: u8 = 0;
/// Anything: a descriptor has come there from elsewhere.
const ARRIVED: u8 = 1;
const SHARED: u8 = 2;
const OWN: u8 = 3;
const QUEUE: u8 = 4;

/// The kind of each descriptor.
static KINDS: [AtomicU8; MAX_DESCRIPTORS] = [const { AtomicU8::new(NONE) }; MAX_DESCRIPTORS];
/// The records. Their memory is the kernel's page of zeros until a page of them is written to.
static RECORDS: [Record; MAX_DESCRIPTORS] = [const { Record::new() }; MAX_DESCRIPTORS];

impl Record {
    const fn new() -> Record {
        Record {
            cookie: AtomicU64::new(0),
            listener: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 4],
            name_length: AtomicU32::new(0),
            is_listening: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            wants_nonblocking: AtomicBool::new(false),
            accepted_in_turn: AtomicU8::new(0),
            is_readable: AtomicBool::new(false),
            is_in_epoll: AtomicBool::new(false),
            is_nonblocking: AtomicBool::new(false),
        }
    }

    fn flags(&self) -> [&AtomicBool; 6] {
        [
            &self.is_listening,
            &self.is_reported,
            &self.wants_nonblocking,
            &self.is_readable,
            &self.is_in_epoll,
            &self.is_nonblocking,
        ]
    }
}

fn kind_at(fd: c_int) -> Option<&'static AtomicU8> {
    KINDS.get(usize::try_from(fd).ok()?)
}

/// Returns true if a socket of that number can be recorded.
pub fn has_room(fd: c_int) -> bool {
    kind_at(fd).is_some()
}

/// The socket of rinit under that number, if there is one.
pub fn find(fd: c_int) -> Option<Known> {
    match kind_at(fd)?.load(SeqCst) {
        NONE => None,
        ARRIVED => identify(fd),
        _ => {
            let known = glance(fd)?;
            let is_valid = option(fd, SOL_SOCKET, SO_COOKIE) == Some(known.record.cookie.load(SeqCst));
            if !is_valid {
                known.forget();
            }
            is_valid.then_some(known)
        }
    }
}

/// The same without a system call: the number may be another socket's by now.
pub fn glance(fd: c_int) -> Option<Known> {
    let kind = match kind_at(fd)?.load(SeqCst) {
        SHARED => Kind::Shared,
        OWN => Kind::Own,
        QUEUE => Kind::Queue,
        ARRIVED => return identify(fd),
        _ => return None,
    };
    Some(Known { kind, fd, record: RECORDS.get(usize::try_from(fd).ok()?)? })
}

/// Finds out if the socket under that number is rinit's.
pub fn identify(fd: c_int) -> Option<Known> {
    kind_at(fd)?.store(NONE, SeqCst);
    let is_listening = option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN)? == 1;
    let is_connected = || {
        let (mut name, mut length) = (0u64, size_of::<u64>() as c_uint);
        // SAFETY: the kernel writes no more than `length` says.
        unsafe { call(SYS_GETPEERNAME, [word(fd), &raw mut name as usize, &raw mut length as usize]) == 0 }
    };
    // A connection is no socket of rinit, except for an accept queue.
    if !is_listening && is_connected() && option(fd, SOL_SOCKET, SO_TYPE) != Some(SOCK_SEQPACKET) {
        return None;
    }
    match ask(&Request::Find, fd)? {
        (Reply::Done, Some(listening)) => record(fd, Kind::Queue, name_of(listening.0), true),
        (Reply::Done, None) => record(fd, Kind::Shared, name_of(fd), is_listening),
        (Reply::DoneWithoutQueue, _) => record(fd, Kind::Own, name_of(fd), is_listening),
        (Reply::Failed(_) | Reply::NotShared, _) => None,
    }
}

/// Records the socket under that number, with the address of the listening socket. Before Linux 4.12 there are no cookies:
/// nothing is recorded.
pub fn record(fd: c_int, kind: Kind, name: Name, is_listening: bool) -> Option<Known> {
    let cookie = option::<u64>(fd, SOL_SOCKET, SO_COOKIE)?;
    let place = kind_at(fd)?;
    let record = RECORDS.get(usize::try_from(fd).ok()?)?;
    place.store(NONE, SeqCst);
    record.cookie.store(cookie, SeqCst);
    record.listener.store(0, SeqCst);
    record.accepted_in_turn.store(0, SeqCst);
    record.name.iter().zip(name.0).for_each(|(place, part)| place.store(part, SeqCst));
    record.name_length.store(name.1, SeqCst);
    record.flags().into_iter().for_each(|flag| flag.store(false, SeqCst));
    record.is_listening.store(is_listening, SeqCst);
    let known = Known { kind, fd, record };
    known.set_kind(kind);
    Some(known)
}

/// Returns true if a number stands for an accept queue of that listening socket.
pub fn is_queue_of(listener: u64) -> bool {
    let queues = (0..).zip(&KINDS).filter(|(_, kind)| kind.load(SeqCst) == QUEUE);
    queues.filter_map(|(fd, _)| find(fd)).any(|known| known.listener() == listener)
}

/// The address that a socket is bound to.
pub fn name_of(fd: c_int) -> Name {
    let (mut name, mut length) = ([0u64; 4], size_of::<[u64; 4]>() as c_uint);
    let place = [&raw mut name as usize, &raw mut length as usize];
    // SAFETY: the kernel writes no more than `length` says, and then how much it would have written.
    let named = unsafe { call(SYS_GETSOCKNAME, [word(fd), place[0], place[1]]) };
    let is_whole = named == 0 && length as usize <= size_of::<[u64; 4]>();
    Name(name, if is_whole { length } else { 0 })
}

/// A descriptor has come to that number from elsewhere.
pub fn on_arrival(fd: c_int) {
    if let Some(kind) = kind_at(fd) {
        kind.store(ARRIVED, SeqCst);
    }
}

/// That number stands for the same as another. A process that shares its parent's memory after `vfork` does not change what
/// the parent knows: its numbers are looked at again.
pub fn on_duplicate(from: c_int, to: c_int) {
    let is_known = |fd| kind_at(fd).is_some_and(|kind| kind.load(SeqCst) != NONE);
    if from != to && (is_known(from) || is_known(to)) {
        on_arrival(to);
    }
}

/// Puts another socket where the program's own was: under its number, closed on exec if that was, and in its epoll instances.
pub fn replace(fd: c_int, other: &Descriptor) -> isize {
    let flags = if control(fd, F_GETFD, 0) == FD_CLOEXEC { O_CLOEXEC } else { 0 };
    let registrations = Registrations::of(fd);
    registrations.remove();
    // SAFETY: the number stays the program's, which asked for another socket there.
    let result = unsafe { call(SYS_DUP3, [word(other.0), word(fd), word(flags)]) }.min(0);
    registrations.add();
    result
}

impl Known {
    /// Records that something else stands there now.
    pub fn set_kind(&self, kind: Kind) {
        let kind = match kind {
            Kind::Shared => SHARED,
            Kind::Own => OWN,
            Kind::Queue => QUEUE,
        };
        if let Some(place) = kind_at(self.fd) {
            place.store(kind, SeqCst);
        }
    }

    /// Records that the number stands for no socket of rinit.
    pub fn forget(&self) {
        if let Some(place) = kind_at(self.fd) {
            place.store(NONE, SeqCst);
        }
    }

    pub fn is_listening(&self) -> bool {
        self.record.is_listening.load(SeqCst)
    }

    pub fn set_listening(&self) {
        self.record.is_listening.store(true, SeqCst);
    }

    pub fn is_reported(&self) -> bool {
        self.record.is_reported.load(SeqCst)
    }

    pub fn set_reported(&self) {
        self.record.is_reported.store(true, SeqCst);
    }

    /// Records that the program was told that there is a connection.
    pub fn set_readable(&self) {
        self.record.is_readable.store(true, SeqCst);
    }

    /// Records that an epoll instance tells the program.
    pub fn set_in_epoll(&self) {
        self.record.is_in_epoll.store(true, SeqCst);
    }

    /// Returns true if the program was told of a connection since it accepted last, and does not expect to wait.
    pub fn takes_readable(&self) -> bool {
        let is_readable = self.record.is_readable.load(SeqCst);
        self.record.is_readable.store(false, SeqCst);
        is_readable || self.record.is_in_epoll.load(SeqCst)
    }

    pub fn is_nonblocking(&self) -> bool {
        self.record.is_nonblocking.load(SeqCst)
    }

    pub fn set_nonblocking(&self) {
        self.record.is_nonblocking.store(true, SeqCst);
    }

    /// Records that the program wants non-blocking connections. Returns true the first time.
    pub fn learns_nonblocking(&self) -> bool {
        let is_new = !self.record.wants_nonblocking.load(SeqCst);
        self.record.wants_nonblocking.store(true, SeqCst);
        is_new
    }

    /// The number of connections that were accepted in a turn that lasts.
    pub fn accepted_in_turn(&self) -> u8 {
        self.record.accepted_in_turn.load(SeqCst)
    }

    pub fn set_accepted_in_turn(&self, count: u8) {
        self.record.accepted_in_turn.store(count, SeqCst);
    }

    /// The number of the listening socket behind an accept queue; 0: there is no copy of it.
    pub fn listener(&self) -> u64 {
        self.record.listener.load(SeqCst)
    }

    pub fn set_listener(&self, cookie: u64) {
        self.record.listener.store(cookie, SeqCst);
    }

    /// The address of the listening socket.
    pub fn name(&self) -> Name {
        Name(self.record.name.each_ref().map(|part| part.load(SeqCst)), self.record.name_length.load(SeqCst))
    }
}
