//! Asks the kernel for TCP sockets and connections (sock_diag(7)).

use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// An open connection, seen from this machine's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its socket's inode.
    pub inode: u32,
    /// Bytes that the program has not read, or the client has not confirmed.
    pub has_unread_or_unsent: bool,
    /// The client has sent something.
    pub has_received: bool,
    /// The program has sent something.
    pub has_sent: bool,
    /// The time since the client last sent something, or connected.
    pub received_ago: Duration,
    /// The time since the program last sent something.
    pub sent_ago: Duration,
}

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own address.
    pub address: SocketAddr,
    /// It listens; otherwise it is connected.
    pub is_listening: bool,
    /// Its inode.
    pub inode: u64,
}

// Of linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const INET_DIAG_INFO: u16 = 2;
const ESTABLISHED_OR_CLOSE_WAIT: u32 = 1 << 1 | 1 << 8;
const LISTEN: u32 = 1 << 10;
/// The length of `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// The established connections of a local port.
///
/// # Errors
/// The kernel or a seccomp filter has no sock_diag; no descriptors left.
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    dump(port, ESTABLISHED_OR_CLOSE_WAIT, true, &mut |message| found.extend(read(message)))?;
    Ok(found)
}

/// The TCP sockets of this network namespace that listen. The kernel keeps them apart, so it does not matter how many
/// connections there are; all of them are behind those in /proc/net/tcp.
///
/// # Errors
/// As for [`connections`].
pub fn listening_sockets() -> io::Result<Vec<TcpSocket>> {
    let mut found = Vec::new();
    dump(0, LISTEN, false, &mut |message| found.extend(TcpSocket::read(message)))?;
    Ok(found)
}

/// Visits the TCP sockets of this network namespace that listen or are connected: of IPv4, then of IPv6, in both those that
/// listen first.
///
/// # Errors
/// As for [`connections`].
pub fn each_tcp_socket(visit: &mut dyn FnMut(TcpSocket)) -> io::Result<()> {
    dump(0, LISTEN | ESTABLISHED_OR_CLOSE_WAIT, false, &mut |message| {
        TcpSocket::read(message).into_iter().for_each(&mut *visit);
    })
}

/// Visits the messages about the sockets in these states, of one local port or, if it is 0, of all.
fn dump(port: u16, states: u32, with_info: bool, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    for family in [AF_INET, AF_INET6] {
        send(socket.as_raw_fd(), &request(family as u8, port, states, with_info), MsgFlags::empty())?;
        let mut buffer = vec![0; 32 * 1024];
        // Answers to a dump are there when they are asked for: this does not wait for anybody.
        'dump: loop {
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while let Some((size, kind)) = number(rest, 0).zip(short(rest, 4)) {
                let size = (size as usize).max(HEADER);
                match kind {
                    NLMSG_DONE if number(rest, HEADER).is_none_or(|code| code as i32 >= 0) => break 'dump,
                    NLMSG_DONE | NLMSG_ERROR => return Err(io::Error::other("the kernel has no sock_diag for TCP")),
                    _ => rest.get(HEADER..size).into_iter().for_each(&mut *visit),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
    Ok(())
}

fn request(family: u8, port: u16, states: u32, with_info: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, IPPROTO_TCP as u8, u8::from(with_info) << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

impl TcpSocket {
    /// Reads `struct inet_diag_msg`.
    fn read(message: &[u8]) -> Option<TcpSocket> {
        let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
        let ip: IpAddr = match i32::from(*message.first()?) {
            AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?).into(),
        };
        let is_listening = 1u32.checked_shl((*message.get(1)?).into()) == Some(LISTEN);
        Some(TcpSocket { address: SocketAddr::new(ip, port), is_listening, inode: number(message, 68)?.into() })
    }
}

/// Reads `struct inet_diag_msg` and the `struct tcp_info` behind it.
fn read(message: &[u8]) -> Option<Connection> {
    let (unread, unsent, inode) = (number(message, 56)?, number(message, 60)?, number(message, 68)?);
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let (size, kind) = (usize::from(short(attributes, 0)?).max(4), short(attributes, 2)?);
        let info = attributes.get(4..size)?;
        if kind == INET_DIAG_INFO {
            let milliseconds = |at| Some(Duration::from_millis(number(info, at)?.into()));
            return Some(Connection {
                inode,
                has_unread_or_unsent: unread > 0 || unsent > 0,
                has_received: number(info, 152)? > 0,
                has_sent: number(info, 156)? > 0,
                received_ago: milliseconds(52)?,
                sent_ago: milliseconds(44)?,
            });
        }
        attributes = attributes.get(size.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::inode;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn a_connection_tells_what_was_sent_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let own = u32::try_from(inode(server.as_fd()).unwrap()).unwrap();
        let find = || connections(port).unwrap().into_iter().find(|one| one.inode == own).unwrap();
        assert!(!find().has_received && !find().has_unread_or_unsent);
        client.write_all(b"request").unwrap();
        assert!(find().has_received && find().has_unread_or_unsent);
        server.read_exact(&mut [0; 7]).unwrap();
        assert!(!find().has_unread_or_unsent && !find().has_sent);
        server.write_all(b"response").unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        assert!(find().has_sent && find().sent_ago <= find().received_ago);
    }

    #[test]
    fn sockets_that_listen_and_those_that_are_connected_are_visited() {
        // Not every machine has IPv6.
        let v6 = TcpListener::bind("[::1]:0").ok();
        for listener in [TcpListener::bind("127.0.0.1:0").ok(), v6].into_iter().flatten() {
            let address = listener.local_addr().unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let (server, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            each_tcp_socket(&mut |socket| all.push(socket)).unwrap();
            let expected = |socket: &dyn AsFd, is_listening| TcpSocket {
                address,
                is_listening,
                inode: inode(socket.as_fd()).unwrap(),
            };
            let (listening, connected) = (expected(&listener, true), expected(&server, false));
            assert!(all.contains(&listening) && all.contains(&connected), "{address}");
            let listening_only = listening_sockets().unwrap();
            assert!(listening_only.contains(&listening) && !listening_only.contains(&connected), "{address}");
        }
    }
}
