//! Pauses the hub while connections come fast, so that one wake-up serves many of them.

use crate::sys::pause;
use std::time::{Duration, Instant};

/// The rate of connections, counted in spans of [`SPAN`]. When they come faster than workers wake up for each, a short
/// pause lets them gather, and all of them are dispatched at the cost of one.
#[derive(Default)]
pub(super) struct Batching {
    span_start: Option<Instant>,
    /// Connections dispatched in the current span.
    current: u64,
    /// Packets and messages of the current span, also those for which no connection came.
    dispatches: u64,
    /// Connections dispatched in the span before.
    previous: u64,
    /// The number of connections in the last [`AVERAGED_SPANS`] spans, of which those count less that are longer ago.
    recent: u64,
}

/// The pause in which connections gather.
const PAUSE: Duration = Duration::from_micros(500);
/// The number of connections in one span from which on the hub pauses.
const BUSY_FROM: u64 = 20;
/// The length of one span.
const SPAN: Duration = Duration::from_millis(10);
/// The number of spans of an average: connections that come all at once do not change it much.
const AVERAGED_SPANS: u64 = 8;

impl Batching {
    /// Begins a new span if the current one is over.
    pub(super) fn on_wake(&mut self, now: Instant) {
        let passed = self.span_start.map(|start| now.saturating_duration_since(start)).unwrap_or(Duration::MAX);
        if passed >= SPAN {
            let spans = (passed.as_millis() / SPAN.as_millis()).min(u128::from(AVERAGED_SPANS)) as u64;
            self.previous = if spans > 1 { 0 } else { self.current };
            // Of those spans all but the first were empty.
            self.recent = (self.recent + self.current) * (AVERAGED_SPANS - spans) / AVERAGED_SPANS;
            (self.current, self.dispatches, self.span_start) = (0, 0, Some(now));
        }
    }

    pub(super) fn on_dispatch(&mut self, connections: u8) {
        self.current = self.current.saturating_add(u64::from(connections));
        self.dispatches = self.dispatches.saturating_add(1);
    }

    /// Connections for which there were turns have not come.
    pub(super) fn on_unused(&mut self, connections: u64) {
        self.current = self.current.saturating_sub(connections);
    }

    pub(super) fn pause_if_busy(&self) {
        if self.current.max(self.previous).max(self.dispatches) >= BUSY_FROM {
            pause(PAUSE);
        }
    }

    /// The number of connections in one span, on the average of some time.
    pub(super) fn average(&self) -> u64 {
        self.recent / AVERAGED_SPANS
    }
}
