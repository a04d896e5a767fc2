//! The hub: one thread that hears the workers' channels and doors, accepts connections, and hands them out.
//!
//! ```text
//! listening socket ─ accept ─▶ dispatch::choose ─▶ queue ─▶ worker
//!                      ▲                             │
//!                      └─ not taken, or it is dead ◀─┘
//! ```
//!
//! Without the preloaded library a message on the channel stands for the queue, and the worker's answer for its `accept`.
//!
//! A connection is accepted only when there is a worker to take it; else it waits in the kernel's queue.

use super::AppPorts;
use super::ListenerId;
use super::door::{Caller, SharedSockets};
use super::events::{Events, Token, now};
use super::handle::{Command, DrainRequest, Shared};
use super::listener::Listener;
use super::member::Member;
use super::node::Line;
use super::pace::Pace;
use crate::core::{AppId, WorkerId};
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

/// So many events are taken from the kernel at once.
const EVENTS: usize = 128;
/// How often what waits at an address is handed out before it is closed for good.
const LAST_ROUNDS: usize = 16;
/// So many addresses are remembered as told.
const TOLD: usize = 64;
/// When descriptors ran out, it is tried again after this; and said again after that.
const AGAIN: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_secs(10);

/// The ports of all apps.
pub struct Hub {
    pub(super) apps: BTreeMap<AppId, AppPorts>,
    shared: Arc<Shared>,
    pub(super) epoll: Arc<Events>,
    pub(super) members: BTreeMap<WorkerId, Member>,
    pub(super) listeners: BTreeMap<ListenerId, Listener>,
    pub(super) last_listener: u32,
    pub(super) doors: SharedSockets,
    /// The addresses that were told of last.
    told: VecDeque<(AppId, String)>,
    pub(super) callers: BTreeMap<u64, Caller>,
    pub(super) last_caller: u64,
    /// The time of this turn.
    pub(super) now: Instant,
    /// Something has changed that may let waiting connections go on.
    pub(super) unblocked: bool,
    /// No descriptors were left: when it is tried again.
    pub(super) again: Option<Instant>,
    /// When that was last said.
    complained: Option<Instant>,
    /// A descriptor to be given up when none is left.
    pub(super) spare: Option<OwnedFd>,
    /// When a worker that holds the others up counts as blocked.
    pub(super) recheck: Option<Instant>,
    buffer: Vec<u8>,
    pub(super) pace: Pace,
}

impl Hub {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(apps: Vec<AppPorts>, shared: Arc<Shared>) -> io::Result<Hub> {
        let epoll = Arc::new(Events(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?));
        Ok(Hub {
            apps: apps.into_iter().map(|app| (app.id, app)).collect(),
            shared,
            members: BTreeMap::new(),
            listeners: BTreeMap::new(),
            last_listener: 0,
            doors: SharedSockets::default(),
            told: VecDeque::new(),
            callers: BTreeMap::new(),
            last_caller: 0,
            now: now(),
            unblocked: false,
            again: None,
            complained: None,
            spare: epoll.as_fd().try_clone_to_owned().ok(),
            recheck: None,
            buffer: Vec::new(),
            pace: Pace::default(),
            epoll,
        })
    }

    /// What becomes readable when there is something to do.
    pub(super) fn events(&self) -> Arc<Events> {
        self.epoll.clone()
    }

    pub(super) fn listen_to(&self, bell: &EventFd) -> nix::Result<()> {
        self.epoll.add(bell, EpollEvent::new(EpollFlags::EPOLLIN, Token::Bell.into()))
    }

