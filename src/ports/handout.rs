//! How connections get from a listening socket to the workers, and back from one that does not take them.

use super::ListenerId;
use super::dispatch::{Standing, choose, given_up, until_blocked};
use super::events::Token;
use super::hub::Hub;
use super::listener::Listener;
use super::member::{Connection, Member, Served};
use super::queue::Lane;
use crate::core::WorkerId;
use crate::sys::socket::accept;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

/// So many connections are handed out before others have their turn.
const AT_ONCE: usize = 64;

impl Hub {
    /// Hands out the connections that wait at an address, as far as there are workers to take them.
    pub(super) fn distribute(&mut self, id: ListenerId) {
        let Hub { listeners, members, now, again, recheck, pace, .. } = self;
        let mut lacking = None;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let mut standings = listener.standings(id, members, *now);
        // While descriptors are lacking nothing is tried.
        let mut takers = again.is_none();
        let mut touched = Vec::new();
        for _ in 0..if takers { AT_ONCE } else { 0 } {
            let Some(at) = choose(&mut standings, listener.last) else {
                takers = false;
                break;
            };
            let connection = match listener.next(members) {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(errno) => {
                    lacking = Some((format!("{}: a connection", listener.place), errno));
                    takers = false;
                    break;
                }
            };
            let member = listener.seats.get(at).and_then(|worker| members.get_mut(worker));
            let (Some(member), Some(standing)) = (member, standings.get_mut(at)) else { break };
            match member.hand_over(id, &listener.key, connection, *now) {
                Ok(()) => {
                    standing.unanswered += 1;
                    standing.given += 1;
                    pace.handed_out();
                    listener.last = at;
                }
                Err((connection, errno)) => {
                    listener.waiting.push_front(connection);
                    standing.full = true;
                    touched.push(member.id);
                    // Too many descriptors on their way, or no memory: nothing will tell when there is room.
                    if !matches!(errno, Errno::EAGAIN | Errno::EPIPE) {
                        lacking = Some((format!("{}: a connection", listener.place), errno));
                    }
                }
            }
        }
        listener.given = standings.iter().map(|standing| standing.given).collect();
        if let Some(wait) = until_blocked(&standings) {
            let then = *now + wait;
            *recheck = Some(recheck.map_or(then, |earlier| earlier.min(then)));
        }
        self.watch_sockets(id, takers);
        if let Some((what, errno)) = lacking {
            self.lack_descriptors(&what, errno);
        }
        touched.into_iter().for_each(|worker| self.watch_channel(worker));
    }

    /// Watches for new connections only while there is a worker to take them.
    fn watch_sockets(&mut self, id: ListenerId, takers: bool) {
        let Hub { listeners, members, epoll, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let armed: Vec<bool> =
            listener.sockets.iter().map(|socket| takers && listener.is_ours(socket, members)).collect();
        for ((socket, arm), at) in listener.sockets.iter_mut().zip(armed).zip(0u16..) {
            if socket.armed != arm {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Socket(id, at).into());
                let done = if arm { epoll.add(&socket.socket, event) } else { epoll.delete(&socket.socket) };
                socket.armed = if done.is_ok() { arm } else { socket.armed };
            }
        }
    }

    /// Takes back what waits in a worker's queues, or in its one for that listener.
    pub(super) fn take_back(&mut self, worker: WorkerId, of: Option<ListenerId>) {
        let Hub { members, listeners, .. } = self;
        let queues = members.get_mut(&worker).into_iter().flat_map(Member::queues);
        for (id, queue) in queues.filter(|(id, _)| of.is_none_or(|of| of == *id)) {
            if let Some(listener) = listeners.get_mut(&id) {
                listener.waiting.extend(queue.take_back().into_iter().map(Connection::from));
                self.unblocked = true;
            }
        }
    }

    /// What waits for a worker, or for nobody else, is sent to it, so that it comes before the message that follows.
    pub(super) fn send_what_waits(&mut self, worker: WorkerId) {
        let Hub { members, listeners, now, .. } = self;
        let Some(member) = members.get_mut(&worker).filter(|member| member.channel.is_some()) else { return };
        let mut waiting = Vec::new();
        for Served { id, key, lane } in &mut member.serves {
            let queue = if let Lane::Queue(queue) = lane { queue.take_back() } else { Vec::new() };
            let nobodys = listeners.get_mut(id).filter(|listener| listener.seats.is_empty());
            let nobodys = nobodys.map(|listener| std::mem::take(&mut listener.waiting)).unwrap_or_default();
            waiting.extend(nobodys.into_iter().map(|connection| (*id, key.clone(), connection)));
            waiting.extend(queue.into_iter().map(|connection| (*id, key.clone(), connection.into())));
        }
        for (id, key, connection) in waiting {
            // Where there is no room it comes back to those that wait, if somebody may still come for them.
            if let Err((connection, _)) = member.send_connection(id, &key, connection, *now)
                && let Some(listener) = listeners.get_mut(&id)
            {
                listener.waiting.push_back(connection);
            }
        }
    }

    /// Closes an address. What it watched is watched no more, even where a worker has a copy of the socket.
    pub(super) fn close_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(&id) {
            for socket in listener.sockets.iter().filter(|socket| socket.armed) {
                let _ = self.epoll.delete(&socket.socket);
            }
        }
    }
}

impl Listener {
    /// How the workers stand whose turn it may be. What waits in the queue of one that does not respond is taken back.
    fn standings(&mut self, id: ListenerId, members: &mut BTreeMap<WorkerId, Member>, now: Instant) -> Vec<Standing> {
        let standing = |(worker, given): (&WorkerId, &u64)| match members.get_mut(worker) {
            Some(member) => member.standing(id, *given, now),
            None => Standing { full: true, ..Standing::default() },
        };
        let mut standings: Vec<Standing> = self.seats.iter().zip(&self.given).map(standing).collect();
        for at in given_up(&standings) {
            let queue = self.seats.get(at).and_then(|worker| members.get_mut(worker)?.queue(id));
            if let (Some(queue), Some(standing)) = (queue, standings.get_mut(at)) {
                let back = queue.take_back_and_knock();
                *standing = queue.standing(standing.given.saturating_sub(back.len() as u64), now);
                self.waiting.extend(back.into_iter().map(Connection::from));
            }
        }
        standings
    }

    /// The next connection: one that came back, or a new one.
    fn next(&mut self, members: &BTreeMap<WorkerId, Member>) -> nix::Result<Option<Connection>> {
        if let Some(connection) = self.waiting.pop_front() {
            return Ok(Some(connection));
        }
        for socket in self.sockets.iter().filter(|socket| self.is_ours(socket, members)) {
            match accept(socket.socket.as_fd()) {
                Ok(socket) => return Ok(Some(socket.into())),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}
