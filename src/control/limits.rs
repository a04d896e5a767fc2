//! Bounds what clients can make rinit hold: connections by class, and bytes of answers that are not sent yet.
//!
//! There are limits for root and rinit's own user, and others for all other clients, who cannot starve them so. A connection
//! waits until its request has come whole, and then belongs to its route's [`Class`]. The bytes of all classes together are
//! 4 MiB, twice.

use super::response::Failure;
use hyper::StatusCode;
use hyper::body::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::timeout;

/// Connections whose request has not come whole.
const MAX_WAITING: usize = 64;
/// A read waits this long for its share of the bytes.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// The greatest size of a read's answer that depends on the client's wishes, in bytes as sent.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;
/// A stream sends no more than this at once, in bytes as sent; but a single line or event may be longer.
pub(super) const MAX_BATCH: usize = 24 * 1024;

/// The kind of a route, from which its limits follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Asked by orchestrators and Prometheus: answered at once, whatever other clients do, and under any host name.
    Probe,
    /// Answered at once.
    Read,
    /// Goes on until its client ends it.
    Stream,
    /// Changes something, and is answered when that is done.
    Change,
}

impl Class {
    /// The name in `openapi.json`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Probe => "probe",
            Class::Read => "read",
            Class::Stream => "stream",
            Class::Change => "change",
        }
    }
}

/// The limits of a group of clients.
pub(super) struct Limits {
    next: Cell<u64>,
    waiting: Pool,
    probes: Pool,
    reads: Pool,
    streams: Pool,
    changes: Pool,
}

/// The connections of a class, oldest first, and the bytes that they may hold.
struct Pool {
    max_connections: usize,
    connections: RefCell<VecDeque<(u64, AbortHandle)>>,
    max_bytes: usize,
    bytes: Arc<Semaphore>,
}

impl Pool {
    fn new(max_connections: usize, max_kib: usize) -> Pool {
        let max_bytes = max_kib * 1024;
        let bytes = Arc::new(Semaphore::new(max_bytes));
        Pool { max_connections, connections: RefCell::default(), max_bytes, bytes }
    }

    fn is_full(&self) -> bool {
        self.connections.borrow().len() >= self.max_connections
    }

    fn remove(&self, number: u64) -> Option<AbortHandle> {
        let mut connections = self.connections.borrow_mut();
        let at = connections.iter().position(|(one, _)| *one == number)?;
        connections.remove(at).map(|(_, handle)| handle)
    }

    /// Ends the oldest connection but that one; false: there is none.
    fn drop_oldest(&self, but: u64) -> bool {
        let oldest = self.connections.borrow().iter().map(|(number, _)| *number).find(|number| *number != but);
        let handle = oldest.and_then(|number| self.remove(number));
        handle.iter().for_each(AbortHandle::abort);
        handle.is_some()
    }
}

impl Limits {
    pub(super) fn new() -> Rc<Limits> {
        Rc::new(Limits {
            next: Cell::new(0),
            waiting: Pool::new(MAX_WAITING, 0),
            probes: Pool::new(32, 1024),
            reads: Pool::new(32, 1280),
            streams: Pool::new(16, 768),
            changes: Pool::new(32, 1024),
        })
    }

    fn pool(&self, class: Option<Class>) -> &Pool {
        match class {
            None => &self.waiting,
            Some(Class::Probe) => &self.probes,
            Some(Class::Read) => &self.reads,
            Some(Class::Stream) => &self.streams,
            Some(Class::Change) => &self.changes,
        }
    }

    /// A seat for a new connection.
    pub(super) fn seat(self: &Rc<Limits>) -> Rc<Seat> {
        let number = self.next.get();
        self.next.set(number + 1);
        Rc::new(Seat { limits: self.clone(), number, class: Cell::new(None), in_progress: Cell::new(0) })
    }

    /// Ends the connection that has waited longest for the rest of its request; false: there is none.
    pub(super) fn drop_oldest_waiting(&self) -> bool {
        self.waiting.drop_oldest(u64::MAX)
    }
}

/// A connection's place in the limits; given back when it is dropped.
pub(super) struct Seat {
    limits: Rc<Limits>,
    number: u64,
    /// None until the request has come whole.
    class: Cell<Option<Class>>,
    /// Calls and streams that take as long as they take.
    in_progress: Cell<u32>,
}

impl Seat {
    /// Takes its place among the connections that wait for their request. If there are too many, the oldest one ends.
    pub(super) fn occupy(&self, task: AbortHandle) {
        let waiting = &self.limits.waiting;
        if waiting.is_full() {
            waiting.drop_oldest(self.number);
        }
        waiting.connections.borrow_mut().push_back((self.number, task));
    }

    /// Moves to the request's class. Where that is full, a probe ends the oldest one; other requests are refused.
    pub(super) fn enter(&self, class: Class) -> Result<(), Failure> {
        let (from, to) = (self.limits.pool(self.class.get()), self.limits.pool(Some(class)));
        if to.is_full() {
            match class {
                Class::Probe => drop(to.drop_oldest(self.number)),
                Class::Read | Class::Change => return Err(busy("too many requests at once")),
                Class::Stream => return Err(busy("too many streams at once: there can be 16")),
            }
        }
        if let Some(task) = from.remove(self.number) {
            to.connections.borrow_mut().push_back((self.number, task));
            self.class.set(Some(class));
        }
        Ok(())
    }

