//! Samples each slot's CPU, memory, restarts, connections and event-loop lag every 15 seconds, and keeps the last hour.
//!
//! The sampler is a task beside the event loop, so the history begins with rinit, also when no client has ever connected. A
//! value takes two bytes, a series less than 500.

use super::api::{Api, Request};
use super::handle::{Call, SupervisorHandle};
use super::journal::time_text;
use super::response::{Answer, Failure, json};
use super::types::{History, Status, UsageSeries, WorkerStatus};
use super::usage::usage;
use hyper::StatusCode;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);
/// The samples of one hour.
const MAX_SAMPLES: usize = 240;
/// The most values in an answer: some 400 KiB. With more series, an answer has fewer values of each.
const MAX_VALUES: usize = 64 * 1024;

/// The history, shared by the sampler and the control plane.
#[derive(Default)]
pub struct UsageHistory {
    state: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// The number of samples since rinit's start.
    taken: u64,
    last: Option<SystemTime>,
    apps: Vec<Record>,
    workers: Vec<Record>,
}

/// The series of an app or a slot.
struct Record {
    /// The name of the app, or of the worker.
    name: String,
    /// The slot's restarts at the last sample.
    restarts: u64,
    series: [Series; Measure::ALL.len()],
}

/// A measured quantity.
#[derive(Clone, Copy)]
enum Measure {
    Cpu,
    Memory,
    Restarts,
    Connections,
    Lag,
}

/// One value of each measure; `None`: not known.
type Sample = [Option<f64>; Measure::ALL.len()];

impl Measure {
    const ALL: [Measure; 5] = [Measure::Cpu, Measure::Memory, Measure::Restarts, Measure::Connections, Measure::Lag];

    /// The value of several workers together, or of several samples.
    fn combine(self, values: &[f64], of: Combined) -> Option<f64> {
        let sum: f64 = values.iter().sum();
        let most = values.iter().copied().reduce(f64::max)?;
        Some(match (self, of) {
            (Measure::Lag, _) => most,
            (Measure::Restarts | Measure::Connections, _) | (_, Combined::Workers) => sum,
            (Measure::Cpu | Measure::Memory, Combined::Samples) => sum / values.len() as f64,
        })
    }
}

#[derive(Clone, Copy)]
enum Combined {
    Workers,
    Samples,
}

/// The last values of a measure, newest last, as the upper bits of an f32: exact to 0.4 percent. It is empty until a value
/// is known.
#[derive(Default)]
struct Series(VecDeque<u16>);

/// The sign bit of an f32 is never set here; 15 bits of the fraction are left out.
const DROPPED_BITS: u32 = 15;
/// The code of a value that is not known: a NaN.
const UNKNOWN: u16 = u16::MAX;

