//! Receives a worker's `sd_notify(3)` messages, from its start to its end.

use crate::sys::peer::Identity;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind, getsockname,
    recvmsg, setsockopt, socket, sockopt,
};
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

/// The length of a datagram that is read; sd_notify's are lines of a few words.
const MAX_DATAGRAM: usize = 4096;
/// The number of descriptors that can come with one (`SCM_MAX_FD`, unix(7)).
const MAX_DESCRIPTORS: usize = 253;
/// The length of a status that is kept, in characters.
const MAX_STATUS: usize = 200;

/// A message of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `READY=1`.
    Ready,
    /// `STATUS=…`, without control characters.
    Status(String),
    /// `WATCHDOG=1`.
    Watchdog,
    /// `WATCHDOG=trigger`: the worker itself says that it hangs.
    WatchdogTrigger,
}

/// Opens a socket in the abstract namespace, which needs no writable folder and is gone with its owner. The kernel picks a
/// name that is free (`unix(7)`, autobind). Returns it with its name for `NOTIFY_SOCKET`.
///
/// # Errors
/// No descriptors left.
pub(super) fn open() -> nix::Result<(OwnedFd, OsString)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let mut name = b"@".to_vec();
    name.extend_from_slice(address.as_abstract().unwrap_or_default());
    Ok((socket, OsString::from_vec(name)))
}

/// Receives until the worker's tasks end. Messages count from the worker's process group, and from a process of its user
/// or of root, in this PID namespace: a process outside of it has no number here, and is not trusted.
///
/// # Errors
/// The kernel does not watch the socket, or refuses to read it.
pub(super) async fn receive_all(socket: OwnedFd, who: Identity, mut on: impl AsyncFnMut(Message)) -> io::Result<()> {
    let socket = crate::sys::watch(socket)?;
    loop {
        let mut guard = socket.readable().await?;
        let Ok(received) = guard.try_io(|socket| Ok(receive(socket.as_raw_fd())?)) else { continue };
        let (text, sender) = received?;
        if !sender.is_some_and(|sender| who.is_trusted(&sender)) {
            tracing::debug!("sd_notify message for process {} from a stranger: {sender:?}", who.pid);
            continue;
        }
        for message in text.split(|byte| *byte == b'\n').filter_map(parse) {
            on(message).await;
        }
    }
}

fn parse(line: &[u8]) -> Option<Message> {
    match line {
        b"READY=1" => Some(Message::Ready),
        b"WATCHDOG=1" => Some(Message::Watchdog),
        b"WATCHDOG=trigger" => Some(Message::WatchdogTrigger),
        _ => {
            let text = String::from_utf8_lossy(line.strip_prefix(b"STATUS=")?).into_owned();
            Some(Message::Status(text.chars().filter(|c| !c.is_control()).take(MAX_STATUS).collect()))
        }
    }
}

/// Receives a datagram and its sender. Descriptors that come with it are closed.
fn receive(socket: RawFd) -> nix::Result<(Vec<u8>, Option<UnixCredentials>)> {
    let mut text = vec![0; MAX_DATAGRAM];
    let mut space = nix::cmsg_space!(UnixCredentials, [RawFd; MAX_DESCRIPTORS]);
    let (count, sender) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut sender = None;
        // What did not fit is an error here, and makes it a datagram from nobody.
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
                // BARRIER=1 wants its descriptor closed.
                ControlMessageOwned::ScmRights(sent) => {
                    for descriptor in sent {
                        let _ = nix::unistd::close(descriptor);
                    }
                }
                _ => {}
            }
        }
        (message.bytes, sender)
    };
    text.truncate(count);
    Ok((text, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_what_is_none_is_passed_over() {
        assert_eq!(parse(b"READY=1"), Some(Message::Ready));
        assert_eq!(parse(b"STATUS=50 %\x1b[31m"), Some(Message::Status("50 %[31m".into())));
        assert_eq!(parse(b"WATCHDOG=1"), Some(Message::Watchdog));
        for other in [&b"READY=0"[..], b"MAINPID=7", b"", b"BARRIER=1", b"WATCHDOG_USEC=1"] {
            assert_eq!(parse(other), None);
        }
        assert_eq!(parse(&[b"STATUS=".to_vec(), vec![b'x'; 4000]].concat()), Some(Message::Status("x".repeat(200))));
    }
}
