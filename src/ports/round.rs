//! Chooses who gets each of the connections that wait at a listener, and hands it out, or a turn to accept it.

use super::ListenerId;
use super::balance::{WorkerLoad, choose, choose_by_client, next_check, stalled};
use super::batching::Batching;
use super::hub::Hub;
use super::listener::Listener;
use super::turns::turns;
use super::worker::{Connection, PortWorker};
use crate::core::WorkerId;
use crate::sys::socket::accept;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The time after which turns are compared with the connections that wait.
const TURN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One round of dispatching the connections that wait at a listener.
pub(super) struct Round<'a> {
    id: ListenerId,
    pub(super) listener: &'a mut Listener,
    workers: &'a mut BTreeMap<WorkerId, PortWorker>,
    batching: &'a mut Batching,
    now: Instant,
    /// False while this process has no free descriptor.
    can_accept: bool,
    /// The number of connections that wait in the kernel's queue. `None`: rinit accepts them here.
    waiting: Option<u64>,
    /// Those of them for which no worker has a turn.
    without_turn: Option<u64>,
    turn_size: u8,
    /// The load of each candidate.
    pub(super) loads: Vec<WorkerLoad>,
    /// The index of each candidate's slot.
    slots: Vec<u32>,
    /// The workers that had no room.
    pub(super) full: Vec<WorkerId>,
    /// One of them does not serve any more.
    pub(super) has_lost: bool,
    /// The error after which no event tells when there is room.
    pub(super) shortage: Option<Errno>,
}

/// Why a round is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// No connection waits, or each has its turn.
    NothingWaits,
    /// No worker takes a connection now, or rinit cannot accept one.
    NoTaker,
}

