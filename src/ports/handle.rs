//! Sends the event loop's commands to the hub without waiting for it.

use super::connections::{ConnectionCounts, HandedCount};
use super::hub::Hub;
use super::node::{Channel, NodeHealth};
use super::own_listeners::own_addresses;
use super::preload::Broker;
use super::worker::{Notifiers, PortWorker};
use super::{AppPorts, Sharing, sockets};
use crate::core::{AppId, Signal, SlotId, WorkerId};
use crate::sys::peer::Identity;
use crate::sys::spawn_thread;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

/// The pause before the kernel is asked again for the hub's thread, when it had no room for one.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The time between two reports of a Node worker's health (`HEALTH_INTERVAL` of the script), and a measurement more.
const HEALTH_INTERVAL: Duration = Duration::from_millis(5_500);

/// The maximum number of a worker's addresses that the event loop has not read yet.
const MAX_UNREAD_ADDRESSES: usize = 64;

/// The event loop's handle of the hub.
#[derive(Clone)]
pub struct Ports {
    shared: Arc<Shared>,
}

/// The state that the event loop and the hub's thread share.
#[derive(Default)]
pub(super) struct Shared {
    commands: Mutex<VecDeque<Command>>,
    /// Wakes the hub's thread when there is a command; made with the thread.
    waker: OnceLock<EventFd>,
    /// The addresses where workers listen.
    addresses: Mutex<BTreeMap<WorkerId, (SlotId, Vec<String>)>>,
    /// The last health of Node workers, and the time at which it came.
    health: Mutex<BTreeMap<WorkerId, (Instant, NodeHealth)>>,
    /// The use that workers make of their ports.
    activity: Mutex<BTreeMap<WorkerId, Activity>>,
    /// The hub until it has a thread: before the first worker connects there is no work for one.
    idle_hub: Mutex<Option<Hub>>,
}

/// The use that a worker makes of its ports.
struct Activity {
    /// The number of connections that it was given.
    handed: Arc<HandedCount>,
    /// It has bound a port, or tried to.
    has_bound: Arc<AtomicBool>,
}

pub(super) enum Command {
    AddWorker(Box<PortWorker>),
    Retire(WorkerId),
    Drain(WorkerId, DrainRequest),
    DrainConnections {
        worker: WorkerId,
        signal: Signal,
        handled_after: Duration,
        ended_after: Duration,
    },
    SendShutdown(WorkerId, Duration),
    RemoveWorker(WorkerId),
    Close(AppId),
    SetApp(AppPorts),
    /// Answers when what was sent before is done.
    Settle(oneshot::Sender<()>),
    /// Counts the connections.
    Count(oneshot::Sender<ConnectionCounts>),
    /// Sends a connection to one worker, at that port or at any.
    Deliver {
        worker: WorkerId,
        port: Option<u16>,
        connection: OwnedFd,
        outcome: oneshot::Sender<io::Result<()>>,
    },
}

/// The terms of a graceful stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// The time for which idle connections stay open, so that no request meets a closed one.
    pub idle: Duration,
    /// The stop signal. An app that handles it gets it when its connections are closed.
    pub signal: Signal,
    /// The latest time of that signal, from now.
    pub after: Duration,
}

/// The ends of a worker's connections to rinit, to be passed to it at its start.
pub struct WorkerEndpoints {
    worker: PortWorker,
    /// Its end of Node's channel.
    pub channel: Option<OwnedFd>,
    /// The name of its broker (`RINIT_PORTS`).
    pub broker: Option<OsString>,
}

/// The reports of a worker through its ports.
pub struct WorkerPorts {
    /// It has bound a port, and listens there before anybody waits for connections.
    pub bound: watch::Receiver<bool>,
    /// The addresses where it listens, in the order in which it began to; not all of them if they are many.
    pub listens: mpsc::Receiver<String>,
    /// It has sent `'ready'`.
    pub says_ready: oneshot::Receiver<()>,
    /// It has sent itself the stop signal of its [`DrainRequest`].
    pub signalled: oneshot::Receiver<()>,
    /// It has finished draining.
    pub finished: oneshot::Receiver<()>,
}

