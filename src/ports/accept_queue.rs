//! Holds the accepted connections that wait for one worker, at one server.
//!
//! A queue is a pair of connected sockets. rinit puts connections in at one end. The other end stands where the worker's
//! listening socket was, and the worker's `accept` takes connections from there (`preload/library/accept_queue.rs`). rinit
//! keeps both ends, so it can take back a connection that the worker has not accepted.

use super::balance::WorkerLoad;
use super::worker::Connection;
use crate::sys::socket::{cookie, receive, send, unread};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The size of a queue in bytes, which the kernel doubles (socket(7)): some 20 connections. epoll reports each connection
/// that the worker takes while a quarter of the queue or less is full.
const SEND_BUFFER_BYTES: usize = 8192;
/// The packet that carries a connection, or no connection in a wake-up probe.
const PACKET: &[u8] = b"c";

/// The means by which a worker's server gets its connections.
pub(super) enum Delivery {
    /// Messages on the worker's channel.
    Messages,
    /// The listening socket itself; the worker has no queue yet.
    Socket,
    /// An accept queue.
    Queue(AcceptQueue),
}

/// The accept queue of one worker's server.
pub(super) struct AcceptQueue {
    rinit_end: OwnedFd,
    worker_end: OwnedFd,
    /// The packets that the worker has not taken, oldest first.
    waiting: VecDeque<Packet>,
}

/// A packet in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packet {
    /// A packet without a connection, which tells when the worker responds again. It is the first one.
    WakeUpProbe,
    /// A connection, and the time at which it was put in. One that is `addressed` is for this worker and no other.
    Connection { since: Instant, addressed: bool },
}

impl AcceptQueue {
    /// Makes a queue with a wake-up probe in it. When the worker has taken that, the queue is in its place.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn open() -> nix::Result<AcceptQueue> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (rinit_end, worker_end) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&rinit_end, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
        // The worker sends nothing here.
        shutdown(rinit_end.as_raw_fd(), Shutdown::Read)?;
        send(rinit_end.as_fd(), PACKET, None)?;
        Ok(AcceptQueue { rinit_end, worker_end, waiting: VecDeque::from([Packet::WakeUpProbe]) })
    }

    /// The worker's end.
    pub(super) fn worker_end(&self) -> BorrowedFd<'_> {
        self.worker_end.as_fd()
    }

    /// Returns true if the worker's end has that cookie.
    pub(super) fn has_cookie(&self, wanted: u64) -> bool {
        cookie(self.worker_end.as_fd()) == Ok(wanted)
    }

    /// Puts a connection in.
    ///
    /// # Errors
    /// `EAGAIN`: it is full; `ETOOMANYREFS`: too many descriptors are on their way.
    pub(super) fn push(&mut self, connection: &Connection, now: Instant) -> nix::Result<()> {
        send(self.rinit_end.as_fd(), PACKET, Some(connection.socket.as_fd()))?;
        self.waiting.push_back(Packet::Connection { since: now, addressed: connection.is_addressed });
        Ok(())
    }

    /// Removes the entries of packets that the worker has taken since.
    pub(super) fn refresh(&mut self) {
        let count = unread(self.worker_end.as_fd()).unwrap_or_default();
        while self.waiting.len() > count {
            self.waiting.pop_front();
        }
    }

    /// The load of the worker, which was assigned that many connections.
    pub(super) fn load(&self, assigned: u64, now: Instant) -> WorkerLoad {
        WorkerLoad {
            assigned,
            unanswered: self.waiting.len(),
            oldest: match self.waiting.front() {
                Some(Packet::WakeUpProbe) => Duration::MAX,
                Some(Packet::Connection { since, .. }) => now.saturating_duration_since(*since),
                None => Duration::ZERO,
            },
            is_full: false,
        }
    }

    /// Takes back the connections that the worker has not accepted.
    pub(super) fn take_back(&mut self) -> Vec<Connection> {
        let mut all = Vec::new();
        // A descriptor for which this process has no free number would be lost with its packet.
        while self.rinit_end.try_clone().is_ok()
            && let Ok((1.., connection)) = receive(self.worker_end.as_fd(), &mut [0])
        {
            all.push(connection.into_iter().next());
        }
        // First came those that the worker has taken, and last come those that are still there.
        let left = unread(self.worker_end.as_fd()).unwrap_or_default();
        while self.waiting.len() > all.len() + left {
            self.waiting.pop_front();
        }
        let packets = self.waiting.drain(..all.len().min(self.waiting.len()));
        let back = packets.zip(all).filter_map(|(packet, socket)| {
            let is_addressed = matches!(packet, Packet::Connection { addressed: true, .. });
            Some(Connection { is_addressed, ..socket?.into() })
        });
        back.collect()
    }

    /// Takes back the connections of a worker that does not respond, and leaves a wake-up probe in their place. Those that are
    /// addressed to the worker stay.
    pub(super) fn take_back_and_probe(&mut self, now: Instant) -> Vec<Connection> {
        if self.has_probe() {
            return Vec::new();
        }
        let (stay, back): (Vec<_>, Vec<_>) = self.take_back().into_iter().partition(|one| one.is_addressed);
        if self.waiting.is_empty() && send(self.rinit_end.as_fd(), PACKET, None).is_ok() {
            self.waiting.push_back(Packet::WakeUpProbe);
        }
        // There was room for them.
        let _ = stay.iter().try_for_each(|one| self.push(one, now));
        back
    }

    fn has_probe(&self) -> bool {
        self.waiting.front() == Some(&Packet::WakeUpProbe)
    }
}

