//! A worker, as the hub knows it: the ways by which it speaks, and what it owes.

use super::ListenerId;
use super::dispatch::Standing;
use super::door::Door;
use super::node::{Broken, Channel, Line};
use super::queue::{Lane, Queue};
use crate::core::{SlotId, WorkerId};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// So many descriptors may be on their way to a worker.
const UNCONFIRMED: usize = 2048;

/// A worker with a way to rinit.
pub struct Member {
    pub(super) id: WorkerId,
    pub(super) slot: SlotId,
    /// Its name in the log, such as `web-0`.
    pub(super) name: String,
    /// Node's channel, while it is open.
    pub(super) channel: Option<Channel>,
    /// Where the preloaded library calls.
    pub(super) door: Option<Door>,
    pub(super) signs: Signs,
    /// Its stop has begun: it gets no new connections.
    pub(super) leaving: bool,
    /// Its cluster module has said that it runs.
    pub(super) online: bool,
    /// Its own process has the preloaded library.
    pub(super) has_library: bool,
    /// The servers that it has open, and how each gets its connections.
    pub(super) serves: Vec<Served>,
    /// Where it listens by the preloaded library.
    pub(super) preloaded: Vec<String>,
    /// Connections that it was handed and has not answered for, oldest first.
    pub(super) owed: VecDeque<Handover>,
    /// Descriptors that it was sent and has not confirmed, oldest first.
    pub(super) unconfirmed: VecDeque<Sent>,
    /// It has no room for another connection, until it answers or reads.
    pub(super) full: bool,
    seq: u64,
}

/// A server of a worker's.
pub(super) struct Served {
    pub(super) id: ListenerId,
    /// What it is called on the worker's channel.
    pub(super) key: String,
    pub(super) lane: Lane,
}

/// A connection on its way to a worker. rinit keeps its copy until the worker has answered: only then does the worker
/// begin to read, so until then it can be another's.
pub(super) struct Handover {
    pub(super) seq: u64,
    pub(super) listener: ListenerId,
    pub(super) connection: Connection,
    pub(super) since: Instant,
}

/// An accepted connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// How often a worker did not take it.
    pub(super) refused: u32,
}

impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Connection {
        Connection { socket, refused: 0 }
    }
}

/// What a descriptor was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// A connection, by its message's number.
    Connection(u64),
    /// The socket of a server, in answer to the query of that number.
    Server { query: u64, listener: ListenerId },
}

/// What the loop waits to hear of a worker, each once.
#[derive(Default)]
pub struct Signs {
    /// It listens.
    pub(super) listens: Option<oneshot::Sender<()>>,
    /// It has sent `'ready'`.
    pub(super) says_ready: Option<oneshot::Sender<()>>,
    /// Its channel is closed, or never spoke.
    pub(super) finished: Option<oneshot::Sender<()>>,
}

impl Member {
    pub(super) fn new(
        id: WorkerId,
        slot: SlotId,
        name: String,
        channel: Option<Channel>,
        door: Option<Door>,
    ) -> Member {
        Member {
            id,
            slot,
            name,
            channel,
            door,
            signs: Signs::default(),
            leaving: false,
            online: false,
            has_library: false,
            serves: Vec::new(),
            preloaded: Vec::new(),
            owed: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            full: false,
            seq: 0,
        }
    }

    /// The next message's number.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq - 1
    }

    /// Sends it a line. What a worker that does not read is sent is bounded: its channel is then closed.
    pub(super) fn send(&mut self, line: Vec<u8>, descriptor: Option<Arc<OwnedFd>>) {
        let Some(channel) = &mut self.channel else { return };
        if channel.send(line, descriptor) == Err(Broken::Deaf) {
            tracing::warn!("{} does not read its channel, which is closed", self.name);
            // The hub hears of its end as of any other.
            channel.hang_up();
        }
    }

    /// Notes that it was sent a descriptor. A worker that confirms none costs no memory either.
    pub(super) fn sent(&mut self, sent: Sent) {
        if self.unconfirmed.len() >= UNCONFIRMED {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back(sent);
    }

    /// Its queue for a server.
    pub(super) fn queue(&mut self, id: ListenerId) -> Option<&mut Queue> {
        match self.serves.iter_mut().find(|served| served.id == id) {
            Some(Served { lane: Lane::Queue(queue), .. }) => Some(queue),
            _ => None,
        }
    }

    /// How a server of its gets connections; `None`: it has no such server.
    pub(super) fn lane(&self, id: ListenerId) -> Option<&Lane> {
        self.serves.iter().find(|served| served.id == id).map(|served| &served.lane)
    }

    /// Its queues.
    pub(super) fn queues(&mut self) -> impl Iterator<Item = (ListenerId, &mut Queue)> {
        self.serves.iter_mut().filter_map(|served| match &mut served.lane {
            Lane::Queue(queue) => Some((served.id, queue)),
            _ => None,
        })
    }

    /// How it stands with a listener that has given it so many connections.
    pub(super) fn standing(&mut self, id: ListenerId, given: u64, now: Instant) -> Standing {
        if let Some(queue) = self.queue(id) {
            queue.look();
            return queue.standing(given, now);
        }
        Standing {
            given,
            unanswered: self.owed.len(),
            oldest: self.owed.front().map(|one| now.saturating_duration_since(one.since)).unwrap_or_default(),
            full: self.full || self.channel.as_ref().is_none_or(|channel| !channel.is_free()),
        }
    }

    /// Hands it a connection of that server.
    ///
    /// # Errors
    /// `EAGAIN`: it has no room; `ETOOMANYREFS`: too many descriptors are on their way.
    pub(super) fn hand_over(
        &mut self,
        id: ListenerId,
        key: &str,
        connection: Connection,
        now: Instant,
    ) -> Result<(), (Connection, Errno)> {
        if let Some(queue) = self.queue(id) {
            return queue.put(connection.socket.as_fd(), now).map_err(|errno| (connection, errno));
        }
        self.send_connection(id, key, connection, now)
    }

    /// The same by a message, whatever its lane.
    ///
    /// # Errors
    /// As above.
    pub(super) fn send_connection(
        &mut self,
        id: ListenerId,
        key: &str,
        connection: Connection,
        now: Instant,
    ) -> Result<(), (Connection, Errno)> {
        let seq = self.next_seq();
        let Some(channel) = &mut self.channel else { return Err((connection, Errno::EPIPE)) };
        match channel.send_now(Line::connection(seq, key), connection.socket.as_fd()) {
            Ok(()) => {
                self.sent(Sent::Connection(seq));
                self.owed.push_back(Handover { seq, listener: id, connection, since: now });
                Ok(())
            }
            Err(errno) => {
                self.full = true;
                Err((connection, errno))
            }
        }
    }

    /// Takes back the connection that was handed over with that message.
    pub(super) fn settle(&mut self, seq: u64) -> Option<Handover> {
        let at = self.owed.iter().position(|one| one.seq == seq)?;
        self.full = false;
        self.owed.remove(at)
    }
}

impl Signs {
    pub(super) fn listens(&mut self) {
        ring(&mut self.listens);
    }

    pub(super) fn says_ready(&mut self) {
        ring(&mut self.says_ready);
    }

    pub(super) fn finished(&mut self) {
        ring(&mut self.finished);
    }
}

fn ring(sign: &mut Option<oneshot::Sender<()>>) {
    if let Some(sign) = sign.take() {
        // Nobody waits any more when the worker is gone.
        let _ = sign.send(());
    }
}
