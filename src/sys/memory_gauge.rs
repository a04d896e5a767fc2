//! Reads the container's memory from its control group, often and at little cost.
//!
//! The files are those of Documentation/admin-guide/cgroup-v2.rst and Documentation/accounting/psi.rst, or those of
//! cgroup-v1/memory.rst, which has no pressure. `root` is `/` but in tests.

use super::cgroup::folders;
use super::container::{NO_LIMIT, counters, number, pressure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The container's group, found once.
pub struct MemoryGauge {
    layout: Layout,
    /// The group, and those above it that can be seen.
    folders: Vec<PathBuf>,
    /// The counters at the last reading.
    last: Option<Counters>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    /// The times at which the group was over `memory.high`.
    high: u64,
    /// The time for which all processes waited for memory.
    stalled: Duration,
}

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReading {
    /// The smallest limit of the group and those above it, in bytes.
    pub limit: Option<u64>,
    /// The bytes in use, without the page cache, which the kernel takes back.
    pub used: u64,
    /// Since the last reading, the group was held up at `memory.high`, or all its processes waited for memory.
    pub is_short: bool,
}

/// All processes waited for memory for so long between two readings: it is short.
const STALL: Duration = Duration::from_millis(200);

impl MemoryGauge {
    /// Finds the group.
    pub fn new(root: &Path) -> MemoryGauge {
        let v2 = folders(root, None);
        let is_v2 = v2.first().is_some_and(|own| own.join("memory.current").exists());
        let (layout, folders) = if is_v2 { (Layout::V2, v2) } else { (Layout::V1, folders(root, Some("memory"))) };
        MemoryGauge { layout, folders, last: None }
    }

    /// Reads it. Where the kernel tells nothing, nothing is in use, and there is no limit.
    pub fn read(&mut self) -> MemoryReading {
        let Some(own) = self.folders.first() else { return MemoryReading::default() };
        let [limit, used, file] = match self.layout {
            Layout::V2 => ["memory.max", "memory.current", ""],
            Layout::V1 => ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_"],
        };
        let limits = self.folders.iter().filter_map(|folder| number(&folder.join(limit)));
        let limit = limits.filter(|limit| *limit < NO_LIMIT).min();
        let stat = counters(&own.join("memory.stat"));
        let cache = ["inactive_file", "active_file"].into_iter().filter_map(|name| stat(&format!("{file}{name}")));
        let used = number(&own.join(used)).unwrap_or(0).saturating_sub(cache.sum());
        let now = Counters {
            high: counters(&own.join("memory.events"))("high").unwrap_or(0),
            stalled: pressure(own, "memory").map(|pressure| pressure.full).unwrap_or_default(),
        };
        let last = self.last.replace(now).unwrap_or(now);
        let is_short = now.high > last.high || now.stalled.saturating_sub(last.stalled) >= STALL;
        MemoryReading { limit, used, is_short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cgroup::tests::laid_out;
    use std::fs;

    #[test]
    fn the_page_cache_does_not_count_and_a_stall_is_seen_once() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let stalled =
            |micros: u32| format!("some avg10=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={micros}\n");
        write("proc/self/cgroup", "0::/app\n");
        write("proc/self/mountinfo", "25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        write("sys/fs/cgroup/memory.max", "9000\n");
        write("sys/fs/cgroup/app/memory.max", "1000\n");
        write("sys/fs/cgroup/app/memory.current", "700\n");
        write("sys/fs/cgroup/app/memory.stat", "anon 300\nfile 400\ninactive_file 150\nactive_file 50\n");
        write("sys/fs/cgroup/app/memory.events", "low 0\nhigh 3\nmax 0\noom 0\noom_kill 0\n");
        write("sys/fs/cgroup/app/memory.pressure", &stalled(1_000_000));
        let mut gauge = MemoryGauge::new(root.path());
        let calm = MemoryReading { limit: Some(1000), used: 500, is_short: false };
        assert_eq!(gauge.read(), calm);
        write("sys/fs/cgroup/app/memory.pressure", &stalled(1_300_000));
        assert_eq!(gauge.read(), MemoryReading { is_short: true, ..calm });
        assert_eq!(gauge.read(), calm);
    }

    #[test]
    fn the_first_layout_is_read_too() {
        let root = laid_out(&[
            ("proc/self/cgroup", "9:memory:/app\n"),
            ("proc/self/mountinfo", "30 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/app/memory.usage_in_bytes", "700\n"),
            ("sys/fs/cgroup/memory/app/memory.stat", "total_inactive_file 100\ntotal_active_file 100\n"),
        ]);
        let reading = MemoryGauge::new(root.path()).read();
        assert_eq!(reading, MemoryReading { limit: Some(1000), used: 500, is_short: false });
    }
}