impl Ports {
    /// Makes the hub of these apps.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(apps: Vec<AppPorts>) -> io::Result<Ports> {
        let shared = Arc::new(Shared::default());
        let hub = Hub::new(apps, shared.clone())?;
        *shared.idle_hub() = Some(hub);
        Ok(Ports { shared })
    }

    /// Starts the hub's thread when the first worker connects. Runs beside the event loop.
    pub async fn start_when_needed(self) {
        let Some(poller) = self.shared.idle_hub().as_ref().map(Hub::poller) else { return };
        let has_event = match crate::sys::watch(poller) {
            Ok(poller) => poller.readable().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = has_event {
            tracing::error!("ports are not shared: cannot watch the hub's epoll instance: {error}");
            return;
        }
        loop {
            if let Err(error) = self.shared.create_waker() {
                tracing::warn!("cannot create an eventfd for shared ports: {error}; next try in {RETRY_INTERVAL:?}");
                sleep(RETRY_INTERVAL).await;
                continue;
            }
            let shared = self.shared.clone();
            let run = move || {
                let hub = shared.idle_hub().take();
                hub.into_iter().for_each(Hub::run);
            };
            match spawn_thread("ports", run) {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!("cannot start the thread for shared ports: {error}; next try in {RETRY_INTERVAL:?}");
                }
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Opens the connections by which a worker talks to rinit. `has_library`: the preloaded library could be made.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn open(
        &self,
        worker: WorkerId,
        slot: SlotId,
        name: String,
        sharing: Sharing,
        has_library: bool,
    ) -> nix::Result<WorkerEndpoints> {
        let (ours, theirs) = if sharing.channel {
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            (Some(Channel::new(ours)), Some(theirs))
        } else {
            (None, None)
        };
        let (broker, broker_name) = if has_library { Some(Broker::open()?).unzip() } else { (None, None) };
        let worker = PortWorker::new(worker, slot, name, ours, broker);
        Ok(WorkerEndpoints { worker, channel: theirs, broker: broker_name })
    }

    /// Adds a worker that runs as that process.
    pub fn add_worker(&self, mut endpoints: WorkerEndpoints, process: Identity) -> WorkerPorts {
        let ((listening, listens), (ready, says_ready)) = (mpsc::channel(MAX_UNREAD_ADDRESSES), oneshot::channel());
        let (bind, bound) = watch::channel(false);
        let ((signal, signalled), (finish, finished)) = (oneshot::channel(), oneshot::channel());
        endpoints.worker.notifiers = Notifiers {
            bound: Some(bind),
            listening: Some(listening),
            ready: Some(ready),
            signalled: Some(signal),
            finished: Some(finish),
        };
        if let Some(broker) = &mut endpoints.worker.broker {
            broker.set_owner(process);
        }
        if endpoints.worker.broker.is_some() || endpoints.worker.channel.is_some() {
            let PortWorker { handed, has_bound, .. } = &endpoints.worker;
            let activity = Activity { handed: handed.clone(), has_bound: has_bound.clone() };
            self.shared.activity().insert(endpoints.worker.id, activity);
            self.send(Command::AddWorker(Box::new(endpoints.worker)));
        }
        WorkerPorts { bound, listens, says_ready, signalled, finished }
    }

    /// The addresses where a worker listens.
    pub fn addresses_of(&self, worker: WorkerId) -> Vec<String> {
        self.shared.addresses().get(&worker).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// The health of a Node worker. One that reports nothing any more has been delayed, and busy, for that long.
    pub fn health_of(&self, worker: WorkerId) -> Option<NodeHealth> {
        let (came, health) = *self.shared.health().get(&worker)?;
        let late = super::poller::now().saturating_duration_since(came).saturating_sub(HEALTH_INTERVAL);
        let busy = if late < HEALTH_INTERVAL { health.busy } else { 1000 };
        Some(NodeHealth { lag: health.lag.max(late.as_millis() as u64), busy, ..health })
    }

    /// The number of connections that rinit has given to a worker. None: it accepts by itself, or has had none yet.
    pub fn connections_of(&self, worker: WorkerId) -> Option<u64> {
        let handed = self.shared.activity().get(&worker).map(|activity| activity.handed.read());
        handed.filter(|count| *count > 0)
    }

    /// True if a worker has bound a port, or tried to, by a call that rinit sees.
    pub fn has_bound(&self, worker: WorkerId) -> bool {
        self.shared.activity().get(&worker).is_some_and(|activity| activity.has_bound.load(Ordering::Relaxed))
    }

    /// The addresses where the workers of these slots listen.
    pub fn addresses(&self, of: impl Fn(&SlotId) -> bool) -> Vec<String> {
        let addresses = self.shared.addresses();
        addresses.values().filter(|(slot, _)| of(slot)).flat_map(|(_, addresses)| addresses.clone()).collect()
    }

    /// Connects to exactly that worker, at an address that it may share with others: the one with that port, or the first at
    /// which it listens. The connection, which does not block, has a client's address of its own on the loopback interface.
    ///
    /// # Errors
    /// `NotConnected`: the worker does not listen there (yet); `Unsupported`: it accepts from a socket that all workers share;
    /// `WouldBlock`: it has no room; no loopback interface, no descriptors left.
    pub async fn connect_to(&self, worker: WorkerId, port: Option<u16>) -> io::Result<TcpStream> {
        let (client, connection) = sockets::loopback_pair()?;
        let (outcome, delivered) = oneshot::channel();
        self.send(Command::Deliver { worker, port, connection, outcome });
        delivered.await.map_err(|_| io::Error::other("the shared ports had an internal error"))??;
        Ok(client)
    }

    /// Connects to exactly that worker: as [`Ports::connect_to`] does, or to a port at which its process alone listens.
    ///
    /// # Errors
    /// As for [`Ports::connect_to`].
    pub async fn connect_to_process(
        &self,
        worker: WorkerId,
        pid: Pid,
        port: Option<u16>,
    ) -> io::Result<tokio::net::TcpStream> {
        let refused = match self.connect_to(worker, port).await {
            Ok(stream) => return tokio::net::TcpStream::from_std(stream),
            Err(error) if !matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::Unsupported) => {
                return Err(error);
            }
            Err(error) => error,
        };
        let own = own_addresses(pid).await?;
        match own.iter().find(|address| port.is_none_or(|port| port == address.port())) {
            Some(address) => tokio::net::TcpStream::connect(address).await,
            None if refused.kind() == ErrorKind::NotConnected => {
                Err(io::Error::new(refused.kind(), format!("{refused}, or not alone (SO_REUSEPORT)")))
            }
            None => Err(refused),
        }
    }

    /// Stops new connections to a worker.
    pub fn retire(&self, worker: WorkerId) {
        self.send(Command::Retire(worker));
    }

    /// Asks a Node worker to answer its requests and to exit.
    pub fn drain(&self, worker: WorkerId, request: DrainRequest) {
        self.send(Command::Drain(worker, request));
    }

    /// Tells when a worker that is not asked anything has no request under way, at the latest after one of these times: the first
    /// if it handles the signal, the second if the signal ends it.
    pub fn drain_connections(&self, worker: WorkerId, signal: Signal, handled_after: Duration, ended_after: Duration) {
        self.send(Command::DrainConnections { worker, signal, handled_after, ended_after });
    }

    /// Sends a worker the message `'shutdown'`. `idle` as for [`DrainRequest`].
    pub fn send_shutdown(&self, worker: WorkerId, idle: Duration) {
        self.send(Command::SendShutdown(worker, idle));
    }

    /// Removes a worker that has ended.
    pub fn remove_worker(&self, worker: WorkerId) {
        self.shared.activity().remove(&worker);
        self.send(Command::RemoveWorker(worker));
    }

    /// Adds an app, or changes what is known of it.
    pub fn set_app(&self, app: AppPorts) {
        self.send(Command::SetApp(app));
    }

    /// Closes an app's ports: waiting connections are dispatched, and new ones are refused.
    pub fn close(&self, app: AppId) {
        self.send(Command::Close(app));
    }

    /// Waits until all that was asked before is done.
    pub async fn settle(&self) {
        let (done, is_done) = oneshot::channel();
        self.send(Command::Settle(done));
        // The hub's thread is gone after an internal error.
        let _ = is_done.await;
    }

    pub(super) fn send(&self, command: Command) {
        if let Some(hub) = self.shared.idle_hub().as_mut() {
            hub.apply(command);
            return;
        }
        self.shared.commands().push_back(command);
        // This fails only after four billion wake-ups that the thread has not read.
        let _ = self.shared.waker.get().map(|waker| waker.write(1));
    }
}

impl Shared {
    /// Creates the waker, if there is none, and lets the hub watch it.
    fn create_waker(&self) -> io::Result<()> {
        let hub = self.idle_hub();
        let (Some(hub), None) = (hub.as_ref(), self.waker.get()) else { return Ok(()) };
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        hub.watch_waker(&waker)?;
        let _ = self.waker.set(waker);
        Ok(())
    }

    pub(super) fn take_commands(&self) -> VecDeque<Command> {
        let _ = self.waker.get().map(EventFd::read);
        std::mem::take(&mut *self.commands())
    }

    /// Publishes the addresses where a worker listens now. None: it is gone.
    pub(super) fn publish_addresses(&self, worker: WorkerId, slot: SlotId, addresses: Vec<String>) {
        if addresses.is_empty() {
            self.addresses().remove(&worker);
        } else {
            self.addresses().insert(worker, (slot, addresses));
        }
    }

    /// Publishes the health of a Node worker. None: it is gone.
    pub(super) fn publish_health(&self, worker: WorkerId, health: Option<(Instant, NodeHealth)>) {
        match health {
            Some(health) => drop(self.health().insert(worker, health)),
            None => drop(self.health().remove(&worker)),
        }
    }

    fn health(&self) -> MutexGuard<'_, BTreeMap<WorkerId, (Instant, NodeHealth)>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn activity(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Activity>> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<WorkerId, (SlotId, Vec<String>)>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_hub(&self) -> MutexGuard<'_, Option<Hub>> {
        self.idle_hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
