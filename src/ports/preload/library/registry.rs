//! Records the sockets at which the program may wait for connections, and the mode that it expects of each.
//!
//! **Shared sockets** came from rinit in `bind`. A program that waits by `poll` and then accepts would block when another worker
//! was faster. So all of them have `O_NONBLOCK`, which belongs to the socket and not to the descriptor, so to all workers. The
//! mode that the program itself has set is recorded here, and `fcntl` and `ioctl` report that.
//!
//! **Other listening sockets** (`LISTEN_FDS`) stay as they are.
//!
//! rinit is told of each when the program listens, and again when it first waits for connections: a master that listens
//! before any of its children has loaded the app does not serve yet.

use crate::client::{reply, request};
use crate::io_uring;
use crate::protocol::{LISTENING, SERVING};
use crate::syscalls::*;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

/// The program's view of a socket.
pub struct Entry {
    /// 0: the entry is free.
    cookie: AtomicU64,
    /// The socket's number when it was recorded or began to listen. Copies have others.
    number: AtomicI32,
    /// It is shared. Another listening socket is only observed.
    shared: AtomicBool,
    /// The program expects that `accept` blocks.
    blocking: AtomicBool,
    /// It has waited for this socket by `poll`, `select` or `epoll`: `accept` does not block.
    polled: AtomicBool,
    /// It has called `listen`.
    listening: AtomicBool,
    /// rinit knows that it waits for connections here.
    reported: AtomicBool,
}

/// Each entry is at its descriptor's number modulo the table's size, or the next free one, so that two threads hardly use the
/// same entry and plain stores suffice: on aarch64 `core`'s other atomic operations look up the machine's features when the
/// program starts. A full table overwrites.
static ENTRIES: [Entry; 256] = [const { Entry::new() }; 256];

/// There has been an entry. Until then no socket is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// A shared socket may exist whose program has not polled it yet.
static MAY_BE_POLLED: AtomicBool = AtomicBool::new(false);

/// A socket may listen of which rinit does not know that the program waits for its connections.
static MAY_BE_UNREPORTED: AtomicBool = AtomicBool::new(false);

/// The number of polled descriptors that are still looked up although no recorded socket has their number: each costs a system
/// call.
static LOOKUPS_LEFT: AtomicU32 = AtomicU32::new(0);

/// The value of `LOOKUPS_LEFT` when a socket is recorded.
const MAX_LOOKUPS: u32 = 4096;

/// The signals (`F_SETSIG`) that mark a shared socket as one that blocks, or does not. They belong to the socket and not to the
/// descriptor, so a program that has inherited the socket and never called `bind` finds them. They are never sent, as no
/// program sets `O_ASYNC`.
const BLOCKING_MARK: c_int = 63;
const NONBLOCKING_MARK: c_int = 62;

/// The number of descriptors that are searched for inherited sockets.
const MAX_INHERITED: c_int = 64;

impl Entry {
    const fn new() -> Entry {
        Entry {
            cookie: AtomicU64::new(0),
            number: AtomicI32::new(-1),
            shared: AtomicBool::new(false),
            blocking: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            reported: AtomicBool::new(false),
        }
    }

    pub fn is_listening(&self) -> bool {
        self.listening.load(SeqCst)
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
        control(fd, F_SETSIG, if blocking { BLOCKING_MARK } else { NONBLOCKING_MARK });
        self.blocking.store(blocking, SeqCst);
        if blocking {
            MAY_BE_POLLED.store(true, SeqCst);
        }
    }

    /// Gives the socket back to the program, as if there were no rinit.
    pub fn forget(&self, fd: c_int) {
        self.cookie.store(0, SeqCst);
        control(fd, F_SETSIG, 0);
        if self.is_blocking() {
            control(fd, F_SETFL, control(fd, F_GETFL, 0) as c_int & !O_NONBLOCK);
        }
    }

    fn is_unreported(&self) -> bool {
        self.is_listening() && !self.reported.load(SeqCst)
    }

    /// Tells rinit, once, that the program waits for connections here. The program goes on if this fails.
    fn report(&self, fd: c_int) {
        self.reported.store(true, SeqCst);
        let _ = request(&[SERVING], &[], fd);
        // In this order: a socket that another thread records meanwhile is seen here, or sets this again.
        MAY_BE_UNREPORTED.store(false, SeqCst);
        if live().any(Entry::is_unreported) {
            MAY_BE_UNREPORTED.store(true, SeqCst);
        }
    }

    fn set_polled(&self) {
        self.polled.store(true, SeqCst);
        // In this order, as above.
        MAY_BE_POLLED.store(false, SeqCst);
        if live().any(Entry::accept_blocks) {
            MAY_BE_POLLED.store(true, SeqCst);
        }
    }

