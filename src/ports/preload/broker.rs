//! Gives shared sockets to the preloaded library of a worker.
//!
//! Each worker has a broker of its own, a socket in the abstract namespace, so the connection itself tells which worker the
//! client belongs to. `protocol.rs` lists the requests. A connection of the worker's own process also says that the library
//! is in it. The first worker's own socket becomes the shared one, with all of its options.

use super::protocol::{BEHIND, BIND, FORGET, LISTENING, QUEUE, SERVING};
use crate::core::{AppId, SlotId, WorkerId};
use crate::ports::sockets::shown_address;
use crate::ports::{Address, AppPorts, Balance};
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

/// The maximum number of clients that wait at one broker; they are accepted within microseconds.
const MAX_WAITING_CLIENTS: i32 = 64;
/// The maximum number of sockets that a worker shares; rinit has a descriptor of each.
const MAX_SOCKETS: usize = 256;
/// The maximum length of a request, in bytes.
const MAX_REQUEST_BYTES: usize = 64;

/// The reply that tells the library to act as if it were not there.
const NOT_SHARED: i32 = -1;

/// The broker of one worker.
pub struct Broker {
    socket: OwnedFd,
    owner: Option<Identity>,
}

/// A connection to a broker: one request of a preloaded library.
pub struct Client {
    pub(in crate::ports) worker: WorkerId,
    socket: OwnedFd,
    pid: Pid,
}

/// The sockets that preloaded libraries share.
#[derive(Default)]
pub struct SharedSockets(Vec<SharedSocket>);

struct SharedSocket {
    app: AppId,
    address: Address,
    /// The slot that it belongs to, where each slot has one.
    slot: Option<u32>,
    socket: Arc<OwnedFd>,
    cookie: u64,
    /// The processes that were given it.
    holders: Vec<(WorkerId, Pid)>,
}

