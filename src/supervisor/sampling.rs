//! Samples the usage of the container, and of the workers by whose usage something is decided.

use super::Notice;
use super::event_loop::Supervisor;
use crate::control::worker_usage;
use crate::core::{AppId, Event, UsageSample, WantedUsage, WorkerId, WorkerUsage};
use crate::ports::{ConnectionCounts, Ports};
use crate::sys::cgroup::cpus;
use crate::sys::memory_gauge::{MemoryGauge, MemoryReading};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// The interval of samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which it is looked whether there is anything to sample: settings and the container's limit may change.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of samples between two counts of the CPUs.
const CPUS_EVERY: u32 = 4;
/// The share of the container's limit from which on every worker is looked at, in percent.
const WORTH_A_LOOK: u64 = 90;
/// A connection that a worker has not accepted for this long waits because the worker is busy.
const WAITS_LONG: Duration = Duration::from_millis(50);
/// The time between two counts of those, for a sample: more than [`WAITS_LONG`]. What has waited in the kernel's queue is handed out all at once, and is
/// not known to have waited until then.
const SECOND_COUNT_AFTER: Duration = Duration::from_millis(60);

/// The workers, and the questions about them.
pub(super) struct Subjects {
    workers: Vec<Subject>,
    /// An app follows the number of CPUs.
    needs_cpus: bool,
    /// An app follows its load.
    needs_load: bool,
}

struct Subject {
    worker: WorkerId,
    app: AppId,
    pid: Pid,
    /// The share of the time in which a Node worker's event loop was busy, in thousandths.
    loop_busy: Option<u16>,
    /// Its app has a limit on memory, or follows the load.
    is_needed: bool,
}

impl Supervisor {
    /// The workers that may have to be sampled.
    pub(super) fn subjects(&self) -> Subjects {
        let WantedUsage { workers, cpus, load } = self.fleet.wanted_usage();
        let subject = |(worker, is_needed)| {
            let (app, pid) = (self.workers.slot(worker)?.app, self.workers.pid(worker)?);
            let loop_busy = self.workers.ports.health_of(worker).map(|health| health.busy);
            Some(Subject { worker, app, pid, loop_busy, is_needed })
        };
        Subjects { workers: workers.into_iter().filter_map(subject).collect(), needs_cpus: cpus, needs_load: load }
    }
}

/// Samples until rinit ends. To be run beside the event loop, which has its turn after each worker.
pub(super) async fn sample(notices: mpsc::Sender<Notice>, ports: Ports) {
    let mut gauge = MemoryGauge::new(Path::new("/"));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Before::default();
    let mut last_cpus = (0, 0);
    loop {
        ticks.tick().await;
        let (reply, answer) = oneshot::channel();
        if notices.send(Notice::ListSubjects(reply)).await.is_err() {
            return;
        }
        let Ok(Subjects { workers, needs_cpus, needs_load }) = answer.await else { return };
        let memory = gauge.read();
        let looks_at_all = memory.is_short && memory.limit.is_some() || is_nearly_full(memory);
        let is_needed = looks_at_all || needs_cpus || workers.iter().any(|subject| subject.is_needed);
        if !is_needed {
            // A limit may be reached at any time; without one there is nothing to look for.
            if memory.limit.is_none() {
                sleep(IDLE_INTERVAL).await;
            }
            continue;
        }
        if needs_cpus {
            let (count, age) = last_cpus;
            last_cpus = if age == 0 { (cpus(Path::new("/")), CPUS_EVERY) } else { (count, age - 1) };
        }
        let mut sample = UsageSample {
            memory_limit: memory.limit,
            memory_used: memory.used,
            is_memory_short: memory.is_short,
            cpus: last_cpus.0,
            ..UsageSample::default()
        };
        if needs_load {
            sample.waiting = waiting(&ports, &workers).await.unwrap_or_default();
        }
        for subject in workers.into_iter().filter(|subject| looks_at_all || subject.is_needed) {
            let usage = before.usage_of(&subject);
            sample.workers.extend(usage.map(|usage| (subject.worker, usage)));
            yield_now().await;
        }
        before.workers.retain(|worker, _| sample.workers.contains_key(worker));
        if notices.send(Notice::Event(Event::Sampled(sample))).await.is_err() {
            return;
        }
    }
}

/// The connections of each app for which no worker is free: the most of two counts. `None`: they are not known.
async fn waiting(ports: &Ports, workers: &[Subject]) -> Option<BTreeMap<AppId, u32>> {
    let mut most = counted(&ports.connections().await?, workers);
    sleep(SECOND_COUNT_AFTER).await;
    for (app, count) in counted(&ports.connections().await?, workers) {
        let before = most.entry(app).or_default();
        *before = count.max(*before);
    }
    Some(most)
}

/// Those of one count.
fn counted(counts: &ConnectionCounts, workers: &[Subject]) -> BTreeMap<AppId, u32> {
    let mut waiting = counts.waiting.clone();
    for Subject { worker, app, .. } in workers {
        let own = counts.workers.get(worker).filter(|own| own.oldest >= WAITS_LONG);
        *waiting.entry(*app).or_default() += own.map_or(0, |own| own.waiting);
    }
    waiting.into_iter().map(|(app, count)| (app, u32::try_from(count).unwrap_or(u32::MAX))).collect()
}

fn is_nearly_full(memory: MemoryReading) -> bool {
    let is_near = |limit: u64| u128::from(memory.used) * 100 >= u128::from(limit) * u128::from(WORTH_A_LOOK);
    memory.limit.is_some_and(is_near)
}

/// The CPU time of each worker at the last sample, in seconds.
#[derive(Default)]
struct Before {
    workers: BTreeMap<WorkerId, (Instant, f64)>,
}

impl Before {
    /// The worker's usage since the last sample; `None`: it is gone. A Node worker is as busy as its event loop, also when
    /// others take its CPU time.
    fn usage_of(&mut self, &Subject { worker, pid, loop_busy, .. }: &Subject) -> Option<WorkerUsage> {
        let usage = worker_usage(pid.as_raw().unsigned_abs())?;
        let now = Instant::now();
        let before = self.workers.insert(worker, (now, usage.cpu));
        let busy = before.map_or(0.0, |(at, cpu)| {
            1000.0 * (usage.cpu - cpu).max(0.0) / now.saturating_duration_since(at).as_secs_f64().max(0.001)
        });
        let busy = (busy.min(f64::from(u16::MAX)) as u16).max(loop_busy.unwrap_or(0));
        Some(WorkerUsage { memory: usage.memory, busy })
    }
}