    /// Waits for the room of an answer, before it is made.
    pub(super) async fn answer_room(&self) -> Result<Room, Failure> {
        match self.class.get() {
            Some(Class::Read) => {
                let room = timeout(ROOM_TIMEOUT, self.room(MAX_ANSWER)).await;
                room.map_err(|_| busy("other clients do not read their answers"))
            }
            // Small, and made at once; the room is taken when the size is known.
            None | Some(Class::Probe | Class::Stream | Class::Change) => Ok(Room { permit: None }),
        }
    }

    /// Counts an answer's bytes until they are sent. The room is what was taken for it before.
    pub(super) async fn hold(&self, bytes: Bytes, mut room: Room) -> Bytes {
        let pool = self.limits.pool(self.class.get());
        let needed = bytes.len().min(pool.max_bytes);
        if room.len() < needed {
            drop(room);
            while self.class.get() == Some(Class::Probe)
                && pool.bytes.available_permits() < needed
                && pool.drop_oldest(self.number)
            {
                yield_now().await;
            }
            room = self.room(needed).await;
        }
        room.hold(bytes)
    }

    /// Waits until the class has room for that many bytes.
    pub(super) async fn room(&self, bytes: usize) -> Room {
        let pool = self.limits.pool(self.class.get());
        let bytes = u32::try_from(bytes.min(pool.max_bytes)).unwrap_or(u32::MAX);
        Room { permit: pool.bytes.clone().acquire_many_owned(bytes).await.ok() }
    }

    /// Marks the connection as one that takes as long as it takes, until the guard is dropped.
    pub(super) fn begin(self: &Rc<Seat>) -> InProgress {
        self.in_progress.set(self.in_progress.get() + 1);
        InProgress(self.clone())
    }

    /// True if a call or a stream is in progress.
    pub(super) fn is_in_progress(&self) -> bool {
        self.in_progress.get() > 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.limits.pool(self.class.get()).remove(self.number);
    }
}

/// Lets a connection take its time, while it lives.
pub(super) struct InProgress(Rc<Seat>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.in_progress.set(self.0.in_progress.get().saturating_sub(1));
    }
}

/// A share of a class's bytes; given back when it is dropped.
pub(super) struct Room {
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn len(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Ties the room to bytes: it is given back when they have been sent. What they do not need is given back now.
    pub(super) fn hold(mut self, bytes: Bytes) -> Bytes {
        let unused = self.len().saturating_sub(bytes.len());
        if let Some(permit) = &mut self.permit {
            drop(permit.split(unused));
        }
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn busy(why: &str) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("{why}; try again in a moment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::{LocalSet, spawn_local};

    /// Runs on a local task set, as the server does.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    /// A connection that never ends by itself.
    fn connect(limits: &Rc<Limits>) -> Rc<Seat> {
        let seat = limits.seat();
        let own = seat.clone();
        let task = spawn_local(async move {
            let _seat = own;
            std::future::pending::<()>().await;
        });
        seat.occupy(task.abort_handle());
        seat
    }

    fn is_alive(seat: &Rc<Seat>) -> bool {
        Rc::strong_count(seat) == 2
    }

    #[test]
    fn of_too_many_half_requests_the_oldest_end() {
        run(async {
            let limits = Limits::new();
            let seats: Vec<_> = (0..MAX_WAITING + 3).map(|_| connect(&limits)).collect();
            yield_now().await;
            let alive: Vec<bool> = seats.iter().map(is_alive).collect();
            assert_eq!(alive.iter().filter(|alive| !**alive).count(), 3);
            assert_eq!(alive[..4], [false, false, false, true]);
        });
    }

    #[test]
    fn a_probe_has_a_seat_when_all_others_are_taken() {
        run(async {
            let limits = Limits::new();
            let streams: Vec<_> = (0..20).map(|_| connect(&limits)).collect();
            let entered: Vec<_> = streams.iter().map(|seat| seat.enter(Class::Stream).is_ok()).collect();
            assert_eq!(entered.iter().filter(|entered| **entered).count(), 16);
            let probes: Vec<_> = (0..40).map(|_| connect(&limits)).collect();
            probes.iter().for_each(|probe| probe.enter(Class::Probe).unwrap());
            yield_now().await;
            assert!(!is_alive(&probes[0]) && is_alive(&probes[39]), "the oldest probe makes room");
            assert!(streams[..16].iter().all(is_alive));
        });
    }

    #[test]
    fn bytes_are_counted_until_they_are_sent() {
        run(async {
            let limits = Limits::new();
            let seat = connect(&limits);
            seat.enter(Class::Read).unwrap();
            let room = seat.answer_room().await.unwrap();
            let held = seat.hold(Bytes::from(vec![0; 1000]), room).await;
            assert_eq!(limits.reads.bytes.available_permits(), limits.reads.max_bytes - 1000);
            drop(held);
            assert_eq!(limits.reads.bytes.available_permits(), limits.reads.max_bytes);
        });
    }

    #[test]
    fn a_probe_does_not_wait_for_probes_that_are_not_read() {
        run(async {
            let limits = Limits::new();
            let mut held = Vec::new();
            for _ in 0..3 {
                let seat = limits.seat();
                let own = seat.clone();
                let task = spawn_local(async move {
                    let bytes = own.hold(Bytes::from(vec![0; 500_000]), Room { permit: None }).await;
                    std::future::pending::<()>().await;
                    drop(bytes);
                });
                seat.occupy(task.abort_handle());
                seat.enter(Class::Probe).unwrap();
                yield_now().await;
                held.push(seat);
            }
            let last = connect(&limits);
            last.enter(Class::Probe).unwrap();
            let wait = last.hold(Bytes::from(vec![0; 500_000]), Room { permit: None });
            assert!(timeout(Duration::from_secs(5), wait).await.is_ok());
        });
    }
}
