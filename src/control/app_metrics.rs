//! Collects the metrics of each worker's own Prometheus page (`--app-metrics`), and keeps the counters of replaced workers.
//!
//! Every sample gets the labels `app` and `worker`. A replaced worker's counts are added to those of its successor, so that
//! no sum over the workers falls. Time, size and the number of series are bounded; a worker that does not answer costs the
//! page nothing but its own.

use super::exposition::{Family, Kind, escaped};
use super::handle::{Holder, SupervisorHandle};
use super::text_format::{Sample, first_label, parse};
use super::worker_http::WorkerRequest;
use crate::core::{SlotId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

/// A worker's page must have come within this time, and all pages together within that.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
const ALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The greatest size of a worker's page, in bytes.
const MAX_PAGE_BYTES: usize = 512 * 1024;
/// The number of pages that are read at once.
const MAX_PAGES_AT_ONCE: usize = 4;
/// The maximum number of series of all workers, and of their text in bytes.
const MAX_SERIES: usize = 10_000;
const MAX_SERIES_BYTES: usize = 768 * 1024;
/// Pages are not collected again within this time, whoever asks.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The page of a worker with its own metrics (`--app-metrics`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsPage {
    /// The port; none: the first at which the worker listens.
    pub port: Option<u16>,
    /// The path.
    pub path: String,
}

/// The counters of all workers, and the last page.
#[derive(Default)]
pub(super) struct AppMetrics {
    slots: BTreeMap<SlotId, SlotCounters>,
    collected_at: Option<Instant>,
    families: Vec<MergedFamily>,
    /// The samples of all families, in bytes.
    size: usize,
    dropped: usize,
    answered: BTreeMap<SlotId, bool>,
}

/// The counters of a slot, by series.
struct SlotCounters {
    worker: WorkerId,
    series: BTreeMap<Series, Count>,
}

/// A series of a worker: its family, and its sample's name and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    family: String,
    name: String,
    labels: String,
}

/// A count of the slot's present worker, and that of all before it.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// The family's kind.
    kind: Kind,
    before: f64,
    last: f64,
}

impl Count {
    /// Takes the present value; one that has fallen has begun again.
    fn update(&mut self, value: f64) {
        if value < self.last {
            self.before += self.last;
        }
        self.last = value;
    }

    fn sum(self) -> f64 {
        self.before + self.last
    }
}

/// A family of all workers.
#[derive(Clone)]
struct MergedFamily {
    name: String,
    kind: Kind,
    help: String,
    samples: String,
}

/// The page of a worker; none: it has not answered.
type Page = Option<String>;

impl AppMetrics {
    /// Collects the pages of these workers, and adds their families to those that are there.
    pub(super) async fn add_to(
        &mut self,
        families: &mut Vec<Family>,
        rinit: &SupervisorHandle,
        holders: &[Holder],
        now: Instant,
    ) {
        if self.collected_at.is_none_or(|then| now.saturating_duration_since(then) >= MIN_INTERVAL) {
            self.collect(rinit, holders).await;
            self.collected_at = Some(now);
        }
        self.merge_into(families, holders);
    }

