//! What the calls of preloaded libraries come to.

use super::door::Heard;
use super::events::Token;
use super::hub::Hub;
use super::listener::Listener;
use super::member::Served;
use super::node::inspector_port;
use super::queue::{Lane, Queue};
use crate::core::WorkerId;
use crate::sys::socket::cookie;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::{AsFd, BorrowedFd};

/// Callers at all doors; the oldest of more is sent away.
const CALLERS: usize = 256;

impl Hub {
    /// Lets in all who call at a worker's door.
    pub(super) fn hear_door(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let Some(door) = &member.door else { return };
        // One who calls all the time is heard again in the next turn.
        for _ in 0..CALLERS {
            let caller = match door.let_in(worker) {
                Ok(Some(caller)) => caller,
                Ok(None) => continue,
                Err(Errno::EAGAIN) => return,
                Err(errno) => {
                    // Who calls is sent away, and does as without rinit, rather than kept waiting.
                    drop(self.spare.take());
                    let sent_away = door.let_in(worker).is_ok();
                    self.spare = self.epoll.as_fd().try_clone_to_owned().ok();
                    if sent_away {
                        continue;
                    }
                    return self.lack_descriptors("a worker's call", errno);
                }
            };
            member.has_library |= caller.is(door);
            self.last_caller += 1;
            let token = Token::Caller(self.last_caller);
            if self.epoll.add(&caller, EpollEvent::new(EpollFlags::EPOLLIN, token.into())).is_ok() {
                self.callers.insert(self.last_caller, caller);
                if self.callers.len() > CALLERS {
                    self.callers.pop_first();
                }
            }
        }
    }

    /// Hears a caller, and answers.
    pub(super) fn hear_caller(&mut self, id: u64) {
        let Hub { callers, members, apps, doors, .. } = self;
        let Some(caller) = callers.get(&id) else { return };
        let Some(member) = members.get_mut(&caller.worker) else { return };
        let Some(app) = apps.get(&member.slot.app) else { return };
        // The inspector is each worker's own.
        let private = member.channel.is_some().then(|| inspector_port(&app.command, member.slot.index));
        let heard = doors.hear(caller, member.slot, app.balance, private);
        if heard == Heard::Wait {
            return;
        }
        let Some(caller) = callers.remove(&id) else { return };
        let worker = caller.worker;
        match heard {
            Heard::Wait | Heard::Done => {}
            Heard::Listens { place } => self.listens(worker, place),
            Heard::WantsQueue(socket) => caller.give(self.queue_for(worker, socket)),
            Heard::LooksBehind(queue) => caller.give(self.behind(worker, queue)),
        }
    }

    /// A worker listens by the library.
    fn listens(&mut self, worker: WorkerId, place: String) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let app = member.slot.app;
        member.signs.listens();
        if !member.preloaded.contains(&place) {
            member.preloaded.push(place.clone());
        }
        if let Some(how) = self.apps.get(&app).map(|app| app.balance.by_preload()) {
            self.tell_once(app, &place, &how);
        }
        self.note_places(worker);
    }

    /// The queue from which a worker takes the connections of the listening socket with that cookie, made when it is asked
    /// for: the worker's end of it.
    fn queue_for(&mut self, worker: WorkerId, socket: u64) -> Option<BorrowedFd<'_>> {
        let Hub { members, listeners, epoll, .. } = self;
        let member = members.get_mut(&worker)?;
        let is_it = |listener: &Listener| listener.sockets.iter().any(|one| cookie(one.socket.as_fd()) == Ok(socket));
        let mut own = member.serves.iter_mut().filter(|served| matches!(served.lane, Lane::Own));
        let Served { id, lane, .. } = own.find(|served| listeners.get(&served.id).is_some_and(is_it))?;
        let queue = Queue::open().ok()?;
        // Each time that it takes one, not for as long as it could be given more.
        let taken = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&queue, EpollEvent::new(taken, Token::Queue(*id).into())).ok()?;
        *lane = Lane::Queue(queue);
        let (id, app) = (*id, member.slot.app);
        self.reseat_app(app);
        self.members.get_mut(&worker)?.queue(id).map(|queue| queue.end())
    }

    /// The listening socket behind the queue with that cookie.
    fn behind(&mut self, worker: WorkerId, queue: u64) -> Option<BorrowedFd<'_>> {
        let (id, _) = self.members.get_mut(&worker)?.queues().find(|(_, one)| one.is(queue))?;
        self.listeners.get(&id)?.sockets.first().map(|one| one.socket.as_fd())
    }
}
