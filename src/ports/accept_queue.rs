//! Holds the turns and the connections that wait for one worker, at one server.
//!
//! A queue is a pair of connected sockets. rinit puts packets in at one end. The other end stands where the worker's listening
//! socket was, and the worker's `accept` takes packets from there (`preload/library/accept_queue.rs`): its turn to accept a
//! connection from the listening socket itself, or a connection that rinit has accepted. rinit keeps both ends, so it can take
//! back what the worker has not taken.

use super::balance::WorkerLoad;
use super::connections::ConnectionWaits;
use super::preload::{PACKET_BYTES, Packet, REPORT_BYTES, UnusedTurn};
use super::worker::Connection;
use crate::sys::socket::{cookie, has_ended, receive, send, unread};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The size of a queue in bytes, which the kernel doubles (socket(7)): some 20 connections. epoll reports each connection
/// that the worker takes while a quarter of the queue or less is full.
const SEND_BUFFER_BYTES: usize = 8192;
/// The maximum number of reports read at once: more than have room there.
const MAX_REPORTS: usize = 64;
/// The maximum number of turns that a worker has taken and of which it is not known whether it has used them.
const MAX_UNSETTLED: usize = 16;
/// The time for which a worker gets nothing that had no free descriptor for a connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(20);
/// The time after which a worker whose queue blocks, and that did not respond, gets a connection again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

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
    worker_end: Arc<OwnedFd>,
    /// The number of the worker's end, by which a copy of it is known.
    cookie: u64,
    /// The packets that the worker has not taken, oldest first.
    waiting: VecDeque<Entry>,
    /// The worker did not respond, and gets no connection until then.
    paused_until: Option<Instant>,
    /// It gets one at a time until it has taken one.
    is_suspect: bool,
    /// The sizes and waits of the last turns that the worker has taken, newest last: it may report that it has not used one.
    unsettled: VecDeque<(u8, Duration)>,
    /// The waits of the connections that the worker has taken, and of the turns that it has used.
    waits: ConnectionWaits,
}

/// The contents of a queue that its worker has not taken.
#[derive(Default)]
pub(super) struct TakenBack {
    pub(super) connections: Vec<Connection>,
    /// The number of connections that it was assigned, by these and by turns.
    pub(super) assigned: u64,
}

/// A packet that waits in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// A packet without a connection, which tells when the worker responds again. It is the first one.
    WakeUpProbe,
    /// The worker's turn to accept at most as many connections itself, and the time since which it is.
    Turn { connections: u8, since: Instant },
    /// A connection, and the times at which rinit accepted it and put it in. One that is `addressed` is for this worker and
    /// no other.
    Connection { accepted_at: Instant, since: Instant, addressed: bool },
}

impl AcceptQueue {
    /// An empty queue, which records the waits there.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn open(waits: ConnectionWaits) -> nix::Result<AcceptQueue> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (rinit_end, worker_end) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&rinit_end, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
        // The worker gives back one turn at a time.
        setsockopt(&worker_end, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
        Ok(AcceptQueue {
            rinit_end,
            cookie: cookie(worker_end.as_fd())?,
            worker_end: Arc::new(worker_end),
            waiting: VecDeque::new(),
            paused_until: None,
            is_suspect: false,
            unsettled: VecDeque::new(),
            waits,
        })
    }

    /// The worker's end.
    pub(super) fn worker_end(&self) -> Arc<OwnedFd> {
        self.worker_end.clone()
    }

    /// The number of the worker's end.
    pub(super) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// True if the worker's `accept` waits for a connection. A wake-up probe would end its `poll`, and the `accept` that
    /// follows would wait for long.
    pub(super) fn blocks(&self) -> bool {
        let flags = fcntl(&self.worker_end, FcntlArg::F_GETFL).unwrap_or_default();
        !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    }

    /// True if the program has shut it down for reading.
    pub(super) fn is_shut_down(&self) -> bool {
        has_ended(self.worker_end.as_fd())
    }

    /// Puts in a packet without a connection, where nothing else is.
    ///
    /// # Errors
    /// The worker has shut the queue down.
    pub(super) fn send_probe(&mut self) -> nix::Result<()> {
        if self.waiting.is_empty() {
            send(self.rinit_end.as_fd(), &Packet::WakeUpProbe.encode(), None)?;
            self.waiting.push_back(Entry::WakeUpProbe);
        }
        Ok(())
    }

    /// Puts a connection in.
    ///
    /// # Errors
    /// `EAGAIN`: it is full; `ETOOMANYREFS`: too many descriptors are on their way.
    pub(super) fn push(&mut self, connection: &Connection, now: Instant) -> nix::Result<()> {
        let packet = Packet::Connection { nonblocking: connection.nonblocking, peer: connection.peer };
        send(self.rinit_end.as_fd(), &packet.encode(), Some(connection.socket.as_fd()))?;
        let Connection { accepted_at, is_addressed: addressed, .. } = *connection;
        self.waiting.push_back(Entry::Connection { accepted_at, since: now, addressed });
        Ok(())
    }

