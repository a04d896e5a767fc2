//! What the primary of Node's cluster module does: hears its workers, and answers servers that want to listen.

use super::ListenerId;
use super::hub::Hub;
use super::listener::{Kind, Listener};
use super::member::{Handover, Sent, Served};
use super::node::{Line, Query, Said};
use super::queue::Lane;
use crate::core::WorkerId;
use nix::errno::Errno;

/// A worker has at most so many servers.
const SERVERS: usize = 256;

impl Hub {
    pub(super) fn hear(&mut self, worker: WorkerId, said: Said) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        match said {
            Said::Online => member.online = true,
            Said::Query(query) => {
                // It may have called before it asked.
                self.hear_door(worker);
                self.answer(worker, *query);
            }
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
                self.retire(worker);
                self.send_what_waits(worker);
                let Some(member) = self.members.get_mut(&worker) else { return };
                let own = member.next_seq();
                member.send(Line::plain(Line::known(own, seq)), None);
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
                    member.serves.retain(|served| served.id != listener);
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
        let (ack, key, limited) = (query.seq, query.key(), query.limited);
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
        // With the library it asks for its queue when it has the socket. Only a message can be refused.
        let gets_queue = handed_out && member.has_library && !limited;
        let by_message = handed_out && !gets_queue;
        let lane = if gets_queue { Lane::Own } else { Lane::Messages };
        let sockname = if by_message { listener.sockname() } else { None };
        let message = Line::server(seq, ack, &key, &listener.data, sockname);
        let app = member.slot.app;
        if by_message {
            member.serves.push(Served { id, key, lane });
            member.send(Line::plain(message), None);
        } else {
            match listener.socket_of(member.slot.index) {
                Ok(socket) => {
                    let kind = if listener.kind == Kind::Datagrams { "dgram.Native" } else { "net.Native" };
                    member.serves.push(Served { id, key, lane });
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
            Some((id, _)) if member.lane(id).is_some() => return Err(Errno::EADDRINUSE),
            Some((id, false)) => return Ok(id),
            // Those who serve the old file go on with who is connected to it.
            Some((id, true)) => self.close_listener(id),
            None => {}
        }
        let app = self.apps.get(&slot.app).ok_or(Errno::ESRCH)?;
        let listener = Listener::open(slot, app.balance, query, &app.inherited)?;
        self.tell_once(slot.app, &listener.place, &listener.kind);
        self.last_listener += 1;
        let id = ListenerId(self.last_listener);
        self.listeners.insert(id, listener);
        Ok(id)
    }

    /// A worker has closed a server. If it was the last one and goes on, the address is free again.
    fn closed(&mut self, worker: WorkerId, key: &str) {
        let Some(member) = self.members.get_mut(&worker) else { return };
        let app = member.slot.app;
        // The oldest, should the address have become another's and this worker serve both.
        let Some(closed) = member.serves.iter().find(|served| served.key == key).map(|served| served.id) else {
            return;
        };
        self.take_back(worker, Some(closed));
        let Some(member) = self.members.get_mut(&worker) else { return };
        member.serves.retain(|served| served.id != closed);
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
}
