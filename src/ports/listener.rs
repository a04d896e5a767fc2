//! A server's address, its sockets, and who serves it: one for all workers of an app that listen on the same.

use super::member::{Connection, Member};
use super::node::Query;
use super::open::{self, Tcp, address_of};
use super::queue::Lane;
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
    /// As people know it: `port 8080`.
    pub(super) place: String,
    pub(super) kind: Kind,
    /// One, or one for each slot.
    pub(super) sockets: Vec<Socket>,
    /// What the first asker left for the others.
    pub(super) data: Value,
    /// Accepted connections that found no worker.
    pub(super) waiting: VecDeque<Connection>,
    /// The workers whose turn it may be, in the order of their starts.
    pub(super) seats: Vec<WorkerId>,
    /// How many connections each of them was given.
    pub(super) given: Vec<u64>,
    /// The position in `seats` that had the last turn.
    pub(super) last: usize,
    file: Option<File>,
    backlog: i32,
    /// How the address was asked for, for another slot's socket.
    query: Query,
}

/// How connections reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// rinit accepts them and hands them out.
    HandedOut,
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
            Kind::HandedOut => "rinit accepts, and hands connections out in turn",
            Kind::Shared => "they accept from one socket",
            Kind::PerSlot => "each has a socket of its own",
            Kind::Datagrams => "they read from one socket",
        })
    }
}

pub(super) struct Socket {
    /// Whose it is, where each slot has one.
    pub(super) slot: u32,
    pub(super) socket: Arc<OwnedFd>,
    /// rinit itself accepts from it now.
    pub(super) armed: bool,
}

