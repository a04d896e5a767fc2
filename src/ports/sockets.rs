//! Opens and binds sockets. None of them is inherited by a child, and none listens yet.

use super::{Address, Peer};
use crate::sys::socket::bind;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, getpeername, getsockname,
    setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The options of a TCP or UDP socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SocketOptions {
    /// Calls on it do not block.
    pub(super) nonblocking: bool,
    /// IPv6 alone, and not IPv4 too.
    pub(super) v6_only: bool,
    /// Other sockets may be bound to the same address (`SO_REUSEPORT`).
    pub(super) reuse_port: bool,
}

impl SocketOptions {
    fn flags(self) -> SockFlag {
        let nonblocking = if self.nonblocking { SockFlag::SOCK_NONBLOCK } else { SockFlag::empty() };
        SockFlag::SOCK_CLOEXEC | nonblocking
    }
}

/// A socket bound to every address of the machine: IPv6 and IPv4 in one, or IPv4 alone where there is no IPv6.
pub(super) fn any(port: u16, options: SocketOptions) -> nix::Result<OwnedFd> {
    let open = |ip: IpAddr| tcp(SocketAddr::new(ip, port), options);
    open(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| open(Ipv4Addr::UNSPECIFIED.into()))
}

/// A TCP socket bound to that address.
pub(super) fn tcp(address: SocketAddr, options: SocketOptions) -> nix::Result<OwnedFd> {
    let socket = socket(family(address), SockType::Stream, options.flags(), None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bound(socket, address, options)
}

/// A UDP socket bound to that address; `reuse` lets other sockets use it as well.
pub(super) fn udp(address: SocketAddr, options: SocketOptions, reuse: bool) -> nix::Result<OwnedFd> {
    let socket = socket(family(address), SockType::Datagram, options.flags(), None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &reuse)?;
    bound(socket, address, options)
}

fn bound(socket: OwnedFd, address: SocketAddr, options: SocketOptions) -> nix::Result<OwnedFd> {
    if address.is_ipv6() && address.ip().is_unspecified() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &options.v6_only)?;
    }
    if options.reuse_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    bind(socket.as_fd(), &Address::from(address))?;
    Ok(socket)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

/// A unix socket bound to that path. A file that was left over there is replaced. A path that begins with a NUL is a name in the
/// abstract namespace (unix(7)), which has no files.
pub(super) fn unix(path: &Path) -> nix::Result<OwnedFd> {
    let address = match path.as_os_str().as_bytes() {
        [0, name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(path)?,
    };
    let new = || {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
        Ok(socket)
    };
    match new() {
        Err(Errno::EADDRINUSE) if is_left_over(&address) => {
            let _ = std::fs::remove_file(path);
            new()
        }
        result => result,
    }
}

/// A connection over the loopback interface: the client's end and the server's. Neither blocks, and no child inherits them.
///
/// # Errors
/// No loopback interface, no descriptors left, or many strangers that connect at that moment.
pub(super) fn loopback_pair() -> io::Result<(TcpStream, OwnedFd)> {
    /// The maximum number of strangers' connections that are passed over.
    const MAX_STRANGERS: usize = 16;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nonblocking(true)?;
    for _ in 0..MAX_STRANGERS {
        let (server, peer) = listener.accept()?;
        if peer == client.local_addr()? {
            server.set_nonblocking(true)?;
            return Ok((client, server.into()));
        }
    }
    Err(io::Error::other("strangers connect to a port of the loopback interface"))
}

/// Returns true if no process listens on a socket file: a killed program left it. Does not wait where the queue is full.
fn is_left_over(address: &UnixAddr) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .is_ok_and(|client| connect(client.as_raw_fd(), address) == Err(Errno::ECONNREFUSED))
}

/// The internet address that a socket is bound to.
pub(super) fn address_of(socket: &OwnedFd) -> Option<SocketAddr> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port()))),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))),
        _ => None,
    }
}

/// The address of a connection's other end.
pub(super) fn peer_of(connection: &OwnedFd) -> Peer {
    let address: Option<SockaddrStorage> = getpeername(connection.as_raw_fd()).ok();
    let address = address.and_then(|address| match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port()))),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))),
        _ => None,
    });
    let mut peer = Peer::default();
    if let Some(address) = address.map(Address::from) {
        peer.bytes.iter_mut().zip(address.bytes()).for_each(|(place, byte)| *place = *byte);
        peer.length = address.bytes().len() as u8;
    }
    peer
}

/// The address that a socket is bound to, as the log shows it: `port 8080`, `127.0.0.1:8080`, `/run/app.sock`.
pub(super) fn shown_address(socket: &OwnedFd) -> Option<String> {
    match address_of(socket) {
        Some(address) => Some(Address::from(address).to_string()),
        None => {
            let address: UnixAddr = getsockname(socket.as_raw_fd()).ok()?;
            Some(address.path()?.display().to_string())
        }
    }
}
