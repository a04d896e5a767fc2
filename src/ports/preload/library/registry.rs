//! Records the sockets that came from rinit, and the mode that the program expects of each.
//!
//! A program that waits by `poll` and then accepts would block when another worker was faster. So all shared sockets have
//! `O_NONBLOCK`, which belongs to the socket and not to the descriptor, so to all workers. The mode that the program itself has
//! set is recorded here, and `fcntl` and `ioctl` report that.

use crate::syscalls::*;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// The program's view of a socket.
pub struct Entry {
    /// 0: the entry is free.
    cookie: AtomicU64,
    /// It expects that `accept` blocks.
    blocking: AtomicBool,
    /// It has waited for this socket by `poll`, `select` or `epoll`: `accept` does not block.
    polled: AtomicBool,
    /// It has called `listen`.
    listening: AtomicBool,
}

/// Each entry is at its descriptor's number modulo the table's size, so that two threads do not use the same entry and plain
/// stores suffice: on aarch64 `core`'s other atomic operations look up the machine's features when the program starts. An
/// overwritten entry is mostly that of a closed socket.
static ENTRIES: [Entry; 256] = [const { Entry::new() }; 256];

/// There has been a shared socket. Until then no socket is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// A shared socket may exist whose program has not polled it yet.
static MAY_BE_POLLED: AtomicBool = AtomicBool::new(false);

/// The maximum number of descriptors of one `poll` or `select` that are looked up: each costs a system call.
const MAX_POLLED: usize = 16;

/// The signal (`F_SETSIG`) that marks a shared socket as blocking. It belongs to the socket and not to the descriptor, so a
/// program that has inherited the socket and never called `bind` finds it. It is never sent, as no program sets `O_ASYNC`.
const BLOCKING_MARK: c_int = 63;

/// The number of descriptors that are searched for inherited sockets.
const MAX_INHERITED: c_int = 64;

impl Entry {
    const fn new() -> Entry {
        Entry {
            cookie: AtomicU64::new(0),
            blocking: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            listening: AtomicBool::new(false),
        }
    }

    pub fn is_listening(&self) -> bool {
        self.listening.load(SeqCst)
    }

    pub fn set_listening(&self) {
        self.listening.store(true, SeqCst);
    }

    pub fn is_blocking(&self) -> bool {
        self.blocking.load(SeqCst)
    }

    /// Returns true if `accept` waits for a connection.
    pub fn accept_blocks(&self) -> bool {
        self.is_blocking() && !self.polled.load(SeqCst)
    }

    /// Records the mode that the program sets.
    pub fn set_blocking(&self, fd: c_int, blocking: bool) {
        control(fd, F_SETSIG, if blocking { BLOCKING_MARK } else { 0 });
        self.blocking.store(blocking, SeqCst);
        if blocking {
            MAY_BE_POLLED.store(true, SeqCst);
        }
    }

    /// Gives the socket back to the program, as if there were no rinit.
    pub fn forget(&self, fd: c_int) {
        self.cookie.store(0, SeqCst);
        if self.is_blocking() {
            control(fd, F_SETSIG, 0);
            control(fd, F_SETFL, control(fd, F_GETFL, 0) as c_int & !O_NONBLOCK);
        }
    }
}

/// Records a socket that is shared from now on.
pub fn remember(fd: c_int, blocking: bool, listens: bool) {
    // Before Linux 4.12 there are no cookies: the socket is not recorded, and stays as it was.
    let Some(cookie) = option::<u64>(fd, SOL_SOCKET, SO_COOKIE) else { return };
    let flags = control(fd, F_GETFL, 0);
    if flags < 0 || control(fd, F_SETFL, flags as c_int | O_NONBLOCK) != 0 {
        return;
    }
    let entry = find(cookie).unwrap_or(&ENTRIES[fd as usize % ENTRIES.len()]);
    entry.polled.store(false, SeqCst);
    entry.listening.store(listens, SeqCst);
    entry.cookie.store(cookie, SeqCst);
    entry.set_blocking(fd, blocking);
    ANY.store(true, SeqCst);
}

/// Records the sockets that the program has inherited.
pub fn inherit() {
    for fd in 0..MAX_INHERITED {
        if control(fd, F_GETSIG, 0) == BLOCKING_MARK as isize {
            remember(fd, true, true);
        }
    }
}

/// The entry of a socket that came from rinit.
pub fn known(fd: c_int) -> Option<&'static Entry> {
    if !ANY.load(SeqCst) {
        return None;
    }
    find(option(fd, SOL_SOCKET, SO_COOKIE)?)
}

fn find(cookie: u64) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.cookie.load(SeqCst) == cookie)
}

/// Records that the program polls these descriptors.
pub fn on_poll(descriptors: impl FnOnce() -> Polled) {
    if !MAY_BE_POLLED.load(SeqCst) {
        return;
    }
    let Polled(found, count) = descriptors();
    for entry in found.iter().take(count).filter_map(|fd| known(*fd)) {
        entry.polled.store(true, SeqCst);
        // In this order: a socket that another thread records meanwhile is seen here, or sets this again.
        MAY_BE_POLLED.store(false, SeqCst);
        if ENTRIES.iter().any(|entry| entry.cookie.load(SeqCst) != 0 && entry.accept_blocks()) {
            MAY_BE_POLLED.store(true, SeqCst);
        }
    }
}

/// The first descriptors of a call.
pub struct Polled([c_int; MAX_POLLED], usize);

impl FromIterator<c_int> for Polled {
    fn from_iter<I: IntoIterator<Item = c_int>>(all: I) -> Polled {
        let mut polled = Polled([-1; MAX_POLLED], 0);
        for (slot, fd) in polled.0.iter_mut().zip(all) {
            *slot = fd;
            polled.1 += 1;
        }
        polled
    }
}
