//! Represents an address on which an app's Node workers listen: its sockets, its waiting connections, its workers.

use super::accept_queue::Delivery;
use super::node::Query;
use super::sockets::{self, SocketOptions, address_of};
use super::worker::{Connection, PortWorker};
use super::{Balance, ListenerId};
use crate::core::{AppId, SlotId, WorkerId};
use crate::sys::socket::{MOST, listen, steer};
use nix::errno::Errno;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One address on which workers of an app listen.
pub(super) struct Listener {
    pub(super) app: AppId,
    pub(super) key: String,
    /// Its name in the log: `port 8080`.
    pub(super) address: String,
    pub(super) kind: Kind,
    /// One, or one for each slot.
    pub(super) sockets: Vec<Socket>,
    /// The data that the first worker left for the others.
    pub(super) data: Value,
    /// Accepted connections that found no worker.
    pub(super) waiting: VecDeque<Connection>,
    /// The workers that may get the next connection, in the order of their starts.
    pub(super) candidates: Vec<WorkerId>,
    /// The number of connections that each of them was assigned.
    pub(super) assigned: Vec<u64>,
    /// The position in `candidates` of the worker that got the last connection.
    pub(super) last_assigned: usize,
    file: Option<SocketFile>,
    backlog: i32,
    /// The query that opened it, for another slot's socket.
    query: Query,
}

/// The path of connections to the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// rinit accepts connections and dispatches them.
    Dispatched,
    /// Every worker accepts from the one socket.
    Shared,
    /// A socket for each slot; the kernel spreads by the connections' addresses.
    PerSlot,
    /// Datagrams: every worker reads from the one socket.
    Datagrams,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Dispatched => "rinit accepts, and hands connections out in turn",
            Kind::Shared => "they accept from one socket",
            Kind::PerSlot => "each has a socket of its own",
            Kind::Datagrams => "they read from one socket",
        })
    }
}

pub(super) struct Socket {
    /// The slot that it belongs to, where each slot has one.
    pub(super) slot: u32,
    pub(super) socket: Arc<OwnedFd>,
    /// rinit itself watches it for connections.
    pub(super) is_watched: bool,
}

