//! The hub's front desk: what the loop asks of the ports, without ever waiting for it.

use super::door::Door;
use super::hub::Hub;
use super::member::{Member, Signs};
use super::node::Channel;
use super::{AppPorts, Way};
use crate::core::{SlotId, WorkerId};
use crate::sys::peer::Identity;
use crate::sys::{spawn_thread, watch};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// When the kernel has no room for the hub's thread, it is asked for again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// The ports, for the loop.
#[derive(Clone)]
pub struct Ports {
    shared: Arc<Shared>,
}

/// What both sides see.
pub(super) struct Shared {
    queue: Mutex<VecDeque<Command>>,
    /// Rings when there is something in the queue; hung up with the thread.
    bell: OnceLock<EventFd>,
    /// Where workers listen, for those who look.
    places: Mutex<BTreeMap<WorkerId, (SlotId, Vec<String>)>>,
    /// The hub, as long as it has no thread: until the first worker speaks there is nothing to do for one.
    parked: Mutex<Option<Hub>>,
}

pub(super) enum Command {
    Join(Box<Member>),
    Retire(WorkerId),
    Finish(WorkerId, DrainRequest),
    Shutdown(WorkerId, Duration),
    Leave(WorkerId),
    Close,
}

/// How a worker is asked to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// How long connections on which nothing goes on are left open, so that no request meets a closed one.
    pub idle: Duration,
    /// An app that handles this signal gets it…
    pub signal: crate::core::Signal,
    /// …after this, if it has not finished.
    pub after: Duration,
}

/// A worker's ends, to be handed to it when it is started.
pub struct WorkerEndpoints {
    member: Member,
    /// Its end of Node's channel.
    pub channel: Option<OwnedFd>,
    /// The name of its door.
    pub door: Option<OsString>,
}

/// What the loop waits to hear; each comes at most once.
pub struct WorkerPorts {
    /// The worker listens.
    pub listens: oneshot::Receiver<()>,
    /// It has sent `'ready'`.
    pub says_ready: oneshot::Receiver<()>,
    /// It has finished.
    pub finished: oneshot::Receiver<()>,
}

impl Ports {
    /// The ports of these apps.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(apps: Vec<AppPorts>) -> io::Result<Ports> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            bell: OnceLock::new(),
            places: Mutex::default(),
            parked: Mutex::default(),
        });
        let hub = Hub::new(apps, shared.clone())?;
        *shared.parked() = Some(hub);
        Ok(Ports { shared })
    }

    /// Gives the hub its thread when a worker speaks for the first time. To be run beside the loop.
    pub async fn start_when_needed(self) {
        let Some(events) = self.shared.parked().as_ref().map(Hub::events) else { return };
        let spoken = match watch(events) {
            Ok(events) => events.readable().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = spoken {
            tracing::error!("ports are not shared: the kernel does not watch them: {error}");
            return;
        }
        loop {
            if let Err(error) = self.shared.hang_bell() {
                tracing::warn!("no bell for the shared ports: {error}; tried again in {AGAIN:?}");
                sleep(AGAIN).await;
                continue;
            }
            let shared = self.shared.clone();
            let run = move || {
                let hub = shared.parked().take();
                hub.into_iter().for_each(Hub::run);
            };
            match spawn_thread("ports", run) {
                Ok(()) => return,
                Err(error) => tracing::warn!("no thread for the shared ports: {error}; tried again in {AGAIN:?}"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Makes the ways by which a worker speaks.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn open(&self, worker: WorkerId, slot: SlotId, name: String, way: &Way) -> nix::Result<WorkerEndpoints> {
        let (ours, theirs) = if way.channel {
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            (Some(Channel::new(ours)), Some(theirs))
        } else {
            (None, None)
        };
        let (door, door_name) = if way.preload.is_some() { Some(Door::open()?).unzip() } else { (None, None) };
        Ok(WorkerEndpoints { member: Member::new(worker, slot, name, ours, door), channel: theirs, door: door_name })
    }

    /// The worker runs, as that process: it is heard from now on.
    pub fn join(&self, mut ends: WorkerEndpoints, who: Identity) -> WorkerPorts {
        let ((listens, one), (says_ready, two), (finished, three)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        ends.member.signs = Signs { listens: Some(listens), says_ready: Some(says_ready), finished: Some(finished) };
        if let Some(door) = &mut ends.member.door {
            door.belongs_to(who);
        }
        if ends.member.door.is_some() || ends.member.channel.is_some() {
            self.give(Command::Join(Box::new(ends.member)));
        }
        WorkerPorts { listens: one, says_ready: two, finished: three }
    }

    /// Where a worker listens.
    pub fn places_of(&self, worker: WorkerId) -> Vec<String> {
        self.shared.places().get(&worker).map(|(_, places)| places.clone()).unwrap_or_default()
    }

    /// Where the workers of these slots listen.
    pub fn places(&self, of: impl Fn(&SlotId) -> bool) -> Vec<String> {
        self.shared.places().values().filter(|(slot, _)| of(slot)).flat_map(|(_, places)| places.clone()).collect()
    }

    /// The worker gets no new connections.
    pub fn retire(&self, worker: WorkerId) {
        self.give(Command::Retire(worker));
    }

    /// Asks a Node worker to finish what is under way and to go.
    pub fn finish(&self, worker: WorkerId, farewell: DrainRequest) {
        self.give(Command::Finish(worker, farewell));
    }

    /// Sends a worker the message `'shutdown'`. `idle` as for [`DrainRequest`].
    pub fn shutdown(&self, worker: WorkerId, idle: Duration) {
        self.give(Command::Shutdown(worker, idle));
    }

    /// The worker has ended.
    pub fn leave(&self, worker: WorkerId) {
        self.give(Command::Leave(worker));
    }

    /// The container stops: what waits is handed out, and new connections are refused.
    pub fn close(&self) {
        self.give(Command::Close);
    }

    fn give(&self, command: Command) {
        if let Some(hub) = self.shared.parked().as_mut() {
            hub.obey(command);
            return;
        }
        self.shared.queue().push_back(command);
        // It fails only when it has been rung four billion times and not heard.
        let _ = self.shared.bell.get().map(|bell| bell.write(1));
    }
}

impl Shared {
    /// Makes the bell, if there is none, and has the hub listen to it.
    fn hang_bell(&self) -> io::Result<()> {
        let parked = self.parked();
        let (Some(hub), None) = (parked.as_ref(), self.bell.get()) else { return Ok(()) };
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        hub.listen_to(&bell)?;
        let _ = self.bell.set(bell);
        Ok(())
    }

    pub(super) fn take(&self) -> VecDeque<Command> {
        let _ = self.bell.get().map(EventFd::read);
        std::mem::take(&mut *self.queue())
    }

    /// Notes where a worker listens now; nowhere: it is gone.
    pub(super) fn listens(&self, worker: WorkerId, slot: SlotId, at: Vec<String>) {
        if at.is_empty() {
            self.places().remove(&worker);
        } else {
            self.places().insert(worker, (slot, at));
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<WorkerId, (SlotId, Vec<String>)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parked(&self) -> MutexGuard<'_, Option<Hub>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
