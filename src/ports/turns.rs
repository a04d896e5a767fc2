//! Determines how many turns to accept the workers may get, and for how many connections each.
//!
//! A connection that waits in the kernel's queue belongs to nobody. While few come, there is a turn for each of them, and it is
//! for one: so connections that stay are spread evenly. While many come, a turn lasts for several: a worker that is awake goes
//! on without rinit, and the turns of all workers stay even over time.

use super::ListenerId;
use super::batching::Batching;
use super::hub::Hub;
use super::listener::Listener;
use super::worker::PortWorker;
use crate::core::WorkerId;
use crate::sys::socket::{is_readable, waiting_connections};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

/// The maximum number of connections of one turn.
const MAX_TURN_SIZE: u64 = 64;
/// The least size of a turn for more than one.
const MIN_LASTING_SIZE: u64 = 8;
/// The least number of connections that each worker has been assigned, for each one of a turn: so by two turns a worker is
/// ahead of the others by at most 2 %.
const ASSIGNED_BEFORE: u64 = 100;
/// The number of times that a kernel is asked that tells of no connection where there is one.
const MAX_COUNTS: usize = 3;

impl Hub {
    /// Lets rinit itself accept what waits at a listener that is about to be closed: what no worker has accepted is reset then.
    pub(super) fn end_turns(&mut self, id: ListenerId) {
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.take_back(worker, Some(id)));
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.has_turns = false;
        }
    }
}

/// The number of turns that workers have at a listener.
pub(super) fn turns(id: ListenerId, workers: &mut BTreeMap<WorkerId, PortWorker>, now: Instant) -> u64 {
    let queues = workers.values_mut().filter_map(|worker| worker.queue(id));
    let turns = queues.map(|queue| {
        queue.refresh(now);
        queue.turns().count()
    });
    turns.sum::<usize>() as u64
}

impl Listener {
    /// The number of connections in the kernel's queue. `None`: rinit accepts connections here.
    pub(super) fn waiting_in_kernel(&mut self) -> Option<u64> {
        let socket = self.sockets.first().filter(|_| self.has_turns)?.socket.as_fd();
        for _ in 0..MAX_COUNTS {
            match waiting_connections(socket) {
                // A worker may have just accepted one; or the kernel does not count.
                Ok(0) if is_readable(socket) => {}
                Ok(count) => return Some(u64::from(count)),
                Err(_) => break,
            }
        }
        self.has_turns = false;
        None
    }

    /// The maximum number of connections of the next turn, and of those by which a worker may be ahead of another: about as many
    /// as each gets in a span.
    pub(super) fn turn_size(&self, batching: &Batching) -> u8 {
        let assigned = self.assigned.iter().copied().min().unwrap_or_default();
        let workers = self.candidates.len().max(1) as u64;
        let size = (batching.average() / workers).min(assigned / ASSIGNED_BEFORE).min(MAX_TURN_SIZE);
        // Some hundred connections that are made at once may stay.
        if size < MIN_LASTING_SIZE { 1 } else { size as u8 }
    }

