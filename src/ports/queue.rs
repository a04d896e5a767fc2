//! A worker's own accept queue, for a server whose connections rinit accepts.
//!
//! It is a pair of connected sockets: rinit puts connections in at one end, and at the other, which stands where the
//! worker's listening socket was, its `accept` takes them out (`preload/library/queue.rs`). A connection that nobody has
//! taken yet can be taken back, since rinit keeps the worker's end too.

use super::dispatch::Standing;
use crate::sys::socket::{cookie, receive, send, unread};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the kernel keeps of a queue's packets, in bytes, of which it makes twice as many (socket(7)): room for some 20. rinit
/// hears of each that the worker takes while a quarter of it or less is full.
const ROOM: usize = 8192;
/// A packet, with or without a connection.
const PACKET: &[u8] = b"c";

/// How a server of a worker's gets its connections.
pub(super) enum Lane {
    /// By messages on the worker's channel.
    Messages,
    /// It has the listening socket, and no queue yet.
    Own,
    /// From its queue.
    Queue(Queue),
}

/// The queue.
pub(super) struct Queue {
    ours: OwnedFd,
    theirs: OwnedFd,
    /// When each of those that wait was put in, oldest first.
    since: VecDeque<Instant>,
    /// All that waits is a knock.
    knocked: bool,
}

impl Queue {
    /// One with a knock in it: whoever takes that has the queue where it belongs.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn open() -> nix::Result<Queue> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&ours, sockopt::SndBuf, &ROOM)?;
        // The worker has nothing to say here.
        shutdown(ours.as_raw_fd(), Shutdown::Read)?;
        send(ours.as_fd(), PACKET, None)?;
        Ok(Queue { ours, theirs, since: VecDeque::new(), knocked: true })
    }

    /// The worker's end.
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Whether that is the cookie of the worker's end.
    pub(super) fn is(&self, which: u64) -> bool {
        cookie(self.theirs.as_fd()) == Ok(which)
    }

    /// Puts a connection in.
    ///
    /// # Errors
    /// `EAGAIN`: it is full; `ETOOMANYREFS`: too many descriptors are on their way.
    pub(super) fn put(&mut self, connection: BorrowedFd, now: Instant) -> nix::Result<()> {
        send(self.ours.as_fd(), PACKET, Some(connection))?;
        self.since.push_back(now);
        Ok(())
    }

    /// Finds out what the worker has taken meanwhile.
    pub(super) fn look(&mut self) {
        let count = unread(self.theirs.as_fd()).unwrap_or_default();
        while self.since.len() > count {
            self.since.pop_front();
        }
        // It is the first packet, and nothing is put in behind it.
        self.knocked &= count > 0;
    }

    /// How the worker stands that was given so many.
    pub(super) fn standing(&self, given: u64, now: Instant) -> Standing {
        Standing {
            given,
            unanswered: self.since.len() + usize::from(self.knocked),
            oldest: match self.since.front() {
                _ if self.knocked => Duration::MAX,
                Some(since) => now.saturating_duration_since(*since),
                None => Duration::ZERO,
            },
            full: false,
        }
    }

    /// Takes back what the worker has not taken.
    pub(super) fn take_back(&mut self) -> Vec<OwnedFd> {
        let mut all = Vec::new();
        // A descriptor that finds no free number is lost with its packet.
        while self.ours.try_clone().is_ok()
            && let Ok((1.., connection)) = receive(self.theirs.as_fd(), &mut [0])
        {
            all.extend(connection);
        }
        self.look();
        all
    }

    /// Takes back what a worker that does not respond has not taken. A packet without a connection is left to tell when it
    /// does again.
    pub(super) fn take_back_and_knock(&mut self) -> Vec<OwnedFd> {
        if self.knocked {
            return Vec::new();
        }
        let all = self.take_back();
        self.knocked = self.since.is_empty() && send(self.ours.as_fd(), PACKET, None).is_ok();
        all
    }
}

impl AsFd for Queue {
    /// rinit's end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::events::now;
    use nix::errno::Errno;
    use std::fs::File;

    fn filled(count: usize) -> (Queue, Instant) {
        let (mut queue, now) = (Queue::open().unwrap(), now());
        queue.look();
        assert_eq!(queue.standing(0, now).oldest, Duration::MAX, "nobody has it yet");
        assert_eq!(takes(&queue), 0);
        queue.look();
        for step in 0..count {
            queue.put(File::open("/dev/null").unwrap().as_fd(), now + Duration::from_millis(step as u64)).unwrap();
        }
        (queue, now)
    }

    /// What the worker's `accept` does.
    fn takes(queue: &Queue) -> usize {
        receive(queue.end(), &mut [0]).unwrap().1.len()
    }

    #[test]
    fn what_the_worker_takes_waits_no_more() {
        let (mut queue, now) = filled(3);
        assert_eq!(takes(&queue), 1);
        queue.look();
        let standing = queue.standing(3, now + Duration::from_millis(10));
        assert_eq!((standing.unanswered, standing.oldest), (2, Duration::from_millis(9)));
        assert_eq!(takes(&queue) + takes(&queue), 2);
        queue.look();
        assert_eq!(queue.standing(3, now), Standing { given: 3, ..Standing::default() });
    }

    #[test]
    fn what_it_does_not_take_comes_back_and_a_knock_tells_when_it_is_awake() {
        let (mut queue, now) = filled(3);
        assert_eq!(takes(&queue), 1);
        queue.look();
        assert_eq!(queue.take_back_and_knock().len(), 2);
        queue.look();
        assert_eq!(queue.standing(0, now).oldest, Duration::MAX, "blocked");
        assert!(queue.take_back_and_knock().is_empty(), "one knock is enough");
        assert_eq!(takes(&queue), 0, "a knock is no connection");
        queue.look();
        assert_eq!(queue.standing(0, now).unanswered, 0);
    }

    #[test]
    fn it_has_room_for_few() {
        let (mut queue, now) = filled(16);
        let nothing = File::open("/dev/null").unwrap();
        let more = (0..64).find(|_| queue.put(nothing.as_fd(), now) == Err(Errno::EAGAIN));
        assert!(more.is_some_and(|more| more < 16), "{more:?}");
        assert_eq!(queue.take_back().len(), queue.since.len() + 16 + more.unwrap());
    }
}
