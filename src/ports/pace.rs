//! When the hub rests for a moment.

use crate::sys::pause;
use std::time::{Duration, Instant};

/// How fast connections come: when they come faster than workers wake up for each, a short rest lets them gather, and all
/// of them are handed out at the cost of one.
#[derive(Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    /// Handed out within the time that goes on, and within the one before.
    now: u32,
    before: u32,
}

/// The rest, in which connections gather.
const REST: Duration = Duration::from_millis(1);
/// So many connections within that time are many.
const MANY: u32 = 20;
const SPAN: Duration = Duration::from_millis(10);

impl Pace {
    pub(super) fn look(&mut self, now: Instant) {
        let passed = self.since.map(|since| now.saturating_duration_since(since));
        if passed.is_none_or(|passed| passed >= SPAN) {
            let stale = passed.is_none_or(|passed| passed >= 2 * SPAN);
            (self.before, self.now, self.since) = (if stale { 0 } else { self.now }, 0, Some(now));
        }
    }

    pub(super) fn handed_out(&mut self) {
        self.now = self.now.saturating_add(1);
    }

    /// Rests, if connections come fast.
    pub(super) fn rest(&self) {
        if self.now.max(self.before) >= MANY {
            pause(REST);
        }
    }
}
