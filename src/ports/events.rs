//! What the hub waits for.

use super::ListenerId;
use crate::core::WorkerId;
use nix::sys::epoll::Epoll;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

/// The kernel's list of it; readable itself when there is something.
pub(super) struct Events(pub(super) Epoll);

impl std::ops::Deref for Events {
    type Target = Epoll;
    fn deref(&self) -> &Epoll {
        &self.0
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Who an event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Bell,
    Channel(WorkerId),
    Door(WorkerId),
    Caller(u64),
    Socket(ListenerId, u16),
    Queue(ListenerId),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, number) = match token {
            Token::Bell => (0, 0),
            Token::Channel(WorkerId(id)) => (1, id),
            Token::Door(WorkerId(id)) => (2, id),
            Token::Caller(id) => (3, id),
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
            2 => Token::Door(WorkerId(number)),
            3 => Token::Caller(number),
            4 => Token::Socket(ListenerId((number >> 16) as u32), number as u16),
            5 => Token::Queue(ListenerId(number as u32)),
            _ => Token::Bell,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the ports' own clock: who has not answered for how long")]
pub(super) fn now() -> Instant {
    Instant::now()
}
