//! Keeps the workers' CPU and memory over time, and renders them as bars.

use crate::control::types::{History, UsageSeries, WorkerStatus};
use crate::ordered::ordered;
use crate::units;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The identity of a row of the table: during a reload a slot has two.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The worker.
    pub id: String,
    /// Its role in its slot.
    pub role: String,
}

impl RowKey {
    /// The key of a row.
    pub fn of(row: &WorkerStatus) -> RowKey {
        RowKey { id: row.id.clone(), role: row.role.clone() }
    }

    /// True if it is the key of a row.
    pub fn is_of(&self, row: &WorkerStatus) -> bool {
        self.id == row.id && self.role == row.role
    }
}

/// The usage of every row: rinit's history of the last hour, and what monit has seen itself, a value for each status.
#[derive(Debug, Default)]
pub struct Graphs {
    /// True if the graphs show what monit has seen itself.
    pub is_live: bool,
    past: BTreeMap<String, Graph>,
    past_interval: Duration,
    live: BTreeMap<RowKey, Graph>,
}

/// The usage of one row, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// CPU in percent of one CPU.
    pub cpu: VecDeque<f64>,
    /// Memory in bytes.
    pub memory: VecDeque<f64>,
}

/// The number of values that are kept: the widest graph shows no more.
const MAX_VALUES: usize = 240;
/// The time between two values that monit has seen itself.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);

impl Graphs {
    /// Adds the present values, and removes the rows that are gone.
    pub fn add(&mut self, rows: &[WorkerStatus]) {
        self.live.retain(|key, _| rows.iter().any(|row| key.is_of(row)));
        for row in rows {
            let graph = self.live.entry(RowKey::of(row)).or_default();
            push(&mut graph.cpu, row.cpu_percent.unwrap_or(0.0));
            push(&mut graph.memory, row.memory_bytes.unwrap_or(0) as f64);
        }
    }

    /// Replaces the history by a newer one.
    pub fn set_history(&mut self, history: History) {
        self.past_interval = Duration::from_millis(history.interval_ms);
        let graph = |series: UsageSeries| {
            let mut graph = Graph::default();
            series.cpu_percent.iter().for_each(|value| push(&mut graph.cpu, value.unwrap_or(0.0)));
            series.memory_bytes.iter().for_each(|value| push(&mut graph.memory, value.unwrap_or(0) as f64));
            (series.name, graph)
        };
        self.past = ordered(history.workers.into_iter().map(graph));
    }

    /// The time that one value stands for.
    pub fn interval(&self) -> Duration {
        if self.is_live || self.past_interval.is_zero() { LIVE_INTERVAL } else { self.past_interval }
    }

    /// The time that a number of values stand for, in words.
    pub fn span(&self, values: usize) -> String {
        units::time(self.interval().saturating_mul(u32::try_from(values).unwrap_or(u32::MAX)))
    }

    /// The usage of a row. The last value is the present one.
    pub fn of(&self, key: &RowKey) -> Option<Graph> {
        let live = self.live.get(key)?;
        if self.interval() == LIVE_INTERVAL {
            return Some(live.clone());
        }
        // The history of a slot is that of its worker.
        let past = self.past.get(&key.id).filter(|_| key.role == "worker");
        let mut graph = past.cloned().unwrap_or_default();
        live.cpu.back().into_iter().for_each(|value| push(&mut graph.cpu, *value));
        live.memory.back().into_iter().for_each(|value| push(&mut graph.memory, *value));
        Some(graph)
    }

    /// The highest CPU and memory of any row: the top of all graphs in the table, so that they compare.
    pub fn peaks(&self) -> (f64, f64) {
        let graphs: Vec<Graph> = self.live.keys().filter_map(|key| self.of(key)).collect();
        let peak = |of: fn(&Graph) -> &VecDeque<f64>| {
            graphs.iter().flat_map(|graph| of(graph).iter().copied()).fold(0.0, f64::max)
        };
        (peak(|graph| &graph.cpu), peak(|graph| &graph.memory))
    }
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == MAX_VALUES {
        values.pop_front();
    }
    values.push_back(if value.is_finite() { value.max(0.0) } else { 0.0 });
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Renders the last values as bars, the newest at the right: lines from the top down. `top` is the value of a full bar.
/// A value above zero is always visible.
pub fn bars(values: &VecDeque<f64>, top: f64, width: usize, height: usize) -> Vec<String> {
    let skip = values.len().saturating_sub(width);
    let blank = width.saturating_sub(values.len());
    let eighths = |value: f64| {
        let all = (height * 8) as f64;
        let share = if top > 0.0 { (value / top * all).round().min(all) } else { 0.0 };
        if value > 0.0 { share.max(1.0) as usize } else { 0 }
    };
    let bars: Vec<usize> = values.iter().skip(skip).map(|value| eighths(*value)).collect();
    let line = |below: usize| {
        let bar = |bar: &usize| BARS.get(bar.saturating_sub(below * 8).min(8)).copied().unwrap_or(' ');
        std::iter::repeat_n(' ', blank).chain(bars.iter().map(bar)).collect()
    };
    (0..height).rev().map(line).collect()
}

/// A round number of percent above the peak, as the top of a graph.
pub fn top_percent(peak: f64) -> f64 {
    [10.0, 25.0, 50.0].into_iter().find(|top| peak <= *top).unwrap_or((peak / 100.0).ceil() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_the_last_values_from_left_to_right() {
        let values = VecDeque::from([9.0, 0.0, 0.1, 4.0, 8.0, 80.0]);
        assert_eq!(bars(&values, 8.0, 5, 1), [" ▁▄██"]);
        assert_eq!(bars(&values, 8.0, 8, 1), ["  █ ▁▄██"]);
        assert_eq!(bars(&values, 16.0, 5, 2), ["    █", " ▁▄██"]);
        assert_eq!(bars(&values, 0.0, 0, 1), [""]);
        assert_eq!(bars(&VecDeque::from([1.0]), 0.0, 2, 1), [" ▁"]);
    }

    #[test]
    fn the_top_of_a_graph_is_a_round_number() {
        assert_eq!(
            [0.0, 10.0, 11.0, 51.0, 100.0, 101.0, 790.0].map(top_percent),
            [10.0, 10.0, 25.0, 100.0, 100.0, 200.0, 800.0]
        );
    }
}
