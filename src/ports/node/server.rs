//! Opens the sockets of servers that Node's cluster module asks for.

use super::Query;
use crate::core::SlotId;
use crate::ports::listener::{Kind, Listener, Origin, Socket};
use crate::ports::sockets::{self, SocketOptions, address_of};
use crate::ports::{Address, Balance, FIRST_SOCKET};
use crate::sys::socket::{MOST, listen};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A server of Node's cluster module.
pub struct NodeServer {
    /// Its name among the workers.
    pub(in crate::ports) key: String,
    /// The data that the first worker left for the others.
    pub(in crate::ports) data: Value,
    file: Option<SocketFile>,
    backlog: i32,
    v6_only: bool,
}

/// A socket's file, as it was when it was made.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Opens the address of a worker's query. `inherited` are the sockets of `--listen`, which the app knows as descriptors
    /// from 3 on. `reuse_port`: other sockets may be bound to the address.
    ///
    /// # Errors
    /// The errors that the app sees: `EADDRINUSE`, `EACCES`, `EBADF`…
    pub(in crate::ports) fn open(
        slot: SlotId,
        balance: Balance,
        query: &Query,
        inherited: &[Arc<OwnedFd>],
        reuse_port: bool,
    ) -> nix::Result<Listener> {
        let is_udp = query.is_udp();
        let is_internet = query.fd.is_none_or(|fd| fd < 0) && query.port.is_some_and(|port| port >= 0);
        let kind = match balance {
            _ if is_udp => Kind::Datagrams,
            Balance::RoundRobin | Balance::IpHash => Kind::Dispatched,
            Balance::Reuseport if is_internet => Kind::PerSlot,
            Balance::Reuseport | Balance::Shared => Kind::Shared,
        };
        let v6_only = query.is_v6_only();
        let options = SocketOptions { nonblocking: true, v6_only, reuse_port: reuse_port || kind == Kind::PerSlot };
        let (socket, file) = match query.fd {
            Some(fd) if fd >= 0 => {
                let at = usize::try_from(fd - i64::from(FIRST_SOCKET)).ok();
                let socket = at.and_then(|at| inherited.get(at)).ok_or(Errno::EBADF)?;
                let copy = socket.try_clone().map_err(|_| Errno::EMFILE)?;
                fcntl(&copy, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                (copy, None)
            }
            _ if is_internet => (open_internet(query, options)?, None),
            _ => {
                let text = query.address.as_deref().ok_or(Errno::EINVAL)?;
                // Node puts the working directory before a name in the abstract namespace, which begins with a NUL.
                let path = Path::new(text.find('\0').and_then(|at| text.get(at..)).unwrap_or(text));
                // libuv reports EACCES, which apps expect.
                let socket =
                    sockets::unix(path).map_err(|errno| if errno == Errno::ENOENT { Errno::EACCES } else { errno })?;
                fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                let is_file = !path.as_os_str().as_bytes().starts_with(&[0]);
                if is_file {
                    apply_permissions(path, query);
                }
                let file = SocketFile { path: path.into(), identity: identity(path) };
                (socket, Some(file).filter(|_| is_file))
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
            (None, None) => match query.address.as_deref().and_then(|text| text.split_once('\0')) {
                Some((_, name)) => format!("@{name}"),
                None => format!("descriptor {}", query.fd.unwrap_or_default()),
            },
        };
        let address = if is_udp { format!("UDP {address}") } else { address };
        let server = NodeServer { key: query.key(), data: query.data.clone(), file, backlog, v6_only };
        let socket = Socket::new(slot.index, Arc::new(socket));
        let mut listener = Listener::new(slot.app, address, kind, Origin::Node(server), socket);
        listener.on_joined(slot.index);
        Ok(listener)
    }

    /// The socket for a worker of that slot, opened where each slot has its own.
    ///
    /// # Errors
    /// As for [`Listener::open`].
    pub(in crate::ports) fn socket_or_open(&mut self, slot: u32) -> nix::Result<Arc<OwnedFd>> {
        if let Some(one) = self.socket_of(slot) {
            return Ok(one.socket.clone());
        }
        let (server, address) = self.node().zip(self.sockname()).ok_or(Errno::EBADF)?;
        let options = SocketOptions { nonblocking: true, v6_only: server.v6_only, reuse_port: true };
        let socket = Arc::new(sockets::tcp(address, options)?);
        listen(socket.as_fd(), server.backlog)?;
        self.sockets.push(Socket::new(slot, socket.clone()));
        self.on_joined(slot);
        Ok(socket)
    }
}

impl NodeServer {
    /// Returns true if its file is gone or was replaced: an app that removes the path before it listens wants a new one.
    pub(in crate::ports) fn has_lost_its_file(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.identity.is_none() || identity(&file.path) != file.identity)
    }
}

impl Drop for NodeServer {
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

    /// The address that it names, if it names one.
    fn ip(&self) -> nix::Result<Option<IpAddr>> {
        let text = self.address.as_deref().filter(|text| !text.is_empty());
        let ip = text.map(|text| text.split('%').next().unwrap_or(text).parse());
        ip.transpose().map_err(|_| Errno::EINVAL)
    }

    /// The internet address at which a TCP server wants to listen.
    pub(in crate::ports) fn tcp_address(&self) -> Option<Address> {
        let port = self.port.and_then(|port| u16::try_from(port).ok()).filter(|_| !self.is_udp())?;
        let ip = self.ip().ok()?.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let mut address = Address::from(SocketAddr::new(ip, port));
        address.v6_only = self.is_v6_only();
        Some(address)
    }

    fn is_v6_only(&self) -> bool {
        self.flags() & 1 != 0
    }

    fn flags(&self) -> i64 {
        self.flags.unwrap_or(0)
    }
}

fn open_internet(query: &Query, options: SocketOptions) -> nix::Result<OwnedFd> {
    let port = query.port.and_then(|port| u16::try_from(port).ok()).ok_or(Errno::EINVAL)?;
    let ip = match query.ip()? {
        Some(ip) => Some(ip),
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
