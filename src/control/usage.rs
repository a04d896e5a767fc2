//! Reads the CPU time and memory of a worker's process and its descendants from /proc (proc_pid_stat(5), proc_pid_statm(5)).

use super::redact::redacted_variable;
use super::types::{Description, WorkerStatus};
use nix::unistd::{SysconfVar, sysconf};
use std::collections::HashMap;
use std::fs::read_to_string;
use std::time::{Duration, Instant};

/// Processes of one worker that are counted.
const MAX_PROCESSES: usize = 256;
/// The least time between two samples: a percentage of a few ticks says nothing.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// The greatest age of a sample that is compared with.
const MAX_SAMPLE_AGE: Duration = Duration::from_secs(60);

/// The last sample of each process, from which its CPU percentage is told.
#[derive(Default)]
pub(super) struct Samples {
    last: HashMap<u32, Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    /// CPU time in seconds.
    cpu: f64,
    percent: Option<f64>,
}

/// The usage of a worker's processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time in seconds, of the processes that live.
    pub cpu: f64,
    /// Resident bytes.
    pub memory: u64,
}

impl Samples {
    /// Fills in the usage of workers.
    pub(super) fn fill(&mut self, workers: &mut [WorkerStatus], now: Instant) {
        for worker in workers.iter_mut() {
            let Some((pid, used)) = worker.pid.and_then(|pid| Some((pid, usage(pid)?))) else { continue };
            worker.memory_bytes = Some(used.memory);
            let lived = worker.uptime_ms.unwrap_or_default() as f64 / 1000.0;
            worker.cpu_percent = Some(self.percent(pid, used.cpu, lived, now));
        }
        let pids: Vec<u32> = workers.iter().filter_map(|worker| worker.pid).collect();
        self.last.retain(|pid, _| pids.contains(pid));
    }

    /// The CPU percentage since the sample before; at first, since the worker's start.
    fn percent(&mut self, pid: u32, cpu: f64, lived: f64, now: Instant) -> f64 {
        let last = self.last.get(&pid).copied().filter(|last| now.saturating_duration_since(last.at) < MAX_SAMPLE_AGE);
        if let Some(Sample { at, percent: Some(percent), .. }) = last
            && now.saturating_duration_since(at) < MIN_SAMPLE_INTERVAL
        {
            return percent;
        }
        let (before, seconds) = match last {
            Some(last) => (last.cpu, now.saturating_duration_since(last.at).as_secs_f64()),
            None => (0.0, lived),
        };
        // One tick is 10 ms: a shorter life has no percentage.
        let percent = if seconds < 0.01 { 0.0 } else { (100.0 * (cpu - before) / seconds).max(0.0) };
        let percent = (percent * 10.0).round() / 10.0;
        self.last.insert(pid, Sample { at: now, cpu, percent: Some(percent) });
        percent
    }
}

/// The usage of a process and its descendants; `None`: it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let mut processes = vec![pid];
    let mut sum = usage_of_one(pid)?;
    let mut at = 0;
    while let Some(parent) = processes.get(at).copied().filter(|_| processes.len() < MAX_PROCESSES) {
        let children = read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            if let Some(used) = usage_of_one(child) {
                sum.cpu += used.cpu;
                sum.memory += used.memory;
                processes.push(child);
            }
        }
        at += 1;
    }
    Some(sum)
}

fn usage_of_one(pid: u32) -> Option<Usage> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold any character; the fields after it are numbers: utime is the 14th of all, stime the 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    let statm = read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Usage {
        cpu: ticks as f64 / system_number(SysconfVar::CLK_TCK, 100) as f64,
        memory: pages * system_number(SysconfVar::PAGE_SIZE, 4096),
    })
}

fn system_number(variable: SysconfVar, otherwise: u64) -> u64 {
    sysconf(variable).ok().flatten().map_or(otherwise, |value| value as u64)
}

/// The usage of rinit's own process.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnUsage {
    pub(super) usage: Usage,
    /// Virtual bytes.
    pub(super) virtual_memory: u64,
}

/// The usage of rinit's own process; `None`: there is no /proc.
pub(super) fn own() -> Option<OwnUsage> {
    let usage = usage_of_one(std::process::id())?;
    let statm = read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().next()?.parse().ok()?;
    Some(OwnUsage { usage, virtual_memory: pages * system_number(SysconfVar::PAGE_SIZE, 4096) })
}

/// The descriptors of a process, and their limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFiles {
    pub(super) open: u64,
    /// `None`: there is no limit.
    pub(super) limit: Option<u64>,
}

/// Counts the descriptors of a process; `None`: it is gone, or another user's.
pub(super) fn open_files(pid: u32) -> Option<OpenFiles> {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the folder's size is their number.
    let open = match std::fs::metadata(&folder).ok()?.len() {
        0 => std::fs::read_dir(&folder).ok()?.count() as u64,
        size => size,
    };
    let limits = read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    Some(OpenFiles { open, limit: line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()) })
}

/// Fills in the details of a worker's process from /proc. To a client that is not its owner, less of its environment is shown:
/// harmless variables, and those that are listed here.
pub(super) fn describe_process(description: &mut Description, is_guarded: bool, shown: &[String]) {
    let Some(pid) = description.workers.first().and_then(|worker| worker.pid) else { return };
    if let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) {
        let pairs = environment.split(|byte| *byte == 0).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| redacted_variable(&String::from_utf8_lossy(pair), is_guarded, shown));
        description.environment = pairs.collect();
        description.environment.sort_unstable();
        description.environment.dedup();
    }
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
    description.cwd = cwd.ok().map(|path| path.to_string_lossy().into_owned());
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let effective = |name: &str| field(name).and_then(|ids| ids.split_ascii_whitespace().nth(1));
    description.user = effective("Uid").zip(effective("Gid")).map(|(uid, gid)| format!("{uid}:{gid}"));
    description.threads = field("Threads").and_then(|text| text.trim().parse().ok());
    let files = open_files(pid);
    description.open_files = files.map(|files| files.open);
    description.open_files_limit = files.and_then(|files| files.limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_usage_until_it_is_gone() {
        let own = usage(std::process::id()).unwrap();
        assert!(own.memory > 100_000 && own.cpu >= 0.0, "{own:?}");
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn the_percentage_is_of_the_time_between_two_samples() {
        let mut samples = Samples::default();
        #[expect(clippy::disallowed_methods, reason = "two moments that a test makes up")]
        let start = std::time::Instant::now();
        assert_eq!(samples.percent(1, 1.0, 10.0, start), 10.0, "at first, since its start");
        assert_eq!(samples.percent(1, 3.0, 14.0, start + Duration::from_secs(4)), 50.0);
        assert_eq!(samples.percent(1, 9.0, 14.1, start + Duration::from_millis(4100)), 50.0, "too near to say more");
    }
}
