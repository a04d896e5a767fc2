//! Runs the ports' thread: reads the workers' channels and brokers, and dispatches connections.
//!
//! ```text
//! a connection waits ──▶ balance::choose ─ turn ─▶ accept queue ─▶ worker ─ accept ─▶ listening socket
//!                               ▲                      │
//!                               └─ not taken, or dead ◀┘
//! ```
//!
//! Where a worker cannot accept for itself, rinit does, and the connection takes the turn's way. Without the preloaded library a
//! message on the channel stands for the queue, and the worker's answer for its `accept`. A connection is accepted only while a
//! worker can take it; until then it waits in the kernel's queue.

use super::batching::Batching;
use super::handle::{Command, DrainRequest, Shared};
use super::listener::{Kind, Listener};
use super::node::Line;
use super::poller::{Poller, Token, now};
use super::preload::{Client, IdleListener};
use super::worker::PortWorker;
use super::{AppPorts, Balance, ListenerId};
use crate::core::{AppId, WorkerId};
use crate::ordered::ordered;
use crate::sys::process::why_not_now;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The maximum number of events taken from the kernel at once.
const MAX_EVENTS: usize = 128;
/// The number of times that waiting connections are dispatched before their listener is closed.
const FINAL_DISPATCHES: usize = 16;
/// The maximum number of addresses remembered as announced.
const MAX_ANNOUNCED: usize = 64;
/// The pause before a next try when no descriptor was left.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The pause between two warnings about that.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// The shared ports of all apps.
pub struct Hub {
    pub(super) apps: BTreeMap<AppId, AppPorts>,
    pub(super) shared: Arc<Shared>,
    pub(super) epoll: Arc<Poller>,
    pub(super) workers: BTreeMap<WorkerId, PortWorker>,
    pub(super) listeners: BTreeMap<ListenerId, Listener>,
    last_listener: u32,
    /// The addresses that the log has announced last.
    announced: VecDeque<(AppId, String)>,
    /// The apps that the log has told to set another `--stop-signal`.
    advised: Vec<AppId>,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) last_client: u64,
    /// The time of this turn.
    pub(super) now: Instant,
    /// Something has changed that may let waiting connections go on.
    pub(super) is_dispatch_due: bool,
    /// The time of the next try, while no descriptor is left.
    pub(super) retry_at: Option<Instant>,
    /// The time of the last warning about that.
    warned_at: Option<Instant>,
    /// A descriptor to be given up when none is left.
    pub(super) spare_descriptor: Option<OwnedFd>,
    /// The time at which a worker that delays the others counts as blocked.
    pub(super) recheck_at: Option<Instant>,
    /// Processes that listen by the library, until they serve.
    pub(super) idle_listeners: Vec<IdleListener>,
    /// The time at which these are checked again.
    pub(super) check_idle_at: Option<Instant>,
    buffer: Vec<u8>,
    pub(super) batching: Batching,
}

