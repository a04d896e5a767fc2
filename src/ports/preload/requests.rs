//! Answers the requests of preloaded libraries.

use super::broker::Client;
use super::datagrams::is_datagram;
use super::protocol::{MAX_REQUEST_BYTES, Reply, Request};
use crate::core::WorkerId;
use crate::ports::accept_queue::{AcceptQueue, Delivery};
use crate::ports::hub::Hub;
use crate::ports::listener::{Kind, Listener, Origin, Socket};
use crate::ports::poller::Token;
use crate::ports::sockets::shown_address;
use crate::ports::{Address, Balance, ListenerId};
use crate::sys::peer::may_accept_by_io_uring;
use crate::sys::socket::{cookie, listen};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::Pid;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of clients of all brokers. Beyond it the oldest is disconnected.
const MAX_CLIENTS: usize = 256;
/// The maximum number of processes that are checked for an io_uring.
const MAX_IDLE_LISTENERS: usize = 256;
/// The interval of these checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time after its start in which a worker that has bound no port finds those of its siblings free.
const MAX_UNBOUND: Duration = Duration::from_secs(60);
/// An event each time that a worker accepts or gives a turn back, not for as long as its queue has room.
const ON_ACCEPT: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT).union(EpollFlags::EPOLLET);

/// A process that listens, and has not been seen to wait for connections.
pub(in crate::ports) struct IdleListener {
    worker: WorkerId,
    pid: Pid,
    listener: ListenerId,
}

/// A reply, and the descriptor that goes with it.
pub(super) type Answer = (Reply, Option<Arc<OwnedFd>>);