/// A socket's file, as it was when it was made.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Opens the address of a worker's query. `inherited` are the sockets of `--listen`, which the app knows as descriptors
    /// from 3 on.
    ///
    /// # Errors
    /// The errors that the app sees: `EADDRINUSE`, `EACCES`, `EBADF`…
    pub(super) fn open(
        slot: SlotId,
        balance: Balance,
        query: Query,
        inherited: &[Arc<OwnedFd>],
    ) -> nix::Result<Listener> {
        let is_udp = query.is_udp();
        let is_internet = query.fd.is_none_or(|fd| fd < 0) && query.port.is_some_and(|port| port >= 0);
        let kind = match balance {
            _ if is_udp => Kind::Datagrams,
            Balance::RoundRobin => Kind::Dispatched,
            Balance::Reuseport if is_internet => Kind::PerSlot,
            Balance::Reuseport | Balance::Shared => Kind::Shared,
        };
        let options =
            SocketOptions { nonblocking: true, v6_only: query.flags() & 1 != 0, reuse_port: kind == Kind::PerSlot };
        let (socket, file) = match query.fd {
            Some(fd) if fd >= 0 => {
                let at = usize::try_from(fd - i64::from(super::FIRST_SOCKET)).ok();
                let socket = at.and_then(|at| inherited.get(at)).ok_or(Errno::EBADF)?;
                let copy = socket.try_clone().map_err(|_| Errno::EMFILE)?;
                nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
                (copy, None)
            }
            _ if is_internet => (open_internet(&query, options)?, None),
            _ => {
                let path = Path::new(query.address.as_deref().ok_or(Errno::EINVAL)?);
                // libuv reports EACCES, which apps expect.
                let socket =
                    sockets::unix(path).map_err(|errno| if errno == Errno::ENOENT { Errno::EACCES } else { errno })?;
                nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
                apply_permissions(path, &query);
                (socket, Some(SocketFile { path: path.into(), identity: identity(path) }))
            }
        };
        // An app that sets no backlog gets the largest: connections wait while workers come and go.
        let backlog = query.backlog.as_i64().filter(|backlog| *backlog > 0);
        let backlog = backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(MOST);
        if kind != Kind::Datagrams {
            listen(socket.as_fd(), backlog)?;
        }
        let address = match (&file, address_of(&socket)) {
            (Some(file), _) => file.path.display().to_string(),
            (None, Some(address)) if address.ip().is_unspecified() => format!("port {}", address.port()),
            (None, Some(address)) => address.to_string(),
            (None, None) => format!("descriptor {}", query.fd.unwrap_or_default()),
        };
        Ok(Listener {
            app: slot.app,
            key: query.key(),
            address: if is_udp { format!("UDP {address}") } else { address },
            kind,
            sockets: vec![Socket { slot: slot.index, socket: Arc::new(socket), is_watched: false }],
            data: query.data.clone(),
            waiting: VecDeque::new(),
            candidates: Vec::new(),
            assigned: Vec::new(),
            last_assigned: 0,
            file,
            backlog,
            query,
        })
    }

    /// The socket for a worker of that slot, opened where each slot has its own.
    ///
    /// # Errors
    /// As for [`Listener::open`].
    pub(super) fn socket_of(&mut self, slot: u32) -> nix::Result<Arc<OwnedFd>> {
        let own = self.sockets.iter().find(|one| self.kind != Kind::PerSlot || one.slot == slot);
        if let Some(one) = own {
            return Ok(one.socket.clone());
        }
        let first = self.sockets.first().ok_or(Errno::EBADF)?;
        let address = address_of(&first.socket).ok_or(Errno::EBADF)?;
        let options = SocketOptions { nonblocking: true, v6_only: self.query.flags() & 1 != 0, reuse_port: true };
        let socket = Arc::new(sockets::tcp(address, options)?);
        listen(socket.as_fd(), self.backlog)?;
        self.sockets.push(Socket { slot, socket: socket.clone(), is_watched: false });
        Ok(socket)
    }

    /// The address as Node's `server.address()` gives it, for a server that has no socket of its own.
    pub(super) fn sockname(&self) -> Option<SocketAddr> {
        address_of(&self.sockets.first()?.socket)
    }

    /// Returns true if its file is gone or was replaced: an app that removes the path before it listens wants a new one.
    pub(super) fn has_lost_its_file(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.identity.is_none() || identity(&file.path) != file.identity)
    }

    /// Finds the candidates: of each slot the oldest worker that is not leaving, so that a replacement gets no connection
    /// before it has taken the old one's place. Where no such worker serves this address, every worker that does.
    pub(super) fn update_candidates(&mut self, id: ListenerId, workers: &BTreeMap<WorkerId, PortWorker>) {
        let stays = |worker: &&PortWorker| worker.slot.app == self.app && !worker.is_leaving;
        let is_served = |delivery: &Delivery| !matches!(delivery, Delivery::Socket);
        let serves = |worker: &&PortWorker| worker.channel.is_some() && worker.delivery(id).is_some_and(is_served);
        let is_first = |worker: &&PortWorker| {
            let mut older = workers.values().filter(stays).filter(|other| other.slot == worker.slot);
            older.next().is_some_and(|first| first.id == worker.id)
        };
        let all: Vec<&PortWorker> = workers.values().filter(stays).filter(serves).collect();
        let first: Vec<&PortWorker> = all.iter().copied().filter(is_first).collect();
        let candidates = if first.is_empty() { all } else { first };
        let last_worker = self.candidates.get(self.last_assigned).copied();
        // A new candidate begins with the smallest count of the others.
        let least = self.assigned.iter().copied().min().unwrap_or_default();
        let count_of = |id: WorkerId| {
            self.candidates.iter().position(|one| *one == id).and_then(|at| self.assigned.get(at).copied())
        };
        self.assigned = candidates.iter().map(|worker| count_of(worker.id).unwrap_or(least)).collect();
        self.candidates = candidates.iter().map(|worker| worker.id).collect();
        self.last_assigned =
            self.candidates.iter().position(|one| Some(*one) == last_worker).unwrap_or(self.last_assigned);
        if self.kind == Kind::PerSlot {
            let is_live = |slot: u32| candidates.iter().any(|worker| worker.slot.index == slot);
            let live: Vec<u32> =
                (0..).zip(&self.sockets).filter(|(_, one)| is_live(one.slot)).map(|(at, _)| at).collect();
            if let Some(first) = self.sockets.first().filter(|_| !live.is_empty())
                && let Err(errno) = steer(first.socket.as_fd(), &live)
            {
                tracing::debug!("{}: cannot steer connections: {}", self.address, errno.desc());
            }
        }
    }

    /// Returns true if connections wait for a worker with room.
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty() || !self.sockets.iter().any(|socket| socket.is_watched)
    }

    /// Returns true if rinit itself accepts from that socket now.
    pub(super) fn accepts_from(&self, socket: &Socket, workers: &BTreeMap<WorkerId, PortWorker>) -> bool {
        match self.kind {
            Kind::Dispatched => true,
            Kind::Shared | Kind::Datagrams => false,
            // Connections at a slot without a worker are dispatched to the others.
            Kind::PerSlot => {
                let serves = |id: &WorkerId| workers.get(id).is_some_and(|worker| worker.slot.index == socket.slot);
                !self.candidates.is_empty() && !self.candidates.iter().any(serves)
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.has_lost_its_file()
            && let Some(file) = &self.file
        {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

impl Query {
    pub(super) fn is_udp(&self) -> bool {
        self.address_type.as_str().is_some_and(|kind| kind.starts_with("udp"))
    }

    fn is_v6(&self) -> bool {
        self.address_type == json!(6) || self.address_type == json!("udp6")
    }

    fn flags(&self) -> i64 {
        self.flags.unwrap_or(0)
    }
}

fn open_internet(query: &Query, options: SocketOptions) -> nix::Result<OwnedFd> {
    let port = query.port.and_then(|port| u16::try_from(port).ok()).ok_or(Errno::EINVAL)?;
    let text = query.address.as_deref().filter(|text| !text.is_empty());
    let ip = match text {
        Some(text) => Some(text.split('%').next().unwrap_or(text).parse::<IpAddr>().map_err(|_| Errno::EINVAL)?),
        None if query.is_udp() && query.is_v6() => Some(Ipv6Addr::UNSPECIFIED.into()),
        None if query.is_udp() => Some(Ipv4Addr::UNSPECIFIED.into()),
        None => None,
    };
    // Flag 4 is `UV_UDP_REUSEADDR`.
    let reuse = query.flags() & 4 != 0;
    match ip {
        Some(ip) if query.is_udp() => sockets::udp(SocketAddr::new(ip, port), options, reuse),
        Some(ip) => sockets::tcp(SocketAddr::new(ip, port), options),
        None => sockets::any(port, options),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Applies `readableAll` and `writableAll` of Node's `listen`.
fn apply_permissions(path: &Path, query: &Query) {
    let more = if query.readable_all == Some(true) { 0o444 } else { 0 }
        | if query.writable_all == Some(true) { 0o222 } else { 0 };
    if more != 0
        && let Ok(file) = std::fs::metadata(path)
    {
        let _ = std::fs::set_permissions(path, PermissionsExt::from_mode(file.permissions().mode() | more));
    }
}
