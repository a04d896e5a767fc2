//! Lets a worker bind an address that overlaps with its siblings' as if it were alone.
//!
//! Programs look for a free port by binding it at several addresses, one after the other, and closing each socket again. The
//! listeners that rinit keeps of these, and those where the siblings already serve, are not to be in the way.

use super::accept_queue::Delivery;
use super::hub::Hub;
use super::listener::{Listener, Origin};
use super::own_listeners::family;
use super::preload::Broker;
use super::worker::PortWorker;
use super::{Address, ListenerId};
use crate::core::AppId;
use crate::sys::peer::holds;
use crate::sys::socket::inode;
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::{AsFd, OwnedFd};

/// The way to an address.
pub(super) enum Overlap {
    /// No sibling has one that overlaps, or the worker itself has: the kernel decides.
    None,
    /// The siblings served at that listener before the worker started, and it covers the address: the worker shares it.
    Covered(ListenerId),
    /// The kernel allows a socket beside the siblings', with `SO_REUSEPORT`.
    Beside,
}

impl Hub {
    /// Finds the way to an address for a worker. `is_alike`: the worker could share that listener.
    ///
    /// # Errors
    /// Sockets that the kernel does not allow beside each other.
    pub(super) fn overlap(
        &self,
        worker: &PortWorker,
        address: &Address,
        is_alike: impl Fn(&Listener) -> bool,
    ) -> nix::Result<Overlap> {
        let is_own = |id: ListenerId, listener: &Listener| match &listener.origin {
            Origin::Node(_) => worker.server(id).is_some(),
            Origin::Bound { .. } | Origin::Datagrams(_) | Origin::Inherited => {
                listener.sockets.iter().any(|one| is_held(worker, id, &one.socket) == Some(true))
            }
        };
        let mut overlap = Overlap::None;
        for (id, listener) in self.listeners.iter().filter(|(_, listener)| listener.app == worker.slot.app) {
            let Some(bound) = listener.bound_address().filter(|bound| bound.overlaps(address)) else { continue };
            if is_own(*id, listener) {
                return Ok(Overlap::None);
            }
            if listener.opened_at < worker.added_at && is_alike(listener) && bound.covers(address) {
                return Ok(Overlap::Covered(*id));
            }
            for one in &listener.sockets {
                setsockopt(&one.socket, sockopt::ReusePort, &true)?;
            }
            overlap = Overlap::Beside;
        }
        Ok(overlap)
    }

    /// Closes the listeners that occupy an address and whose sockets no process has open any more.
    pub(super) fn release(&mut self, app: AppId, wanted: &Address) {
        let occupies = |listener: &Listener| match &listener.origin {
            Origin::Bound { address, .. } => address.overlaps(wanted) && address != wanted,
            Origin::Datagrams(_) | Origin::Node(_) | Origin::Inherited => false,
        };
        let is_free = |id: ListenerId, listener: &Listener| {
            let held = |worker: &PortWorker| {
                listener.sockets.iter().any(|one| is_held(worker, id, &one.socket) != Some(false))
            };
            let is_on_its_way = self.clients.values().any(|client| client.bound == Some(id));
            !is_on_its_way && !self.workers.values().filter(|worker| worker.server(id).is_some()).any(held)
        };
        let own = self.listeners.iter().filter(|(_, listener)| listener.app == app);
        let free: Vec<ListenerId> =
            own.filter(|(id, one)| occupies(one) && is_free(**id, one)).map(|(id, _)| *id).collect();
        for id in free {
            self.workers.values_mut().for_each(|worker| worker.servers.retain(|one| one.listener != id));
            self.close_listener(id);
        }
    }
}

/// Returns true if a process of the worker has a listener's socket open, or the worker's queue for it: one that was given it, or
/// one of the worker's descendants, to which it may have passed it on. `None`: rinit may not look.
pub(super) fn is_held(worker: &PortWorker, id: ListenerId, socket: &OwnedFd) -> Option<bool> {
    let Some(server) = worker.server(id) else { return Some(false) };
    let queue = match &server.delivery {
        Delivery::Queue(queue) => inode(queue.worker_end().as_fd()).ok(),
        Delivery::Messages | Delivery::Socket => None,
    };
    let sockets: Vec<u64> = inode(socket.as_fd()).ok().into_iter().chain(queue).collect();
    let descendants = worker.broker.as_ref().and_then(Broker::owner).map(family).unwrap_or_default();
    let mut answers = server.holders().chain(descendants).map(|pid| holds(pid, &sockets));
    let mut is_hidden = false;
    let is_held = answers.any(|answer| {
        is_hidden |= answer.is_none();
        answer == Some(true)
    });
    if is_held || !is_hidden { Some(is_held) } else { None }
}
