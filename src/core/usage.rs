//! Defines the samples of usage, by which workers are replaced and apps are scaled.

use super::{AppId, Fleet, Slot, WorkerId};
use std::collections::BTreeMap;

/// The usage at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageSample {
    /// That of each worker which was looked at: all of its processes.
    pub workers: BTreeMap<WorkerId, WorkerUsage>,
    /// Connections that have waited for a worker for too long, of each app where that is known.
    pub waiting: BTreeMap<AppId, u32>,
    /// The most bytes of memory that the container may use; `None`: all that the machine has, which is not known to be short.
    pub memory_limit: Option<u64>,
    /// The bytes of memory that the container uses now, without those that the kernel can take back.
    pub memory_used: u64,
    /// The kernel says that memory is short: an event or a stall since the last sample.
    pub is_memory_short: bool,
    /// The CPUs that the container may use.
    pub cpus: u32,
}

/// A worker's usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    /// Memory in bytes.
    pub memory: u64,
    /// The share of the time since the last sample in which it was busy, in thousandths.
    pub busy: u16,
}

/// The usage that decides something now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedUsage {
    /// The worker of each slot, and whether its usage matters as long as memory is not short.
    pub workers: Vec<(WorkerId, bool)>,
    /// An app follows the number of CPUs.
    pub cpus: bool,
    /// An app follows its load.
    pub load: bool,
}

impl Fleet {
    /// The usage that is to be sampled.
    pub fn wanted_usage(&self) -> WantedUsage {
        let mut wanted = WantedUsage::default();
        for app in self.apps() {
            let scaling = app.policy().scaling;
            wanted.cpus |= scaling.fewer_than_cpus.is_some();
            let follows_load = scaling.fewer_than_cpus.is_none() && scaling.max.is_some();
            wanted.load |= follows_load;
            let matters = app.policy().max_memory.is_some() || follows_load;
            wanted.workers.extend(app.slots.iter().filter_map(Slot::holder).map(|worker| (worker.id, matters)));
        }
        wanted
    }
}

/// The share of its limit from which on the container is nearly out of memory, in percent.
const NEARLY_FULL: u64 = 95;

impl UsageSample {
    /// True if the kernel will soon kill a process of the container.
    pub(super) fn is_nearly_out_of_memory(&self) -> bool {
        let is_full = |limit: u64| u128::from(self.memory_used) * 100 >= u128::from(limit) * u128::from(NEARLY_FULL);
        self.memory_limit.is_some_and(|limit| self.is_memory_short || is_full(limit))
    }

    /// The bytes that the container may still use.
    pub(super) fn free_memory(&self) -> Option<u64> {
        self.memory_limit.map(|limit| limit.saturating_sub(self.memory_used))
    }
}