    /// A worker has not used what it was assigned.
    pub(super) fn on_unused(&mut self, worker: WorkerId, count: u64) {
        let at = self.candidates.iter().position(|one| *one == worker);
        if let Some(assigned) = at.and_then(|at| self.assigned.get_mut(at)) {
            *assigned = assigned.saturating_sub(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::batching::Batching;
    use crate::ports::dispatch::tests::hub;
    use crate::ports::listener::Origin;
    use crate::ports::poller::now;
    use crate::ports::preload::{PACKET_BYTES, Packet, UnusedTurn};
    use crate::sys::socket::{receive, send};
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::time::Duration;

    /// A hub, its listener with two workers, and connections that wait there.
    fn waiting(count: usize) -> (Hub, ListenerId, Vec<TcpStream>) {
        let (mut hub, id, port) = hub();
        let socket = hub.listeners[&id].sockets[0].socket.clone();
        crate::sys::socket::listen(socket.as_fd(), 64).unwrap();
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        hub.listeners.get_mut(&id).unwrap().origin = Origin::Inherited;
        hub.update_candidates(hub.listeners[&id].app);
        let clients = (0..count).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        (hub, id, clients)
    }

    fn turns_of(hub: &mut Hub, id: ListenerId) -> [Vec<u8>; 2] {
        [0, 1].map(|worker| {
            let queue = hub.workers.get_mut(&WorkerId(worker)).unwrap().queue(id).unwrap();
            queue.refresh(now());
            queue.turns().collect()
        })
    }

    /// The worker takes the next packet.
    fn takes(hub: &mut Hub, id: ListenerId, worker: u64) -> nix::Result<(Packet, usize)> {
        let queue = hub.workers.get_mut(&WorkerId(worker)).unwrap().queue(id).unwrap();
        let mut packet = [0; PACKET_BYTES];
        let (_, connections) = receive(queue.worker_end().as_fd(), &mut packet)?;
        Ok((Packet::decode(&packet), connections.len()))
    }

    fn reports(hub: &mut Hub, id: ListenerId, worker: u64, report: UnusedTurn) {
        let queue = hub.workers.get_mut(&WorkerId(worker)).unwrap().queue(id).unwrap();
        send(queue.worker_end().as_fd(), &report.encode(), None).unwrap();
        hub.on_accept(id, true);
        hub.dispatch(id);
    }

    const TURN: Packet = Packet::Turn { connections: 1 };

    #[test]
    fn each_connection_that_waits_is_the_turn_of_one_worker() {
        let (mut hub, id, _clients) = waiting(5);
        hub.dispatch(id);
        let [first, second] = turns_of(&mut hub, id);
        assert_eq!(first.len() + second.len(), 5);
        assert!(first.len().abs_diff(second.len()) == 1 && first.iter().chain(&second).all(|size| *size == 1));
        hub.dispatch(id);
        assert_eq!(turns_of(&mut hub, id), [first, second], "none has two");
    }

    #[test]
    fn a_socket_that_does_not_listen_yet_has_turns_later() {
        let (mut hub, id, _) = hub();
        let new = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        let listener = hub.listeners.get_mut(&id).unwrap();
        listener.sockets[0].socket = Arc::new(new());
        assert_eq!(listener.waiting_in_kernel(), Some(0));
        let unix = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        listener.sockets[0].socket = Arc::new(unix);
        assert_eq!(listener.waiting_in_kernel(), None, "rinit accepts");
    }

    #[test]
    fn a_turn_that_is_given_back_is_anothers() {
        let (mut hub, id, _clients) = waiting(1);
        hub.dispatch(id);
        let worker = u64::from(turns_of(&mut hub, id)[0].is_empty());
        assert_eq!(takes(&mut hub, id, worker), Ok((TURN, 0)));
        reports(&mut hub, id, worker, UnusedTurn { connections: 1, has_room: false });
        let handed = |hub: &Hub| hub.workers.values().map(|worker| worker.handed.read()).sum::<u64>();
        assert_eq!(takes(&mut hub, id, 1 - worker), Ok((TURN, 0)), "that one has no room");
        assert_eq!(handed(&hub), 1);
        let waits = hub.count_connections().workers.into_values().map(|one| one.waits.count());
        assert_eq!(waits.sum::<u64>(), 1, "a turn that was not used has no wait");
    }

    #[test]
    fn a_turn_that_was_taken_and_not_used_is_given_again() {
        let (mut hub, id, _clients) = waiting(1);
        hub.dispatch(id);
        let worker = u64::from(turns_of(&mut hub, id)[0].is_empty());
        takes(&mut hub, id, worker).unwrap();
        assert!(hub.recheck_at.is_some_and(|then| then <= hub.now + Duration::from_millis(100)));
        hub.dispatch(id);
        assert_eq!(turns_of(&mut hub, id).map(|turns| turns.len()).iter().sum::<usize>(), 1);
    }

    #[test]
    fn what_waits_at_a_listener_that_closes_is_accepted_by_rinit() {
        let (mut hub, id, _clients) = waiting(4);
        hub.dispatch(id);
        hub.end_turns(id);
        assert!(turns_of(&mut hub, id).concat().is_empty());
        hub.dispatch(id);
        for worker in [0, 1] {
            for _ in 0..2 {
                assert!(matches!(takes(&mut hub, id, worker), Ok((Packet::Connection { .. }, 1))));
            }
            assert_eq!(takes(&mut hub, id, worker), Err(Errno::EAGAIN));
        }
    }

    #[test]
    fn turns_are_for_many_only_while_many_come_and_the_workers_stay_even() {
        let (mut hub, id, _) = waiting(0);
        let listener = hub.listeners.get_mut(&id).unwrap();
        let mut batching = Batching::default();
        let start = now();
        batching.on_wake(start);
        (0..64).for_each(|_| batching.on_dispatch(1));
        batching.on_wake(start + Duration::from_millis(10));
        listener.assigned = vec![1_000_000; 2];
        assert_eq!(listener.turn_size(&batching), 1, "64 at once do not count much");
        for span in 2..100 {
            (0..64).for_each(|_| batching.on_dispatch(1));
            batching.on_wake(start + Duration::from_millis(10 * span));
        }
        assert!((24..=32).contains(&listener.turn_size(&batching)), "{}", listener.turn_size(&batching));
        listener.assigned = vec![1000, 1_000_000];
        assert_eq!(listener.turn_size(&batching), 10);
        batching.on_wake(start + Duration::from_secs(9));
        assert_eq!(listener.turn_size(&batching), 1);
    }
}
