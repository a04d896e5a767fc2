//! Counts the connections that workers were handed and those that wait, and measures how long they wait, for metrics.

use super::handle::Command;
use super::hub::Hub;
use super::turns::turns;
use super::{Ports, accept_queue::Delivery};
use crate::core::{AppId, WorkerId};
use crate::histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The hub answers within this time, or not at all. A container that has used up its share of the CPUs (`cpu.max`) stands still
/// for most of 100 ms at a time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The upper bounds of a histogram of waits, in milliseconds. While many connections come, the hub sees up to a millisecond
/// late that a worker has taken one.
const WAIT_BOUNDS_MS: &[u64] = &[1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// The connections of all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Those of each worker to which rinit hands connections.
    pub workers: BTreeMap<WorkerId, WorkerConnections>,
    /// Connections of each app that no worker can take now.
    pub waiting: BTreeMap<AppId, u64>,
}

/// The connections of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConnections {
    /// Connections that it was handed in its life.
    pub handed: u64,
    /// Those that it has not accepted yet.
    pub waiting: u64,
    /// The time for which the oldest of them has waited.
    pub oldest: Duration,
    /// The waits of those that it has accepted, from when rinit handed them out to the worker's `accept`: one for each turn
    /// that was used. The time before, in the kernel's queue of the listening socket, is not known.
    pub waits: Histogram,
}

/// The number of connections that a worker was handed in its life. It is less when it has not taken what it was handed, or has not
/// used its turn, but never for those who read it: a counter that falls begins anew for them.
#[derive(Default)]
pub(super) struct HandedCount {
    current: AtomicU64,
    /// The highest count that was read.
    highest_read: AtomicU64,
}

impl HandedCount {
    pub(super) fn add(&self, count: u8) {
        self.current.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, count: u64) {
        let less = |current: u64| Some(current.saturating_sub(count));
        let _ = self.current.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn read(&self) -> u64 {
        let current = self.current.load(Ordering::Relaxed);
        self.highest_read.fetch_max(current, Ordering::Relaxed).max(current)
    }
}

/// The waits of the connections that a worker has accepted. Its servers record in one histogram.
#[derive(Clone)]
pub(super) struct ConnectionWaits(Arc<Mutex<Histogram>>);

impl Default for ConnectionWaits {
    fn default() -> ConnectionWaits {
        ConnectionWaits(Arc::new(Mutex::new(Histogram::new(WAIT_BOUNDS_MS))))
    }
}

impl ConnectionWaits {
    /// Records the wait of one connection.
    pub(super) fn record(&self, wait: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(wait);
    }

    fn histogram(&self) -> Histogram {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ports {
    /// The connections of all workers. `None`: they are not known now, since the hub is busy or gone.
    pub async fn connections(&self) -> Option<ConnectionCounts> {
        let (reply, counts) = oneshot::channel();
        self.send(Command::Count(reply));
        timeout(ANSWER_TIMEOUT, counts).await.ok()?.ok()
    }
}

impl Hub {
    /// Counts the connections.
    pub(super) fn count_connections(&mut self) -> ConnectionCounts {
        let mut counts = ConnectionCounts::default();
        let now = super::poller::now();
        let all: Vec<_> = self.listeners.keys().copied().collect();
        all.into_iter().for_each(|id| self.on_accept(id, true));
        for (id, listener) in &mut self.listeners {
            let in_kernel = listener.waiting_in_kernel().unwrap_or_default();
            let without_turn = in_kernel.saturating_sub(turns(*id, &mut self.workers, now));
            *counts.waiting.entry(listener.app).or_default() += listener.waiting.len() as u64 + without_turn;
        }
        for (id, worker) in &mut self.workers {
            let is_handed = |delivery: &Delivery| !matches!(delivery, Delivery::Socket);
            if !worker.servers.iter().any(|server| is_handed(&server.delivery)) {
                continue;
            }
            let sent = worker.in_flight.front().map(|one| now.saturating_duration_since(one.sent_at));
            let mut waiting = worker.in_flight.len() as u64;
            let mut oldest = sent.unwrap_or_default();
            for (_, queue) in worker.queues() {
                queue.refresh(now);
                queue.settle(0);
                let (count, longest) = queue.waiting(now);
                waiting += count;
                oldest = oldest.max(longest);
            }
            let (handed, waits) = (worker.handed.read(), worker.waits.histogram());
            counts.workers.insert(*id, WorkerConnections { handed, waiting, oldest, waits });
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_not_used_does_not_count_and_what_was_read_does_not_fall() {
        let count = HandedCount::default();
        count.add(8);
        count.subtract(1);
        assert_eq!(count.read(), 7);
        count.add(2);
        assert_eq!(count.read(), 9);
        count.subtract(2);
        assert_eq!(count.read(), 9);
        count.add(3);
        assert_eq!(count.read(), 10);
        count.subtract(100);
        assert_eq!(count.read(), 10);
    }
}
