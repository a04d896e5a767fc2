//! Counts the connections that workers were handed, and those that wait, for metrics.

use super::handle::Command;
use super::hub::Hub;
use super::{Ports, accept_queue::Delivery};
use crate::core::{AppId, WorkerId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The hub answers within this time, or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// The connections of all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Those of each worker to which rinit hands connections.
    pub workers: BTreeMap<WorkerId, WorkerConnections>,
    /// Accepted connections of each app that no worker can take now.
    pub waiting: BTreeMap<AppId, u64>,
}

/// The connections of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerConnections {
    /// Connections that it was handed in its life.
    pub handed: u64,
    /// Those that it has not accepted yet.
    pub waiting: u64,
    /// The time for which the oldest of them has waited.
    pub oldest: Duration,
}

impl Ports {
    /// The connections of all workers; none: the hub is busy.
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
        for listener in self.listeners.values() {
            *counts.waiting.entry(listener.app).or_default() += listener.waiting.len() as u64;
        }
        let now = super::poller::now();
        for (id, worker) in &mut self.workers {
            let is_handed = |delivery: &Delivery| !matches!(delivery, Delivery::Socket);
            if !worker.servers.iter().any(|server| is_handed(&server.delivery)) {
                continue;
            }
            let sent = worker.in_flight.front().map(|one| now.saturating_duration_since(one.sent_at));
            let mut own = WorkerConnections {
                handed: worker.handed.load(Ordering::Relaxed),
                waiting: worker.in_flight.len() as u64,
                oldest: sent.unwrap_or_default(),
            };
            for (_, queue) in worker.queues() {
                queue.refresh();
                let (waiting, oldest) = queue.waiting(now);
                own.waiting += waiting;
                own.oldest = own.oldest.max(oldest);
            }
            counts.workers.insert(*id, own);
        }
        counts
    }
}
