//! Keeps copies of the listening sockets behind accept queues: the worker accepts from them when it is its turn.
//!
//! They are closed on exec. The program may close them, as one that closes all that it does not know. They have numbers out of
//! the program's way: the kernel gives each descriptor the lowest free number, so one of these stays free after that, and
//! `accept4` fails. Where there is no such number, a copy is checked by its `SO_COOKIE` before it is used.

use crate::client::{Descriptor, ask};
use crate::descriptors::{Known, is_queue_of};
use crate::protocol::{Reply, Request};
use crate::syscalls::*;
use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

/// The maximum number of copies, which is that of a worker's servers.
const MAX_COPIES: usize = 256;
/// The number from which on one is out of the way: most systems allow a process 1,024 descriptors.
const FIRST_NUMBER: c_int = 900;
/// The numbers from which on a free one is looked for, best first.
const FIRST_NUMBERS: [c_int; 3] = [FIRST_NUMBER, 200, 3];

/// The errors of a number that is no listening socket any more.
const GONE: [c_int; 4] = [EBADF, ENOTSOCK, EOPNOTSUPP, EINVAL];

/// A copy of a listening socket. Loads and stores suffice, since each use is checked.
struct Copy {
    /// 0: there is none.
    cookie: AtomicU64,
    fd: AtomicI32,
}

static COPIES: [Copy; MAX_COPIES] = [const { Copy { cookie: AtomicU64::new(0), fd: AtomicI32::new(-1) } }; MAX_COPIES];

impl Copy {
    /// Its descriptor, if that is still there.
    fn descriptor(&self) -> Option<c_int> {
        let (cookie, fd) = (self.cookie.load(SeqCst), self.fd.load(SeqCst));
        (cookie != 0 && cookie_of(fd) == Some(cookie)).then_some(fd)
    }
}

fn cookie_of(fd: c_int) -> Option<u64> {
    option(fd, SOL_SOCKET, SO_COOKIE)
}

/// Does what `accept4` does, on the listening socket behind an accept queue.
///
/// # Safety
/// As `accept4(2)`: these are its other arguments.
pub unsafe fn accept_in_turn(known: &Known, queue: c_int, arguments: [usize; 3]) -> isize {
    let [address, length, flags] = arguments;
    // SAFETY: the caller's promise.
    let accept = |fd: c_int| unsafe { call(SYS_ACCEPT4, [word(fd), address, length, flags]) };
    let copy = COPIES.iter().find(|copy| known.listener() != 0 && copy.cookie.load(SeqCst) == known.listener());
    let is_safe = |fd: &c_int| *fd >= FIRST_NUMBER || cookie_of(*fd) == Some(known.listener());
    if let Some(fd) = copy.map(|copy| copy.fd.load(SeqCst)).filter(is_safe) {
        match accept(fd) {
            error if GONE.iter().any(|errno| error == -(*errno as isize)) => {}
            accepted => return accepted,
        }
    }
    match ask(&Request::Find, queue) {
        Some((_, Some(listening))) => {
            known.set_listener(keep(listening.0).unwrap_or(0));
            accept(listening.0)
        }
        // rinit has closed it.
        Some((Reply::Done | Reply::DoneWithoutQueue | Reply::NotShared, None)) => -(EAGAIN as isize),
        Some((Reply::Failed(_), None)) | None => -(EMFILE as isize),
    }
}

/// Keeps a copy of a listening socket, and returns the number by which it is found. `None`: there is no room for it.
fn keep(listening: c_int) -> Option<u64> {
    let cookie = cookie_of(listening)?;
    release_unused();
    if COPIES.iter().any(|copy| copy.cookie.load(SeqCst) == cookie) {
        return Some(cookie);
    }
    let place = COPIES.iter().find(|copy| copy.cookie.load(SeqCst) == 0)?;
    let numbers = FIRST_NUMBERS.into_iter().map(|first| control(listening, F_DUPFD_CLOEXEC, first));
    let copy = numbers.into_iter().find(|copy| *copy >= 0)?;
    place.fd.store(copy as c_int, SeqCst);
    place.cookie.store(cookie, SeqCst);
    Some(cookie)
}

/// Closes the copies of those whose accept queue the program has closed, and forgets the copies that it has closed itself.
pub fn release_unused() {
    for copy in &COPIES {
        let descriptor = copy.descriptor();
        if descriptor.is_none() || !is_queue_of(copy.cookie.load(SeqCst)) {
            copy.cookie.store(0, SeqCst);
            drop(descriptor.map(Descriptor));
        }
    }
}
