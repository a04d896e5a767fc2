//! Acts as the primary of Node's cluster module: handles the workers' messages, and answers servers that want to listen.

use super::ListenerId;
use super::accept_queue::Delivery;
use super::hub::Hub;
use super::listener::{Kind, Listener};
use super::node::{Line, Query, WorkerMessage};
use super::overlap::Overlap;
use super::worker::{InFlight, MAX_SERVERS, SentDescriptor, Server};
use crate::core::WorkerId;
use nix::errno::Errno;
use serde_json::Value;
use std::sync::atomic::Ordering;

impl Hub {
    pub(super) fn on_message(&mut self, id: WorkerId, message: WorkerMessage) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match message {
            WorkerMessage::Online => worker.is_online = true,
            WorkerMessage::Query(query) => {
                // Its library may have connected before it sent this.
                self.accept_clients(id);
                self.answer_query(id, *query);
            }
            WorkerMessage::Listening => {
                for server in worker.servers.iter_mut().filter(|server| !server.is_reported) {
                    let Some(listener) = self.listeners.get(&server.listener) else { continue };
                    worker.notifiers.on_listening(listener.address.clone());
                    server.is_reported = true;
                }
                let app = worker.slot.app;
                self.update_candidates(app);
                self.publish_addresses(id);
            }
            WorkerMessage::Closed { key } => self.on_closed(id, &key),
            WorkerMessage::Answer { to, accepted } => {
                self.is_dispatch_due = true;
                match worker.take_in_flight(to) {
                    Some(sent) if accepted => {
                        worker.waits.record(self.now.saturating_duration_since(sent.connection.accepted_at));
                    }
                    Some(sent) => self.on_refused(sent),
                    None => {}
                }
            }
            WorkerMessage::Leaving { seq } => {
                worker.is_draining = true;
                self.retire(id);
                self.send_queued(id);
                let Some(worker) = self.workers.get_mut(&id) else { return };
                let own = worker.next_seq();
                worker.send(Line::plain(Line::ack(own, seq)), None);
            }
            WorkerMessage::Health(health) => self.shared.publish_health(id, Some((self.now, health))),
            WorkerMessage::Signalled => worker.notifiers.on_signalled(),
            WorkerMessage::Unhandled { signal, handled } => {
                let app = worker.slot.app;
                self.advise_once(app, &handled, &signal);
            }
            WorkerMessage::HandleTaken => drop(worker.unconfirmed.pop_front()),
            WorkerMessage::HandleLost => match worker.unconfirmed.pop_front() {
                Some(SentDescriptor::Connection(seq)) => {
                    self.is_dispatch_due = true;
                    if let Some(sent) = worker.take_in_flight(seq) {
                        self.on_refused(sent);
                    }
                }
                Some(SentDescriptor::Server { query, listener }) => {
                    worker.servers.retain(|server| server.listener != listener);
                    let server = self.listeners.get(&listener).and_then(Listener::node);
                    let key = server.map(|server| server.key.clone()).unwrap_or_default();
                    let seq = worker.next_seq();
                    let message = Line::server_refused(seq, query, &key, Errno::EMFILE as i32);
                    worker.send(Line::plain(message), None);
                }
                None => {}
            },
            WorkerMessage::HandleSent => worker.send(Line::HANDLE_TAKEN.to_vec(), None),
            WorkerMessage::Ready => worker.notifiers.on_ready(),
            WorkerMessage::Other => {}
        }
    }

    /// Answers a server that wants to listen: it may, or gets the socket, or the error that it would have had. One of a
    /// worker that drains gets no answer, as from Node's own primary: its cluster module expects none any more.
    fn answer_query(&mut self, id: WorkerId, query: Query) {
        if self.workers.get(&id).is_none_or(|worker| worker.is_draining) {
            return;
        }
        let (ack, key, limited) = (query.seq, query.key(), query.limited);
        let outcome = self.find_or_open(id, query);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let seq = worker.next_seq();
        let (id, listener) = match outcome.map(|id| (id, self.listeners.get_mut(&id))) {
            Ok((id, Some(listener))) => (id, listener),
            Ok((_, None)) => return,
            Err(errno) => {
                worker.send(Line::plain(Line::server_refused(seq, ack, &key, errno as i32)), None);
                return;
            }
        };
        let is_dispatched = listener.kind == Kind::Dispatched;
        // With the library it asks for its queue when it has the socket. Only a message can be refused.
        let gets_queue = is_dispatched && worker.has_library && !limited;
        let by_message = is_dispatched && !gets_queue;
        let delivery = if gets_queue { Delivery::Socket } else { Delivery::Messages };
        let sockname = if by_message { listener.sockname() } else { None };
        let data = listener.node().map_or(&Value::Null, |server| &server.data);
        let message = Line::server(seq, ack, &key, data, sockname);
        let app = worker.slot.app;
        if by_message {
            worker.servers.push(Server::new(id, key, delivery));
            worker.send(Line::plain(message), None);
        } else {
            match listener.socket_or_open(worker.slot.index) {
                Ok(socket) => {
                    let kind = if listener.kind == Kind::Datagrams { "dgram.Native" } else { "net.Native" };
                    worker.servers.push(Server::new(id, key, delivery));
                    worker.record_sent(SentDescriptor::Server { query: ack, listener: id });
                    worker.send(Line::with_handle(kind, message), Some(socket));
                }
                Err(errno) => worker.send(Line::plain(Line::server_refused(seq, ack, &key, errno as i32)), None),
            }
        }
        self.update_candidates(app);
    }

    /// The listener of a query: the one with its key, or a new one.
    fn find_or_open(&mut self, id: WorkerId, query: Query) -> nix::Result<ListenerId> {
        let worker = self.workers.get(&id).ok_or(Errno::ESRCH)?;
        worker.has_bound.store(true, Ordering::Relaxed);
        let slot = worker.slot;
        if worker.servers.len() >= MAX_SERVERS {
            return Err(Errno::EMFILE);
        }
        let key = query.key();
        let mut own = self.listeners.iter().filter(|(_, one)| one.app == slot.app);
        let known = own.find_map(|(id, one)| one.node().filter(|server| server.key == key).map(|server| (*id, server)));
        match known.map(|(id, server)| (id, server.has_lost_its_file())) {
            Some((id, _)) if worker.server(id).is_some() => return Err(Errno::EADDRINUSE),
            Some((id, false)) => return Ok(id),
            // Workers that serve the old file keep the clients that are connected to it.
            Some((id, true)) => self.close_listener(id),
            None => {}
        }
        let app = self.apps.get(&slot.app).ok_or(Errno::ESRCH)?;
        let worker = self.workers.get(&id).ok_or(Errno::ESRCH)?;
        let overlap = match query.tcp_address() {
            Some(address) => self.overlap(worker, &address, |listener| listener.node().is_some())?,
            None => Overlap::None,
        };
        let may_share = match overlap {
            Overlap::Covered(siblings) => return Ok(siblings),
            Overlap::Beside => true,
            Overlap::None => false,
        };
        let listener = Listener::open(slot, app.balance, &query, &app.inherited, may_share)?;
        self.announce_once(slot.app, &listener.address, &listener.kind);
        Ok(self.add_listener(listener))
    }

    /// A worker has closed a server. If that was the last one and the worker goes on, the address is free again. One where
    /// workers served that leave now is free when they are gone: Node says that it closes a socket before it does.
    fn on_closed(&mut self, id: WorkerId, key: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (app, added_at) = (worker.slot.app, worker.added_at);
        // The oldest, where the address has become another listener's and this worker serves both.
        // Those of the preloaded library have no key.
        let is_it = |server: &&Server| !key.is_empty() && server.key == key;
        let Some(closed) = worker.servers.iter().find(is_it).map(|server| server.listener) else { return };
        self.take_back(id, Some(closed));
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.servers.retain(|server| server.listener != closed);
        let goes_on = !worker.is_leaving;
        let is_older = self.listeners.get(&closed).is_some_and(|listener| listener.opened_at < added_at);
        let others_leave = self.workers.values().any(|other| other.slot.app == app && other.is_leaving);
        if goes_on && !(is_older && others_leave) && !self.is_served(closed) {
            self.close_listener(closed);
        }
        self.update_candidates(app);
        self.publish_addresses(id);
    }

    /// A worker did not accept a connection: another may. One that every worker has refused twice is closed.
    fn on_refused(&mut self, sent: InFlight) {
        let InFlight { listener, mut connection, .. } = sent;
        connection.refusals += 1;
        if let Some(listener) = self.listeners.get_mut(&listener)
            && !connection.is_addressed
            && (connection.refusals as usize <= 2 * listener.candidates.len() || listener.candidates.is_empty())
        {
            listener.waiting.push_back(connection);
        }
    }
}
