//! What the primary of Node's cluster module does: answers servers that want to listen, and hands out connections.

use super::dispatch::{Standing, Turn, choose};
use super::hub::{Hub, Token};
use super::listener::{Kind, Listener, ListenerId};
use super::member::{Connection, Handover, Member, Sent};
use super::node::{Line, Query, Said};
use crate::core::WorkerId;
use crate::sys::socket::accept;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

/// So many connections are handed out before others have their turn.
const AT_ONCE: usize = 64;
/// A worker has at most so many servers.
const SERVERS: usize = 256;
/// When descriptors ran out, it is tried again after this.
const AGAIN: Duration = Duration::from_millis(100);

impl Hub {
    pub(super) fn hear(&mut self, worker: WorkerId, said: Said) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        match said {
            Said::Online => member.online = true,
            Said::Query(query) => self.answer(worker, *query),
            Said::Listening => {
                member.signs.listens();
                let app = member.slot.app;
                self.reseat_app(app);
                self.note_places(worker);
            }
            Said::Closed { key } => self.closed(worker, &key),
            Said::Answer { to, accepted } => {
                self.unblocked = true;
                if let Some(handover) = member.settle(to)
                    && !accepted
                {
                    self.refused(handover);
                }
            }
            Said::Leaving { seq } => {
                member.leaving = true;
                let (own, app) = (member.next_seq(), member.slot.app);
                member.send(Line::plain(Line::known(own, seq)), None);
                self.reseat_app(app);
            }
            Said::HandleTaken => drop(member.unconfirmed.pop_front()),
            Said::HandleLost => match member.unconfirmed.pop_front() {
                Some(Sent::Connection(seq)) => {
                    self.unblocked = true;
                    if let Some(handover) = member.settle(seq) {
                        self.refused(handover);
                    }
                }
                Some(Sent::Server { query, listener }) => {
                    member.serves.retain(|one| *one != listener);
                    let key = self.listeners.get(&listener).map(|one| one.key.clone()).unwrap_or_default();
                    let seq = member.next_seq();
                    let message = Line::no_server(seq, query, &key, Errno::EMFILE as i32);
                    member.send(Line::plain(message), None);
                }
                None => {}
            },
            Said::HandleSent => member.send(Line::HANDLE_TAKEN.to_vec(), None),
            Said::Ready => member.signs.says_ready(),
            Said::Other => {}
        }
    }

    /// A server wants to listen: it is told that it may, or gets the socket, or the error that it would have had.
    fn answer(&mut self, worker: WorkerId, query: Query) {
        let (ack, key) = (query.seq, query.key());
        let outcome = self.server(worker, query);
        let Some(member) = self.members.get_mut(&worker) else { return };
        let seq = member.next_seq();
        let (id, listener) = match outcome.map(|id| (id, self.listeners.get_mut(&id))) {
            Ok((id, Some(listener))) => (id, listener),
            Ok((_, None)) => return,
            Err(errno) => {
                member.send(Line::plain(Line::no_server(seq, ack, &key, errno as i32)), None);
                return;
            }
        };
        let handed_out = listener.kind == Kind::HandedOut;
        let sockname = if handed_out { listener.sockname() } else { None };
        let message = Line::server(seq, ack, &key, &listener.data, sockname);
        let app = member.slot.app;
        if handed_out {
            member.serves.push(id);
            member.send(Line::plain(message), None);
        } else {
            match listener.socket_of(member.slot.index) {
                Ok(socket) => {
                    let kind = if listener.kind == Kind::Datagrams { "dgram.Native" } else { "net.Native" };
                    member.serves.push(id);
                    member.sent(Sent::Server { query: ack, listener: id });
                    member.send(Line::with_handle(kind, message), Some(socket));
                }
                Err(errno) => member.send(Line::plain(Line::no_server(seq, ack, &key, errno as i32)), None),
            }
        }
        self.reseat_app(app);
    }

    /// The listener that a query is for: the one of its key, or a new one.
    fn server(&mut self, worker: WorkerId, query: Query) -> nix::Result<ListenerId> {
        let member = self.members.get(&worker).ok_or(Errno::ESRCH)?;
        let slot = member.slot;
        if member.serves.len() >= SERVERS {
            return Err(Errno::EMFILE);
        }
        let key = query.key();
        let known = self.listeners.iter().find(|(_, one)| one.app == slot.app && one.key == key);
        match known.map(|(id, one)| (*id, one.has_lost_its_file())) {
            Some((id, _)) if member.serves.contains(&id) => return Err(Errno::EADDRINUSE),
            Some((id, false)) => return Ok(id),
            // Those who serve the old file go on with who is connected to it.
            Some((id, true)) => self.close_listener(id),
            None => {}
        }
        let app = self.apps.get(slot.app).ok_or(Errno::ESRCH)?;
        let listener = Listener::open(slot, app.balance, query, &app.inherited)?;
        tracing::info!("{}: {} is shared by its workers ({})", app.name, listener.place, listener.kind);
        self.last_listener += 1;
        let id = ListenerId(self.last_listener);
        self.listeners.insert(id, listener);
        Ok(id)
    }

    /// A worker has closed a server. If it was the last one and goes on, the address is free again.
    fn closed(&mut self, worker: WorkerId, key: &str) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let app = member.slot.app;
        let is_it = |id: &ListenerId| self.listeners.get(id).is_some_and(|one| one.key == key);
        member.serves.retain(|id| !is_it(id));
        if !member.leaving {
            self.drop_unserved(app);
        }
        self.reseat_app(app);
        self.note_places(worker);
    }

    /// A worker did not take a connection: another may. One that nobody takes is closed.
    fn refused(&mut self, handover: Handover) {
        let Handover { listener, mut connection, .. } = handover;
        connection.refused += 1;
        if let Some(listener) = self.listeners.get_mut(&listener)
            && (connection.refused as usize <= 2 * listener.seats.len() || listener.seats.is_empty())
        {
            listener.waiting.push_back(connection);
        }
    }

    /// Hands out the connections that wait at an address, as far as there are workers to take them.
    pub(super) fn distribute(&mut self, id: ListenerId) {
        let Hub { listeners, members, now, epoll, again, recheck, pace, .. } = self;
        let Some(listener) = listeners.get_mut(&id) else { return };
        let standing = |(worker, given): (&WorkerId, &u64)| match members.get(worker) {
            Some(member) => member.standing(*given, *now),
            None => Standing { full: true, ..Standing::default() },
        };
        let mut standings: Vec<Standing> = listener.seats.iter().zip(&listener.given).map(standing).collect();
        let mut takers = again.is_none();
        let mut touched = Vec::new();
        for _ in 0..AT_ONCE {
            let at = match choose(&mut standings, listener.last) {
                Turn::Of(at) => at,
                Turn::Later(wait) => {
                    // Only who has something to hand out is woken for it.
                    let then = *now + wait;
                    *recheck = Some(recheck.map_or(then, |earlier| earlier.min(then)));
                    takers = false;
                    break;
                }
                Turn::Nobodys => {
                    takers = false;
                    break;
                }
            };
            let connection = match next(listener, members) {
                Ok(Some(connection)) => connection,
                Ok(None) => break,
                Err(errno) => {
                    tracing::warn!("{}: no connection is accepted: {}; tried again soon", listener.place, errno.desc());
                    *again = Some(*now + AGAIN);
                    takers = false;
                    break;
                }
            };
            let member = listener.seats.get(at).and_then(|worker| members.get_mut(worker));
            let (Some(member), Some(standing)) = (member, standings.get_mut(at)) else { break };
            let seq = member.next_seq();
            let Some(channel) = &mut member.channel else { break };
            match channel.send_now(Line::connection(seq, &listener.key), connection.socket.as_fd()) {
                Ok(()) => {
                    member.sent(Sent::Connection(seq));
                    member.owed.push_back(Handover { seq, listener: id, connection, since: *now });
                    standing.unanswered += 1;
                    standing.given += 1;
                    pace.handed_out();
                    listener.last = at;
                }
                Err(errno) => {
                    listener.waiting.push_front(connection);
                    (member.full, standing.full) = (true, true);
                    if errno == Errno::ETOOMANYREFS {
                        *again = Some(*now + AGAIN);
                    } else {
                        touched.push(member.id);
                    }
                }
            }
        }
        listener.given = standings.iter().map(|standing| standing.given).collect();
        let members = &*members;
        let armed: Vec<bool> =
            listener.sockets.iter().map(|socket| takers && listener.is_ours(socket, members)).collect();
        for ((socket, arm), at) in listener.sockets.iter_mut().zip(armed).zip(0u16..) {
            if socket.armed != arm {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Socket(id, at).into());
                let done = if arm { epoll.add(&socket.socket, event) } else { epoll.delete(&socket.socket) };
                socket.armed = if done.is_ok() { arm } else { socket.armed };
            }
        }
        touched.into_iter().for_each(|worker| self.watch_channel(worker));
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

/// The next connection of a listener: one that came back, or a new one.
fn next(listener: &mut Listener, members: &BTreeMap<WorkerId, Member>) -> nix::Result<Option<Connection>> {
    if let Some(connection) = listener.waiting.pop_front() {
        return Ok(Some(connection));
    }
    for socket in listener.sockets.iter().filter(|socket| listener.is_ours(socket, members)) {
        match accept(socket.socket.as_fd()) {
            Ok(socket) => return Ok(Some(Connection { socket, refused: 0 })),
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}
