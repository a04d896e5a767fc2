//! Represents a worker in the hub: its channel, its servers, and the connections on their way to it.

use super::accept_queue::{AcceptQueue, Delivery};
use super::balance::WorkerLoad;
use super::connections::{ConnectionWaits, HandedCount};
use super::node::{Broken, Channel, Line};
use super::poller::now;
use super::preload::Broker;
use super::{ListenerId, Peer};
use crate::core::{SlotId, WorkerId};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// The maximum number of descriptors on their way to a worker.
const MAX_UNCONFIRMED: usize = 2048;
/// The maximum number of servers of a worker; rinit has a descriptor of each.
pub(super) const MAX_SERVERS: usize = 256;
/// The maximum number of processes of a worker that are known to have been given one socket.
const MAX_HOLDERS: usize = 64;

/// A worker that can talk to rinit.
pub struct PortWorker {
    pub(super) id: WorkerId,
    pub(super) slot: SlotId,
    /// Its name in the log, such as `web-0`.
    pub(super) name: String,
    /// Node's channel, while it is open.
    pub(super) channel: Option<Channel>,
    /// The broker that its preloaded library connects to.
    pub(super) broker: Option<Broker>,
    pub(super) notifiers: Notifiers,
    /// Its stop has begun: it gets no new connections.
    pub(super) is_leaving: bool,
    /// It was asked to drain: servers that listen from now on get no answer.
    pub(super) is_draining: bool,
    /// Its cluster module has said that it runs.
    pub(super) is_online: bool,
    /// Its own process has the preloaded library.
    pub(super) has_library: bool,
    /// Its open servers.
    pub(super) servers: Vec<Server>,
    /// The ports of its servers that were closed, for the connections that it still has there.
    pub(super) closed_ports: BTreeSet<u16>,
    /// Connections that it was sent by message and has not answered for, oldest first.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Descriptors that it was sent and has not confirmed, oldest first.
    pub(super) unconfirmed: VecDeque<SentDescriptor>,
    /// It has no room for another connection until it answers or reads.
    pub(super) is_full: bool,
    /// The time of its start.
    pub(super) added_at: Instant,
    /// The number of connections that it was handed, those that it has accepted in its turns too.
    pub(super) handed: Arc<HandedCount>,
    /// It has bound a port, or tried to.
    pub(super) has_bound: Arc<AtomicBool>,
    /// The waits of those that it has accepted.
    pub(super) waits: ConnectionWaits,
    seq: u64,
}

/// A server that a worker has open.
pub(super) struct Server {
    pub(super) listener: ListenerId,
    /// Its name on the worker's channel.
    pub(super) key: String,
    pub(super) delivery: Delivery,
    /// The worker waits for connections there.
    pub(super) is_serving: bool,
    /// The event loop knows that the worker listens there.
    pub(super) is_reported: bool,
    /// The processes whose preloaded library was given the listening socket.
    holders: Vec<Pid>,
}

/// A connection on its way to a worker. rinit keeps its copy until the worker has answered: only then does the worker begin
/// to read, so until then another worker can have it.
pub(super) struct InFlight {
    pub(super) seq: u64,
    pub(super) listener: ListenerId,
    pub(super) connection: Connection,
    pub(super) sent_at: Instant,
}

/// An accepted connection.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// The client's address.
    pub(super) peer: Peer,
    /// `O_NONBLOCK` is set.
    pub(super) nonblocking: bool,
    /// The time at which rinit accepted it.
    pub(super) accepted_at: Instant,
    /// The number of workers that have refused it.
    pub(super) refusals: u32,
    /// It is for one worker. It is closed where another connection would go to others.
    pub(super) is_addressed: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, peer: Peer, nonblocking: bool, accepted_at: Instant) -> Connection {
        Connection { socket, peer, nonblocking, accepted_at, refusals: 0, is_addressed: false }
    }
}

impl Server {
    pub(super) fn new(listener: ListenerId, key: String, delivery: Delivery) -> Server {
        // A server with a socket of its own serves when it says so.
        let is_serving = matches!(delivery, Delivery::Messages);
        Server { listener, key, delivery, is_serving, is_reported: false, holders: Vec::new() }
    }