impl Hub {
    /// Accepts the clients that wait at a worker's broker.
    pub(in crate::ports) fn accept_clients(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(broker) = &worker.broker else { return };
        // A worker that connects all the time is served again in the next turn.
        for _ in 0..MAX_CLIENTS {
            let client = match broker.accept(id) {
                Ok(Some(client)) => client,
                Ok(None) => continue,
                Err(Errno::EAGAIN) => return,
                Err(errno) => {
                    // With the spare descriptor the client is accepted and disconnected: it acts as without rinit, rather
                    // than wait.
                    drop(self.spare_descriptor.take());
                    let is_disconnected = broker.accept(id).is_ok();
                    self.spare_descriptor = self.epoll.as_fd().try_clone_to_owned().ok();
                    if is_disconnected {
                        continue;
                    }
                    return self.wait_for_descriptors("a request of a worker's preloaded library", errno);
                }
            };
            worker.has_library |= client.is_main_process_of(broker);
            self.last_client += 1;
            let token = Token::Client(self.last_client);
            if self.epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, token.into())).is_ok() {
                self.clients.insert(self.last_client, client);
                if self.clients.len() > MAX_CLIENTS {
                    self.clients.pop_first();
                }
            }
        }
    }

    /// Reads a client's request, and answers it.
    pub(in crate::ports) fn on_client_readable(&mut self, id: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        let mut bytes = [0; MAX_REQUEST_BYTES];
        let read = client.read(&mut bytes);
        if matches!(read, Err(Errno::EAGAIN | Errno::EINTR)) {
            return;
        }
        let Some(mut client) = self.clients.remove(&id) else { return };
        let Ok((length, socket)) = read else { return };
        let Some(request) = Request::decode(bytes.get(..length).unwrap_or_default()) else { return };
        let (reply, socket) = self.answer(&mut client, request, socket);
        client.reply(reply, socket.as_ref().map(|socket| socket.as_fd()));
        if client.bound.is_some() {
            self.clients.insert(id, client);
        }
    }

    fn answer(&mut self, client: &mut Client, request: Request, socket: OwnedFd) -> Answer {
        if let Request::Bind { v6_only, address } = request {
            let address = Address::read(address, v6_only);
            return match self.bind(client, address, socket) {
                Ok(answer) => answer,
                Err(errno) => (Reply::Failed(errno as i32), None),
            };
        }
        if let Request::Connect { address } = request {
            return (self.connect_reply(client.worker, address), None);
        }
        let (worker, pid) = (client.worker, client.pid);
        let Some(listener) = self.listener_of(worker, &socket) else { return (Reply::NotShared, None) };
        match request {
            Request::Queue => match self.queue_or_open(worker, listener) {
                Some(queue) => (Reply::Done, Some(queue)),
                None => (Reply::NotShared, None),
            },
            Request::Listen { backlog } => {
                let own = self.socket_for(worker, listener);
                if let Some(Err(errno)) = own.map(|socket| listen(socket.as_fd(), backlog)) {
                    return (Reply::Failed(errno as i32), None);
                }
                let slot = self.workers.get(&worker).map(|worker| worker.slot.index);
                if let (Some(slot), Some(kept)) = (slot, self.listeners.get_mut(&listener)) {
                    kept.on_joined(slot);
                }
                self.on_library_listening(IdleListener { worker, pid, listener });
                (Reply::Done, None)
            }
            Request::Wait { nonblocking } => {
                if let Some(listener) = self.listeners.get_mut(&listener) {
                    listener.nonblocking |= nonblocking;
                }
                self.on_library_serving(worker, listener);
                (Reply::Done, None)
            }
            Request::Find => {
                let is_dispatched = self.listeners.get(&listener).is_some_and(|one| one.kind == Kind::Dispatched);
                let reply = if is_dispatched { Reply::Done } else { Reply::DoneWithoutQueue };
                (reply, self.socket_behind(worker, listener, &socket))
            }
            Request::Forget => {
                let own = self.socket_behind(worker, listener, &socket);
                if is_datagram(&socket) {
                    self.forget_datagrams(worker, listener);
                    return (Reply::Done, own);
                }
                self.workers.values_mut().for_each(|worker| worker.servers.retain(|one| one.listener != listener));
                self.close_listener(listener);
                (Reply::Done, own)
            }
            Request::Bind { .. } | Request::Connect { .. } => (Reply::NotShared, None),
        }
    }

    /// The reply to a worker that connects to an address of this machine. Until it has bound a port, those of its siblings are
    /// free for it, as if it were alone: it may ask by that if its own port is. One that binds none in time has no port.
    fn connect_reply(&self, id: WorkerId, address: &[u8]) -> Reply {
        let Some(worker) = self.workers.get(&id) else { return Reply::Done };
        if !worker.servers.is_empty() || self.now.saturating_duration_since(worker.added_at) > MAX_UNBOUND {
            return Reply::Done;
        }
        let Some(address) = Address::read(address, false) else { return Reply::NotShared };
        let mut own = self.listeners.values().filter(|listener| listener.app == worker.slot.app);
        let is_siblings = own.any(|one| one.bound_address().is_some_and(|bound| bound.overlaps(&address)));
        if is_siblings { Reply::Failed(Errno::ECONNREFUSED as i32) } else { Reply::NotShared }
    }

    /// The listener of that socket, or of the accept queue that stands for it. One of `--listen` may be new here.
    fn listener_of(&mut self, id: WorkerId, socket: &OwnedFd) -> Option<ListenerId> {
        let cookie = cookie(socket.as_fd()).ok()?;
        let worker = self.workers.get_mut(&id)?;
        if let Some((listener, _)) = worker.queues().find(|(_, queue)| queue.cookie() == cookie) {
            return Some(listener);
        }
        let slot = worker.slot;
        let mut own = self.listeners.iter().filter(|(_, listener)| listener.app == slot.app);
        if let Some((id, _)) = own.find(|(_, listener)| listener.has_cookie(cookie)) {
            return Some(*id);
        }
        let app = self.apps.get(&slot.app)?;
        let is_it = |one: &&Arc<OwnedFd>| crate::sys::socket::cookie(one.as_fd()) == Ok(cookie);
        let inherited = app.inherited.iter().find(is_it)?;
        let kind = match app.balance {
            Balance::RoundRobin | Balance::IpHash => Kind::Dispatched,
            Balance::Reuseport | Balance::Shared => Kind::Shared,
        };
        let socket = Socket::new(slot.index, inherited.clone());
        let listener = Listener::new(slot.app, shown_address(inherited)?, kind, Origin::Inherited, socket);
        Some(self.add_listener(listener))
    }

    fn socket_for(&self, worker: WorkerId, listener: ListenerId) -> Option<Arc<OwnedFd>> {
        let slot = self.workers.get(&worker)?.slot.index;
        Some(self.listeners.get(&listener)?.socket_of(slot)?.socket.clone())
    }

    /// The listening socket, if the other one is not that itself.
    fn socket_behind(&self, worker: WorkerId, id: ListenerId, socket: &OwnedFd) -> Option<Arc<OwnedFd>> {
        let is_itself = self.listeners.get(&id)?.has_cookie(cookie(socket.as_fd()).ok()?);
        if is_itself { None } else { self.socket_for(worker, id) }
    }

    /// The worker's end of its accept queue for a listener, which is opened if there is none. `None`: the worker accepts from
    /// the socket itself, or gets its connections by messages.
    fn queue_or_open(&mut self, id: WorkerId, listener: ListenerId) -> Option<Arc<OwnedFd>> {
        // The program has shut its listening socket down, and has opened another.
        let is_shut_down = self.workers.get_mut(&id)?.queue(listener).is_some_and(|queue| queue.is_shut_down());
        if is_shut_down {
            self.take_back(id, Some(listener));
        }
        let kept = self.listeners.get(&listener)?;
        let (app, is_nodes, socket) = (kept.app, kept.node().is_some(), kept.sockets.first()?.socket.clone());
        if kept.kind != Kind::Dispatched {
            return None;
        }
        let Hub { workers, epoll, .. } = self;
        let worker = workers.get_mut(&id)?;
        let waits = worker.waits.clone();
        let server = if is_nodes { worker.server_mut(listener)? } else { worker.server_or_add(listener)? };
        let is_new = match &server.delivery {
            Delivery::Messages => return None,
            Delivery::Queue(_) => is_shut_down,
            Delivery::Socket => true,
        };
        if is_new {
            let mut queue = AcceptQueue::open(waits).ok()?;
            if is_nodes {
                // When the worker has taken the probe, the queue is in its place.
                queue.send_probe().ok()?;
                server.is_serving = true;
            }
            // rinit accepts from the socket now, and must not wait for a connection that another process has accepted.
            fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
            epoll.add(&queue, EpollEvent::new(ON_ACCEPT, Token::Queue(listener).into())).ok()?;
            server.delivery = Delivery::Queue(queue);
        }
        let Delivery::Queue(queue) = &server.delivery else { return None };
        let end = queue.worker_end();
        self.update_candidates(app);
        Some(end)
    }

    /// A process of a worker listens. Until one of the worker's waits for connections there, it may be a master whose children
    /// have not loaded the app.
    fn on_library_listening(&mut self, process: IdleListener) {
        let is_nodes = self.listeners.get(&process.listener).is_some_and(|listener| listener.node().is_some());
        let Some(worker) = self.workers.get_mut(&process.worker).filter(|_| !is_nodes) else { return };
        if worker.server(process.listener).is_some_and(|server| server.is_serving) {
            return;
        }
        worker.notifiers.on_bound();
        // A program may wait by calls that the library does not see, but accepts by one that it sees.
        if let Some(queue) = worker.queue(process.listener)
            && !queue.blocks()
        {
            let _ = queue.send_probe();
        }
        if self.idle_listeners.len() < MAX_IDLE_LISTENERS {
            self.idle_listeners.push(process);
            self.check_idle_at.get_or_insert(self.now + CHECK_INTERVAL);
        }
    }

    /// Lets those serve that wait for connections by an io_uring, which the library does not see.
    pub(in crate::ports) fn check_idle_listeners(&mut self) {
        for process in std::mem::take(&mut self.idle_listeners) {
            let worker = self.workers.get(&process.worker);
            let Some(server) = worker.and_then(|worker| worker.server(process.listener)) else { continue };
            if server.is_serving {
                continue;
            }
            if may_accept_by_io_uring(process.pid) == Some(true) {
                self.on_library_serving(process.worker, process.listener);
            } else {
                self.idle_listeners.push(process);
            }
        }
        self.check_idle_at = (!self.idle_listeners.is_empty()).then(|| self.now + CHECK_INTERVAL);
    }

    /// A worker waits for connections at an address of the library's.
    fn on_library_serving(&mut self, id: WorkerId, listener: ListenerId) {
        let Some(kept) = self.listeners.get(&listener).filter(|listener| listener.node().is_none()) else { return };
        let (app, address, mut kind) = (kept.app, kept.address.clone(), kept.kind);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(server) = worker.server_or_add(listener) else { return };
        if matches!(server.delivery, Delivery::Socket) && kind == Kind::Dispatched {
            kind = Kind::Shared;
        }
        server.is_serving = true;
        if !std::mem::replace(&mut server.is_reported, true) {
            worker.notifiers.on_listening(address.clone());
        }
        self.announce_once(app, &address, &kind);
        self.publish_addresses(id);
        self.update_candidates(app);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AppId, SlotId};
    use crate::ports::AppPorts;
    use crate::ports::handle::Shared;
    use crate::ports::node::Query;
    use crate::ports::worker::PortWorker;

    #[test]
    fn a_siblings_port_is_free_until_a_worker_has_bound_one_or_for_a_while() {
        let app = AppId(0);
        let ports =
            AppPorts { id: app, name: "web".into(), balance: Balance::Shared, command: vec![], inherited: vec![] };
        let mut hub = Hub::new(vec![ports], Arc::new(Shared::default())).unwrap();
        let slot = SlotId { app, index: 0 };
        let query = Query { address: Some("127.0.0.1".into()), port: Some(0), ..Query::default() };
        let listener = Listener::open(slot, Balance::Shared, &query, &[], false).unwrap();
        let address = listener.bound_address().unwrap();
        let listener = hub.add_listener(listener);
        hub.workers.insert(WorkerId(1), PortWorker::new(WorkerId(1), slot, "web-0".into(), None, None));
        let refused = Reply::Failed(Errno::ECONNREFUSED as i32);
        assert_eq!(hub.connect_reply(WorkerId(1), address.bytes()), refused);
        let other = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], address.port() ^ 1)));
        assert_eq!(hub.connect_reply(WorkerId(1), other.bytes()), Reply::NotShared);
        hub.now = hub.workers[&WorkerId(1)].added_at + MAX_UNBOUND + Duration::from_secs(1);
        assert_eq!(hub.connect_reply(WorkerId(1), address.bytes()), Reply::Done, "it has no port");
        hub.now = hub.workers[&WorkerId(1)].added_at;
        assert_eq!(hub.connect_reply(WorkerId(1), address.bytes()), refused);
        hub.workers.get_mut(&WorkerId(1)).unwrap().server_or_add(listener).unwrap();
        assert_eq!(hub.connect_reply(WorkerId(1), address.bytes()), Reply::Done, "it has bound one");
        assert_eq!(hub.connect_reply(WorkerId(2), address.bytes()), Reply::Done, "nobody knows it");
    }
}
