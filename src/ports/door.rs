//! Where the preloaded library of a worker calls (`preload/library.rs`): one socket a worker, in the abstract namespace, so
//! that the call itself tells which worker it is.
//!
//! A call is one packet with the app's socket attached: a byte that says what it is about, a byte `IPV6_V6ONLY`, and the
//! address. The answer is an errno, with the shared socket where there is one already:
//!
//! | call | about | answer |
//! |---|---|---|
//! | 1 | the app wants to bind its socket | 0: it is bound; 0 and a socket: take that one; an errno; -1: do it yourself |
//! | 2 | its socket listens now | none |
//! | 3 | its socket is none to be shared: it connects | 0 |
//! | 4 | a socket that came by Node's channel is to listen | 0 and the worker's queue for it; -1: it has none |
//! | 5 | something is asked of such a queue | 0 and the listening socket behind it; -1: there is none |
//!
//! A call of the worker's own process also says that the library is in it.
//!
//! The first worker's own socket becomes the shared one, with all of its options.

use super::{Address, Balance};
use crate::core::{AppId, SlotId, WorkerId};
use crate::sys::peer::{Identity, holds};
use crate::sys::socket::{accept, bind, cookie, receive, send};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_unix, getsockname, getsockopt, listen,
    setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

/// So many callers of one worker wait at the most; they are heard within microseconds.
const CALLERS: i32 = 64;
/// A worker shares so many sockets at the most; of each rinit has a descriptor.
const SOCKETS: usize = 256;
/// The longest packet.
const PACKET: usize = 64;
/// What tells the library to do as if it were not there.
const NOT_MINE: i32 = -1;

/// A worker's door.
pub struct Door {
    socket: OwnedFd,
    who: Option<Identity>,
}

/// Somebody at the door.
pub(super) struct Caller {
    pub(super) worker: WorkerId,
    socket: OwnedFd,
    pid: Pid,
}

/// The sockets that the preloaded library shares.
#[derive(Default)]
pub(super) struct SharedSockets(Vec<SharedSocket>);

struct SharedSocket {
    app: AppId,
    address: Address,
    /// Whose it is, where each slot has one.
    slot: Option<u32>,
    socket: Arc<OwnedFd>,
    cookie: u64,
    /// Who was given it.
    holders: Vec<(WorkerId, Pid)>,
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing yet: the packet has not come.
    Wait,
    /// It is answered.
    Done,
    /// The worker listens there.
    Listens { place: String },
    /// It wants its queue for the listening socket of that cookie.
    WantsQueue(u64),
    /// It asks for what is behind the queue of that cookie.
    LooksBehind(u64),
}

impl Door {
    /// A door, and the name by which the worker finds it (`RINIT_PORTS`).
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn open() -> nix::Result<(Door, OsString)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        // The kernel picks a name that is free (unix(7), autobind).
        bind_unix(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        listen(&socket, Backlog::new(CALLERS)?)?;
        let address: UnixAddr = getsockname(socket.as_raw_fd())?;
        let mut name = b"@".to_vec();
        name.extend_from_slice(address.as_abstract().unwrap_or_default());
        Ok((Door { socket, who: None }, OsString::from_vec(name)))
    }

    /// From now on, who may call.
    pub(super) fn belongs_to(&mut self, who: Identity) {
        self.who = Some(who);
    }