impl Series {
    fn push(&mut self, value: Option<f64>) {
        if self.0.is_empty() && value.is_none() {
            return;
        }
        if self.0.len() == MAX_SAMPLES {
            self.0.pop_front();
        }
        let rounded = |value: f64| ((value as f32).to_bits() + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS;
        self.0.push_back(value.filter(|value| *value >= 0.0).map_or(UNKNOWN, |value| rounded(value) as u16));
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = Option<f64>> + ExactSizeIterator {
        let decoded = |code: &u16| f64::from(f32::from_bits(u32::from(*code) << DROPPED_BITS));
        self.0.iter().map(move |code| Some(decoded(code)).filter(|value| value.is_finite()))
    }

    /// The values in groups of `size` samples, oldest first. `taken`: the number of samples since the start; a group begins
    /// at a multiple of the size, so that it stays the same while samples are added.
    fn grouped(&self, measure: Measure, size: usize, taken: u64) -> Vec<Option<f64>> {
        let first = taken.saturating_sub(self.0.len() as u64);
        let (mut groups, mut group) = (Vec::new(), Vec::new());
        for (number, value) in (first..).zip(self.values()) {
            group.extend(value);
            if number + 1 == taken || (number + 1).is_multiple_of(size as u64) {
                groups.push(measure.combine(&group, Combined::Samples).map(|value| rounded(measure, value)));
                group.clear();
            }
        }
        groups
    }
}

/// A value as an answer has it: no more digits than are exact.
fn rounded(measure: Measure, value: f64) -> f64 {
    match measure {
        Measure::Cpu | Measure::Lag => (value * 10.0).round() / 10.0,
        Measure::Memory | Measure::Restarts | Measure::Connections => value.round(),
    }
}

impl Record {
    fn new(name: &str) -> Record {
        Record { name: name.to_owned(), restarts: 0, series: Default::default() }
    }

    fn push(&mut self, sample: &Sample) {
        for (series, value) in self.series.iter_mut().zip(sample) {
            series.push(*value);
        }
    }

    fn answer(&self, size: usize, taken: u64) -> UsageSeries {
        let [cpu, memory, restarts, connections, lag] = &self.series;
        let whole =
            |values: Vec<Option<f64>>| values.into_iter().map(|value| value.map(|value| value as u64)).collect();
        UsageSeries {
            name: self.name.clone(),
            cpu_percent: cpu.grouped(Measure::Cpu, size, taken),
            memory_bytes: whole(memory.grouped(Measure::Memory, size, taken)),
            restarts: whole(restarts.grouped(Measure::Restarts, size, taken)),
            connections: whole(connections.grouped(Measure::Connections, size, taken)),
            event_loop_lag_ms: lag.grouped(Measure::Lag, size, taken),
        }
    }
}

impl Records {
    /// Adds a sample of each slot that there is, and of each app, after a number of samples that were missed.
    fn add(&mut self, status: &Status, samples: &BTreeMap<&str, Sample>, missed: u64, now: SystemTime) {
        let missed = missed.min(MAX_SAMPLES as u64);
        self.taken += missed + 1;
        self.last = Some(now);
        let unknown = Sample::default();
        // The rows of a slot stand together.
        let mut slots: Vec<&WorkerStatus> = status.workers.iter().collect();
        slots.dedup_by_key(|worker| &worker.id);
        let mut workers = kept(std::mem::take(&mut self.workers), slots.iter().map(|worker| worker.id.clone()));
        let mut by_app: BTreeMap<&str, [Vec<f64>; Measure::ALL.len()]> = BTreeMap::new();
        for (record, worker) in workers.iter_mut().zip(slots) {
            (0..missed).for_each(|_| record.push(&unknown));
            let mut sample = samples.get(record.name.as_str()).copied().unwrap_or_default();
            if let Some(restarts) = sample.get_mut(Measure::Restarts as usize) {
                *restarts = Some(worker.restarts.saturating_sub(record.restarts) as f64);
            }
            record.restarts = worker.restarts;
            record.push(&sample);
            let of_app = by_app.entry(&worker.app).or_default();
            of_app.iter_mut().zip(sample).for_each(|(values, value)| values.extend(value));
        }
        let mut apps = kept(std::mem::take(&mut self.apps), status.apps.iter().map(|app| app.name.clone()));
        for record in &mut apps {
            (0..missed).for_each(|_| record.push(&unknown));
            let values = by_app.remove(record.name.as_str()).unwrap_or_default();
            let mut sample = Sample::default();
            for ((one, values), measure) in sample.iter_mut().zip(&values).zip(Measure::ALL) {
                *one = measure.combine(values, Combined::Workers);
            }
            record.push(&sample);
        }
        (self.workers, self.apps) = (workers, apps);
    }

    fn answer(&self, points: usize, is_wanted: impl Fn(&str) -> bool) -> History {
        let wanted: Vec<&Record> = self.workers.iter().filter(|record| is_wanted(&record.name)).collect();
        let series = (wanted.len() + self.apps.len()) * Measure::ALL.len();
        let points = points.clamp(1, MAX_SAMPLES).min((MAX_VALUES / series.max(1)).max(1));
        let size = MAX_SAMPLES.div_ceil(points);
        let answer = |record: &Record| record.answer(size, self.taken);
        History {
            time: self.last.map(time_text),
            interval_ms: SAMPLE_INTERVAL.as_millis() as u64 * size as u64,
            apps: self.apps.iter().map(answer).collect(),
            workers: wanted.into_iter().map(answer).collect(),
        }
    }
}

/// The records of these names, in their order; new ones for new names.
fn kept(old: Vec<Record>, names: impl Iterator<Item = String>) -> Vec<Record> {
    let mut old = old;
    let mut take = |name: &str| old.iter().position(|record| record.name == name).map(|at| old.swap_remove(at));
    names.map(|name| take(&name).unwrap_or_else(|| Record::new(&name))).collect()
}

impl UsageHistory {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records the usage of all workers until rinit ends. To be run beside the event loop, which has its turn after each worker.
pub async fn record_usage(rinit: SupervisorHandle) {
    let mut last = Instant::now();
    let mut ticks = interval_at(last + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before: BTreeMap<u32, (f64, Option<u64>)> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let Ok(status) = rinit.ask(Call::Status).await else { return };
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(last);
        last = now;
        let mut seen = BTreeMap::new();
        let mut samples: BTreeMap<&str, Sample> = BTreeMap::new();
        for worker in &status.workers {
            let Some(pid) = worker.pid else { continue };
            let Some(used) = usage(pid) else { continue };
            // A process that the sample before has not seen begins at zero, as does another one with the same number.
            let is_new = worker.uptime_ms.is_none_or(|uptime| u128::from(uptime) < elapsed.as_millis());
            let (cpu, connections) = before.get(&pid).copied().filter(|_| !is_new).unwrap_or_default();
            let percent = 100.0 * (used.cpu - cpu).max(0.0) / elapsed.as_secs_f64().max(0.001);
            let given = worker.connections.map(|all| all.saturating_sub(connections.unwrap_or_default()) as f64);
            seen.insert(pid, (used.cpu, worker.connections));
            let lag = worker.node.as_ref().map(|node| node.event_loop_lag_ms as f64);
            let process = [Some(percent), Some(used.memory as f64), None, given, lag];
            add(samples.entry(&worker.id).or_default(), &process);
            yield_now().await;
        }
        before = seen;
        let intervals = elapsed.as_secs_f64() / SAMPLE_INTERVAL.as_secs_f64();
        let missed = (intervals.round() as u64).saturating_sub(1);
        rinit.usage_history.lock().add(&status, &samples, missed, SystemTime::now());
    }
}

/// Adds the usage of a process to that of its slot: during a reload a slot has two.
fn add(slot: &mut Sample, process: &Sample) {
    for ((sum, value), measure) in slot.iter_mut().zip(process).zip(Measure::ALL) {
        let both: Vec<f64> = sum.iter().chain(value).copied().collect();
        *sum = measure.combine(&both, Combined::Workers);
    }
}

/// `GET /v1/history`
pub(super) async fn history(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let points = match request.query("points") {
        None => MAX_SAMPLES,
        Some(text) => text
            .parse()
            .ok()
            .filter(|points| (1..=MAX_SAMPLES).contains(points))
            .ok_or_else(|| Failure::parameter("points", &text, "1 to 240"))?,
    };
    let workers = request.query("worker").filter(|workers| !workers.is_empty());
    let is_wanted = |name: &str| workers.as_ref().is_none_or(|workers| workers.split(',').any(|one| one == name));
    let answer = api.rinit.usage_history.lock().answer(points, is_wanted);
    Ok(json(StatusCode::OK, &answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn series(values: impl IntoIterator<Item = Option<f64>>) -> Series {
        let mut series = Series::default();
        values.into_iter().for_each(|value| series.push(value));
        series
    }

    /// One app with these workers: their names and restarts.
    fn status(workers: &[(&str, u64)]) -> Status {
        let row = |(id, restarts): &(&str, u64)| {
            json!({
                "id": id, "app": "web", "slot": 0, "role": "worker", "state": "ready", "pid": 7, "generation": 1, "started": null, "uptime_ms": 1,
                "restarts": restarts, "cpu_percent": null, "memory_bytes": null, "ready_by": null, "status": null,
                "listens": [], "node": null, "connections": null, "open_connections": null, "retry_in_ms": null, "last_exit": null, "is_crash_looping": false,
            })
        };
        let app = json!({
            "id": 0, "name": "web", "kind": "service", "command": [], "instances": 1, "wanted": 1, "missing": 0, "ready": 1, "generation": 1,
            "condition": "ready", "is_over": false, "reload": null, "last_reload": null, "listens": [],
        });
        let workers: Vec<_> = workers.iter().map(row).collect();
        serde_json::from_value(json!({
            "version": "", "pid": 1, "state": "running", "started": "", "uptime_ms": 0, "apps": [app], "workers": workers,
        }))
        .unwrap()
    }

    fn record(records: &mut Records, workers: &[(&str, u64)], cpu: f64, missed: u64) {
        let samples = workers.iter().map(|(id, _)| (*id, [Some(cpu), Some(1e6), None, None, None])).collect();
        records.add(&status(workers), &samples, missed, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_value_is_kept_in_two_bytes_to_less_than_half_a_percent() {
        for value in [0.0, 0.1, 1.0, 99.9, 640.0, 47_500_000.0, 1e12, 9e15] {
            let kept = series([Some(value)]).values().next().flatten().unwrap();
            assert!((kept - value).abs() <= value * 0.004, "{value}: {kept}");
        }
        let odd = series([Some(1.0), None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)]);
        assert_eq!(odd.values().collect::<Vec<_>>(), [Some(1.0), None, None, None, None]);
    }

    #[test]
    fn a_series_has_the_last_hour_in_less_than_six_hundred_bytes() {
        let hour = series((0..1000).map(|value| Some(f64::from(value))));
        assert_eq!(
            (hour.values().len(), hour.values().next_back()),
            (MAX_SAMPLES, Some(Some(1000.0))),
            "999, as it is kept"
        );
        assert!(hour.0.capacity() * size_of::<u16>() <= 600, "{}", hour.0.capacity());
        assert_eq!(series(std::iter::repeat_n(None, 1000)).0.capacity(), 0, "a measure that a worker does not have");
    }

    #[test]
    fn groups_stay_the_same_while_samples_are_added() {
        let values = [1.0, 3.0, 5.0, 7.0, 9.0].map(Some);
        let of = |count: usize| series(values.into_iter().take(count)).grouped(Measure::Cpu, 2, 10 + count as u64);
        assert_eq!(of(4), [2.0, 6.0].map(Some));
        assert_eq!(of(5), [2.0, 6.0, 9.0].map(Some), "the newest group is not whole yet");
        let odd = series(values).grouped(Measure::Cpu, 2, 12);
        assert_eq!(odd, [1.0, 4.0, 8.0].map(Some), "the oldest one may have lost its beginning");
    }

    #[test]
    fn groups_have_the_mean_the_sum_of_restarts_and_the_greatest_lag() {
        let of = |measure| series([Some(2.0), None, Some(4.0)]).grouped(measure, 3, 3);
        assert_eq!(
            [Measure::Cpu, Measure::Restarts, Measure::Lag].map(of),
            [[3.0], [6.0], [4.0]].map(|one| one.map(Some).to_vec())
        );
        assert_eq!(series([Some(1.0), None, None]).grouped(Measure::Cpu, 1, 3), [Some(1.0), None, None]);
    }

    #[test]
    fn an_app_has_the_sum_of_its_workers_and_keeps_it_when_they_go() {
        let mut records = Records::default();
        record(&mut records, &[("web-0", 0), ("web-1", 2)], 10.0, 0);
        record(&mut records, &[("web-0", 3), ("web-1", 2)], 20.0, 0);
        record(&mut records, &[("web-0", 3)], 5.0, 0);
        let history = records.answer(MAX_SAMPLES, |_| true);
        assert_eq!(history.apps[0].cpu_percent, [20.0, 40.0, 5.0].map(Some));
        assert_eq!(history.apps[0].restarts, [2, 3, 0].map(Some));
        assert_eq!(history.workers.len(), 1, "what is gone is forgotten");
        assert_eq!(history.workers[0].restarts, [0, 3, 0].map(Some));
        assert!(history.workers[0].connections.is_empty());
        record(&mut records, &[("web-0", 3), ("web-1", 0)], 5.0, 0);
        assert_eq!(records.answer(MAX_SAMPLES, |name| name == "web-1").workers[0].cpu_percent, [Some(5.0)]);
    }

    #[test]
    fn time_without_samples_is_a_gap() {
        let mut records = Records::default();
        record(&mut records, &[("web-0", 0)], 10.0, 0);
        record(&mut records, &[("web-0", 0)], 20.0, 2);
        let history = records.answer(MAX_SAMPLES, |_| true);
        assert_eq!(history.workers[0].cpu_percent, [Some(10.0), None, None, Some(20.0)]);
        record(&mut records, &[("web-0", 0)], 20.0, u64::MAX);
        assert_eq!(records.answer(MAX_SAMPLES, |_| true).workers[0].cpu_percent.len(), MAX_SAMPLES);
    }

    #[test]
    fn an_answer_about_very_many_workers_has_fewer_values_of_each() {
        let names: Vec<String> = (0..1024).map(|slot| format!("web-{slot}")).collect();
        let workers: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let mut records = Records::default();
        record(&mut records, &workers, 10.0, 0);
        record(&mut records, &workers, 10.0, MAX_SAMPLES as u64 - 2);
        let history = records.answer(MAX_SAMPLES, |_| true);
        assert!(
            history.workers[0].cpu_percent.len() <= 13 && history.interval_ms >= 300_000,
            "{}",
            history.interval_ms
        );
        assert!(serde_json::to_vec(&history).unwrap().len() < 1 << 20);
        let one = records.answer(60, |name| name == "web-7");
        assert_eq!((one.workers.len(), one.workers[0].cpu_percent.len(), one.interval_ms), (1, 60, 60_000));
    }
}
