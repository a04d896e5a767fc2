//! Decides how many workers an app has while it runs, where that follows the container's CPUs or the load.

use super::*;

/// The rule by which an app's number of workers changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// It follows the CPUs that the container may use: that many fewer.
    pub fewer_than_cpus: Option<u32>,
    /// The fewest workers.
    pub min: u32,
    /// The most workers. Where it does not follow the CPUs, it follows the load between the bounds.
    pub max: Option<u32>,
}

/// The recent samples of an app, as far as they matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trend {
    /// The number of CPUs that was acted on, and another one that was seen last, since then.
    cpus: Option<u32>,
    new_cpus: Option<(u32, Time)>,
    /// Every worker has been busy since then, or connections have waited.
    high_since: Option<Time>,
    /// The workers have had little to do since then.
    low_since: Option<Time>,
    /// It was scaled then.
    scaled_at: Option<Time>,
    /// It is reported that one worker more has no room, and has none since.
    is_without_room: bool,
}

/// The answer to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The number of workers is to change.
    Scale(u32, ScaleReason),
    /// It is to rise, but that much free memory is not enough for one as big as the biggest.
    NoRoom {
        /// Bytes.
        free: u64,
        /// Bytes.
        biggest: u64,
    },
}

/// The reason for which an app is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleReason {
    /// The container may use that many CPUs.
    Cpus(u32),
    /// The least busy worker was busy for that share of its time, in thousandths, or so many connections wait.
    High {
        /// The least busy worker's share.
        busy: u16,
        /// The connections.
        waiting: u32,
    },
    /// The workers were busy for that share of their time together, in thousandths.
    Low {
        /// The mean share.
        busy: u16,
    },
}

/// The time for which another number of CPUs has to stay.
const CPUS_SETTLE: Time = Time::from_secs(4);
/// Workers that are busier than this, in thousandths, for so long, are too few.
const HIGH: u16 = 800;
const HIGH_FOR: Time = Time::from_secs(10);
/// Workers that are less busy than this, in thousandths, for so long, are too many.
const LOW: u16 = 200;
const LOW_FOR: Time = Time::from_secs(60);
/// The least time between two changes.
const COOLDOWN: Time = Time::from_secs(30);

impl Scaling {
    /// A number that stays.
    pub fn fixed() -> Scaling {
        Scaling { fewer_than_cpus: None, min: 1, max: None }
    }

    fn clamp(&self, count: u32) -> u32 {
        count.min(self.max.unwrap_or(u32::MAX)).max(self.min)
    }
}

impl Trend {
    /// Takes a sample of an app of that many workers. Returns the verdict, when the number is to change; that it cannot is
    /// returned once.
    pub(super) fn on_sample(
        &mut self,
        scaling: Scaling,
        workers: u32,
        usages: &[WorkerUsage],
        (sample, waiting): (&UsageSample, Option<u32>),
        now: Time,
    ) -> Option<Verdict> {
        match scaling {
            Scaling { fewer_than_cpus: Some(fewer), .. } => {
                let change = self.follow_cpus(scaling, fewer, sample.cpus, now);
                change.filter(|(to, _)| *to != workers).map(|(to, reason)| Verdict::Scale(to, reason))
            }
            Scaling { max: Some(max), .. } => {
                self.follow_load(scaling.min..=max, workers, usages, (sample, waiting), now)
            }
            Scaling { .. } => None,
        }
    }

    fn follow_cpus(&mut self, scaling: Scaling, fewer: u32, cpus: u32, now: Time) -> Option<(u32, ScaleReason)> {
        let known = *self.cpus.get_or_insert(cpus);
        if cpus == known {
            self.new_cpus = None;
            return None;
        }
        let since = match self.new_cpus {
            Some((seen, since)) if seen == cpus => since,
            _ => now,
        };
        self.new_cpus = Some((cpus, since));
        if now < since + CPUS_SETTLE {
            return None;
        }
        (self.cpus, self.new_cpus) = (Some(cpus), None);
        Some((scaling.clamp(cpus.saturating_sub(fewer).max(1)), ScaleReason::Cpus(cpus)))
    }

    fn follow_load(
        &mut self,
        bounds: std::ops::RangeInclusive<u32>,
        workers: u32,
        usages: &[WorkerUsage],
        (sample, waiting): (&UsageSample, Option<u32>),
        now: Time,
    ) -> Option<Verdict> {
        let least = usages.iter().map(|usage| usage.busy).min().unwrap_or(0);
        let mean = usages.iter().map(|usage| u64::from(usage.busy)).sum::<u64>() / (usages.len() as u64).max(1);
        let mean = u16::try_from(mean).unwrap_or(u16::MAX);
        let is_high = least > HIGH || waiting.is_some_and(|count| count > 0);
        if !is_high && waiting.is_none() {
            // The load is not known, which neither ends nor continues what was seen before.
            return None;
        }
        let is_low = mean < LOW && !is_high;
        self.high_since = is_high.then(|| self.high_since.unwrap_or(now));
        self.low_since = is_low.then(|| self.low_since.unwrap_or(now));
        let has_lasted = |since: Option<Time>, duration| since.is_some_and(|since| now >= since + duration);
        // New workers are not counted before they serve.
        let is_settled = usages.len() as u32 == workers;
        if !is_settled || self.scaled_at.is_some_and(|at| now < at + COOLDOWN) {
            return None;
        }
        let biggest = usages.iter().map(|usage| usage.memory).max().unwrap_or(0);
        let too_little = sample.free_memory().filter(|free| *free <= biggest);
        let is_to_grow = has_lasted(self.high_since, HIGH_FOR) && workers < *bounds.end();
        let was_without_room = std::mem::replace(&mut self.is_without_room, is_to_grow && too_little.is_some());
        let verdict = if is_to_grow {
            match too_little {
                Some(free) => return (!was_without_room).then_some(Verdict::NoRoom { free, biggest }),
                None => Verdict::Scale(workers + 1, ScaleReason::High { busy: least, waiting: waiting.unwrap_or(0) }),
            }
        } else if has_lasted(self.low_since, LOW_FOR) && workers > *bounds.start() {
            Verdict::Scale(workers - 1, ScaleReason::Low { busy: mean })
        } else {
            return None;
        };
        (self.scaled_at, self.high_since, self.low_since) = (Some(now), None, None);
        Some(verdict)
    }
}

impl App {
    /// Changes the number of workers, if a sample asks for it.
    pub(super) fn scale_by_usage(&mut self, sample: &UsageSample, context: &mut Context) {
        let ready = self.slots.iter().filter_map(Slot::holder).filter(|worker| worker.is_ready());
        let usages: Vec<WorkerUsage> = ready.filter_map(|worker| sample.workers.get(&worker.id).copied()).collect();
        let waiting = sample.waiting.get(&self.id).copied();
        let (scaling, workers) = (self.policy().scaling, self.wanted());
        if self.is_held() || self.rollout.is_some() {
            return;
        }
        match self.trend.on_sample(scaling, workers, &usages, (sample, waiting), context.now) {
            Some(Verdict::Scale(to, reason)) => {
                context.report(Report::Autoscaled { app: self.id, from: workers, to, reason });
                self.scale(Count::To(to), context);
            }
            Some(Verdict::NoRoom { free, biggest }) => context.report(Report::NoRoom { app: self.id, free, biggest }),
            None => {}
        }
    }
}