    /// Puts in a turn for so many connections.
    ///
    /// # Errors
    /// As for [`AcceptQueue::push`].
    pub(super) fn push_turn(&mut self, connections: u8, now: Instant) -> nix::Result<()> {
        send(self.rinit_end.as_fd(), &Packet::Turn { connections }.encode(), None)?;
        self.waiting.push_back(Entry::Turn { connections, since: now });
        Ok(())
    }

    /// The numbers of connections of the turns that are not over, as last refreshed.
    pub(super) fn turns(&self) -> impl Iterator<Item = u8> {
        self.waiting.iter().filter_map(|entry| match entry {
            Entry::Turn { connections, .. } => Some(*connections),
            Entry::WakeUpProbe | Entry::Connection { .. } => None,
        })
    }

    /// The number of connections that the worker has not accepted in turns that are over, by the reports since the last call.
    /// A worker that has no room for a connection gets nothing for a moment.
    pub(super) fn read_reports(&mut self, now: Instant) -> u64 {
        let (mut unused, mut report) = (0, [0; REPORT_BYTES]);
        for _ in 0..MAX_REPORTS {
            let Ok((REPORT_BYTES, _)) = receive(self.rinit_end.as_fd(), &mut report) else { break };
            let UnusedTurn { connections, has_room } = UnusedTurn::decode(report);
            unused += u64::from(connections);
            if let Some(at) = self.unsettled.iter().rposition(|(size, _)| *size == connections) {
                self.unsettled.remove(at);
            }
            if !has_room {
                self.paused_until = Some(now + NO_ROOM_PAUSE);
            }
        }
        unused
    }

