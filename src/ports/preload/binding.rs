//! Binds the sockets of preloaded programs: the first worker's own socket becomes the one that all share, with its options.

use super::broker::Client;
use super::datagrams::is_datagram;
use super::protocol::Reply;
use super::requests::Answer;
use crate::ports::hub::Hub;
use crate::ports::listener::{Kind, Listener, Origin, Socket};
use crate::ports::node::inspector_port;
use crate::ports::overlap::{Overlap, is_held};
use crate::ports::worker::MAX_SERVERS;
use crate::ports::{Address, ListenerId};
use crate::sys::socket::bind;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Hub {
    /// Binds a program's socket, or finds the one that its app has bound to that address already.
    ///
    /// # Errors
    /// The errors that the program sees: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`…
    pub(super) fn bind(
        &mut self,
        client: &mut Client,
        address: Option<Address>,
        socket: OwnedFd,
    ) -> nix::Result<Answer> {
        let worker = self.workers.get(&client.worker).ok_or(Errno::ESRCH)?;
        worker.has_bound.store(true, Ordering::Relaxed);
        let (app, slot) = (worker.slot.app, worker.slot.index);
        let settings = self.apps.get(&app).ok_or(Errno::ESRCH)?;
        // Each worker has an inspector of its own.
        let private_port = worker.channel.is_some().then(|| inspector_port(&settings.command, slot));
        let Some(address) = address.filter(|address| private_port != Some(address.port())) else {
            return Ok((Reply::NotShared, None));
        };
        if is_datagram(&socket) {
            return self.bind_datagrams(client, address, socket);
        }
        let kind = Kind::from(settings.balance);
        self.release(app, &address);
        let worker = self.workers.get(&client.worker).ok_or(Errno::ESRCH)?;
        // The kernel allows the same address once for each interface (`SO_BINDTODEVICE`, socket(7)).
        let own_device = getsockopt(&socket, sockopt::BindToDevice).unwrap_or_default();
        let mut own = self.listeners.iter().filter(|(_, listener)| listener.app == app);
        let known = own.find(|(_, listener)| match &listener.origin {
            Origin::Bound { address: bound, device } => *bound == address && *device == own_device,
            Origin::Datagrams(_) | Origin::Node(_) | Origin::Inherited => false,
        });
        let done = if kind == Kind::Dispatched { Reply::Done } else { Reply::DoneWithoutQueue };
        let id = match known.map(|(id, _)| *id) {
            Some(id) => id,
            None if worker.servers.len() >= MAX_SERVERS => return Ok((Reply::NotShared, None)),
            None => {
                let is_alike = |listener: &Listener| match &listener.origin {
                    Origin::Bound { device, .. } => *device == own_device,
                    Origin::Datagrams(_) | Origin::Node(_) | Origin::Inherited => false,
                };
                match self.overlap(worker, &address, is_alike)? {
                    Overlap::Covered(siblings) => siblings,
                    overlap @ (Overlap::None | Overlap::Beside) => {
                        if kind == Kind::PerSlot || matches!(overlap, Overlap::Beside) {
                            setsockopt(&socket, sockopt::ReusePort, &true)?;
                        }
                        bind(socket.as_fd(), &address)?;
                        let shown = address.to_string();
                        let socket = Socket::new(slot, Arc::new(socket));
                        let origin = Origin::Bound { address, device: own_device };
                        let id = self.add_listener(Listener::new(app, shown, kind, origin, socket));
                        self.add_holder(client, id);
                        return Ok((done, None));
                    }
                }
            }
        };
        let Hub { workers, listeners, .. } = self;
        let (Some(worker), Some(listener)) = (workers.get(&client.worker), listeners.get_mut(&id)) else {
            return Err(Errno::ESRCH);
        };
        let own = listener.socket_of(slot).map(|one| one.socket.clone());
        // A worker that has the socket open already gets the error that it would get without rinit: none with SO_REUSEPORT,
        // as nginx, Netty and granian bind it for each of their threads or processes.
        let is_again = getsockopt(&socket, sockopt::ReusePort).unwrap_or_default();
        if !is_again && own.as_ref().is_some_and(|own| is_held(worker, id, own) == Some(true)) {
            return Err(Errno::EADDRINUSE);
        }
        if own.is_none() {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
            bind(socket.as_fd(), &address)?;
            listener.sockets.push(Socket::new(slot, Arc::new(socket)));
        }
        client.bound = Some(id);
        self.add_holder(client, id);
        Ok((done, own))
    }

    /// Records that a process of a worker has a listener's socket.
    pub(super) fn add_holder(&mut self, client: &Client, id: ListenerId) {
        if let Some(server) = self.workers.get_mut(&client.worker).and_then(|worker| worker.server_or_add(id)) {
            server.add_holder(client.pid);
        }
    }
}