impl Hub {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(apps: Vec<AppPorts>, shared: Arc<Shared>) -> io::Result<Hub> {
        let epoll = Arc::new(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?));
        Ok(Hub {
            apps: ordered(apps.into_iter().map(|app| (app.id, app))),
            shared,
            workers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            last_listener: 0,
            announced: VecDeque::new(),
            advised: Vec::new(),
            clients: BTreeMap::new(),
            last_client: 0,
            now: now(),
            is_dispatch_due: false,
            retry_at: None,
            warned_at: None,
            spare_descriptor: epoll.as_fd().try_clone_to_owned().ok(),
            recheck_at: None,
            idle_listeners: Vec::new(),
            check_idle_at: None,
            buffer: Vec::new(),
            batching: Batching::default(),
            epoll,
        })
    }

    /// The epoll instance, which is readable while there is work.
    pub(super) fn poller(&self) -> Arc<Poller> {
        self.epoll.clone()
    }

    pub(super) fn watch_waker(&self, waker: &EventFd) -> nix::Result<()> {
        self.epoll.add(waker, EpollEvent::new(EpollFlags::EPOLLIN, Token::Waker.into()))
    }

    /// Runs for ever. A panic ends what was being done, and the ports stay open.
    pub(super) fn run(mut self) {
        loop {
            if catch_unwind(AssertUnwindSafe(|| self.run_once())).is_err() {
                tracing::error!("the shared ports had an internal error (above) and go on; please report it");
            }
        }
    }

    fn run_once(&mut self) {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let timeout = match [self.retry_at, self.recheck_at, self.check_idle_at].into_iter().flatten().min() {
            Some(then) => {
                // epoll counts whole milliseconds, and would return too early.
                let wait = then.saturating_duration_since(self.now) + Duration::from_millis(1);
                EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO)
            }
            None => EpollTimeout::NONE,
        };
        self.batching.pause_if_busy();
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        self.now = now();
        self.batching.on_wake(self.now);
        for command in self.shared.take_commands() {
            self.apply(command);
        }
        for event in events.iter().take(count) {
            match Token::from(event.data()) {
                Token::Waker => {}
                Token::Channel(worker) => self.on_channel_ready(worker, event.events()),
                Token::Broker(worker) => self.accept_clients(worker),
                Token::Client(client) => self.on_client_readable(client),
                Token::Socket(listener, _) => self.dispatch(listener),
                Token::Queue(listener) => self.on_accept(listener, event.events().contains(EpollFlags::EPOLLIN)),
            }
        }
        if self.check_idle_at.is_some_and(|then| then <= self.now) {
            self.check_idle_listeners();
        }
        if self.recheck_at.is_some_and(|then| then <= self.now) {
            (self.recheck_at, self.is_dispatch_due) = (None, true);
        }
        if self.retry_at.is_some_and(|then| then <= self.now) {
            (self.retry_at, self.is_dispatch_due) = (None, true);
            self.workers.values_mut().for_each(|worker| worker.is_full = false);
            let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
            workers.into_iter().for_each(|worker| self.accept_clients(worker));
        }
        if std::mem::take(&mut self.is_dispatch_due) {
            let all: Vec<ListenerId> = self.listeners.keys().copied().collect();
            all.into_iter().for_each(|listener| self.dispatch(listener));
        }
    }

    pub(super) fn apply(&mut self, command: Command) {
        match command {
            Command::AddWorker(worker) => self.add_worker(*worker),
            Command::Retire(worker) => self.retire(worker),
            Command::Drain(worker, request) => self.drain(worker, request),
            Command::DrainConnections { worker, signal, handled_after, ended_after } => {
                self.drain_connections(worker, signal, handled_after, ended_after);
            }
            Command::SendShutdown(worker, idle) => self.send_shutdown(worker, idle),
            Command::RemoveWorker(worker) => self.remove_worker(worker),
            Command::Close(app) => self.close(app),
            Command::SetApp(app) => drop(self.apps.insert(app.id, app)),
            Command::Settle(done) => drop(done.send(())),
            Command::Count(reply) => drop(reply.send(self.count_connections())),
            Command::Deliver { worker, port, connection, outcome } => {
                drop(outcome.send(self.deliver_to(worker, port, connection)));
            }
        }
    }

    fn add_worker(&mut self, worker: PortWorker) {
        let id = worker.id;
        // A broker that cannot accept for want of descriptors reports that once, and not for as long as a client waits.
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let channel = worker.channel.iter().map(|channel| (channel.as_fd(), EpollFlags::EPOLLIN, Token::Channel(id)));
        let broker = worker.broker.iter().map(|broker| (broker.as_fd(), once, Token::Broker(id)));
        for (what, events, token) in channel.chain(broker) {
            if let Err(errno) = self.epoll.add(what, EpollEvent::new(events, token.into())) {
                tracing::error!("cannot watch the channel of {}, which shares no port: {}", worker.name, errno.desc());
            }
        }
        self.workers.insert(id, worker);
        // It may be a replacement, which changes the candidates.
        self.update_candidates_for(id);
    }

    /// Stops new connections to a worker. Those that it has not accepted go to others, where there are others.
    pub(super) fn retire(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.is_leaving = true;
        self.update_candidates_for(id);
        let served = self.listeners.iter().filter(|(_, listener)| !listener.candidates.is_empty());
        let served: Vec<ListenerId> = served.map(|(id, _)| *id).collect();
        served.into_iter().for_each(|listener| self.take_back(id, Some(listener)));
    }

    /// Asks a worker to drain. One that never spoke has nothing to drain.
    fn drain(&mut self, id: WorkerId, request: DrainRequest) {
        self.send_queued(id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.is_draining = true;
        if !worker.is_online || worker.channel.is_none() {
            worker.notifiers.on_finished();
            return;
        }
        let DrainRequest { idle, signal, after } = request;
        let message = Line::disconnect(worker.next_seq(), idle.as_millis(), signal, after.as_millis());
        worker.send(Line::plain(message), None);
        self.watch_channel(id);
    }

    /// Sends a worker pm2's message before a stop.
    fn send_shutdown(&mut self, id: WorkerId, idle: Duration) {
        self.send_queued(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.send(Line::drain(idle.as_millis()), None);
            worker.send(Line::SHUTDOWN.to_vec(), None);
            self.watch_channel(id);
        }
    }

    /// Removes a worker that has ended, or that will never speak again.
    fn remove_worker(&mut self, id: WorkerId) {
        // Its last messages decide which connections it had accepted.
        self.on_channel_ready(id, EpollFlags::EPOLLIN);
        self.close_channel(id);
        let Some(mut worker) = self.workers.remove(&id) else { return };
        self.shared.publish_addresses(id, worker.slot, Vec::new());
        self.shared.publish_health(id, None);
        worker.notifiers.on_finished();
        self.clients.retain(|_, client| client.worker != id);
        // A worker that was asked to stop leaves no open address behind; those of a crashed one wait for the next.
        let app = worker.slot.app;
        let has_others =
            worker.is_leaving && self.workers.values().any(|other| other.slot.app == app && !other.is_leaving);
        if has_others {
            self.close_unserved(app);
        }
        self.update_candidates(app);
    }

    /// Closes a worker's channel. Connections that it was sent and had not accepted go to others.
    pub(super) fn close_channel(&mut self, id: WorkerId) {
        self.take_back(id, None);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(channel) = worker.channel.take() {
            let _ = self.epoll.delete(&channel);
        }
        worker.notifiers.on_finished();
        for sent in std::mem::take(&mut worker.in_flight) {
            if let Some(listener) = self.listeners.get_mut(&sent.listener) {
                listener.waiting.extend(Some(sent.connection).filter(|one| !one.is_addressed));
            }
        }
        self.update_candidates_for(id);
    }

    /// Closes the listeners of an app that no worker serves any more.
    fn close_unserved(&mut self, app: AppId) {
        let unserved = self.listeners.iter().filter(|(id, listener)| listener.app == app && !self.is_served(**id));
        let unserved: Vec<ListenerId> = unserved.map(|(id, _)| *id).collect();
        unserved.into_iter().for_each(|id| self.close_listener(id));
    }

    pub(super) fn add_listener(&mut self, mut listener: Listener) -> ListenerId {
        listener.is_sticky = self.apps.get(&listener.app).is_some_and(|app| app.balance == Balance::IpHash);
        listener.has_turns = listener.kind == Kind::Dispatched && !listener.is_sticky;
        self.last_listener += 1;
        let id = ListenerId(self.last_listener);
        self.listeners.insert(id, listener);
        id
    }

    /// True if a worker has a server there.
    pub(super) fn is_served(&self, id: ListenerId) -> bool {
        self.workers.values().any(|worker| worker.server(id).is_some())
    }

    /// Closes an app's ports.
    fn close(&mut self, app: AppId) {
        let own = self.listeners.iter().filter(|(_, listener)| listener.app == app);
        let own: Vec<ListenerId> = own.map(|(id, _)| *id).collect();
        for id in own {
            self.end_turns(id);
            for _ in 0..FINAL_DISPATCHES {
                self.dispatch(id);
            }
            self.close_listener(id);
        }
    }

    fn update_candidates_for(&mut self, worker: WorkerId) {
        if let Some(app) = self.workers.get(&worker).map(|worker| worker.slot.app) {
            self.update_candidates(app);
        }
    }

    /// Finds the candidates of each of an app's listeners again.
    pub(super) fn update_candidates(&mut self, app: AppId) {
        let Hub { listeners, workers, .. } = self;
        for (id, listener) in listeners.iter_mut().filter(|(_, listener)| listener.app == app) {
            listener.update_candidates(*id, workers);
        }
        self.is_dispatch_due = true;
    }

    fn on_channel_ready(&mut self, id: WorkerId, events: EpollFlags) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(channel) = &mut worker.channel else { return };
        let mut messages = Vec::new();
        let read = channel.read(&mut self.buffer, |line| messages.push(super::node::read(line)));
        if events.contains(EpollFlags::EPOLLOUT) && channel.flush().is_ok() {
            (worker.is_full, self.is_dispatch_due) = (false, true);
        }
        for message in messages {
            self.on_message(id, message);
        }
        if read.is_err() {
            self.close_channel(id);
        }
        self.watch_channel(id);
    }

    /// Watches for room in a channel only while a message waits for it.
    pub(super) fn watch_channel(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(channel) = &worker.channel else { return };
        let room = if channel.is_free() && !worker.is_full { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | room, Token::Channel(id).into());
        let _ = self.epoll.modify(channel, &mut event);
    }

    /// Schedules a next try when no descriptor was left. `what` waits until then.
    pub(super) fn wait_for_descriptors(&mut self, what: &str, errno: Errno) {
        self.retry_at = Some(self.now + RETRY_INTERVAL);
        if self.warned_at.is_none_or(|last| self.now.saturating_duration_since(last) >= WARN_INTERVAL) {
            self.warned_at = Some(self.now);
            tracing::warn!("{what} waits: {}", why_not_now(errno).unwrap_or(errno.desc()));
        }
    }

    /// Logs how an address is shared, once for each address: some apps open servers again and again.
    pub(super) fn announce_once(&mut self, app: AppId, address: &str, how: &dyn Display) {
        if self.announced.iter().any(|announced| *announced == (app, address.into())) {
            return;
        }
        self.announced.push_back((app, address.into()));
        if self.announced.len() > MAX_ANNOUNCED {
            self.announced.pop_front();
        }
        let name = self.app_name(app);
        tracing::info!("{name}: {address} is shared by its workers ({how})");
    }

    /// Logs once for each app that it handles another signal than the stop signal, and the setting for that.
    pub(super) fn advise_once(&mut self, app: AppId, handled: &str, stop_signal: &str) {
        if self.advised.contains(&app) {
            return;
        }
        self.advised.push(app);
        let name = self.app_name(app);
        tracing::warn!(
            "{name}: the app handles {handled} and not {stop_signal}, so its own cleanup does not run when it is stopped; set --stop-signal {handled}"
        );
    }

    fn app_name(&self, app: AppId) -> &str {
        self.apps.get(&app).map(|app| app.name.as_str()).unwrap_or_default()
    }

    /// Publishes the addresses where a worker listens.
    pub(super) fn publish_addresses(&self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let reported = worker.servers.iter().filter(|server| server.is_reported);
        let listeners = reported.filter_map(|server| self.listeners.get(&server.listener));
        let addresses = listeners.map(|listener| listener.address.clone()).collect();
        self.shared.publish_addresses(id, worker.slot, addresses);
    }
}