    async fn collect(&mut self, rinit: &SupervisorHandle, holders: &[Holder]) {
        self.slots.retain(|slot, _| holders.iter().any(|holder| holder.slot == *slot));
        self.families.clear();
        self.answered.clear();
        (self.size, self.dropped) = (0, 0);
        let wanted: Vec<Holder> = holders.iter().filter(|holder| holder.app_metrics.is_some()).cloned().collect();
        // The pages of a few workers at once: each is merged when it is there, and then let go.
        let mut waiting = wanted.into_iter();
        let mut pages = JoinSet::new();
        let deadline = tokio::time::Instant::now() + ALL_TIMEOUT;
        loop {
            while pages.len() < MAX_PAGES_AT_ONCE
                && let Some(holder) = waiting.next()
            {
                let rinit = rinit.clone();
                pages.spawn_local(async move { (page_of(&rinit, &holder).await, holder) });
            }
            match timeout_at(deadline, pages.join_next()).await {
                Ok(Some(Ok((page, holder)))) => self.take(&holder, page),
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // Those that have not answered in time keep their counters.
        for holder in holders.iter().filter(|holder| holder.app_metrics.is_some()) {
            if !self.answered.contains_key(&holder.slot) {
                self.take(holder, None);
            }
        }
    }

    /// Merges a worker's page, and its counters that are not on it.
    fn take(&mut self, holder: &Holder, page: Page) {
        self.answered.insert(holder.slot, page.is_some());
        let mut counters = self
            .slots
            .remove(&holder.slot)
            .unwrap_or_else(|| SlotCounters { worker: holder.worker, series: BTreeMap::new() });
        if counters.worker != holder.worker {
            counters.worker = holder.worker;
            for count in counters.series.values_mut() {
                *count = Count { before: count.sum(), last: 0.0, ..*count };
            }
        }
        let own = format!("app=\"{}\",worker=\"{}\"", escaped(&holder.app, true), holder.slot.index);
        let mut seen = BTreeSet::new();
        let (parsed, invalid) = page.as_deref().map_or_else(Default::default, parse);
        self.dropped += invalid;
        for family in parsed {
            let family_kind = family.kind;
            for sample in &family.samples {
                let value = if is_count(family.kind, sample.name) {
                    let (family, name, labels) = (family.name.into(), sample.name.into(), sample.labels.into());
                    let series = Series { family, name, labels };
                    if counters.series.len() >= MAX_SERIES && !counters.series.contains_key(&series) {
                        self.dropped += 1;
                        continue;
                    }
                    let count = counters.series.entry(series.clone()).or_insert(Count {
                        kind: family_kind,
                        before: 0.0,
                        last: 0.0,
                    });
                    count.update(sample.value);
                    seen.insert(series);
                    count.sum()
                } else {
                    sample.value
                };
                self.push(family.name, family.kind, family.help, &own, Sample { value, ..*sample });
            }
        }
        for (series, count) in counters.series.iter().filter(|(series, _)| !seen.contains(*series)) {
            let sample = Sample { name: &series.name, labels: &series.labels, value: count.sum() };
            self.push(&series.family, count.kind, "", &own, sample);
        }
        self.slots.insert(holder.slot, counters);
    }

    fn push(&mut self, name: &str, kind: Kind, help: &str, own: &str, sample: Sample) {
        let at = self.families.iter().position(|family| family.name == name);
        let fits = self.size < MAX_SERIES_BYTES
            && at.is_none_or(|at| self.families.get(at).is_some_and(|one| one.kind == kind));
        if !fits {
            self.dropped += 1;
            return;
        }
        if at.is_none() {
            let samples = String::new();
            self.families.push(MergedFamily { name: name.into(), kind, help: help.into(), samples });
        }
        let family = match at {
            Some(at) => self.families.get_mut(at),
            None => self.families.last_mut(),
        };
        let Some(family) = family else { return };
        let labels = without_own_names(sample.labels);
        let comma = if labels.is_empty() { "" } else { "," };
        let value = number(sample.value);
        let line = format!("{}{{{own}{comma}{labels}}} {value}\n", sample.name);
        self.size += line.len();
        family.samples.push_str(&line);
    }

    /// Adds the merged families to rinit's own: to the one of the same name, if that has the same kind.
    fn merge_into(&self, families: &mut Vec<Family>, holders: &[Holder]) {
        let mut dropped = self.dropped;
        for merged in &self.families {
            let base = match merged.kind {
                Kind::Counter => merged.name.strip_suffix("_total").unwrap_or(&merged.name),
                _ => &merged.name,
            };
            match families.iter_mut().find(|family| family.name == base) {
                Some(family) if family.kind == merged.kind => family.samples.push_str(&merged.samples),
                Some(_) => dropped += merged.samples.lines().count(),
                None => families.push(Family {
                    name: base.into(),
                    kind: merged.kind,
                    help: merged.help.replace("\\n", "\n").replace("\\\\", "\\"),
                    samples: merged.samples.clone(),
                }),
            }
        }
        let mut up =
            Family::new(Kind::Gauge, "rinit_app_metrics_up", "1 if the worker's own page was read, otherwise 0.");
        for holder in holders {
            if let Some(answered) = self.answered.get(&holder.slot) {
                let labels = [("app", holder.app.as_str()), ("worker", &holder.slot.index.to_string())];
                up.sample(&labels, f64::from(u8::from(*answered)));
            }
        }
        let mut left_out = Family::new(
            Kind::Gauge,
            "rinit_app_metrics_dropped_samples",
            "Samples of workers' own pages that are not valid, or more than there is room for.",
        );
        if !self.answered.is_empty() {
            left_out.sample(&[], dropped as f64);
        }
        families.extend([up, left_out]);
    }
}

async fn page_of(rinit: &SupervisorHandle, holder: &Holder) -> Page {
    let target = holder.app_metrics.as_ref()?;
    let request = WorkerRequest {
        port: target.port,
        path: &target.path,
        accept: "text/plain;version=0.0.4",
        max_bytes: MAX_PAGE_BYTES,
    };
    let answer = timeout(PAGE_TIMEOUT, request.send(&rinit.ports, holder)).await.ok()?.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    String::from_utf8(answer.into_body().into()).ok()
}

/// True if a sample's value only grows in the life of a process.
fn is_count(kind: Kind, sample: &str) -> bool {
    match kind {
        Kind::Counter | Kind::Histogram => true,
        Kind::Summary => sample.ends_with("_sum") || sample.ends_with("_count"),
        Kind::Gauge | Kind::Info | Kind::Unknown => false,
    }
}

/// The labels, with `exported_` in front of names that are rinit's, as Prometheus has it.
fn without_own_names(labels: &str) -> String {
    let mut renamed = String::with_capacity(labels.len());
    let mut rest = labels;
    while let Some((name, value, after)) = first_label(rest) {
        let comma = if renamed.is_empty() { "" } else { "," };
        let prefix = if matches!(name, "app" | "worker") { "exported_" } else { "" };
        renamed.push_str(&format!("{comma}{prefix}{name}=\"{value}\""));
        rest = after;
    }
    renamed
}

/// A value as both formats write it.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::exposition::{Format, write};
    use crate::core::AppId;
    use nix::unistd::Pid;

    fn holder(index: u32, worker: u64) -> Holder {
        let slot = SlotId { app: AppId(0), index };
        let (name, app) = (format!("web-{index}"), "web".into());
        Holder { slot, name, app, worker: WorkerId(worker), pid: Pid::from_raw(1), app_metrics: None }
    }

    fn page(metrics: &AppMetrics, mut families: Vec<Family>) -> String {
        metrics.merge_into(&mut families, &[holder(0, 0), holder(1, 1)]);
        write(&families, Format::Text)
    }

    fn take(metrics: &mut AppMetrics, holder: &Holder, page: Option<&str>) {
        metrics.take(holder, page.map(str::to_owned));
    }

    #[test]
    fn families_of_all_workers_are_one_and_have_their_labels() {
        let mut metrics = AppMetrics::default();
        let own = "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{worker=\"w\",kind=\"a\"} 2\n# TYPE load gauge\nload 1\n";
        take(&mut metrics, &holder(0, 0), Some(own));
        take(&mut metrics, &holder(1, 1), Some(own));
        let mut rinits = Family::new(Kind::Gauge, "load", "Load.");
        rinits.sample(&[], 9.0);
        let text = page(&metrics, vec![rinits]);
        let expected = "# HELP load Load.\n# TYPE load gauge\nload 9\nload{app=\"web\",worker=\"0\"} 1\nload{app=\"web\",worker=\"1\"} 1\n\
            # HELP jobs_total Jobs.\n# TYPE jobs_total counter\n\
            jobs_total{app=\"web\",worker=\"0\",exported_worker=\"w\",kind=\"a\"} 2\n\
            jobs_total{app=\"web\",worker=\"1\",exported_worker=\"w\",kind=\"a\"} 2\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("rinit_app_metrics_up{app=\"web\",worker=\"1\"} 1\n"), "{text}");
    }

