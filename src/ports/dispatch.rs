//! Moves connections from a listening socket to the workers, and back from a worker that does not accept them.

use super::ListenerId;
use super::accept_queue::Delivery;
use super::balance::{WorkerLoad, choose, next_check, stalled};
use super::hub::Hub;
use super::listener::Listener;
use super::poller::Token;
use super::worker::{Connection, PortWorker, Server};
use crate::core::WorkerId;
use crate::sys::socket::accept;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

/// The maximum number of connections of one listener that are dispatched before the next listener's.
const MAX_DISPATCHED: usize = 64;

impl Hub {
    /// Dispatches the connections that wait at a listener, as far as workers have room.
    pub(super) fn dispatch(&mut self, id: ListenerId) {
        let Hub { listeners, workers, now, retry_at, recheck_at, batching, .. } = self;
        let mut shortage = None;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let mut loads = listener.loads(id, workers, *now);
        // While this process has no free descriptor, nothing is tried.
        let mut has_takers = retry_at.is_none();
        let mut full = Vec::new();
        for _ in 0..if has_takers { MAX_DISPATCHED } else { 0 } {
            let Some(at) = choose(&mut loads, listener.last_assigned) else {
                has_takers = false;
                break;
            };
            let connection = match listener.next_connection(workers) {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(errno) => {
                    shortage = Some((format!("{}: a connection", listener.address), errno));
                    has_takers = false;
                    break;
                }
            };
            let worker = listener.candidates.get(at).and_then(|id| workers.get_mut(id));
            let (Some(worker), Some(load)) = (worker, loads.get_mut(at)) else { break };
            match worker.deliver(id, &listener.key, connection, *now) {
                Ok(()) => {
                    load.unanswered += 1;
                    load.assigned += 1;
                    batching.on_dispatch();
                    listener.last_assigned = at;
                }
                Err((connection, errno)) => {
                    listener.waiting.push_front(connection);
                    load.is_full = true;
                    full.push(worker.id);
                    // Too many descriptors on their way, or no memory: no event tells when there is room.
                    if !matches!(errno, Errno::EAGAIN | Errno::EPIPE) {
                        shortage = Some((format!("{}: a connection", listener.address), errno));
                    }
                }
            }
        }
        listener.assigned = loads.iter().map(|load| load.assigned).collect();
        if let Some(wait) = next_check(&loads) {
            let then = *now + wait;
            *recheck_at = Some(recheck_at.map_or(then, |earlier| earlier.min(then)));
        }
        self.watch_sockets(id, has_takers);
        if let Some((what, errno)) = shortage {
            self.wait_for_descriptors(&what, errno);
        }
        full.into_iter().for_each(|worker| self.watch_channel(worker));
    }

    /// Watches for new connections only while a worker can take them.
    fn watch_sockets(&mut self, id: ListenerId, has_takers: bool) {
        let Hub { listeners, workers, epoll, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let wanted: Vec<bool> =
            listener.sockets.iter().map(|socket| has_takers && listener.accepts_from(socket, workers)).collect();
        for ((socket, watch), at) in listener.sockets.iter_mut().zip(wanted).zip(0u16..) {
            if socket.is_watched != watch {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Socket(id, at).into());
                let done = if watch { epoll.add(&socket.socket, event) } else { epoll.delete(&socket.socket) };
                socket.is_watched = if done.is_ok() { watch } else { socket.is_watched };
            }
        }
    }

    /// Takes back the connections in a worker's queues, or in its one queue for that listener.
    pub(super) fn take_back(&mut self, worker: WorkerId, of: Option<ListenerId>) {
        let Hub { workers, listeners, .. } = self;
        let queues = workers.get_mut(&worker).into_iter().flat_map(PortWorker::queues);
        for (id, queue) in queues.filter(|(id, _)| of.is_none_or(|of| of == *id)) {
            if let Some(listener) = listeners.get_mut(&id) {
                listener.waiting.extend(queue.take_back().into_iter().map(Connection::from));
                self.is_dispatch_due = true;
            }
        }
    }

    /// Sends a worker the connections that wait for it, or that no other worker can take, as messages, so that they arrive
    /// before the message that follows.
    pub(super) fn send_queued(&mut self, worker: WorkerId) {
        let Hub { workers, listeners, now, .. } = self;
        let Some(worker) = workers.get_mut(&worker).filter(|worker| worker.channel.is_some()) else { return };
        let mut waiting = Vec::new();
        for Server { listener: id, key, delivery, .. } in &mut worker.servers {
            let queued = if let Delivery::Queue(queue) = delivery { queue.take_back() } else { Vec::new() };
            let unclaimed = listeners.get_mut(id).filter(|listener| listener.candidates.is_empty());
            let unclaimed = unclaimed.map(|listener| std::mem::take(&mut listener.waiting)).unwrap_or_default();
            waiting.extend(unclaimed.into_iter().map(|connection| (*id, key.clone(), connection)));
            waiting.extend(queued.into_iter().map(|connection| (*id, key.clone(), connection.into())));
        }
        for (id, key, connection) in waiting {
            // A connection that finds no room waits for another worker.
            if let Err((connection, _)) = worker.send_connection(id, &key, connection, *now)
                && let Some(listener) = listeners.get_mut(&id)
            {
                listener.waiting.push_back(connection);
            }
        }
    }

    /// Closes a listener, and stops watching its sockets: a worker may have copies of them.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(&id) {
            for socket in listener.sockets.iter().filter(|socket| socket.is_watched) {
                let _ = self.epoll.delete(&socket.socket);
            }
        }
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
        for at in stalled(&loads) {
            let queue = self.candidates.get(at).and_then(|worker| workers.get_mut(worker)?.queue(id));
            if let (Some(queue), Some(load)) = (queue, loads.get_mut(at)) {
                let back = queue.take_back_and_probe();
                *load = queue.load(load.assigned.saturating_sub(back.len() as u64), now);
                self.waiting.extend(back.into_iter().map(Connection::from));
            }
        }
        loads
    }

    /// The next connection: one that came back, or a new one.
    fn next_connection(&mut self, workers: &BTreeMap<WorkerId, PortWorker>) -> nix::Result<Option<Connection>> {
        if let Some(connection) = self.waiting.pop_front() {
            return Ok(Some(connection));
        }
        for socket in self.sockets.iter().filter(|socket| self.accepts_from(socket, workers)) {
            match accept(socket.socket.as_fd()) {
                Ok(socket) => return Ok(Some(socket.into())),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}