    /// The processes that were given the listening socket, the last ones of many.
    pub(super) fn holders(&self) -> impl Iterator<Item = Pid> {
        self.holders.iter().copied()
    }

    /// Records a process that is given the listening socket.
    pub(super) fn add_holder(&mut self, pid: Pid) {
        if !self.holders.contains(&pid) {
            self.holders.truncate(MAX_HOLDERS - 1);
            self.holders.insert(0, pid);
        }
    }
}

/// The message that a descriptor was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentDescriptor {
    /// A connection, by its message's number.
    Connection(u64),
    /// The socket of a server, in answer to the query of that number.
    Server { query: u64, listener: ListenerId },
}

/// Tells the event loop of a worker's progress, of each step once.
#[derive(Default)]
pub struct Notifiers {
    /// It has bound a port, and nobody waits for connections there yet.
    pub(super) bound: Option<watch::Sender<bool>>,
    /// It listens at an address.
    pub(super) listening: Option<mpsc::Sender<String>>,
    /// It has sent `'ready'`.
    pub(super) ready: Option<oneshot::Sender<()>>,
    /// It has sent itself the stop signal.
    pub(super) signalled: Option<oneshot::Sender<()>>,
    /// Its channel is closed, or never spoke.
    pub(super) finished: Option<oneshot::Sender<()>>,
}

impl PortWorker {
    pub(super) fn new(
        id: WorkerId,
        slot: SlotId,
        name: String,
        channel: Option<Channel>,
        broker: Option<Broker>,
    ) -> PortWorker {
        PortWorker {
            id,
            slot,
            name,
            channel,
            broker,
            notifiers: Notifiers::default(),
            is_leaving: false,
            is_draining: false,
            is_online: false,
            has_library: false,
            servers: Vec::new(),
            closed_ports: BTreeSet::new(),
            in_flight: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            is_full: false,
            added_at: now(),
            handed: Arc::default(),
            has_bound: Arc::default(),
            waits: ConnectionWaits::default(),
            seq: 0,
        }
    }

