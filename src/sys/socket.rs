//! Wraps socket calls that the standard library lacks: descriptors in messages, any address, steering.

use crate::ports::{Address, Peer};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, recvmsg, sendmsg, shutdown};
use nix::sys::stat::fstat;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The maximum number of descriptors in one message (`SCM_MAX_FD`, unix(7)).
const MAX_SENT_DESCRIPTORS: usize = 253;

/// Takes the descriptors that `LISTEN_PID` and `LISTEN_FDS` say this process was handed, from 3 on (`sd_listen_fds(3)`), and
/// keeps them from being inherited. To be called once, before other descriptors of these numbers are opened and closed.
pub fn take_listen_fds() -> Vec<OwnedFd> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let is_meant = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id() as i32);
    let count = number("LISTEN_FDS").filter(|_| is_meant).unwrap_or(0).clamp(0, MAX_SENT_DESCRIPTORS as i32);
    let take = |fd: RawFd| {
        // SAFETY: no memory is passed; a number that is no descriptor is refused.
        let is_open = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        // SAFETY: the descriptor was handed to this process by its number, and nothing else in it has it.
        is_open.then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    };
    (3..3 + count).filter_map(take).collect()
}

/// Accepts the next connection of a listening socket that does not block, and the client's address. `nonblocking`: nor does
/// the connection. Children do not inherit it.
///
/// # Errors
/// `EAGAIN`: there is none; `EMFILE`, `ENFILE`: no descriptor is left. Errors of the connection itself are passed over.
pub fn accept(socket: BorrowedFd, nonblocking: bool) -> nix::Result<(OwnedFd, Peer)> {
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    loop {
        let mut peer = Peer::default();
        let mut length = peer.bytes.len() as libc::socklen_t;
        // SAFETY: that many bytes are writable there, as `length` says.
        let accepted =
            unsafe { libc::accept4(socket.as_raw_fd(), peer.bytes.as_mut_ptr().cast(), &raw mut length, flags) };
        match Errno::result(accepted) {
            Ok(descriptor) => {
                peer.length = u8::try_from(length).unwrap_or(u8::MAX);
                // SAFETY: the descriptor is new and has no other owner.
                return Ok((unsafe { OwnedFd::from_raw_fd(descriptor) }, peer));
            }
            // The connection was gone before it was taken (accept(2), "Error handling").
            Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO | Errno::ENETDOWN | Errno::EHOSTUNREACH) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends bytes, and the descriptor with the first of them. Returns the number of bytes sent.
///
/// # Errors
/// `EAGAIN`: the other end does not read; `ETOOMANYREFS`: too many descriptors are on their way; the other end is gone.
pub fn send(socket: BorrowedFd, bytes: &[u8], descriptor: Option<BorrowedFd>) -> nix::Result<usize> {
    let raw: Option<[RawFd; 1]> = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let control = raw.as_ref().map(|raw| ControlMessage::ScmRights(raw));
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control.as_slice(), flags, None)
}

/// Receives bytes, and the descriptors that came with them.
///
/// # Errors
/// `EAGAIN`: nothing is there; the socket is broken.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; MAX_SENT_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(sent) = control {
            // SAFETY: the kernel has just made them for this process.
            descriptors.extend(sent.into_iter().map(|one| unsafe { OwnedFd::from_raw_fd(one) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// The number of bytes that wait to be read (`FIONREAD`, unix(7): of a `SOCK_SEQPACKET` those of all its packets).
///
/// # Errors
/// It is no socket.
pub fn unread(socket: BorrowedFd) -> nix::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes an `int` there.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(count as usize)
}

/// The number of connections that wait in the kernel's queue of a listening socket, of which an `accept` takes one each.
///
/// # Errors
/// `EOPNOTSUPP`: the kernel does not tell it of such a socket. It tells it of TCP (`tcp_get_info` of the kernel's tcp.c: of a
/// listening socket, `tcpi_unacked` is that number).
pub fn waiting_connections(socket: BorrowedFd) -> nix::Result<u32> {
    const LISTENS: u8 = 10;
    const UNACKED_AT: usize = 24;
    const UNACKED_END: usize = UNACKED_AT + size_of::<u32>();
    let mut info = [0u8; UNACKED_END];
    let mut length = info.len() as libc::socklen_t;
    // By the system call: under another rinit the socket may be an accept queue, for which the preloaded library would answer.
    // SAFETY: that many bytes are writable there, as `length` says.
    let got = unsafe {
        let (fd, value) = (socket.as_raw_fd(), info.as_mut_ptr());
        libc::syscall(libc::SYS_getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut length)
    };
    Errno::result(got)?;
    let [state, .., a, b, c, d] = info;
    if (length as usize) < UNACKED_END {
        return Err(Errno::EOPNOTSUPP);
    }
    // One that is bound and does not listen yet has none.
    Ok(if state == LISTENS { u32::from_ne_bytes([a, b, c, d]) } else { 0 })
}

/// Returns true if there is something to read, or a connection to accept.
pub fn is_readable(socket: BorrowedFd) -> bool {
    has_event(socket, libc::POLLIN)
}

/// Returns true if nothing more can be read from a unix socket: one of its ends is shut down for that.
pub fn has_ended(socket: BorrowedFd) -> bool {
    has_event(socket, libc::POLLRDHUP)
}

fn has_event(socket: BorrowedFd, event: libc::c_short) -> bool {
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: event, revents: 0 };
    // SAFETY: one entry is passed, which the kernel may write to.
    let count = unsafe { libc::poll(&raw mut polled, 1, 0) };
    count > 0 && polled.revents & event != 0
}

/// Binds a socket to an address in the form that the kernel knows (`sockaddr`, ip(7), ipv6(7)).
///
/// # Errors
/// Those of `bind(2)`.
pub fn bind(socket: BorrowedFd, address: &Address) -> nix::Result<()> {
    let bytes = address.bytes();
    // SAFETY: that many bytes are readable there; the kernel checks them.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) };
    Errno::result(bound).map(drop)
}

/// The longest backlog of a listening socket: as many connections as the machine allows (`net.core.somaxconn`).
pub const MOST: i32 = i32::MAX;

/// Makes a socket listen, with a backlog of at most as many connections as the machine allows. The C libraries' own limit
/// `SOMAXCONN` is out of date (musl: 128).
///
/// # Errors
/// `EADDRINUSE`: another one listens there.
pub fn listen(socket: BorrowedFd, backlog: i32) -> nix::Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// Ends a listening socket's listening, in all processes that have it. Connections that wait there are reset (tcp(7)).
pub fn stop_listening(socket: BorrowedFd) {
    // It fails only if the socket does not listen.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// The socket's own number, the same for all copies of its descriptor (`SO_COOKIE`, Linux 4.12).
///
/// # Errors
/// It is no socket.
pub fn cookie(socket: BorrowedFd) -> nix::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: eight bytes are writable there, as `length` says.
    let got = unsafe {
        let value: *mut u64 = &mut cookie;
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, value.cast(), &mut length)
    };
    Errno::result(got).map(|_| cookie)
}

/// The socket's inode, by which `proc_pid_fd(5)` names it.
///
/// # Errors
/// It is no open file.
pub fn inode(socket: BorrowedFd) -> nix::Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// Steers what arrives at a group of `SO_REUSEPORT` sockets to those members (counted from 0 in the order in which they were
/// bound), spread by the hash of a connection's addresses, or by the source port of a datagram (`SO_ATTACH_REUSEPORT_CBPF`,
/// socket(7)): those over the loopback interface have no hash.
///
/// # Errors
/// The kernel knows no such filter, or the socket has no group.
pub fn steer(member: BorrowedFd, live: &[u32], is_for_datagrams: bool) -> nix::Result<()> {
    // The offset at which a classic filter finds the packet's hash (`SKF_AD_OFF + SKF_AD_RXHASH`, linux/filter.h), and that
    // of its network header (`SKF_NET_OFF`).
    const HASH: u32 = 0u32.wrapping_sub(0x1000) + 32;
    const HEADER: u32 = 0u32.wrapping_sub(0x10_0000);
    let step = |code: u32, otherwise: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: otherwise, k };
    let mut program = if is_for_datagrams {
        vec![
            // The version, in the upper half of the first byte; the port behind a header of IPv4 or IPv6.
            step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, HEADER),
            step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0xf0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 2, 0x40),
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, HEADER + 20),
            step(libc::BPF_JMP | libc::BPF_JA, 0, 1),
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, HEADER + 40),
        ]
    } else {
        vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, HASH)]
    };
    program.push(step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, (live.len() as u32).max(1)));
    for (at, index) in live.iter().enumerate() {
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, at as u32));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, *index));
    }
    // No member of that number: the kernel's own choice.
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter and its length are valid for the call, which copies them.
    let attached = unsafe {
        let value: *const libc::sock_fprog = &filter;
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        let option = libc::SO_ATTACH_REUSEPORT_CBPF;
        libc::setsockopt(member.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length)
    };
    Errno::result(attached).map(drop)
}
