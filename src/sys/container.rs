//! Reads the container's limits, usage, throttling, pressure and out-of-memory kills from its control groups.
//!
//! The files are those of Documentation/admin-guide/cgroup-v2.rst and Documentation/accounting/psi.rst; where there is no
//! unified hierarchy, those of cgroup-v1 (`memory.rst`, `cpuacct.rst`), which has no pressure. `root` is `/` but in tests.

use super::cgroup::{cpu_quota, folders, oom_kills};
use std::fs::read_to_string;
use std::path::Path;
use std::time::Duration;

/// A limit of v1 from here on means none: the kernel shows the largest number of whole pages.
pub(super) const NO_LIMIT: u64 = 1 << 62;

/// The container's usage. A field is `None` where the kernel does not tell it, or there is no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerUsage {
    /// The CPU quota in CPUs.
    pub cpu_limit: Option<f64>,
    /// CPU time of all processes.
    pub cpu: Option<Duration>,
    /// Periods of the CPU quota in which processes ran, and those in which they were held up.
    pub periods: Option<(u64, u64)>,
    /// The time for which processes were held up by the CPU quota.
    pub throttled: Option<Duration>,
    /// The memory limit in bytes, the smallest of this group's and its ancestors'.
    pub memory_limit: Option<u64>,
    /// Memory in use in bytes, with the page cache.
    pub memory: Option<u64>,
    /// Kills by the out-of-memory killer.
    pub oom_kills: Option<u64>,
    /// The time for which processes waited.
    pub pressure: Vec<Pressure>,
}

/// The time for which processes waited for a resource (PSI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// `cpu`, `memory` or `io`.
    pub resource: &'static str,
    /// At least one process waited.
    pub some: Duration,
    /// All processes waited at once.
    pub full: Duration,
}

/// Reads the container's usage.
pub fn usage(root: &Path) -> ContainerUsage {
    let limits = ContainerUsage { cpu_limit: cpu_quota(root), oom_kills: oom_kills(root), ..ContainerUsage::default() };
    let v2 = folders(root, None);
    let own = v2.first().cloned().unwrap_or_default();
    let cpu = counters(&own.join("cpu.stat"));
    let micros = |name: &str| cpu(name).map(Duration::from_micros);
    if micros("usage_usec").is_none() && number(&own.join("memory.current")).is_none() {
        return usage_v1(root, limits);
    }
    ContainerUsage {
        cpu: micros("usage_usec"),
        periods: cpu("nr_periods").zip(cpu("nr_throttled")),
        throttled: micros("throttled_usec"),
        memory_limit: v2.iter().filter_map(|folder| number(&folder.join("memory.max"))).min(),
        memory: number(&own.join("memory.current")),
        pressure: ["cpu", "memory", "io"].into_iter().filter_map(|resource| pressure(&own, resource)).collect(),
        ..limits
    }
}

fn usage_v1(root: &Path, limits: ContainerUsage) -> ContainerUsage {
    let own = |controller| folders(root, Some(controller)).into_iter().next().unwrap_or_default();
    let cpu = counters(&own("cpu").join("cpu.stat"));
    let memory = folders(root, Some("memory"));
    let memory_limits = memory.iter().filter_map(|folder| number(&folder.join("memory.limit_in_bytes")));
    ContainerUsage {
        cpu: number(&own("cpuacct").join("cpuacct.usage")).map(Duration::from_nanos),
        periods: cpu("nr_periods").zip(cpu("nr_throttled")),
        throttled: cpu("throttled_time").map(Duration::from_nanos),
        memory_limit: memory_limits.filter(|limit| *limit < NO_LIMIT).min(),
        memory: memory.first().and_then(|folder| number(&folder.join("memory.usage_in_bytes"))),
        ..limits
    }
}

/// The file's number; `None`: there is none, such as in `max`.
pub(super) fn number(file: &Path) -> Option<u64> {
    read_to_string(file).ok()?.trim().parse().ok()
}

/// The values of a file of lines `name value`.
pub(super) fn counters(file: &Path) -> impl Fn(&str) -> Option<u64> + use<> {
    let text = read_to_string(file).unwrap_or_default();
    move |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

pub(super) fn pressure(folder: &Path, resource: &'static str) -> Option<Pressure> {
    let text = read_to_string(folder.join(format!("{resource}.pressure"))).ok()?;
    let total = |kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        line.split_once("total=")?.1.trim().parse().ok().map(Duration::from_micros)
    };
    Some(Pressure { resource, some: total("some")?, full: total("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cgroup::tests::laid_out;

    #[test]
    fn the_unified_hierarchy_is_read() {
        let root = laid_out(&[
            ("proc/self/cgroup", "0::/app\n"),
            ("proc/self/mountinfo", "31 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/app/memory.max", "max\n"),
            ("sys/fs/cgroup/app/memory.current", "700\n"),
            ("sys/fs/cgroup/app/memory.events", "oom 4\noom_kill 2\n"),
            ("sys/fs/cgroup/app/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/app/cpu.stat", "usage_usec 2500000\nnr_periods 9\nnr_throttled 3\nthrottled_usec 500000\n"),
            ("sys/fs/cgroup/app/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7000000\n"),
            (
                "sys/fs/cgroup/app/memory.pressure",
                "some avg10=1.53 avg60=0.00 avg300=0.00 total=3000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
            ),
        ]);
        let seconds = Duration::from_secs;
        let expected = ContainerUsage {
            cpu_limit: Some(1.5),
            cpu: Some(Duration::from_millis(2500)),
            periods: Some((9, 3)),
            throttled: Some(Duration::from_millis(500)),
            memory_limit: Some(1000),
            memory: Some(700),
            oom_kills: Some(2),
            pressure: vec![
                Pressure { resource: "cpu", some: seconds(7), full: seconds(0) },
                Pressure { resource: "memory", some: seconds(3), full: seconds(1) },
            ],
        };
        assert_eq!(usage(root.path()), expected);
    }

    #[test]
    fn the_hierarchies_of_v1_are_read() {
        let mount = |controllers: &str| {
            format!("41 30 0:35 / /sys/fs/cgroup/{controllers} ro,nosuid - cgroup cgroup ro,{controllers}\n")
        };
        let root = laid_out(&[
            ("proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/\n0::/\n"),
            ("proc/self/mountinfo", &(mount("cpu,cpuacct") + &mount("memory"))),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 500000000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "2500000000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n"),
        ]);
        let expected = ContainerUsage {
            cpu: Some(Duration::from_millis(2500)),
            periods: Some((9, 3)),
            throttled: Some(Duration::from_millis(500)),
            memory: Some(700),
            ..ContainerUsage::default()
        };
        assert_eq!(usage(root.path()), expected);
        assert_eq!(usage(laid_out(&[]).path()), ContainerUsage::default());
    }
}
