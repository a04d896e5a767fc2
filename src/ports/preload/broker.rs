//! Accepts the requests of a worker's preloaded library.
//!
//! Each worker has a broker of its own, a socket in the abstract namespace, so the connection itself tells which worker the
//! client belongs to. A connection carries one request (`protocol.rs`). One of the worker's own process also says that the
//! library is in it.

use super::protocol::{MAX_REQUEST_BYTES, Reply};
use crate::core::WorkerId;
use crate::ports::ListenerId;
use crate::sys::peer::Identity;
use crate::sys::process::why_not_now;
use crate::sys::socket::{accept, cookie, receive, send};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockname, getsockopt, listen, socket, sockopt,
};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The maximum number of clients that wait at one broker; they are accepted within microseconds.
const MAX_WAITING_CLIENTS: i32 = 64;

/// The broker of one worker.
pub struct Broker {
    socket: OwnedFd,
    owner: Option<Identity>,
}

/// A connection to a broker: one request of a preloaded library.
pub struct Client {
    pub(in crate::ports) worker: WorkerId,
    pub(super) pid: Pid,
    /// The listener whose socket is in the reply that it has not taken yet.
    pub(in crate::ports) bound: Option<ListenerId>,
    socket: OwnedFd,
}

impl Broker {
    /// Opens a broker. The name by which the worker finds it (`RINIT_PORTS`).
    ///
    /// # Errors
    /// No descriptors left.
    pub(in crate::ports) fn open() -> nix::Result<(Broker, OsString)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        // The kernel picks a free name (unix(7), autobind).
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        listen(&socket, Backlog::new(MAX_WAITING_CLIENTS)?)?;
        let address: UnixAddr = getsockname(socket.as_raw_fd())?;
        let mut name = b"@".to_vec();
        name.extend_from_slice(address.as_abstract().unwrap_or_default());
        Ok((Broker { socket, owner: None }, OsString::from_vec(name)))
    }

    /// Checks that the kernel lets rinit have a broker.
    ///
    /// # Errors
    /// The reason, if that will not change: a seccomp filter refuses such a socket, or the kernel is too old.
    pub(in crate::ports) fn check() -> Result<(), String> {
        match Broker::open().map(|(broker, _)| cookie(broker.socket.as_fd())) {
            Ok(Err(_)) => Err("the kernel does not number its sockets (SO_COOKIE, Linux 4.12)".into()),
            Err(errno) if why_not_now(errno).is_none() => {
                Err(format!("the kernel refuses a unix socket: {}; see the container's seccomp profile", errno.desc()))
            }
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Sets the process that may connect, with its children.
    pub(in crate::ports) fn set_owner(&mut self, owner: Identity) {
        self.owner = Some(owner);
    }

    /// The process that may connect.
    pub(in crate::ports) fn owner(&self) -> Option<Pid> {
        self.owner.map(|owner| owner.pid)
    }

    /// Accepts the next client; `None` if it is a stranger, which is disconnected.
    pub(super) fn accept(&self, worker: WorkerId) -> nix::Result<Option<Client>> {
        let socket = accept(self.socket.as_fd(), true)?.0;
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
        let is_trusted = self.owner.is_some_and(|owner| owner.is_trusted(&peer));
        if !is_trusted {
            tracing::debug!("process {} of user {} is no process of worker {worker:?}", peer.pid(), peer.uid());
        }
        Ok(is_trusted.then(|| Client { worker, socket, pid: Pid::from_raw(peer.pid()), bound: None }))
    }
}

impl AsFd for Broker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// Returns true if the client is the worker itself, and not one of its children.
    pub(super) fn is_main_process_of(&self, broker: &Broker) -> bool {
        broker.owner.is_some_and(|owner| owner.pid == self.pid)
    }

    /// Reads the request and the socket that it is about. Returns the request's length in bytes.
    ///
    /// # Errors
    /// `EAGAIN`: it has not arrived; the client is gone, or has sent no socket.
    pub(super) fn read(&self, request: &mut [u8; MAX_REQUEST_BYTES]) -> nix::Result<(usize, OwnedFd)> {
        let (length, mut sockets) = receive(self.socket.as_fd(), request)?;
        Ok((length, sockets.pop().ok_or(Errno::EBADMSG)?))
    }

    /// Replies, with a descriptor where there is one. A client that does not wait for its reply gets none.
    pub(super) fn reply(&self, reply: Reply, socket: Option<BorrowedFd>) {
        let _ = send(self.socket.as_fd(), &reply.encode().to_ne_bytes(), socket);
    }
}