impl<'a> Round<'a> {
    /// A round with what the kernel and the workers' queues say now.
    pub(super) fn new(hub: &'a mut Hub, id: ListenerId) -> Option<Round<'a>> {
        let Hub { listeners, workers, batching, now, retry_at, .. } = hub;
        let (listener, now) = (listeners.get_mut(&id)?, *now);
        // Connections are counted before the turns that are not over. A turn that a worker takes in between is counted as free, so
        // a connection may have two, of which one is given back, but none is forgotten.
        let waiting = listener.waiting_in_kernel();
        let loads = listener.loads(id, workers, now);
        let without_turn = waiting.map(|waiting| waiting.saturating_sub(turns(id, workers, now)));
        let slot_of = |id: &WorkerId| workers.get(id).map_or(0, |worker| worker.slot.index);
        let slots = listener.candidates.iter().map(slot_of).collect();
        let (turn_size, can_accept) = (listener.turn_size(batching), retry_at.is_none());
        Some(Round {
            id,
            listener,
            workers,
            batching,
            now,
            can_accept,
            waiting,
            without_turn,
            turn_size,
            loads,
            slots,
            full: Vec::new(),
            has_lost: false,
            shortage: None,
        })
    }

    /// Hands out the next connection, or a turn for it. Returns why there is none.
    pub(super) fn dispatch_next(&mut self) -> Option<End> {
        // Those come first that rinit has accepted.
        let has_accepted = !self.listener.waiting.is_empty();
        if self.without_turn == Some(0) && !has_accepted {
            return Some(End::NothingWaits);
        }
        let Some(at) = self.choose() else { return Some(End::NoTaker) };
        let id = self.id;
        if self.without_turn.is_some()
            && !has_accepted
            && self.worker(at).is_some_and(|worker| worker.queue(id).is_some())
        {
            self.give_turn(at);
            return None;
        }
        if !self.can_accept {
            return Some(End::NoTaker);
        }
        match self.listener.next_connection(self.workers, self.now) {
            Ok(Some(connection)) => {
                self.deliver(connection, at);
                None
            }
            Ok(None) => Some(End::NothingWaits),
            Err(errno) => {
                self.shortage = Some(errno);
                Some(End::NoTaker)
            }
        }
    }

    /// The position of the worker that is next.
    fn choose(&mut self) -> Option<usize> {
        let Round { listener, loads, turn_size, .. } = self;
        let in_turn = choose(loads, listener.last_assigned, u64::from(*turn_size));
        // A client's own worker gets its connections also while it does not respond.
        in_turn.or_else(|| loads.iter().position(|load| !load.is_full).filter(|_| listener.is_sticky))
    }

    fn worker(&mut self, at: usize) -> Option<&mut PortWorker> {
        self.listener.candidates.get(at).and_then(|id| self.workers.get_mut(id))
    }

    fn give_turn(&mut self, at: usize) {
        let (id, turn_size, now) = (self.id, self.turn_size, self.now);
        let given = self.worker(at).ok_or(Errno::EPIPE).and_then(|worker| worker.give_turn(id, turn_size, now));
        match given {
            Ok(count) => {
                self.listener.has_copies = true;
                self.on_handed(at, count);
            }
            Err(errno) => self.on_refused(at, errno),
        }
    }

    /// Delivers a connection to its client's own worker, or else to that one.
    fn deliver(&mut self, connection: Connection, at: usize) {
        let Round { id, listener, workers, now, .. } = self;
        let client = connection.peer.ip().filter(|_| listener.is_sticky);
        let at = client.and_then(|client| choose_by_client(client, &self.slots, &self.loads)).unwrap_or(at);
        let key = listener.node().map_or("", |server| &server.key);
        let delivered = match listener.candidates.get(at).and_then(|id| workers.get_mut(id)) {
            Some(worker) => worker.deliver(*id, key, connection, *now),
            None => Err((connection, Errno::EPIPE)),
        };
        match delivered {
            Ok(()) => self.on_handed(at, 1),
            Err((connection, errno)) => {
                listener.waiting.push_front(connection);
                self.on_refused(at, errno);
            }
        }
    }

    /// A worker was handed connections, or a turn for so many.
    fn on_handed(&mut self, at: usize, count: u8) {
        if let Some(worker) = self.worker(at) {
            worker.handed.add(count);
        }
        if let Some(load) = self.loads.get_mut(at) {
            load.unanswered += 1;
            load.assigned += u64::from(count);
            // The next turn comes when this one is over.
            load.is_full |= count > 1;
        }
        self.batching.on_dispatch(count);
        self.listener.last_assigned = at;
        self.without_turn = self.without_turn.map(|count| count.saturating_sub(1));
    }

    /// A worker has no room, or does not serve any more.
    fn on_refused(&mut self, at: usize, errno: Errno) {
        let id = self.id;
        if let Some(worker) = self.worker(at) {
            let (worker, has_lost) = (worker.id, worker.server(id).is_some_and(|server| !server.is_serving));
            self.full.push(worker);
            self.has_lost |= has_lost;
        }
        if let Some(load) = self.loads.get_mut(at) {
            load.is_full = true;
        }
        // Too many descriptors on their way, or no memory.
        if !matches!(errno, Errno::EAGAIN | Errno::EPIPE) {
            self.shortage = Some(errno);
        }
    }

    /// The time until the listener is to be looked at again, whether or not an event comes.
    pub(super) fn next_check(&self, end: Option<End>) -> Option<Duration> {
        // No event tells of those that are left.
        let left = end.is_none().then_some(Duration::ZERO);
        // A worker may have taken a turn and stopped before it accepted.
        let turn = self.waiting.filter(|waiting| *waiting > 0).map(|_| TURN_CHECK_INTERVAL);
        [left, turn, next_check(&self.loads)].into_iter().flatten().min()
    }
}

impl Listener {
    /// The loads of the candidates. Connections in the queue of one that does not respond are taken back.
    fn loads(&mut self, id: ListenerId, workers: &mut BTreeMap<WorkerId, PortWorker>, now: Instant) -> Vec<WorkerLoad> {
        let load = |(worker, assigned): (&WorkerId, &u64)| match workers.get_mut(worker) {
            Some(worker) => worker.load(id, *assigned, now),
            None => WorkerLoad { is_full: true, ..WorkerLoad::default() },
        };
        let mut loads: Vec<WorkerLoad> = self.candidates.iter().zip(&self.assigned).map(load).collect();
        let stalled = if self.is_sticky { Vec::new() } else { stalled(&loads) };
        for at in stalled {
            let worker = self.candidates.get(at).and_then(|worker| workers.get_mut(worker));
            let (Some(worker), Some(load)) = (worker, loads.get_mut(at)) else { continue };
            let Some(queue) = worker.queue(id) else { continue };
            let back = queue.take_back_from_stalled(now);
            *load = queue.load(load.assigned.saturating_sub(back.assigned), now);
            worker.handed.subtract(back.assigned);
            self.waiting.extend(back.connections);
        }
        loads
    }

    /// The next connection: one that came back, or a new one.
    fn next_connection(
        &mut self,
        workers: &BTreeMap<WorkerId, PortWorker>,
        now: Instant,
    ) -> nix::Result<Option<Connection>> {
        if let Some(connection) = self.waiting.pop_front() {
            return Ok(Some(connection));
        }
        for socket in self.sockets.iter().filter(|socket| self.accepts_from(socket, workers)) {
            match accept(socket.socket.as_fd(), self.nonblocking) {
                Ok((socket, peer)) => return Ok(Some(Connection::new(socket, peer, self.nonblocking, now))),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}