    /// For ever. A fault in here loses what was being done, not the ports.
    pub(super) fn run(mut self) {
        loop {
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                tracing::error!("the shared ports failed on something (above); they go on, please report it");
            }
        }
    }

    fn turn(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let timeout = match self.again.into_iter().chain(self.recheck).min() {
            Some(again) => {
                // It counts whole milliseconds, and would wake too early.
                let wait = again.saturating_duration_since(self.now) + Duration::from_millis(1);
                EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO)
            }
            None => EpollTimeout::NONE,
        };
        self.pace.rest();
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        self.now = now();
        self.pace.look(self.now);
        for command in self.shared.take() {
            self.obey(command);
        }
        for event in events.iter().take(count) {
            match Token::from(event.data()) {
                Token::Bell => {}
                Token::Channel(worker) => self.hear_channel(worker, event.events()),
                Token::Door(worker) => self.hear_door(worker),
                Token::Caller(caller) => self.hear_caller(caller),
                Token::Socket(listener, _) => self.distribute(listener),
                Token::Queue(listener) => {
                    if self.listeners.get(&listener).is_some_and(Listener::is_held_up) {
                        self.distribute(listener);
                    }
                }
            }
        }
        if self.recheck.is_some_and(|then| then <= self.now) {
            (self.recheck, self.unblocked) = (None, true);
        }
        if self.again.is_some_and(|again| again <= self.now) {
            (self.again, self.unblocked) = (None, true);
            self.members.values_mut().for_each(|member| member.full = false);
            let doors: Vec<WorkerId> = self.members.keys().copied().collect();
            doors.into_iter().for_each(|worker| self.hear_door(worker));
        }
        if std::mem::take(&mut self.unblocked) {
            let all: Vec<ListenerId> = self.listeners.keys().copied().collect();
            all.into_iter().for_each(|listener| self.distribute(listener));
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Join(member) => self.join(*member),
            Command::Retire(worker) => self.retire(worker),
            Command::Finish(worker, farewell) => self.finish(worker, farewell),
            Command::Shutdown(worker, idle) => {
                self.send_what_waits(worker);
                if let Some(member) = self.members.get_mut(&worker) {
                    member.send(Line::drain(idle.as_millis()), None);
                    member.send(Line::SHUTDOWN.to_vec(), None);
                    self.watch_channel(worker);
                }
            }
            Command::Leave(worker) => self.leave(worker),
            Command::Close => self.close(),
        }
    }

    fn join(&mut self, member: Member) {
        let id = member.id;
        // A door that cannot be opened for want of descriptors tells once, and not for as long as somebody is there.
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let channel = member.channel.iter().map(|channel| (channel.as_fd(), EpollFlags::EPOLLIN, Token::Channel(id)));
        let door = member.door.iter().map(|door| (door.as_fd(), once, Token::Door(id)));
        for (what, events, token) in channel.chain(door) {
            if let Err(errno) = self.epoll.add(what, EpollEvent::new(events, token.into())) {
                tracing::error!("{} is not heard: {}", member.name, errno.desc());
            }
        }
        self.members.insert(id, member);
        // It may be a replacement's turn, or no longer.
        self.reseat(id);
    }

    /// A worker gets no more connections. What it has not taken is another's, where there is another.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        member.leaving = true;
        self.reseat(worker);
        let served = self.listeners.iter().filter(|(_, listener)| !listener.seats.is_empty());
        let served: Vec<ListenerId> = served.map(|(id, _)| *id).collect();
        served.into_iter().for_each(|id| self.take_back(worker, Some(id)));
    }

    /// Asks a worker to finish. One that never spoke has nothing to finish.
    fn finish(&mut self, worker: WorkerId, farewell: DrainRequest) {
        self.send_what_waits(worker);
        let Some(member) = self.members.get_mut(&worker) else { return };
        if !member.online || member.channel.is_none() {
            member.signs.finished();
            return;
        }
        let DrainRequest { idle, signal, after } = farewell;
        let message = Line::disconnect(member.next_seq(), idle.as_millis(), signal, after.as_millis());
        member.send(Line::plain(message), None);
        self.watch_channel(worker);
    }

    /// A worker has ended, or will never be heard again.
    fn leave(&mut self, worker: WorkerId) {
        // What it said last decides which connections it had taken.
        self.hear_channel(worker, EpollFlags::EPOLLIN);
        self.end_channel(worker);
        let Some(mut member) = self.members.remove(&worker) else { return };
        self.shared.listens(worker, member.slot, Vec::new());
        member.signs.finished();
        self.callers.retain(|_, caller| caller.worker != worker);
        // One that was asked to go leaves nothing behind; what one that crashed had open waits for the next.
        let app = member.slot.app;
        let others = member.leaving && self.members.values().any(|other| other.slot.app == app && !other.leaving);
        self.doors.gone(worker, others);
        if others {
            self.drop_unserved(app);
        }
        self.reseat_app(app);
    }

    /// The channel is closed: what it was handed and had not taken is given to others.
    pub(super) fn end_channel(&mut self, worker: WorkerId) {
        self.take_back(worker, None);
        let Some(member) = self.members.get_mut(&worker) else { return };
        if let Some(channel) = member.channel.take() {
            let _ = self.epoll.delete(&channel);
        }
        member.signs.finished();
        for handover in std::mem::take(&mut member.owed) {
            if let Some(listener) = self.listeners.get_mut(&handover.listener) {
                listener.waiting.push_back(handover.connection);
            }
        }
        self.reseat(worker);
    }

    /// Closes the addresses that no worker has open any more.
    pub(super) fn drop_unserved(&mut self, app: AppId) {
        let serves = |id: &ListenerId| self.members.values().any(|member| member.lane(*id).is_some());
        let unserved = self.listeners.iter().filter(|(id, listener)| listener.app == app && !serves(id));
        let unserved: Vec<ListenerId> = unserved.map(|(id, _)| *id).collect();
        unserved.into_iter().for_each(|id| self.close_listener(id));
    }

    /// The container stops.
    fn close(&mut self) {
        let all: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in all {
            for _ in 0..LAST_ROUNDS {
                self.distribute(id);
            }
            self.close_listener(id);
        }
        self.doors.close();
    }

    fn reseat(&mut self, worker: WorkerId) {
        if let Some(app) = self.members.get(&worker).map(|member| member.slot.app) {
            self.reseat_app(app);
        }
    }

    /// Finds out anew whose turn it may be at each address of the app.
    pub(super) fn reseat_app(&mut self, app: AppId) {
        let Hub { listeners, members, .. } = self;
        for (id, listener) in listeners.iter_mut().filter(|(_, listener)| listener.app == app) {
            listener.reseat(*id, members);
        }
        self.unblocked = true;
    }

    fn hear_channel(&mut self, worker: WorkerId, events: EpollFlags) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let Some(channel) = &mut member.channel else { return };
        let mut lines = Vec::new();
        let read = channel.read(&mut self.buffer, |line| lines.push(super::node::read(line)));
        if events.contains(EpollFlags::EPOLLOUT) && channel.flush().is_ok() {
            (member.full, self.unblocked) = (false, true);
        }
        for said in lines {
            self.hear(worker, said);
        }
        if read.is_err() {
            self.end_channel(worker);
        }
        self.watch_channel(worker);
    }

    /// Watches for room in a channel only while something waits for it.
    pub(super) fn watch_channel(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get(&worker) else { return };
        let Some(channel) = &member.channel else { return };
        let room = if channel.is_free() && !member.full { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | room, Token::Channel(worker).into());
        let _ = self.epoll.modify(channel, &mut event);
    }

    /// Descriptors are lacking: it is tried again soon. `what` waits until then.
    pub(super) fn lack_descriptors(&mut self, what: &str, errno: Errno) {
        self.again = Some(self.now + AGAIN);
        if self.complained.is_none_or(|last| self.now.saturating_duration_since(last) >= SILENCE) {
            self.complained = Some(self.now);
            tracing::warn!("{what} waits: {}", why_not_now(errno).unwrap_or(errno.desc()));
        }
    }

    /// Tells how an address is shared. Apps that open servers again and again have it told the first time.
    pub(super) fn tell_once(&mut self, app: AppId, place: &str, how: &dyn Display) {
        if self.told.iter().any(|told| *told == (app, place.into())) {
            return;
        }
        self.told.push_back((app, place.into()));
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
        let name = self.apps.get(&app).map(|app| app.name.as_str()).unwrap_or_default();
        tracing::info!("{name}: {place} is shared by its workers ({how})");
    }

    /// Notes where a worker listens, for those who look.
    pub(super) fn note_places(&self, worker: WorkerId) {
        let Some(member) = self.members.get(&worker) else { return };
        let served = member
            .serves
            .iter()
            .filter_map(|served| self.listeners.get(&served.id))
            .map(|listener| listener.place.clone());
        self.shared.listens(worker, member.slot, served.chain(member.preloaded.iter().cloned()).collect());
    }
}
