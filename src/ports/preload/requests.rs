//! Answers the requests of preloaded libraries.

use super::broker::Outcome;
use crate::core::WorkerId;
use crate::ports::accept_queue::{AcceptQueue, Delivery};
use crate::ports::hub::Hub;
use crate::ports::listener::Listener;
use crate::ports::node::inspector_port;
use crate::ports::poller::Token;
use crate::ports::worker::Server;
use crate::sys::peer::has_io_uring;
use crate::sys::socket::cookie;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The maximum number of clients of all brokers. Beyond it the oldest is disconnected.
const MAX_CLIENTS: usize = 256;
/// The maximum number of processes that are checked for an io_uring.
const MAX_IDLE_LISTENERS: usize = 256;
/// The interval of these checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A process that listens, and has not been seen to wait for connections.
pub(in crate::ports) struct IdleListener {
    worker: WorkerId,
    pid: Pid,
    address: String,
}

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
        let Hub { clients, workers, apps, shared_sockets, .. } = self;
        let Some(client) = clients.get(&id) else { return };
        let Some(worker) = workers.get_mut(&client.worker) else { return };
        let Some(app) = apps.get(&worker.slot.app) else { return };
        // Each worker has an inspector of its own.
        let private_port = worker.channel.is_some().then(|| inspector_port(&app.command, worker.slot.index));
        let outcome = shared_sockets.serve(client, worker.slot, app, private_port);
        if outcome == Outcome::Pending {
            return;
        }
        let Some(client) = clients.remove(&id) else { return };
        let worker = client.worker;
        match outcome {
            Outcome::Pending | Outcome::Answered => {}
            Outcome::Listening { address, pid } => {
                self.on_library_listening(IdleListener { worker, pid, address });
                client.reply(0, None);
            }
            Outcome::Serving { address } => self.on_library_serving(worker, address),
            Outcome::QueueRequested { socket } => client.reply_with(self.create_queue(worker, socket)),
            Outcome::ListenerRequested { queue } => client.reply_with(self.listener_behind(worker, queue)),
        }
    }

    /// A process of a worker listens. Until one of the worker's waits for connections there, it may be a master whose children
    /// have not loaded the app.
    fn on_library_listening(&mut self, process: IdleListener) {
        let Some(worker) = self.workers.get_mut(&process.worker) else { return };
        if worker.library_addresses.contains(&process.address) {
            return;
        }
        worker.notifiers.on_bound();
        if self.idle_listeners.len() < MAX_IDLE_LISTENERS {
            self.idle_listeners.push(process);
            self.check_idle_at.get_or_insert(self.now + CHECK_INTERVAL);
        }
    }

    /// Lets those serve that have opened an io_uring since they listen: how they wait for connections cannot be seen.
    pub(in crate::ports) fn check_idle_listeners(&mut self) {
        for process in std::mem::take(&mut self.idle_listeners) {
            let Some(worker) = self.workers.get(&process.worker) else { continue };
            if worker.library_addresses.contains(&process.address) {
                continue;
            }
            if has_io_uring(process.pid) == Some(true) {
                self.on_library_serving(process.worker, process.address);
            } else {
                self.idle_listeners.push(process);
            }
        }
        self.check_idle_at = (!self.idle_listeners.is_empty()).then(|| self.now + CHECK_INTERVAL);
    }

    /// A worker waits for connections at an address of the library's.
    fn on_library_serving(&mut self, id: WorkerId, address: String) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let app = worker.slot.app;
        if !worker.library_addresses.contains(&address) {
            worker.notifiers.on_listening(address.clone());
            worker.library_addresses.push(address.clone());
        }
        if let Some(how) = self.apps.get(&app).map(|app| app.balance.by_preload()) {
            self.announce_once(app, &address, &how);
        }
        self.publish_addresses(id);
    }

    /// Creates a worker's accept queue for the listening socket with that cookie. The worker's end of it.
    fn create_queue(&mut self, id: WorkerId, socket: u64) -> Option<BorrowedFd<'_>> {
        let Hub { workers, listeners, epoll, .. } = self;
        let worker = workers.get_mut(&id)?;
        let is_it = |listener: &Listener| listener.sockets.iter().any(|one| cookie(one.socket.as_fd()) == Ok(socket));
        let mut without = worker.servers.iter_mut().filter(|server| matches!(server.delivery, Delivery::Socket));
        let server = without.find(|server| listeners.get(&server.listener).is_some_and(is_it))?;
        let Server { listener, delivery, .. } = server;
        let queue = AcceptQueue::open().ok()?;
        // An event each time that the worker accepts, not for as long as the queue has room.
        let on_accept = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&queue, EpollEvent::new(on_accept, Token::Queue(*listener).into())).ok()?;
        *delivery = Delivery::Queue(queue);
        let (listener, app) = (*listener, worker.slot.app);
        self.update_candidates(app);
        self.workers.get_mut(&id)?.queue(listener).map(|queue| queue.worker_end())
    }

    /// The listening socket behind the accept queue with that cookie.
    fn listener_behind(&mut self, id: WorkerId, queue: u64) -> Option<BorrowedFd<'_>> {
        let (listener, _) = self.workers.get_mut(&id)?.queues().find(|(_, one)| one.has_cookie(queue))?;
        self.listeners.get(&listener)?.sockets.first().map(|one| one.socket.as_fd())
    }
}
