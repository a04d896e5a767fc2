//! Binds the UDP sockets of preloaded programs: each slot has one, which rinit keeps while workers come and go.

use super::broker::Client;
use super::protocol::Reply;
use super::requests::Answer;
use crate::core::WorkerId;
use crate::ports::hub::Hub;
use crate::ports::listener::{Kind, Listener, Origin, Socket};
use crate::ports::overlap::is_held;
use crate::ports::worker::MAX_SERVERS;
use crate::ports::{Address, ListenerId};
use crate::sys::socket::bind;
use nix::errno::Errno;
use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The number of a worker's servers from which on the sockets that it has closed are looked for: some programs bind a port for
/// each question that they ask.
const MAX_UNCHECKED_SERVERS: usize = 16;

/// True if a program's socket is one for datagrams.
pub(super) fn is_datagram(socket: &OwnedFd) -> bool {
    getsockopt(socket, sockopt::SockType) == Ok(SockType::Datagram)
}

impl Hub {
    /// Binds a program's socket, or finds the one that its slot has at that address already.
    ///
    /// # Errors
    /// The errors that the program sees: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`…
    pub(super) fn bind_datagrams(
        &mut self,
        client: &mut Client,
        address: Address,
        socket: OwnedFd,
    ) -> nix::Result<Answer> {
        let has_device = getsockopt(&socket, sockopt::BindToDevice).is_ok_and(|device| !device.is_empty());
        if self.workers.get(&client.worker).is_some_and(|worker| worker.servers.len() >= MAX_UNCHECKED_SERVERS) {
            self.release_datagrams(client.worker);
        }
        let worker = self.workers.get(&client.worker).ok_or(Errno::ESRCH)?;
        if has_device || worker.servers.len() >= MAX_SERVERS {
            return Ok((Reply::NotShared, None));
        }
        let slot = worker.slot;
        let mut own = self.listeners.iter_mut().filter(|(_, listener)| listener.app == slot.app);
        let known = own.find(|(_, listener)| match &listener.origin {
            Origin::Datagrams(bound) => *bound == address,
            Origin::Bound { .. } | Origin::Node(_) | Origin::Inherited => false,
        });
        let (id, existing) = match known {
            Some((id, listener)) => {
                let existing = listener.socket_of(slot.index).map(|one| one.socket.clone());
                if existing.as_ref().is_some_and(|socket| is_held(worker, *id, socket) == Some(true)) {
                    return Err(Errno::EADDRINUSE);
                }
                if existing.is_none() {
                    setsockopt(&socket, sockopt::ReusePort, &true)?;
                    bind(socket.as_fd(), &address)?;
                    listener.sockets.push(Socket::new(slot.index, Arc::new(socket)));
                }
                (*id, existing)
            }
            None => {
                // First without SO_REUSEPORT: so the kernel finds other programs, whose datagrams these would be.
                bind(socket.as_fd(), &address)?;
                setsockopt(&socket, sockopt::ReusePort, &true)?;
                let shown = format!("UDP {address}");
                let socket = Socket::new(slot.index, Arc::new(socket));
                let origin = Origin::Datagrams(address);
                (self.add_listener(Listener::new(slot.app, shown, Kind::PerSlot, origin, socket)), None)
            }
        };
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.on_joined(slot.index);
        }
        client.bound = Some(id);
        self.add_holder(client, id);
        if let Some(server) = self.workers.get_mut(&client.worker).and_then(|worker| worker.server_mut(id)) {
            server.is_serving = true;
        }
        self.update_candidates(slot.app);
        Ok((Reply::DoneWithoutQueue, existing))
    }

    /// Removes a worker's socket, which the program connects, from its listener.
    pub(super) fn forget_datagrams(&mut self, id: WorkerId, listener: ListenerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.servers.retain(|server| server.listener != listener);
        let Some(kept) = self.listeners.get_mut(&listener) else { return };
        kept.sockets.retain(|socket| socket.slot != worker.slot.index);
        if kept.sockets.is_empty() {
            self.close_listener(listener);
        }
    }

    /// Removes the sockets that no process of a worker has open any more.
    fn release_datagrams(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let is_closed = |(listener, kept): &(ListenerId, &Listener)| {
            let socket = kept.socket_of(worker.slot.index);
            matches!(kept.origin, Origin::Datagrams(_))
                && socket.is_some_and(|one| is_held(worker, *listener, &one.socket) == Some(false))
                && !self.clients.values().any(|client| client.bound == Some(*listener))
        };
        let servers = worker.servers.iter().filter_map(|one| Some((one.listener, self.listeners.get(&one.listener)?)));
        let closed: Vec<ListenerId> = servers.filter(is_closed).map(|(listener, _)| listener).collect();
        closed.into_iter().for_each(|listener| self.forget_datagrams(id, listener));
    }
}
