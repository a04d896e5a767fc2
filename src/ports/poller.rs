//! Wraps the epoll instance of the hub, and names its event sources.

use super::ListenerId;
use crate::core::WorkerId;
use nix::sys::epoll::Epoll;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

/// The epoll instance. It is readable itself while it has an event.
pub(super) struct Poller(pub(super) Epoll);

impl std::ops::Deref for Poller {
    type Target = Epoll;
    fn deref(&self) -> &Epoll {
        &self.0
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// The source of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A command of the event loop.
    Waker,
    /// A worker's Node channel.
    Channel(WorkerId),
    /// The broker of a worker's preloaded library.
    Broker(WorkerId),
    /// A client of a broker.
    Client(u64),
    /// One socket of a listener.
    Socket(ListenerId, u16),
    /// A worker's accept queue for a listener.
    Queue(ListenerId),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, number) = match token {
            Token::Waker => (0, 0),
            Token::Channel(WorkerId(id)) => (1, id),
            Token::Broker(WorkerId(id)) => (2, id),
            Token::Client(id) => (3, id),
            Token::Socket(ListenerId(id), at) => (4, u64::from(id) << 16 | u64::from(at)),
            Token::Queue(ListenerId(id)) => (5, u64::from(id)),
        };
        kind << 56 | number
    }
}

impl From<u64> for Token {
    fn from(data: u64) -> Token {
        let number = data & !(0xff << 56);
        match data >> 56 {
            1 => Token::Channel(WorkerId(number)),
            2 => Token::Broker(WorkerId(number)),
            3 => Token::Client(number),
            4 => Token::Socket(ListenerId((number >> 16) as u32), number as u16),
            5 => Token::Queue(ListenerId(number as u32)),
            _ => Token::Waker,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the ports' own clock: how long workers have not responded")]
pub(super) fn now() -> Instant {
    Instant::now()
}