    /// Returns true if nothing is recorded here, or a socket that is closed.
    fn is_free(&self) -> bool {
        let cookie = self.cookie.load(SeqCst);
        cookie == 0 || option(self.number.load(SeqCst), SOL_SOCKET, SO_COOKIE) != Some(cookie)
    }
}

/// Records a socket that is shared from now on.
pub fn remember(fd: c_int, blocking: bool, listens: bool) {
    let flags = control(fd, F_GETFL, 0);
    if flags < 0 || control(fd, F_SETFL, flags as c_int | O_NONBLOCK) != 0 {
        return;
    }
    if let Some(entry) = record(fd, true, listens) {
        entry.set_blocking(fd, blocking);
    }
}

/// Records a socket. Before Linux 4.12 there are no cookies: it is not recorded.
fn record(fd: c_int, shared: bool, listens: bool) -> Option<&'static Entry> {
    let cookie = option::<u64>(fd, SOL_SOCKET, SO_COOKIE)?;
    let home = fd as usize % ENTRIES.len();
    let from_home = (0..ENTRIES.len()).map(|step| &ENTRIES[(home + step) % ENTRIES.len()]);
    let entry = find(cookie).or_else(|| from_home.into_iter().find(|entry| entry.is_free())).unwrap_or(&ENTRIES[home]);
    entry.cookie.store(0, SeqCst);
    entry.number.store(fd, SeqCst);
    for (flag, value) in [
        (&entry.shared, shared),
        (&entry.blocking, false),
        (&entry.polled, false),
        (&entry.listening, listens),
        (&entry.reported, false),
    ] {
        flag.store(value, SeqCst);
    }
    entry.cookie.store(cookie, SeqCst);
    LOOKUPS_LEFT.store(MAX_LOOKUPS, SeqCst);
    ANY.store(true, SeqCst);
    if listens {
        MAY_BE_UNREPORTED.store(true, SeqCst);
    }
    Some(entry)
}

/// Records the sockets that the program has inherited.
pub fn inherit() {
    for fd in 0..MAX_INHERITED {
        let Some(listens) = option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) else { continue };
        match control(fd, F_GETSIG, 0) as c_int {
            BLOCKING_MARK => remember(fd, true, true),
            NONBLOCKING_MARK => remember(fd, false, true),
            _ if listens == 1 => drop(record(fd, false, true)),
            _ => {}
        }
    }
}

/// The entry of a socket that came from rinit.
pub fn known(fd: c_int) -> Option<&'static Entry> {
    lookup(fd).filter(|entry| entry.shared.load(SeqCst))
}

fn lookup(fd: c_int) -> Option<&'static Entry> {
    if !ANY.load(SeqCst) {
        return None;
    }
    find(option(fd, SOL_SOCKET, SO_COOKIE)?)
}

fn find(cookie: u64) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.cookie.load(SeqCst) == cookie)
}

fn live() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(|entry| entry.cookie.load(SeqCst) != 0)
}

/// The program has called `listen`. The program goes on if rinit cannot be told.
pub fn on_listen(fd: c_int) {
    let Some(entry) = lookup(fd).or_else(|| record(fd, false, true)) else { return };
    entry.number.store(fd, SeqCst);
    entry.listening.store(true, SeqCst);
    if !entry.is_unreported() {
        return;
    }
    if io_uring::is_used() {
        return entry.report(fd);
    }
    LOOKUPS_LEFT.store(MAX_LOOKUPS, SeqCst);
    MAY_BE_UNREPORTED.store(true, SeqCst);
    // When the reply arrives rinit knows it, whatever the program says next (`READY=1`).
    let _ = request(&[LISTENING], &[], fd).and_then(|broker| reply(&broker));
}

/// The program accepts connections of this socket.
pub fn on_accept(fd: c_int) {
    if MAY_BE_UNREPORTED.load(SeqCst)
        && let Some(entry) = lookup(fd).filter(|entry| entry.is_unreported())
    {
        entry.report(fd);
    }
}

/// The program polls these descriptors.
pub fn on_poll(descriptors: impl Iterator<Item = c_int>) {
    if !MAY_BE_POLLED.load(SeqCst) && !MAY_BE_UNREPORTED.load(SeqCst) {
        return;
    }
    for fd in descriptors {
        let is_number = live().any(|entry| entry.number.load(SeqCst) == fd);
        let lookups = LOOKUPS_LEFT.load(SeqCst);
        if !is_number && lookups == 0 {
            continue;
        }
        if !is_number {
            LOOKUPS_LEFT.store(lookups - 1, SeqCst);
        }
        let Some(entry) = lookup(fd) else { continue };
        if entry.accept_blocks() {
            entry.set_polled();
        }
        if entry.is_unreported() {
            entry.report(fd);
        }
    }
}