    /// The number of the next message.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq - 1
    }

    /// Sends it a line. The amount that waits for a worker that does not read is bounded: beyond it the channel is closed.
    pub(super) fn send(&mut self, line: Vec<u8>, descriptor: Option<Arc<OwnedFd>>) {
        let Some(channel) = &mut self.channel else { return };
        if channel.send(line, descriptor) == Err(Broken::NotReading) {
            tracing::warn!("{} does not read its channel, which is closed", self.name);
            // The hub sees the end of the channel as it sees any other.
            channel.shut_down();
        }
    }

    /// Records that it was sent a descriptor. The record of a worker that confirms none is bounded.
    pub(super) fn record_sent(&mut self, sent: SentDescriptor) {
        if self.unconfirmed.len() >= MAX_UNCONFIRMED {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.push_back(sent);
    }

    /// Its server at a listener where its preloaded library has a socket. `None`: it has too many servers.
    pub(super) fn server_or_add(&mut self, id: ListenerId) -> Option<&mut Server> {
        if self.server(id).is_none() && self.servers.len() < MAX_SERVERS {
            self.servers.push(Server::new(id, String::new(), Delivery::Socket));
        }
        self.server_mut(id)
    }

    /// Its accept queue for a listener.
    pub(super) fn queue(&mut self, id: ListenerId) -> Option<&mut AcceptQueue> {
        match self.server_mut(id) {
            Some(Server { delivery: Delivery::Queue(queue), .. }) => Some(queue),
            _ => None,
        }
    }

    /// Its server at a listener.
    pub(super) fn server(&self, id: ListenerId) -> Option<&Server> {
        self.servers.iter().find(|server| server.listener == id)
    }

    /// Remembers the port of a listener that is closed, if it has a server there.
    pub(super) fn note_closed(&mut self, id: ListenerId, port: u16) {
        if self.server(id).is_some() && self.closed_ports.len() < MAX_SERVERS {
            self.closed_ports.insert(port);
        }
    }

    /// Its server at a listener.
    pub(super) fn server_mut(&mut self, id: ListenerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.listener == id)
    }

    /// Its accept queues.
    pub(super) fn queues(&mut self) -> impl Iterator<Item = (ListenerId, &mut AcceptQueue)> {
        self.servers.iter_mut().filter_map(|server| match &mut server.delivery {
            Delivery::Queue(queue) => Some((server.listener, queue)),
            Delivery::Messages | Delivery::Socket => None,
        })
    }

    /// Its load at a listener that has assigned it that many connections.
    pub(super) fn load(&mut self, id: ListenerId, assigned: u64, now: Instant) -> WorkerLoad {
        if let Some(queue) = self.queue(id) {
            queue.refresh(now);
            return queue.load(assigned, now);
        }
        let oldest = self.in_flight.front().map(|one| now.saturating_duration_since(one.sent_at));
        WorkerLoad {
            assigned,
            unanswered: self.in_flight.len(),
            oldest: oldest.unwrap_or_default(),
            paused_for: Duration::ZERO,
            is_full: self.is_full || self.channel.as_ref().is_none_or(|channel| !channel.is_free()),
        }
    }

    /// Sends it a connection of that listener, by queue or by message.
    ///
    /// # Errors
    /// `EAGAIN`: it has no room; `ETOOMANYREFS`: too many descriptors are on their way.
    pub(super) fn deliver(
        &mut self,
        id: ListenerId,
        key: &str,
        connection: Connection,
        now: Instant,
    ) -> Result<(), (Connection, Errno)> {
        if let Some(queue) = self.queue(id) {
            let pushed = queue.push(&connection, now);
            return self.check_queue(id, pushed).map_err(|errno| (connection, errno));
        }
        self.send_connection(id, key, connection, now)
    }

    /// Gives it the turn to accept connections from that listener's socket: at most that many, and one where its queue blocks,
    /// because its `accept` would wait where a turn has found none. The number of connections.
    ///
    /// # Errors
    /// As for [`PortWorker::deliver`].
    pub(super) fn give_turn(&mut self, id: ListenerId, most: u8, now: Instant) -> nix::Result<u8> {
        let queue = self.queue(id).ok_or(Errno::EPIPE)?;
        let connections = if most > 1 && queue.blocks() { 1 } else { most };
        let pushed = queue.push_turn(connections, now);
        self.check_queue(id, pushed)?;
        Ok(connections)
    }

    /// Records that a server does not serve whose queue the program has shut down or closed.
    fn check_queue(&mut self, id: ListenerId, pushed: nix::Result<()>) -> nix::Result<()> {
        if pushed == Err(Errno::EPIPE)
            && let Some(server) = self.server_mut(id)
        {
            server.is_serving = false;
        }
        pushed
    }

    /// Sends it a connection of that listener by message, whatever the server's delivery is.
    ///
    /// # Errors
    /// As for [`PortWorker::deliver`].
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
                self.record_sent(SentDescriptor::Connection(seq));
                self.in_flight.push_back(InFlight { seq, listener: id, connection, sent_at: now });
                Ok(())
            }
            Err(errno) => {
                self.is_full = true;
                Err((connection, errno))
            }
        }
    }

    /// Removes the connection that was sent with that message.
    pub(super) fn take_in_flight(&mut self, seq: u64) -> Option<InFlight> {
        let at = self.in_flight.iter().position(|one| one.seq == seq)?;
        self.is_full = false;
        self.in_flight.remove(at)
    }
}

impl Notifiers {
    pub(super) fn on_bound(&mut self) {
        let _ = self.bound.as_ref().map(|bound| bound.send_replace(true));
    }

    /// The event loop is told of a bounded number of addresses; more say nothing new.
    pub(super) fn on_listening(&mut self, address: String) {
        let _ = self.listening.as_ref().map(|listening| listening.try_send(address));
    }

    pub(super) fn on_ready(&mut self) {
        notify(&mut self.ready);
    }

    pub(super) fn on_signalled(&mut self) {
        notify(&mut self.signalled);
    }

    pub(super) fn on_finished(&mut self) {
        notify(&mut self.finished);
    }
}

/// Notifies the event loop, once.
pub(super) fn notify(notifier: &mut Option<oneshot::Sender<()>>) {
    if let Some(notifier) = notifier.take() {
        // The receiver is gone when the worker is.
        let _ = notifier.send(());
    }
}
