//! Pauses the hub while connections come fast, so that one wake-up serves many of them.

use crate::sys::pause;
use std::time::{Duration, Instant};

/// The rate of connections, counted in spans of [`SPAN`]. When they come faster than workers wake up for each, a short
/// pause lets them gather, and all of them are dispatched at the cost of one.
#[derive(Default)]
pub(super) struct Batching {
    span_start: Option<Instant>,
    /// Connections dispatched in the current span.
    current: u32,
    /// Connections dispatched in the span before.
    previous: u32,
}

/// The pause in which connections gather.
const PAUSE: Duration = Duration::from_millis(1);
/// The number of connections in one span from which on the hub pauses.
const BUSY_FROM: u32 = 20;
/// The length of one span.
const SPAN: Duration = Duration::from_millis(10);

impl Batching {
    /// Begins a new span if the current one is over.
    pub(super) fn on_wake(&mut self, now: Instant) {
        let passed = self.span_start.map(|start| now.saturating_duration_since(start));
        if passed.is_none_or(|passed| passed >= SPAN) {
            let is_stale = passed.is_none_or(|passed| passed >= 2 * SPAN);
            self.previous = if is_stale { 0 } else { self.current };
            (self.current, self.span_start) = (0, Some(now));
        }
    }

    pub(super) fn on_dispatch(&mut self) {
        self.current = self.current.saturating_add(1);
    }

    pub(super) fn pause_if_busy(&self) {
        if self.current.max(self.previous) >= BUSY_FROM {
            pause(PAUSE);
        }
    }
}