    #[test]
    fn counts_of_replaced_workers_stay_and_gauges_do_not() {
        let mut metrics = AppMetrics::default();
        let of = |jobs: u32, kind: &str| {
            format!("# TYPE jobs_total counter\njobs_total{{kind=\"{kind}\"}} {jobs}\n# TYPE load gauge\nload {jobs}\n")
        };
        let mut sums = Vec::new();
        // A worker that is replaced, a successor that has not counted yet, does not answer, and then counts something else.
        for (worker, own) in
            [(1, Some(of(5, "a"))), (1, Some(of(7, "a"))), (2, Some(of(1, "a"))), (2, None), (3, Some(of(2, "b")))]
        {
            metrics.families.clear();
            take(&mut metrics, &holder(0, worker), own.as_deref());
            let text = page(&metrics, vec![]);
            let sum = text.lines().filter(|line| line.starts_with("jobs_total{"));
            sums.push(sum.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>());
        }
        assert_eq!(sums, [5.0, 7.0, 8.0, 8.0, 10.0]);
    }

    #[test]
    fn samples_of_another_kind_and_those_without_room_are_dropped_and_counted() {
        let mut metrics = AppMetrics::default();
        take(&mut metrics, &holder(0, 0), Some("# TYPE x gauge\nx 1\n<html>\n"));
        take(&mut metrics, &holder(1, 1), Some("# TYPE x counter\nx 1\n"));
        let many: String = (0..MAX_SERIES + 5).map(|n| format!("m_total{{n=\"{n}\"}} 1\n")).collect();
        take(&mut metrics, &holder(0, 0), Some(&format!("# TYPE m_total counter\n{many}")));
        let text = page(&metrics, vec![]);
        assert!(text.contains("rinit_app_metrics_dropped_samples 7\n"), "{}", text.rsplit_once("# HELP").unwrap().1);
    }
}
