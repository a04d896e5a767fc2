//! Moves connections from a listening socket to the workers, or gives workers their turn to accept them, and takes back what a
//! worker does not take.

use super::ListenerId;
use super::accept_queue::Delivery;
use super::balance::{WorkerLoad, choose, choose_by_client, next_check, stalled};
use super::hub::Hub;
use super::listener::{Kind, Listener, Origin};
use super::poller::Token;
use super::sockets::peer_of;
use super::turns::turns;
use super::worker::{Connection, PortWorker, Server};
use crate::core::WorkerId;
use crate::sys::socket::{accept, stop_listening};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The maximum number of connections of one listener that are dispatched before the next listener's.
const MAX_DISPATCHED: usize = 64;
/// The time after which turns are compared with the connections that wait.
const TURN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Hub {
    /// Dispatches the connections that wait at a listener, as far as workers have room.
    pub(super) fn dispatch(&mut self, id: ListenerId) {
        let Hub { listeners, workers, now, retry_at, recheck_at, batching, .. } = self;
        let mut shortage = None;
        let Some(listener) = listeners.get_mut(&id) else { return };
        // Connections are counted before the turns that are not over. A turn that a worker takes in between is counted as free, so
        // a connection may have two, of which one is given back, but none is forgotten.
        let waiting = listener.waiting_in_kernel();
        let mut loads = listener.loads(id, workers, *now);
        let mut without_turn = waiting.map(|waiting| waiting.saturating_sub(turns(id, workers, *now)));
        let turn_size = listener.turn_size(batching);
        let slot_of = |id: &WorkerId| workers.get(id).map_or(0, |worker| worker.slot.index);
        let slots: Vec<u32> = listener.candidates.iter().map(slot_of).collect();
        let mut has_takers = true;
        let (mut full, mut has_lost) = (Vec::new(), false);
        for dispatched in 0.. {
            if dispatched == MAX_DISPATCHED {
                // No event tells of those that are left.
                *recheck_at = Some(*now);
                break;
            }
            if without_turn == Some(0) && listener.waiting.is_empty() {
                break;
            }
            let in_turn = choose(&mut loads, listener.last_assigned, turn_size.into());
            // A client's own worker gets its connections also while it does not respond.
            let with_room = || loads.iter().position(|load| !load.is_full).filter(|_| listener.is_sticky);
            let Some(in_turn) = in_turn.or_else(with_room) else {
                has_takers = false;
                break;
            };
            let next = listener.candidates.get(in_turn).and_then(|id| workers.get_mut(id));
            let has_queue = next.is_some_and(|worker| worker.queue(id).is_some());
            let mut at = in_turn;
            let connection = if without_turn.is_some() && listener.waiting.is_empty() && has_queue {
                None
            } else {
                // While this process has no free descriptor, nothing is tried.
                if retry_at.is_some() {
                    has_takers = false;
                    break;
                }
                let connection = match listener.next_connection(workers, *now) {
                    Ok(Some(connection)) => connection,
                    Ok(None) => break,
                    Err(errno) => {
                        shortage = Some((format!("{}: a connection", listener.address), errno));
                        has_takers = false;
                        break;
                    }
                };
                let client = connection.peer.ip().filter(|_| listener.is_sticky);
                at = client.and_then(|client| choose_by_client(client, &slots, &loads)).unwrap_or(in_turn);
                Some(connection)
            };
            let worker = listener.candidates.get(at).and_then(|id| workers.get_mut(id));
            let (Some(worker), Some(load)) = (worker, loads.get_mut(at)) else { break };
            let key = listener.node().map_or("", |server| &server.key);
            let is_turn = connection.is_none();
            let handed = match connection {
                Some(connection) => {
                    let delivered = worker.deliver(id, key, connection, *now);
                    delivered.map(|()| 1).map_err(|(connection, errno)| (Some(connection), errno))
                }
                None => worker.give_turn(id, turn_size, *now).map_err(|errno| (None, errno)),
            };
            match handed {
                Ok(count) => {
                    load.unanswered += 1;
                    load.assigned += u64::from(count);
                    // The next turn comes when this one is over.
                    load.is_full |= count > 1;
                    worker.handed.add(count);
                    batching.on_dispatch(count);
                    listener.last_assigned = at;
                    listener.has_copies |= is_turn;
                    without_turn = without_turn.map(|count| count.saturating_sub(1));
                }
                Err((connection, errno)) => {
                    if let Some(connection) = connection {
                        listener.waiting.push_front(connection);
                    }
                    load.is_full = true;
                    full.push(worker.id);
                    has_lost |= worker.server(id).is_some_and(|server| !server.is_serving);
                    // Too many descriptors on their way, or no memory: no event tells when there is room.
                    if !matches!(errno, Errno::EAGAIN | Errno::EPIPE) {
                        shortage = Some((format!("{}: a connection", listener.address), errno));
                    }
                }
            }
        }
        listener.assigned = loads.iter().map(|load| load.assigned).collect();
        let app = listener.app;
        if let Some(wait) = next_check(&loads) {
            let then = *now + wait;
            *recheck_at = Some(recheck_at.map_or(then, |earlier| earlier.min(then)));
        }
        // A worker may have taken a turn and stopped before it accepted.
        if waiting.is_some_and(|waiting| waiting > 0) {
            let then = *now + TURN_CHECK_INTERVAL;
            *recheck_at = Some(recheck_at.map_or(then, |earlier| earlier.min(then)));
        }
        self.watch_sockets(id, has_takers);
        if let Some((what, errno)) = shortage {
            self.wait_for_descriptors(&what, errno);
        }
        full.into_iter().for_each(|worker| self.watch_channel(worker));
        if has_lost {
            self.update_candidates(app);
        }
    }

    /// Workers have taken connections or turns of a listener: their waits are over, and others may find room. `has_reports`:
    /// they say that turns are over.
    pub(super) fn on_accept(&mut self, id: ListenerId, has_reports: bool) {
        let Hub { workers, listeners, now, batching, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        for worker in workers.values_mut() {
            let Some(queue) = worker.queue(id) else { continue };
            queue.refresh(*now);
            let unused = if has_reports { queue.read_reports(*now) } else { 0 };
            if unused > 0 {
                worker.handed.subtract(unused);
                listener.on_unused(worker.id, unused);
                batching.on_unused(unused);
                self.is_dispatch_due = true;
            }
        }
        if listener.is_blocked() {
            self.dispatch(id);
        }
    }

    /// Watches for new connections only while a worker can take them.
    fn watch_sockets(&mut self, id: ListenerId, has_takers: bool) {
        let Hub { listeners, workers, epoll, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let wanted: Vec<bool> =
            listener.sockets.iter().map(|socket| has_takers && listener.accepts_from(socket, workers)).collect();
        for ((socket, watch), at) in listener.sockets.iter_mut().zip(wanted).zip(0u16..) {
            if socket.is_watched != watch {
                // One event for each that comes: those whose turn is given wait there too.
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                let event = EpollEvent::new(flags, Token::Socket(id, at).into());
                let done = if watch { epoll.add(&socket.socket, event) } else { epoll.delete(&socket.socket) };
                socket.is_watched = if done.is_ok() { watch } else { socket.is_watched };
            }
        }
    }

    /// Takes back what is in a worker's queues, or in its one queue for that listener.
    pub(super) fn take_back(&mut self, worker: WorkerId, of: Option<ListenerId>) {
        let Hub { workers, listeners, now, .. } = self;
        let Some(worker) = workers.get_mut(&worker) else { return };
        let mut unused = 0;
        for (id, queue) in worker.queues().filter(|(id, _)| of.is_none_or(|of| of == *id)) {
            if let Some(listener) = listeners.get_mut(&id) {
                let back = queue.take_back(*now);
                unused += back.assigned;
                listener.waiting.extend(back.connections.into_iter().filter(|one| !one.is_addressed));
                self.is_dispatch_due = true;
            }
        }
        worker.handed.subtract(unused);
    }

    /// Sends a worker the connections that wait for it, or that no other worker can take, as messages, so that they arrive
    /// before the message that follows.
    pub(super) fn send_queued(&mut self, worker: WorkerId) {
        let Hub { workers, listeners, now, .. } = self;
        let Some(worker) = workers.get_mut(&worker).filter(|worker| worker.channel.is_some()) else { return };
        let mut waiting = Vec::new();
        for Server { listener: id, key, delivery, .. } in &mut worker.servers {
            // The channel knows nothing of servers that are not Node's.
            if listeners.get(id).is_some_and(|listener| listener.node().is_none()) {
                continue;
            }
            let queued =
                if let Delivery::Queue(queue) = delivery { queue.take_back(*now).connections } else { Vec::new() };
            let unclaimed = listeners.get_mut(id).filter(|listener| listener.candidates.is_empty());
            let unclaimed = unclaimed.map(|listener| std::mem::take(&mut listener.waiting)).unwrap_or_default();
            waiting.extend(unclaimed.into_iter().map(|connection| (*id, key.clone(), connection)));
            waiting.extend(queued.into_iter().map(|connection| (*id, key.clone(), connection)));
        }
        for (id, key, connection) in waiting {
            // A connection that finds no room waits for another worker.
            if let Err((connection, _)) = worker.send_connection(id, &key, connection, *now)
                && !connection.is_addressed
                && let Some(listener) = listeners.get_mut(&id)
            {
                listener.waiting.push_back(connection);
            }
        }
    }

    /// Sends a connection to that worker and no other. `port` chooses among the addresses where it listens.
    ///
    /// # Errors
    /// The worker does not listen there, or not by a means that rinit can use, or has no room.
    pub(super) fn deliver_to(&mut self, id: WorkerId, port: Option<u16>, socket: OwnedFd) -> io::Result<()> {
        let Hub { workers, listeners, now, .. } = self;
        let worker = workers.get_mut(&id).filter(|worker| !worker.is_draining);
        let worker =
            worker.ok_or_else(|| io::Error::new(ErrorKind::NotConnected, "the worker has ended or is asked to"))?;
        let has_port =
            |listener: &Listener| port.is_none_or(|port| listener.sockname().is_some_and(|it| it.port() == port));
        let servers = worker.servers.iter().filter_map(|server| Some((server, listeners.get(&server.listener)?)));
        let mut servers = servers.filter(|(_, listener)| !listener.is_for_datagrams());
        let Some((server, listener)) = servers.find(|(_, listener)| has_port(listener)) else {
            let place = port.map(|port| format!(" on port {port}")).unwrap_or_default();
            return Err(io::Error::new(ErrorKind::NotConnected, format!("the worker does not listen{place}")));
        };
        if listener.kind != Kind::Dispatched {
            return Err(io::Error::new(ErrorKind::Unsupported, format!("{}: {}", listener.address, listener.kind)));
        }
        if !server.is_serving {
            return Err(io::Error::new(ErrorKind::NotConnected, "the worker does not listen yet"));
        }
        if matches!(server.delivery, Delivery::Socket) {
            return Err(io::Error::new(ErrorKind::Unsupported, format!("{}: {}", listener.address, Kind::Shared)));
        }
        let (nonblocking, listener, key) = (listener.nonblocking, server.listener, server.key.clone());
        if !nonblocking {
            fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
        }
        let peer = peer_of(&socket);
        let connection = Connection { is_addressed: true, ..Connection::new(socket, peer, nonblocking, *now) };
        worker.deliver(listener, &key, connection, *now).map_err(|(_, errno)| errno.into())
    }

    /// Closes a listener, and stops watching its sockets: a worker may have copies of them.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(&id) {
            if let Some(address) = listener.sockname() {
                self.workers.values_mut().for_each(|worker| worker.note_closed(id, address.port()));
            }
            for socket in listener.sockets.iter().filter(|socket| socket.is_watched) {
                let _ = self.epoll.delete(&socket.socket);
            }
            // Of `--listen` the app's next workers get the socket. A program that accepts from the socket itself goes on.
            let accepts_itself = |worker: &PortWorker| {
                worker.server(id).is_some_and(|server| server.is_serving && matches!(server.delivery, Delivery::Socket))
            };
            if listener.has_copies
                && !matches!(listener.origin, Origin::Inherited)
                && !self.workers.values().any(accepts_itself)
            {
                listener.sockets.iter().for_each(|one| stop_listening(one.socket.as_fd()));
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::{AppId, SlotId};
    use crate::ports::accept_queue::AcceptQueue;
    use crate::ports::handle::Shared;
    use crate::ports::node::Query;
    use crate::ports::sockets::loopback_pair;
    use crate::ports::{AppPorts, Balance};
    use crate::sys::socket::receive;
    use std::io::{Read, Write};
    use std::sync::Arc;

    /// A hub with one listener, and two workers that have queues there.
    pub fn hub() -> (Hub, ListenerId, u16) {
        let app = AppId(0);
        let ports =
            AppPorts { id: app, name: "web".into(), balance: Balance::RoundRobin, command: vec![], inherited: vec![] };
        let mut hub = Hub::new(vec![ports], Arc::new(Shared::default())).unwrap();
        let query = Query { address: Some("127.0.0.1".into()), port: Some(0), ..Query::default() };
        let listener = Listener::open(SlotId { app, index: 0 }, Balance::RoundRobin, &query, &[], false).unwrap();
        let port = listener.sockname().unwrap().port();
        let id = hub.add_listener(listener);
        for index in 0..2 {
            let slot = SlotId { app, index };
            let mut worker = PortWorker::new(WorkerId(u64::from(index)), slot, format!("web-{index}"), None, None);
            let delivery = Delivery::Queue(AcceptQueue::open(worker.waits.clone()).unwrap());
            worker.servers.push(Server::new(id, String::new(), delivery));
            worker.servers[0].is_serving = true;
            hub.workers.insert(worker.id, worker);
        }
        (hub, id, port)
    }

    #[test]
    fn a_connection_can_be_addressed_to_one_worker() {
        let (mut hub, id, port) = hub();
        let (mut client, server) = loopback_pair().unwrap();
        hub.deliver_to(WorkerId(1), Some(port), server).unwrap();
        let queue = |hub: &mut Hub, worker| {
            let queue = hub.workers.get_mut(&WorkerId(worker)).unwrap().queue(id).unwrap();
            receive(queue.worker_end().as_fd(), &mut [0; 64])
        };
        assert_eq!(queue(&mut hub, 0).map(drop), Err(Errno::EAGAIN));
        let mut server = std::net::TcpStream::from(queue(&mut hub, 1).unwrap().1.pop().unwrap());
        server.set_nonblocking(false).unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_connection_addressed_to_a_worker_that_ends_is_closed() {
        let (mut hub, id, _) = hub();
        let (client, server) = loopback_pair().unwrap();
        hub.deliver_to(WorkerId(1), None, server).unwrap();
        hub.take_back(WorkerId(1), None);
        assert!(hub.listeners[&id].waiting.is_empty(), "it is nobody else's");
        client.set_nonblocking(false).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_connection_to_a_worker_that_does_not_listen_there_fails() {
        let (mut hub, _, port) = hub();
        let (_client, server) = loopback_pair().unwrap();
        let error = hub.deliver_to(WorkerId(1), Some(port - 1), server).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
        let (_client, server) = loopback_pair().unwrap();
        let error = hub.deliver_to(WorkerId(7), None, server).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    }
}