/// A socket's file, as it was when it was made.
struct File {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Opens what a worker asks for. `inherited` are the sockets of `--listen`, which the app knows as descriptors from 3
    /// on.
    ///
    /// # Errors
    /// Those that the app is to see: `EADDRINUSE`, `EACCES`, `EBADF`…
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
            Balance::RoundRobin => Kind::HandedOut,
            Balance::Reuseport if is_internet => Kind::PerSlot,
            Balance::Reuseport | Balance::Shared => Kind::Shared,
        };
        let how = Tcp { nonblocking: true, v6_only: query.flags() & 1 != 0, reuse_port: kind == Kind::PerSlot };
        let (socket, file) = match query.fd {
            Some(fd) if fd >= 0 => {
                let at = usize::try_from(fd - i64::from(super::FIRST_SOCKET)).ok();
                let socket = at.and_then(|at| inherited.get(at)).ok_or(Errno::EBADF)?;
                let copy = socket.try_clone().map_err(|_| Errno::EMFILE)?;
                nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
                (copy, None)
            }
            _ if is_internet => (open_internet(&query, how)?, None),
            _ => {
                let path = Path::new(query.address.as_deref().ok_or(Errno::EINVAL)?);
                // As libuv has it, and apps know it.
                let socket =
                    open::unix(path).map_err(|errno| if errno == Errno::ENOENT { Errno::EACCES } else { errno })?;
                nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
                widen(path, &query);
                (socket, Some(File { path: path.into(), identity: identity(path) }))
            }
        };
        // An app that names no number gets the most: connections wait while workers come and go.
        let backlog = query.backlog.as_i64().filter(|backlog| *backlog > 0);
        let backlog = backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(MOST);
        if kind != Kind::Datagrams {
            listen(socket.as_fd(), backlog)?;
        }
        let place = match (&file, address_of(&socket)) {
            (Some(file), _) => file.path.display().to_string(),
            (None, Some(address)) if address.ip().is_unspecified() => format!("port {}", address.port()),
            (None, Some(address)) => address.to_string(),
            (None, None) => format!("descriptor {}", query.fd.unwrap_or_default()),
        };
        Ok(Listener {
            app: slot.app,
            key: query.key(),
            place: if is_udp { format!("UDP {place}") } else { place },
            kind,
            sockets: vec![Socket { slot: slot.index, socket: Arc::new(socket), armed: false }],
            data: query.data.clone(),
            waiting: VecDeque::new(),
            seats: Vec::new(),
            given: Vec::new(),
            last: 0,
            file,
            backlog,
            query,
        })
    }

    /// The socket that a worker of that slot is given; opened where each slot has its own.
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
        let how = Tcp { nonblocking: true, v6_only: self.query.flags() & 1 != 0, reuse_port: true };
        let socket = Arc::new(open::tcp(address, how)?);
        listen(socket.as_fd(), self.backlog)?;
        self.sockets.push(Socket { slot, socket: socket.clone(), armed: false });
        Ok(socket)
    }

    /// The address as Node's `server.address()` gives it, for a server that has no socket of its own.
    pub(super) fn sockname(&self) -> Option<SocketAddr> {
        address_of(&self.sockets.first()?.socket)
    }

    /// Whether its file is gone or another's: an app that removes the path before it listens means a new one.
    pub(super) fn has_lost_its_file(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.identity.is_none() || identity(&file.path) != file.identity)
    }

    /// Finds out whose turn it may be: of each slot the oldest worker that is not on its way out, so that a replacement
    /// gets no connection before it has taken the old one's place. Where no such worker serves this address, every one
    /// that does.
    pub(super) fn reseat(&mut self, id: ListenerId, members: &BTreeMap<WorkerId, Member>) {
        let stays = |member: &&Member| member.slot.app == self.app && !member.leaving;
        let has_a_lane = |lane: &Lane| !matches!(lane, Lane::Own);
        let serves = |member: &&Member| member.channel.is_some() && member.lane(id).is_some_and(has_a_lane);
        let is_first = |member: &&Member| {
            let mut older = members.values().filter(stays).filter(|other| other.slot == member.slot);
            older.next().is_some_and(|first| first.id == member.id)
        };
        let all: Vec<&Member> = members.values().filter(stays).filter(serves).collect();
        let first: Vec<&Member> = all.iter().copied().filter(is_first).collect();
        let seats = if first.is_empty() { all } else { first };
        let had_the_turn = self.seats.get(self.last).copied();
        // Who is new has had as many as who has had least.
        let least = self.given.iter().copied().min().unwrap_or_default();
        let had =
            |id: WorkerId| self.seats.iter().position(|one| *one == id).and_then(|at| self.given.get(at).copied());
        self.given = seats.iter().map(|member| had(member.id).unwrap_or(least)).collect();
        self.seats = seats.iter().map(|member| member.id).collect();
        self.last = self.seats.iter().position(|one| Some(*one) == had_the_turn).unwrap_or(self.last);
        if self.kind == Kind::PerSlot {
            let live = |slot: u32| seats.iter().any(|member| member.slot.index == slot);
            let live: Vec<u32> = (0..).zip(&self.sockets).filter(|(_, one)| live(one.slot)).map(|(at, _)| at).collect();
            if let Some(first) = self.sockets.first().filter(|_| !live.is_empty())
                && let Err(errno) = steer(first.socket.as_fd(), &live)
            {
                tracing::debug!("{}: connections cannot be steered: {}", self.place, errno.desc());
            }
        }
    }

    /// Whether something waits for workers to take more.
    pub(super) fn is_held_up(&self) -> bool {
        !self.waiting.is_empty() || !self.sockets.iter().any(|socket| socket.armed)
    }

    /// Whether rinit itself is to accept from that socket now.
    pub(super) fn is_ours(&self, socket: &Socket, members: &BTreeMap<WorkerId, Member>) -> bool {
        match self.kind {
            Kind::HandedOut => true,
            Kind::Shared | Kind::Datagrams => false,
            // What waits in the queue of a slot without a worker is handed to the others.
            Kind::PerSlot => {
                let serves = |id: &WorkerId| members.get(id).is_some_and(|member| member.slot.index == socket.slot);
                !self.seats.is_empty() && !self.seats.iter().any(serves)
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

fn open_internet(query: &Query, how: Tcp) -> nix::Result<OwnedFd> {
    let port = query.port.and_then(|port| u16::try_from(port).ok()).ok_or(Errno::EINVAL)?;
    let text = query.address.as_deref().filter(|text| !text.is_empty());
    let ip = match text {
        Some(text) => Some(text.split('%').next().unwrap_or(text).parse::<IpAddr>().map_err(|_| Errno::EINVAL)?),
        None if query.is_udp() && query.is_v6() => Some(Ipv6Addr::UNSPECIFIED.into()),
        None if query.is_udp() => Some(Ipv4Addr::UNSPECIFIED.into()),
        None => None,
    };
    // What flag 4 means for UDP (`UV_UDP_REUSEADDR`).
    let reuse = query.flags() & 4 != 0;
    match ip {
        Some(ip) if query.is_udp() => open::udp(SocketAddr::new(ip, port), how, reuse),
        Some(ip) => open::tcp(SocketAddr::new(ip, port), how),
        None => open::any(port, how),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// `readableAll` and `writableAll` of Node's `listen`.
fn widen(path: &Path, query: &Query) {
    let more = if query.readable_all == Some(true) { 0o444 } else { 0 }
        | if query.writable_all == Some(true) { 0o222 } else { 0 };
    if more != 0
        && let Ok(file) = std::fs::metadata(path)
    {
        let _ = std::fs::set_permissions(path, PermissionsExt::from_mode(file.permissions().mode() | more));
    }
}