impl AsFd for AcceptQueue {
    /// rinit's end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rinit_end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::poller::now;
    use nix::errno::Errno;
    use std::fs::File;

    fn filled(count: usize) -> (AcceptQueue, Instant) {
        let (mut queue, now) = (AcceptQueue::open().unwrap(), now());
        queue.refresh();
        assert_eq!(queue.load(0, now).oldest, Duration::MAX, "no worker has it yet");
        assert_eq!(accepts(&queue), 0);
        queue.refresh();
        for step in 0..count {
            queue.push(&connection(), now + Duration::from_millis(step as u64)).unwrap();
        }
        (queue, now)
    }

    fn connection() -> Connection {
        OwnedFd::from(File::open("/dev/null").unwrap()).into()
    }

    /// Does what the worker's `accept` does. The number of connections that come.
    fn accepts(queue: &AcceptQueue) -> usize {
        receive(queue.worker_end(), &mut [0]).unwrap().1.len()
    }

    #[test]
    fn a_connection_that_the_worker_accepts_waits_no_more() {
        let (mut queue, now) = filled(3);
        assert_eq!(accepts(&queue), 1);
        queue.refresh();
        let load = queue.load(3, now + Duration::from_millis(10));
        assert_eq!((load.unanswered, load.oldest), (2, Duration::from_millis(9)));
        assert_eq!(accepts(&queue) + accepts(&queue), 2);
        queue.refresh();
        assert_eq!(queue.load(3, now), WorkerLoad { assigned: 3, ..WorkerLoad::default() });
    }

    #[test]
    fn what_it_does_not_accept_comes_back_and_a_probe_tells_when_it_responds() {
        let (mut queue, now) = filled(3);
        assert_eq!(accepts(&queue), 1);
        queue.refresh();
        assert_eq!(queue.take_back_and_probe(now).len(), 2);
        queue.refresh();
        assert_eq!(queue.load(0, now).oldest, Duration::MAX, "blocked");
        assert!(queue.take_back_and_probe(now).is_empty(), "one probe is enough");
        assert_eq!(accepts(&queue), 0, "a probe is no connection");
        queue.refresh();
        assert_eq!(queue.load(0, now).unanswered, 0);
    }

    #[test]
    fn the_size_of_a_queue_is_bounded() {
        let (mut queue, now) = filled(16);
        let nothing = connection();
        let more = (0..64).find(|_| queue.push(&nothing, now) == Err(Errno::EAGAIN));
        assert!(more.is_some_and(|more| more < 16), "{more:?}");
        assert_eq!(queue.take_back().len(), 16 + more.unwrap());
        assert_eq!(queue.load(0, now), WorkerLoad::default());
    }

    #[test]
    fn a_connection_that_is_addressed_to_a_worker_waits_for_it_alone() {
        let (mut queue, now) = filled(2);
        queue.push(&Connection { is_addressed: true, ..connection() }, now).unwrap();
        assert_eq!(accepts(&queue), 1);
        let back = queue.take_back_and_probe(now);
        assert_eq!(back.iter().map(|one| one.is_addressed).collect::<Vec<_>>(), [false]);
        assert_eq!((accepts(&queue), accepts(&queue)), (0, 1), "behind the probe");
        queue.refresh();
        assert_eq!(queue.load(0, now).unanswered, 0);
    }
}
