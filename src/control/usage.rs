//! What processes use, read from /proc (proc_pid_stat(5), proc_pid_statm(5)): a worker's own process and those below it.

use super::redact::masked;
use super::types::{Description, WorkerStatus};
use nix::unistd::{SysconfVar, sysconf};
use std::collections::{BTreeSet, HashMap};
use std::fs::read_to_string;
use std::time::{Duration, Instant};

/// So many processes of one worker are looked at; more are not counted.
const FAMILY: usize = 256;
/// Two samples nearer than this are one: a percentage of a few ticks says nothing.
const APART: Duration = Duration::from_millis(250);
/// A sample that is older says nothing of now.
const STALE: Duration = Duration::from_secs(60);

/// What was read last, so that use can be told from it.
#[derive(Default)]
pub(super) struct Samples {
    last: HashMap<u32, Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    /// Processor time in seconds.
    cpu: f64,
    percent: Option<f64>,
}

/// What a worker's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Use {
    /// Processor time in seconds, of those who live.
    pub(super) cpu: f64,
    /// Resident bytes.
    pub(super) memory: u64,
}

impl Samples {
    /// Fills in what the workers use.
    pub(super) fn fill(&mut self, workers: &mut [WorkerStatus], now: Instant) {
        for worker in workers.iter_mut() {
            let Some((pid, used)) = worker.pid.and_then(|pid| Some((pid, used(pid)?))) else { continue };
            worker.memory_bytes = Some(used.memory);
            let lived = worker.uptime_ms.unwrap_or_default() as f64 / 1000.0;
            worker.cpu_percent = Some(self.percent(pid, used.cpu, lived, now));
        }
        let pids: Vec<u32> = workers.iter().filter_map(|worker| worker.pid).collect();
        self.last.retain(|pid, _| pids.contains(pid));
    }

    /// Since the sample before; at first, since the worker's start.
    fn percent(&mut self, pid: u32, cpu: f64, lived: f64, now: Instant) -> f64 {
        let last = self.last.get(&pid).copied().filter(|last| now.saturating_duration_since(last.at) < STALE);
        if let Some(Sample { at, percent: Some(percent), .. }) = last
            && now.saturating_duration_since(at) < APART
        {
            return percent;
        }
        let (before, seconds) = match last {
            Some(last) => (last.cpu, now.saturating_duration_since(last.at).as_secs_f64()),
            None => (0.0, lived),
        };
        // One tick is 10 ms: what lives for less has used nothing that can be told.
        let percent = if seconds < 0.01 { 0.0 } else { (100.0 * (cpu - before) / seconds).max(0.0) };
        let percent = (percent * 10.0).round() / 10.0;
        self.last.insert(pid, Sample { at: now, cpu, percent: Some(percent) });
        percent
    }
}

/// What a process and those below it use; `None`: it is gone.
pub(super) fn used(pid: u32) -> Option<Use> {
    let mut family = vec![pid];
    let mut sum = one(pid)?;
    let mut at = 0;
    while let Some(parent) = family.get(at).copied().filter(|_| family.len() < FAMILY) {
        let children = read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
            if let Some(used) = one(child) {
                sum.cpu += used.cpu;
                sum.memory += used.memory;
                family.push(child);
            }
        }
        at += 1;
    }
    Some(sum)
}

fn one(pid: u32) -> Option<Use> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; behind it the fields are numbers: utime is the 14th of all, stime the 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    let statm = read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let number = |variable, otherwise: u64| sysconf(variable).ok().flatten().map_or(otherwise, |value| value as u64);
    Some(Use {
        cpu: ticks as f64 / number(SysconfVar::CLK_TCK, 100) as f64,
        memory: pages * number(SysconfVar::PAGE_SIZE, 4096),
    })
}

/// Fills in what /proc tells of a worker's process.
pub(super) fn describe(description: &mut Description) {
    let Some(pid) = description.workers.first().and_then(|worker| worker.pid) else { return };
    if let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) {
        let pairs = environment.split(|byte| *byte == 0).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| masked(&String::from_utf8_lossy(pair))).collect::<BTreeSet<String>>();
        description.environment = pairs.into_iter().collect();
    }
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
    description.cwd = cwd.ok().map(|path| path.to_string_lossy().into_owned());
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let effective = |name: &str| field(name).and_then(|ids| ids.split_ascii_whitespace().nth(1));
    description.user = effective("Uid").zip(effective("Gid")).map(|(uid, gid)| format!("{uid}:{gid}"));
    description.threads = field("Threads").and_then(|text| text.trim().parse().ok());
    description.open_files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|files| files.count() as u64);
    let limits = read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    description.open_files_limit = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time_and_one_that_is_gone_nothing() {
        let own = used(std::process::id()).unwrap();
        assert!(own.memory > 100_000 && own.cpu >= 0.0, "{own:?}");
        assert_eq!(used(u32::MAX), None);
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
