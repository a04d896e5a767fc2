//! Counts durations by size, as Prometheus' histograms have them. Pure.

use std::time::Duration;

/// A histogram of durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// The upper bounds of the buckets in milliseconds, ascending; another bucket has all that is longer.
    bounds_ms: &'static [u64],
    counts: Vec<u64>,
    /// All durations together.
    sum: Duration,
}

impl Histogram {
    /// An empty histogram with these upper bounds in milliseconds, ascending.
    pub fn new(bounds_ms: &'static [u64]) -> Histogram {
        Histogram { bounds_ms, counts: vec![0; bounds_ms.len() + 1], sum: Duration::ZERO }
    }

    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        let fits = |bound: &&u64| duration <= Duration::from_millis(**bound);
        let at = self.bounds_ms.iter().position(|bound| fits(&bound)).unwrap_or(self.bounds_ms.len());
        self.counts.iter_mut().skip(at).take(1).for_each(|count| *count += 1);
        self.sum = self.sum.saturating_add(duration);
    }

    /// Each upper bound in seconds, with the number of durations up to it; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds_ms.iter().map(|bound| *bound as f64 / 1000.0).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_all_durations_up_to_its_bound() {
        let mut histogram = Histogram::new(&[10, 1000]);
        [1, 10, 11, 1000, 1001].into_iter().for_each(|ms| histogram.record(Duration::from_millis(ms)));
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0.01, 2), (1.0, 4), (f64::INFINITY, 5)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, Duration::from_millis(2023)));
    }
}
