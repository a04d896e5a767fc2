//! The sockets that came from rinit, and how the program believes them to be.
//!
//! One `accept` that blocks is one too many: a program that waits by `poll` and then accepts would be stuck when another
//! worker was faster. So all shared sockets have `O_NONBLOCK`, which is of the socket and not of the number, so of all
//! workers. What the program itself wanted is kept here, and `fcntl` and `ioctl` speak of that.

use crate::kernel::*;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// What the program knows of a socket.
pub struct Place {
    /// 0: nothing is here.
    cookie: AtomicU64,
    /// It believes that its `accept` blocks.
    blocking: AtomicBool,
    /// It has waited for this socket by `poll`, `select` or `epoll`: `accept` is to take what is there, or fail.
    polled: AtomicBool,
    /// It has called `listen`.
    listens: AtomicBool,
}

/// Each is at its descriptor's number modulo the table's size, so that two threads do not want the same place and plain
/// stores do: on aarch64 `core`'s other atomic operations look up the machine's features when the program starts. What
/// is overwritten is mostly closed already.
static PLACES: [Place; 256] = [const { Place::new() }; 256];

/// Whether there has been a socket. Until then nothing is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

/// Whether one may be there that the program waits for by polling, and we have not seen that yet.
static CURIOUS: AtomicBool = AtomicBool::new(false);

/// How many descriptors of one `poll` or `select` are looked at: each costs a system call, until all is known.
const GLANCE: usize = 16;

/// The signal of a shared socket that is to be believed blocking (`F_SETSIG`, of the socket and not of the number). It
/// is never sent, as nobody sets `O_ASYNC`; it tells a program that has inherited the socket, and so not called `bind`.
const MARK: c_int = 63;

/// So many descriptors are looked at for inherited sockets.
const INHERITED: c_int = 64;

impl Place {
    const fn new() -> Place {
        Place {
            cookie: AtomicU64::new(0),
            blocking: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            listens: AtomicBool::new(false),
        }
    }

    pub fn listens(&self) -> bool {
        self.listens.load(SeqCst)
    }

    pub fn has_called_listen(&self) {
        self.listens.store(true, SeqCst);
    }

    pub fn is_believed_blocking(&self) -> bool {
        self.blocking.load(SeqCst)
    }

    /// Whether `accept` is to wait for a connection.
    pub fn waits(&self) -> bool {
        self.is_believed_blocking() && !self.polled.load(SeqCst)
    }

    /// The program wants the socket so from now on.
    pub fn believe(&self, fd: c_int, blocking: bool) {
        control(fd, F_SETSIG, if blocking { MARK } else { 0 });
        self.blocking.store(blocking, SeqCst);
        if blocking {
            CURIOUS.store(true, SeqCst);
        }
    }

    /// The program is to have it as if there were no rinit.
    pub fn forget(&self, fd: c_int) {
        self.cookie.store(0, SeqCst);
        if self.is_believed_blocking() {
            control(fd, F_SETSIG, 0);
            control(fd, F_SETFL, control(fd, F_GETFL, 0) as c_int & !O_NONBLOCK);
        }
    }
}

/// Takes in a socket that is shared from now on.
pub fn remember(fd: c_int, blocking: bool, listens: bool) {
    // Before Linux 4.12 there are no cookies: nothing is remembered, and the socket stays as it was.
    let Some(cookie) = option::<u64>(fd, SOL_SOCKET, SO_COOKIE) else { return };
    let flags = control(fd, F_GETFL, 0);
    if flags < 0 || control(fd, F_SETFL, flags as c_int | O_NONBLOCK) != 0 {
        return;
    }
    let place = find(cookie).unwrap_or(&PLACES[fd as usize % PLACES.len()]);
    place.polled.store(false, SeqCst);
    place.listens.store(listens, SeqCst);
    place.cookie.store(cookie, SeqCst);
    place.believe(fd, blocking);
    ANY.store(true, SeqCst);
}

/// Takes in what came with the program.
pub fn inherit() {
    for fd in 0..INHERITED {
        if control(fd, F_GETSIG, 0) == MARK as isize {
            remember(fd, true, true);
        }
    }
}

/// The place of a socket that came from rinit.
pub fn known(fd: c_int) -> Option<&'static Place> {
    if !ANY.load(SeqCst) {
        return None;
    }
    find(option(fd, SOL_SOCKET, SO_COOKIE)?)
}

fn find(cookie: u64) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.cookie.load(SeqCst) == cookie)
}

/// The program waits by polling until one of these is readable.
pub fn polls(descriptors: impl FnOnce() -> Glance) {
    if !CURIOUS.load(SeqCst) {
        return;
    }
    let Glance(found, count) = descriptors();
    for place in found.iter().take(count).filter_map(|fd| known(*fd)) {
        place.polled.store(true, SeqCst);
        // In this order, so that a socket that comes meanwhile is seen here, or stays to be looked for.
        CURIOUS.store(false, SeqCst);
        if PLACES.iter().any(|place| place.cookie.load(SeqCst) != 0 && place.waits()) {
            CURIOUS.store(true, SeqCst);
        }
    }
}

/// The first descriptors of a call.
pub struct Glance([c_int; GLANCE], usize);

impl FromIterator<c_int> for Glance {
    fn from_iter<I: IntoIterator<Item = c_int>>(all: I) -> Glance {
        let mut glance = Glance([-1; GLANCE], 0);
        for (place, fd) in glance.0.iter_mut().zip(all) {
            *place = fd;
            glance.1 += 1;
        }
        glance
    }
}
