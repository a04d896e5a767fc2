//! Moves connections from a listening socket to the workers, and takes back what a worker does not take.

use super::ListenerId;
use super::accept_queue::Delivery;
use super::hub::Hub;
use super::listener::{Kind, Listener, Origin};
use super::poller::Token;
use super::round::{End, Round};
use super::sockets::peer_of;
use super::worker::{Connection, PortWorker, Server};
use crate::core::WorkerId;
use crate::sys::socket::stop_listening;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

/// The maximum number of connections of one listener that are dispatched before the next listener's.
const MAX_DISPATCHED: usize = 64;

impl Hub {
    /// Dispatches the connections that wait at a listener, as far as workers have room.
    pub(super) fn dispatch(&mut self, id: ListenerId) {
        let Some(mut round) = Round::new(self, id) else { return };
        let end = (0..MAX_DISPATCHED).find_map(|_| round.dispatch_next());
        let next_check = round.next_check(end);
        let Round { listener, loads, full, has_lost, shortage, .. } = round;
        listener.assigned = loads.iter().map(|load| load.assigned).collect();
        let app = listener.app;
        let shortage = shortage.map(|errno| (format!("{}: a connection", listener.address), errno));
        self.recheck_at = self.recheck_at.into_iter().chain(next_check.map(|wait| self.now + wait)).min();
        self.watch_sockets(id, end != Some(End::NoTaker));
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
    use nix::errno::Errno;
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
