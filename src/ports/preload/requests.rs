//! Answers the requests of preloaded libraries.
//!
//! The first worker's own socket becomes the one that all share, with all of its options.

use super::broker::Client;
use super::protocol::{MAX_REQUEST_BYTES, Reply, Request};
use crate::core::{AppId, WorkerId};
use crate::ports::accept_queue::{AcceptQueue, Delivery};
use crate::ports::hub::Hub;
use crate::ports::listener::{Kind, Listener, Origin, Socket};
use crate::ports::node::inspector_port;
use crate::ports::poller::Token;
use crate::ports::sockets::shown_address;
use crate::ports::worker::{MAX_SERVERS, PortWorker};
use crate::ports::{Address, Balance, ListenerId};
use crate::sys::peer::{has_io_uring, holds};
use crate::sys::socket::{bind, cookie, inode, listen};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
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
/// An event each time that a worker accepts, not for as long as its queue has room.
const ON_ACCEPT: EpollFlags = EpollFlags::EPOLLOUT.union(EpollFlags::EPOLLET);

/// A process that listens, and has not been seen to wait for connections.
pub(in crate::ports) struct IdleListener {
    worker: WorkerId,
    pid: Pid,
    listener: ListenerId,
}

/// A reply, and the descriptor that goes with it.
type Answer = (Reply, Option<Arc<OwnedFd>>);

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
        let Some(client) = self.clients.remove(&id) else { return };
        let Ok((length, socket)) = read else { return };
        let Some(request) = Request::decode(bytes.get(..length).unwrap_or_default()) else { return };
        let (reply, socket) = self.answer(&client, request, socket);
        client.reply(reply, socket.as_ref().map(|socket| socket.as_fd()));
    }

    fn answer(&mut self, client: &Client, request: Request, socket: OwnedFd) -> Answer {
        if let Request::Bind { v6_only, address } = request {
            let address = Address::read(address, v6_only);
            return match self.bind(client, address, socket) {
                Ok(answer) => answer,
                Err(errno) => (Reply::Failed(errno as i32), None),
            };
        }
        let (worker, pid) = (client.worker, client.pid);
        let Some(listener) = self.listener_of(worker, &socket) else { return (Reply::NotShared, None) };
        match request {
            Request::Queue => match self.queue_or_open(worker, listener) {
                Some(queue) => (Reply::Done, Some(queue)),
                None => (Reply::NotShared, None),
            },
            Request::Listen { backlog, has_io_uring } => {
                let own = self.socket_for(worker, listener);
                if let Some(Err(errno)) = own.map(|socket| listen(socket.as_fd(), backlog)) {
                    return (Reply::Failed(errno as i32), None);
                }
                if has_io_uring {
                    self.on_library_serving(worker, listener);
                } else {
                    self.on_library_listening(IdleListener { worker, pid, listener });
                }
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
                self.workers.values_mut().for_each(|worker| worker.servers.retain(|one| one.listener != listener));
                self.close_listener(listener);
                (Reply::Done, own)
            }
            Request::Bind { .. } => (Reply::NotShared, None),
        }
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
        let socket = Socket::new(slot.index, inherited.clone()).ok()?;
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

    /// Binds a program's socket, or finds the one that its app has bound to that address already.
    ///
    /// # Errors
    /// The errors that the program sees: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`…
    fn bind(&mut self, client: &Client, address: Option<Address>, socket: OwnedFd) -> nix::Result<Answer> {
        let worker = self.workers.get_mut(&client.worker).ok_or(Errno::ESRCH)?;
        let (app, slot) = (worker.slot.app, worker.slot.index);
        let settings = self.apps.get(&app).ok_or(Errno::ESRCH)?;
        // Each worker has an inspector of its own.
        let private_port = worker.channel.is_some().then(|| inspector_port(&settings.command, slot));
        let Some(address) = address.filter(|address| private_port != Some(address.port())) else {
            return Ok((Reply::NotShared, None));
        };
        // The kernel allows the same address once for each interface (`SO_BINDTODEVICE`, socket(7)).
        let own_device = getsockopt(&socket, sockopt::BindToDevice).unwrap_or_default();
        let mut own = self.listeners.iter_mut().filter(|(_, listener)| listener.app == app);
        let known = own.find(|(_, listener)| match &listener.origin {
            Origin::Bound { address: bound, device } => *bound == address && *device == own_device,
            Origin::Node(_) | Origin::Inherited => false,
        });
        let kind = Kind::from(settings.balance);
        let done = if kind == Kind::Dispatched { Reply::Done } else { Reply::DoneWithoutQueue };
        let Some((id, listener)) = known else {
            if worker.servers.len() >= MAX_SERVERS {
                return Ok((Reply::NotShared, None));
            }
            if kind == Kind::PerSlot {
                setsockopt(&socket, sockopt::ReusePort, &true)?;
            }
            match bind(socket.as_fd(), &address) {
                Err(Errno::EADDRINUSE) if self.release(app, &address) => bind(socket.as_fd(), &address),
                result => result,
            }?;
            let shown = address.to_string();
            let socket = Socket::new(slot, Arc::new(socket))?;
            let origin = Origin::Bound { address, device: own_device };
            let id = self.add_listener(Listener::new(app, shown, kind, origin, socket));
            self.add_holder(client, id);
            return Ok((done, None));
        };
        let id = *id;
        let own = listener.socket_of(slot).map(|one| one.socket.clone());
        // A worker that has the socket open already gets the error that it would get without rinit: none with SO_REUSEPORT,
        // as nginx, Netty and granian bind it for each of their threads or processes.
        let is_again = getsockopt(&socket, sockopt::ReusePort).unwrap_or_default();
        if !is_again && own.as_ref().is_some_and(|own| is_held(worker, id, own) == Some(true)) {
            return Err(Errno::EADDRINUSE);
        }
        if own.is_none() {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
            bind(socket.as_fd(), &address)?;
            listener.sockets.push(Socket::new(slot, Arc::new(socket))?);
        }
        self.add_holder(client, id);
        Ok((done, own))
    }

    /// Records that a process of a worker has a listener's socket.
    fn add_holder(&mut self, client: &Client, id: ListenerId) {
        if let Some(server) = self.workers.get_mut(&client.worker).and_then(|worker| worker.server_or_add(id)) {
            server.add_holder(client.pid);
        }
    }

    /// Closes the listeners that occupy an address and whose sockets no process has open any more: apps bind and close a
    /// socket to find out if a port is free. Returns true if there was one.
    fn release(&mut self, app: AppId, wanted: &Address) -> bool {
        let occupies = |listener: &Listener| match &listener.origin {
            Origin::Bound { address, .. } => address.port() == wanted.port() && address != wanted,
            Origin::Node(_) | Origin::Inherited => false,
        };
        let is_free = |id: ListenerId, listener: &Listener| {
            let held = |worker: &PortWorker| {
                listener.sockets.iter().any(|one| is_held(worker, id, &one.socket) != Some(false))
            };
            !self.workers.values().filter(|worker| worker.server(id).is_some()).any(held)
        };
        let own = self.listeners.iter().filter(|(_, listener)| listener.app == app);
        let free: Vec<ListenerId> =
            own.filter(|(id, one)| occupies(one) && is_free(**id, one)).map(|(id, _)| *id).collect();
        for id in &free {
            self.workers.values_mut().for_each(|worker| worker.servers.retain(|one| one.listener != *id));
            self.close_listener(*id);
        }
        !free.is_empty()
    }

    /// The worker's end of its accept queue for a listener, which is opened if there is none. `None`: the worker accepts from
    /// the socket itself, or gets its connections by messages.
    fn queue_or_open(&mut self, id: WorkerId, listener: ListenerId) -> Option<Arc<OwnedFd>> {
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
            Delivery::Queue(_) => false,
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

    /// Lets those serve that have opened an io_uring since they listen: how they wait for connections cannot be seen.
    pub(in crate::ports) fn check_idle_listeners(&mut self) {
        for process in std::mem::take(&mut self.idle_listeners) {
            let worker = self.workers.get(&process.worker);
            let Some(server) = worker.and_then(|worker| worker.server(process.listener)) else { continue };
            if server.is_serving {
                continue;
            }
            if has_io_uring(process.pid) == Some(true) {
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

/// Returns true if one of the processes that were given a listener's socket, or a worker's queue for it, still has it open.
/// `None`: rinit may not look.
fn is_held(worker: &PortWorker, id: ListenerId, socket: &OwnedFd) -> Option<bool> {
    let Some(server) = worker.server(id) else { return Some(false) };
    let queue = match &server.delivery {
        Delivery::Queue(queue) => inode(queue.worker_end().as_fd()).ok(),
        Delivery::Messages | Delivery::Socket => None,
    };
    let sockets: Vec<u64> = inode(socket.as_fd()).ok().into_iter().chain(queue).collect();
    let mut answers = server.holders().map(|pid| holds(pid, &sockets));
    let mut is_hidden = false;
    let is_held = answers.any(|answer| {
        is_hidden |= answer.is_none();
        answer == Some(true)
    });
    if is_held || !is_hidden { Some(is_held) } else { None }
}