    /// Lets the next one in. A stranger is sent away.
    pub(super) fn let_in(&self, worker: WorkerId) -> nix::Result<Option<Caller>> {
        let socket = accept(self.socket.as_fd())?;
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
        let is_known = self.who.is_some_and(|who| who.is_trusted(&peer));
        if !is_known {
            tracing::debug!("process {} of user {} is no process of worker {worker:?}", peer.pid(), peer.uid());
        }
        Ok(is_known.then(|| Caller { worker, socket, pid: Pid::from_raw(peer.pid()) }))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl SharedSockets {
    /// Hears what a caller wants and answers. `private` is a port that is not shared.
    pub(super) fn hear(&mut self, caller: &Caller, slot: SlotId, balance: Balance, private: Option<u16>) -> Heard {
        let mut packet = [0; PACKET];
        let (count, mut descriptors) = match receive(caller.socket.as_fd(), &mut packet) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Heard::Wait,
            Err(_) => return Heard::Done,
        };
        let packet = packet.get(..count).unwrap_or_default();
        match (packet, descriptors.pop()) {
            ([1, v6_only, address @ ..], Some(socket)) => {
                let answer = match Address::read(address, *v6_only != 0) {
                    Some(address) if private != Some(address.port()) => {
                        let own = (balance == Balance::Reuseport).then_some(slot.index);
                        self.bind(caller, slot.app, own, address, socket)
                    }
                    Some(_) | None => Ok(Answer::Errno(NOT_MINE)),
                };
                match answer {
                    Ok(Answer::Errno(errno)) => reply(caller, errno, None),
                    Ok(Answer::Socket(shared)) => reply(caller, 0, Some(shared.as_fd())),
                    Err(errno) => reply(caller, errno as i32, None),
                }
                Heard::Done
            }
            ([2, ..], Some(socket)) => self.listens(&socket),
            ([3, ..], Some(socket)) => {
                self.forget(&socket);
                reply(caller, 0, None);
                Heard::Done
            }
            ([4, ..], Some(socket)) => cookie(socket.as_fd()).map_or(Heard::Done, Heard::WantsQueue),
            ([5, ..], Some(socket)) => cookie(socket.as_fd()).map_or(Heard::Done, Heard::LooksBehind),
            _ => Heard::Done,
        }
    }

    fn bind(
        &mut self,
        caller: &Caller,
        app: AppId,
        slot: Option<u32>,
        address: Address,
        socket: OwnedFd,
    ) -> nix::Result<Answer> {
        let is_it = |one: &SharedSocket| one.app == app && one.slot == slot && one.address == address;
        if let Some(at) = self.0.iter().position(is_it)
            && let Some(shared) = self.0.get_mut(at)
        {
            // A worker that has it already, and asks again, is told what it would be told without rinit.
            let mut own = shared.holders.iter().filter(|(worker, _)| *worker == caller.worker);
            if own.any(|(_, pid)| holds(*pid, &shared.socket) == Some(true)) {
                return Err(Errno::EADDRINUSE);
            }
            if !shared.holders.contains(&(caller.worker, caller.pid)) {
                shared.holders.push((caller.worker, caller.pid));
            }
            return Ok(Answer::Socket(shared.socket.clone()));
        }
        let own = self.0.iter().filter(|one| one.holders.iter().any(|(worker, _)| *worker == caller.worker));
        if own.count() >= SOCKETS {
            return Ok(Answer::Errno(NOT_MINE));
        }
        if slot.is_some() {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
        }
        match bind(socket.as_fd(), &address) {
            Err(Errno::EADDRINUSE) if self.let_go(app, &address) => bind(socket.as_fd(), &address),
            result => result,
        }?;
        let cookie = cookie(socket.as_fd())?;
        let holders = vec![(caller.worker, caller.pid)];
        let socket = Arc::new(socket);
        self.0.push(SharedSocket { app, address, slot, socket, cookie, holders });
        Ok(Answer::Errno(0))
    }

    /// Lets go of the sockets that are in the way of an address and that nobody has open any more: apps try so whether a port
    /// is free.
    fn let_go(&mut self, app: AppId, address: &Address) -> bool {
        let before = self.0.len();
        self.0.retain(|one| {
            let in_the_way = one.app == app && one.address.port() == address.port() && one.address != *address;
            let mut holders = one.holders.iter();
            !in_the_way || holders.any(|(_, pid)| holds(*pid, &one.socket) != Some(false))
        });
        self.0.len() < before
    }

    fn listens(&self, socket: &OwnedFd) -> Heard {
        let Some(at) = self.position(socket) else { return Heard::Done };
        self.0.get(at).map_or(Heard::Done, |shared| Heard::Listens { place: shared.address.to_string() })
    }

    fn forget(&mut self, socket: &OwnedFd) {
        if let Some(at) = self.position(socket) {
            self.0.remove(at);
        }
    }

    fn position(&self, socket: &OwnedFd) -> Option<usize> {
        let cookie = cookie(socket.as_fd()).ok()?;
        self.0.iter().position(|one| one.cookie == cookie)
    }

    /// A worker is gone. With `others`, which go on, what nobody holds any more is closed; without, it waits for the next.
    pub(super) fn gone(&mut self, worker: WorkerId, others: bool) {
        for shared in &mut self.0 {
            shared.holders.retain(|(holder, _)| *holder != worker);
        }
        if others {
            self.0.retain(|shared| !shared.holders.is_empty());
        }
    }

    /// The container stops: what the workers close is closed.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}

enum Answer {
    Errno(i32),
    Socket(Arc<OwnedFd>),
}

impl Caller {
    /// Whether it is the worker itself, and not one of its children.
    pub(super) fn is(&self, door: &Door) -> bool {
        door.who.is_some_and(|who| who.pid == self.pid)
    }

    /// Gives it what it asked for, if there is something.
    pub(super) fn give(&self, socket: Option<BorrowedFd>) {
        reply(self, if socket.is_some() { 0 } else { NOT_MINE }, socket);
    }
}

/// A caller that does not wait for its answer gets none.
fn reply(caller: &Caller, errno: i32, shared: Option<BorrowedFd>) {
    let _ = send(caller.socket.as_fd(), &errno.to_ne_bytes(), shared);
}