    /// Removes the entries of packets that the worker has taken since.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let count = self.unread_packets();
        while self.waiting.len() > count {
            self.on_taken(now);
            self.is_suspect = false;
        }
    }

    /// The worker has taken the first packet.
    fn on_taken(&mut self, now: Instant) {
        match self.waiting.pop_front() {
            Some(Entry::Connection { accepted_at, .. }) => {
                self.waits.record(now.saturating_duration_since(accepted_at));
            }
            Some(Entry::Turn { connections, since }) => {
                self.unsettled.push_back((connections, now.saturating_duration_since(since)));
                self.settle(MAX_UNSETTLED);
            }
            Some(Entry::WakeUpProbe) | None => {}
        }
    }

    /// Records the waits of the turns that the worker has taken, all but the last ones. To be called with 0 when its reports have
    /// been read.
    pub(super) fn settle(&mut self, last: usize) {
        let settled = self.unsettled.len().saturating_sub(last);
        self.unsettled.drain(..settled).for_each(|(_, wait)| self.waits.record(wait));
    }

    fn unread_packets(&self) -> usize {
        unread(self.worker_end.as_fd()).unwrap_or_default() / PACKET_BYTES
    }

    /// The load of the worker, which was assigned that many connections.
    pub(super) fn load(&self, assigned: u64, now: Instant) -> WorkerLoad {
        WorkerLoad {
            assigned,
            unanswered: self.waiting.len(),
            oldest: match self.waiting.front() {
                Some(Entry::WakeUpProbe) => Duration::MAX,
                Some(Entry::Connection { since, .. } | Entry::Turn { since, .. }) => {
                    now.saturating_duration_since(*since)
                }
                None => Duration::ZERO,
            },
            paused_for: self.paused_until.map(|then| then.saturating_duration_since(now)).unwrap_or_default(),
            is_full: self.is_suspect && !self.waiting.is_empty() || self.turns().any(|connections| connections > 1),
        }
    }

    /// The number of connections that wait, as last refreshed, and the time for which the oldest has.
    pub(super) fn waiting(&self, now: Instant) -> (u64, Duration) {
        let since = |entry: &Entry| match entry {
            Entry::Connection { since, .. } | Entry::Turn { since, .. } => Some(now.saturating_duration_since(*since)),
            Entry::WakeUpProbe => None,
        };
        let waits = self.waiting.iter().filter_map(since);
        (waits.clone().count() as u64, waits.max().unwrap_or_default())
    }

    /// Takes back what the worker has not taken.
    pub(super) fn take_back(&mut self, now: Instant) -> TakenBack {
        let (mut all, mut packet) = (Vec::new(), [0; PACKET_BYTES]);
        // A descriptor for which this process has no free number would be lost with its packet.
        while self.rinit_end.try_clone().is_ok()
            && let Ok((1.., connection)) = receive(self.worker_end.as_fd(), &mut packet)
        {
            all.push((Packet::decode(&packet), connection.into_iter().next()));
        }
        // First came those that the worker has taken, and last come those that are still there.
        let left = self.unread_packets();
        while self.waiting.len() > all.len() + left {
            self.on_taken(now);
        }
        let entries = self.waiting.drain(..all.len().min(self.waiting.len()));
        let mut back = TakenBack::default();
        for (entry, packet) in entries.zip(all) {
            match (entry, packet) {
                (
                    Entry::Connection { accepted_at, addressed, .. },
                    (Packet::Connection { nonblocking, peer }, Some(socket)),
                ) => {
                    let connection = Connection::new(socket, peer, nonblocking, accepted_at);
                    back.connections.push(Connection { is_addressed: addressed, ..connection });
                    back.assigned += u64::from(!addressed);
                }
                (Entry::Turn { connections, .. }, _) => back.assigned += u64::from(connections),
                (Entry::Connection { .. } | Entry::WakeUpProbe, _) => {}
            }
        }
        back
    }

    /// Takes back the connections of a worker that does not respond. A wake-up probe in their place tells when it responds
    /// again; where its queue blocks, a connection tries that after a while. Those that are addressed to the worker stay.
    pub(super) fn take_back_from_stalled(&mut self, now: Instant) -> TakenBack {
        if self.waiting.front() == Some(&Entry::WakeUpProbe) {
            return TakenBack::default();
        }
        let TakenBack { connections, assigned } = self.take_back(now);
        let (stay, connections): (Vec<_>, Vec<_>) = connections.into_iter().partition(|one| one.is_addressed);
        if self.blocks() {
            (self.paused_until, self.is_suspect) = (Some(now + RETRY_INTERVAL), true);
        } else {
            // A worker that has shut its queue down gets no connection either.
            let _ = self.send_probe();
        }
        // There was room for them.
        let _ = stay.iter().try_for_each(|one| self.push(one, now));
        TakenBack { connections, assigned }
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
    use crate::ports::Peer;
    use crate::ports::poller::now;
    use nix::errno::Errno;
    use nix::sys::socket::{Shutdown, shutdown};
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn filled(count: usize) -> (AcceptQueue, Instant) {
        let (mut queue, now) = (AcceptQueue::open(ConnectionWaits::default()).unwrap(), now());
        queue.send_probe().unwrap();
        queue.refresh(now);
        assert_eq!(queue.load(0, now).oldest, Duration::MAX, "no worker has it yet");
        assert_eq!(accepts(&queue), 0);
        queue.refresh(now);
        for step in 0..count {
            queue.push(&connection(), now + Duration::from_millis(step as u64)).unwrap();
        }
        (queue, now)
    }

    fn connection() -> Connection {
        Connection::new(File::open("/dev/null").unwrap().into(), Peer::default(), true, now())
    }

    /// Does what the worker's `accept` does. The number of connections that come.
    fn accepts(queue: &AcceptQueue) -> usize {
        receive(queue.worker_end().as_fd(), &mut [0; PACKET_BYTES]).unwrap().1.len()
    }

    #[test]
    fn a_connection_that_the_worker_accepts_waits_no_more() {
        let (mut queue, now) = filled(3);
        assert_eq!(accepts(&queue), 1);
        queue.refresh(now);
        let load = queue.load(3, now + Duration::from_millis(10));
        assert_eq!((load.unanswered, load.oldest), (2, Duration::from_millis(9)));
        assert_eq!(accepts(&queue) + accepts(&queue), 2);
        queue.refresh(now);
        assert_eq!(queue.load(3, now), WorkerLoad { assigned: 3, ..WorkerLoad::default() });
    }

    #[test]
    fn what_it_does_not_accept_comes_back_and_a_probe_tells_when_it_responds() {
        let (mut queue, now) = filled(3);
        assert_eq!(accepts(&queue), 1);
        queue.refresh(now);
        assert_eq!(queue.take_back_from_stalled(now).connections.len(), 2);
        queue.refresh(now);
        assert_eq!(queue.load(0, now).oldest, Duration::MAX, "blocked");
        assert!(queue.take_back_from_stalled(now).connections.is_empty(), "one probe is enough");
        assert_eq!(accepts(&queue), 0, "a probe is no connection");
        queue.refresh(now);
        assert_eq!(queue.load(0, now).unanswered, 0);
    }

    #[test]
    fn a_queue_is_shut_down_when_the_program_shuts_down_its_listening_socket() {
        for how in [Shutdown::Read, Shutdown::Both] {
            let (queue, _) = filled(1);
            assert!(!queue.is_shut_down());
            shutdown(queue.worker_end().as_raw_fd(), how).unwrap();
            assert!(queue.is_shut_down());
        }
    }

    #[test]
    fn the_size_of_a_queue_is_bounded() {
        let (mut queue, now) = filled(16);
        let nothing = connection();
        let more = (0..64).find(|_| queue.push(&nothing, now) == Err(Errno::EAGAIN));
        assert!(more.is_some_and(|more| more < 16), "{more:?}");
        assert_eq!(queue.take_back(now).connections.len(), 16 + more.unwrap());
        assert_eq!(queue.load(0, now), WorkerLoad::default());
    }

    #[test]
    fn a_connection_that_is_addressed_to_a_worker_waits_for_it_alone() {
        let (mut queue, now) = filled(2);
        queue.push(&Connection { is_addressed: true, ..connection() }, now).unwrap();
        assert_eq!(accepts(&queue), 1);
        let back = queue.take_back_from_stalled(now);
        assert_eq!(back.connections.iter().map(|one| one.is_addressed).collect::<Vec<_>>(), [false]);
        assert_eq!((accepts(&queue), accepts(&queue)), (0, 1), "behind the probe");
        queue.refresh(now);
        assert_eq!(queue.load(0, now).unanswered, 0);
    }
}