/// The outcome of reading a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request has not arrived.
    Pending,
    /// It is answered.
    Answered,
    /// That process of the worker listens at that address.
    Listening { address: String, pid: Pid },
    /// The worker waits for connections at that address.
    Serving { address: String },
    /// It requests its accept queue for the listening socket with that cookie.
    QueueRequested { socket: u64 },
    /// It requests the listening socket behind the accept queue with that cookie.
    ListenerRequested { queue: u64 },
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
        bind_unix(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        listen(&socket, Backlog::new(MAX_WAITING_CLIENTS)?)?;
        let address: UnixAddr = getsockname(socket.as_raw_fd())?;
        let mut name = b"@".to_vec();
        name.extend_from_slice(address.as_abstract().unwrap_or_default());
        Ok((Broker { socket, owner: None }, OsString::from_vec(name)))
    }

    /// Sets the process that may connect, with its children.
    pub(in crate::ports) fn set_owner(&mut self, owner: Identity) {
        self.owner = Some(owner);
    }

    /// Accepts the next client; `None` if it is a stranger, which is disconnected.
    pub(super) fn accept(&self, worker: WorkerId) -> nix::Result<Option<Client>> {
        let socket = accept(self.socket.as_fd())?;
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
        let is_trusted = self.owner.is_some_and(|owner| owner.is_trusted(&peer));
        if !is_trusted {
            tracing::debug!("process {} of user {} is no process of worker {worker:?}", peer.pid(), peer.uid());
        }
        Ok(is_trusted.then(|| Client { worker, socket, pid: Pid::from_raw(peer.pid()) }))
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

impl SharedSockets {
    /// Reads a client's request, and answers it where this needs no worker. `private_port` is a port that is not shared.
    pub(super) fn serve(
        &mut self,
        client: &Client,
        slot: SlotId,
        app: &AppPorts,
        private_port: Option<u16>,
    ) -> Outcome {
        let mut request = [0; MAX_REQUEST_BYTES];
        let (count, mut descriptors) = match receive(client.socket.as_fd(), &mut request) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Outcome::Pending,
            Err(_) => return Outcome::Answered,
        };
        let request = request.get(..count).unwrap_or_default();
        let (Some(socket), Some((kind, body))) = (descriptors.pop(), request.split_first()) else {
            return Outcome::Answered;
        };
        let cookie = || cookie(socket.as_fd()).ok();
        match (*kind, body) {
            (BIND, [v6_only, address @ ..]) => {
                let reply = match Address::read(address, *v6_only != 0) {
                    Some(address) if private_port != Some(address.port()) => {
                        let own_slot = (app.balance == Balance::Reuseport).then_some(slot.index);
                        self.bind(client, slot.app, own_slot, address, socket)
                    }
                    Some(_) | None => Ok(Reply::Errno(NOT_SHARED)),
                };
                match reply {
                    Ok(Reply::Errno(errno)) => client.reply(errno, None),
                    Ok(Reply::Socket(shared)) => client.reply(0, Some(shared.as_fd())),
                    Err(errno) => client.reply(errno as i32, None),
                }
                Outcome::Answered
            }
            (LISTENING, _) => match self.address(&socket, app) {
                Some(address) => Outcome::Listening { address, pid: client.pid },
                None => {
                    client.reply(0, None);
                    Outcome::Answered
                }
            },
            (SERVING, _) => match self.address(&socket, app) {
                Some(address) => Outcome::Serving { address },
                None => Outcome::Answered,
            },
            (FORGET, _) => {
                if let Some(at) = self.find(&socket) {
                    self.0.remove(at);
                }
                client.reply(0, None);
                Outcome::Answered
            }
            (QUEUE, _) => cookie().map_or(Outcome::Answered, |socket| Outcome::QueueRequested { socket }),
            (BEHIND, _) => cookie().map_or(Outcome::Answered, |queue| Outcome::ListenerRequested { queue }),
            (_, _) => Outcome::Answered,
        }
    }

    fn bind(
        &mut self,
        client: &Client,
        app: AppId,
        slot: Option<u32>,
        address: Address,
        socket: OwnedFd,
    ) -> nix::Result<Reply> {
        // The kernel allows the same address once for each interface (`SO_BINDTODEVICE`, socket(7)).
        let device = |socket: &OwnedFd| getsockopt(socket, sockopt::BindToDevice).unwrap_or_default();
        let own_device = device(&socket);
        let is_it = |one: &SharedSocket| {
            one.app == app && one.slot == slot && one.address == address && device(&one.socket) == own_device
        };
        if let Some(at) = self.0.iter().position(is_it)
            && let Some(shared) = self.0.get_mut(at)
        {
            // A worker that has the socket open already gets the error that it would get without rinit: none with
            // SO_REUSEPORT, as nginx, Netty and granian bind it for each of their threads or processes.
            let is_again = getsockopt(&socket, sockopt::ReusePort).unwrap_or_default();
            let mut own = shared.holders.iter().filter(|(worker, _)| *worker == client.worker);
            if !is_again && own.any(|(_, pid)| holds(*pid, &shared.socket) == Some(true)) {
                return Err(Errno::EADDRINUSE);
            }
            if !shared.holders.contains(&(client.worker, client.pid)) {
                shared.holders.push((client.worker, client.pid));
            }
            return Ok(Reply::Socket(shared.socket.clone()));
        }
        let own = self.0.iter().filter(|one| one.holders.iter().any(|(worker, _)| *worker == client.worker));
        if own.count() >= MAX_SOCKETS {
            return Ok(Reply::Errno(NOT_SHARED));
        }
        if slot.is_some() {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
        }
        match bind(socket.as_fd(), &address) {
            Err(Errno::EADDRINUSE) if self.release(app, &address) => bind(socket.as_fd(), &address),
            result => result,
        }?;
        let cookie = cookie(socket.as_fd())?;
        let holders = vec![(client.worker, client.pid)];
        let socket = Arc::new(socket);
        self.0.push(SharedSocket { app, address, slot, socket, cookie, holders });
        Ok(Reply::Errno(0))
    }

    /// Releases the sockets that occupy an address and that no process has open any more: apps bind and close a socket to
    /// find out if a port is free.
    fn release(&mut self, app: AppId, address: &Address) -> bool {
        let before = self.0.len();
        self.0.retain(|one| {
            let occupies = one.app == app && one.address.port() == address.port() && one.address != *address;
            let mut holders = one.holders.iter();
            !occupies || holders.any(|(_, pid)| holds(*pid, &one.socket) != Some(false))
        });
        self.0.len() < before
    }

    /// The address of a shared socket, or of one of `--listen`; `None`: it is another socket.
    fn address(&self, socket: &OwnedFd, app: &AppPorts) -> Option<String> {
        if let Some(shared) = self.find(socket).and_then(|at| self.0.get(at)) {
            return Some(shared.address.to_string());
        }
        let wanted = cookie(socket.as_fd()).ok()?;
        let inherited = app.inherited.iter().find(|one| cookie(one.as_fd()) == Ok(wanted))?;
        shown_address(inherited)
    }

    fn find(&self, socket: &OwnedFd) -> Option<usize> {
        let cookie = cookie(socket.as_fd()).ok()?;
        self.0.iter().position(|one| one.cookie == cookie)
    }

    /// Removes a worker that has ended. Sockets that no worker holds any more are closed if the app has other workers;
    /// otherwise they wait for the next worker.
    pub(in crate::ports) fn remove_worker(&mut self, worker: WorkerId, has_others: bool) {
        for shared in &mut self.0 {
            shared.holders.retain(|(holder, _)| *holder != worker);
        }
        if has_others {
            self.0.retain(|shared| !shared.holders.is_empty());
        }
    }

    /// Closes an app's sockets, as far as rinit holds them.
    pub(in crate::ports) fn close(&mut self, app: AppId) {
        self.0.retain(|shared| shared.app != app);
    }
}

enum Reply {
    Errno(i32),
    Socket(Arc<OwnedFd>),
}

impl Client {
    /// Returns true if the client is the worker itself, and not one of its children.
    pub(super) fn is_main_process_of(&self, broker: &Broker) -> bool {
        broker.owner.is_some_and(|owner| owner.pid == self.pid)
    }

    /// Replies with a descriptor, or with [`NOT_SHARED`] where there is none.
    pub(super) fn reply_with(&self, socket: Option<BorrowedFd>) {
        self.reply(if socket.is_some() { 0 } else { NOT_SHARED }, socket);
    }

    /// A client that does not wait for its reply gets none.
    pub(super) fn reply(&self, errno: i32, socket: Option<BorrowedFd>) {
        let _ = send(self.socket.as_fd(), &errno.to_ne_bytes(), socket);
    }
}
