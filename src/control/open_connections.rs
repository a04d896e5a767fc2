//! Keeps the counts of open connections for the answers about workers.

use super::types::WorkerStatus;
use crate::ports::open_connections;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// The age at which counts are made again.
const REFRESH_AFTER: Duration = Duration::from_secs(1);
/// The greatest age of counts that are shown.
const MAX_AGE: Duration = Duration::from_secs(15);
/// The time for which an answer waits for new counts. They take longer than that where there are thousands of connections on
/// a busy machine.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// The counts, which one thread at a time makes.
#[derive(Clone, Default)]
pub(super) struct OpenConnections {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    last: RefCell<Option<Counts>>,
    is_counting: Cell<bool>,
    counted: Notify,
}

struct Counts {
    made_at: Instant,
    /// The counts by process.
    by_pid: Vec<(u32, u64)>,
}

impl OpenConnections {
    /// Fills in the counts of workers.
    pub(super) async fn fill(&self, workers: &mut [WorkerStatus], now: Instant) {
        if self.age(now).is_none_or(|age| age >= REFRESH_AFTER) {
            let counted = self.shared.counted.notified();
            if !self.shared.is_counting.replace(true) {
                let processes =
                    workers.iter().filter_map(|worker| Some((worker.pid?, worker.listens.clone()))).collect();
                spawn_local(self.clone().count(processes));
            }
            // Counts that are late are for the next answer.
            let _ = timeout(MAX_WAIT, counted).await;
        }
        let is_fresh = self.age(now).is_some_and(|age| age < MAX_AGE);
        if let Some(counts) = self.shared.last.borrow().as_ref().filter(|_| is_fresh) {
            for worker in workers {
                worker.open_connections =
                    counts.by_pid.iter().find(|(pid, _)| Some(*pid) == worker.pid).map(|(_, count)| *count);
            }
        }
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.shared.last.borrow().as_ref().map(|counts| now.saturating_duration_since(counts.made_at))
    }

    async fn count(self, processes: Vec<(u32, Vec<String>)>) {
        // Without a thread for it nothing is known.
        let by_pid = open_connections(processes).await.unwrap_or_default();
        self.shared.last.replace(Some(Counts { made_at: super::api::now(), by_pid }));
        self.shared.is_counting.set(false);
        self.shared.counted.notify_waiters();
    }
}
