//! Represents an address on which an app's workers listen: its sockets, its waiting connections, its workers.

use super::accept_queue::Delivery;
use super::node::NodeServer;
use super::poller::now;
use super::sockets::address_of;
use super::worker::{Connection, PortWorker};
use super::{Address, Balance, ListenerId};
use crate::core::{AppId, WorkerId};
use crate::sys::socket::{cookie, steer};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

/// One address on which workers of an app listen.
pub(super) struct Listener {
    pub(super) app: AppId,
    /// Its name in the log: `port 8080`.
    pub(super) address: String,
    pub(super) kind: Kind,
    pub(super) origin: Origin,
    /// One, or one for each slot.
    pub(super) sockets: Vec<Socket>,
    /// The time at which it was opened.
    pub(super) opened_at: Instant,
    /// The connections of one client address go to one worker.
    pub(super) is_sticky: bool,
    /// Workers with a queue accept connections themselves, in turn.
    pub(super) has_turns: bool,
    /// The preloaded library of a worker keeps a copy of the socket for its turns.
    pub(super) has_copies: bool,
    /// The workers want connections that do not block.
    pub(super) nonblocking: bool,
    /// Accepted connections that found no worker.
    pub(super) waiting: VecDeque<Connection>,
    /// The workers that may get the next connection, in the order of their starts.
    pub(super) candidates: Vec<WorkerId>,
    /// The number of connections that each of them was assigned.
    pub(super) assigned: Vec<u64>,
    /// The position in `candidates` of the worker that got the last connection.
    pub(super) last_assigned: usize,
}

/// The origin of a listener's sockets.
pub(super) enum Origin {
    /// rinit opened them for a server of Node's cluster module.
    Node(NodeServer),
    /// A preloaded program bound them to that address, on that network interface if one is named (`SO_BINDTODEVICE`).
    Bound { address: Address, device: OsString },
    /// Preloaded programs bound them to that address, for datagrams: one for each slot.
    Datagrams(Address),
    /// They are of `--listen`.
    Inherited,
}

/// The path of connections to the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// rinit dispatches connections: as turns to accept, or accepted.
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
            Kind::Dispatched => "rinit hands connections out in turn",
            Kind::Shared => "they accept from one socket",
            Kind::PerSlot => "each has a socket of its own",
            Kind::Datagrams => "they read from one socket",
        })
    }
}

impl From<Balance> for Kind {
    /// The kind of a listener at an internet address.
    fn from(balance: Balance) -> Kind {
        match balance {
            Balance::RoundRobin | Balance::IpHash => Kind::Dispatched,
            Balance::Shared => Kind::Shared,
            Balance::Reuseport => Kind::PerSlot,
        }
    }
}

pub(super) struct Socket {
    /// The slot that it belongs to, where each slot has one.
    pub(super) slot: u32,
    pub(super) socket: Arc<OwnedFd>,
    /// Its own number, by which a copy of it is known. Only the preloaded library needs it.
    pub(super) cookie: Option<u64>,
    /// It has joined the kernel's group of those that share its address, where each slot has one: by `listen`, or for datagrams
    /// by `bind`.
    pub(super) is_in_group: bool,
    /// rinit itself watches it for connections.
    pub(super) is_watched: bool,
}

impl Socket {
    pub(super) fn new(slot: u32, socket: Arc<OwnedFd>) -> Socket {
        Socket { slot, cookie: cookie(socket.as_fd()).ok(), socket, is_in_group: false, is_watched: false }
    }
}

impl Listener {
    /// A listener with one socket.
    pub(super) fn new(app: AppId, address: String, kind: Kind, origin: Origin, socket: Socket) -> Listener {
        let nonblocking = matches!(origin, Origin::Node(_));
        Listener {
            app,
            address,
            kind,
            origin,
            sockets: vec![socket],
            opened_at: now(),
            is_sticky: false,
            has_turns: false,
            has_copies: false,
            nonblocking,
            waiting: VecDeque::new(),
            candidates: Vec::new(),
            assigned: Vec::new(),
            last_assigned: 0,
        }
    }

    /// The server of Node's cluster module that it is for.
    pub(super) fn node(&self) -> Option<&NodeServer> {
        match &self.origin {
            Origin::Node(server) => Some(server),
            Origin::Bound { .. } | Origin::Datagrams(_) | Origin::Inherited => None,
        }
    }

    /// True if no connections are accepted there.
    pub(super) fn is_for_datagrams(&self) -> bool {
        self.kind == Kind::Datagrams || matches!(self.origin, Origin::Datagrams(_))
    }

    /// The address of a TCP port that the app itself has asked for.
    pub(super) fn bound_address(&self) -> Option<Address> {
        if self.is_for_datagrams() {
            return None;
        }
        match &self.origin {
            Origin::Node(_) => self.sockname().map(Address::from),
            Origin::Bound { address, .. } => Some(address.clone()),
            Origin::Datagrams(_) | Origin::Inherited => None,
        }
    }

    /// Its socket for a worker of that slot.
    pub(super) fn socket_of(&self, slot: u32) -> Option<&Socket> {
        self.sockets.iter().find(|one| self.kind != Kind::PerSlot || one.slot == slot)
    }

    /// A slot's socket has joined the kernel's group: those that are in it come first, in the order in which they joined.
    pub(super) fn on_joined(&mut self, slot: u32) {
        let joins = |one: &Socket| !one.is_in_group && (self.kind != Kind::PerSlot || one.slot == slot);
        if let Some(at) = self.sockets.iter().position(joins) {
            let socket = self.sockets.remove(at);
            let members = self.sockets.iter().filter(|one| one.is_in_group).count();
            self.sockets.insert(members, Socket { is_in_group: true, ..socket });
        }
    }

    /// True if the socket with that number is one of its own.
    pub(super) fn has_cookie(&self, cookie: u64) -> bool {
        self.sockets.iter().any(|one| one.cookie == Some(cookie))
    }

    /// The internet address that it is bound to.
    pub(super) fn sockname(&self) -> Option<SocketAddr> {
        address_of(&self.sockets.first()?.socket)
    }

    /// Finds the candidates: of each slot the oldest worker that is not leaving, so that a replacement gets no connection
    /// before it has taken the old one's place. Where no such worker serves this address, every worker that does.
    pub(super) fn update_candidates(&mut self, id: ListenerId, workers: &BTreeMap<WorkerId, PortWorker>) {
        let stays = |worker: &&PortWorker| worker.slot.app == self.app && !worker.is_leaving;
        let is_connected = |worker: &PortWorker| self.node().is_none() || worker.channel.is_some();
        let serves = |worker: &&PortWorker| {
            let server = worker.server(id).filter(|server| server.is_serving && is_connected(worker));
            server.is_some_and(|server| self.kind != Kind::Dispatched || !matches!(server.delivery, Delivery::Socket))
        };
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
            let members = || self.sockets.iter().filter(|one| one.is_in_group);
            let live: Vec<u32> = (0..).zip(members()).filter(|(_, one)| is_live(one.slot)).map(|(at, _)| at).collect();
            if let Some(first) = members().next().filter(|_| !live.is_empty())
                && let Err(errno) = steer(first.socket.as_fd(), &live, self.is_for_datagrams())
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
            // Connections at a slot without a worker are dispatched to the others, which Node's can be by message.
            Kind::PerSlot => {
                let serves = |id: &WorkerId| workers.get(id).is_some_and(|worker| worker.slot.index == socket.slot);
                self.node().is_some() && !self.candidates.is_empty() && !self.candidates.iter().any(serves)
            }
        }
    }
}
