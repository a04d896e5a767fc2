//! One process: where in its life it is, and what ends that.

use super::*;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Which.
    pub id: WorkerId,
    /// Of which generation.
    pub generation: u32,
    /// When it was forked.
    pub started: Time,
    /// Where in its life it is.
    pub phase: Phase,
}

/// Where in its life a process is. The deadline is part of the state that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its program does not run yet; if it does not `until` then, it has failed to start.
    Forked {
        /// The end of the wait.
        until: Time,
    },
    /// Not ready yet; `until` then it is, or else it has failed to be.
    Starting {
        /// The end of the wait.
        until: Time,
    },
    /// Serving.
    Ready,
    /// Sent the stop signal; killed at that time.
    Draining {
        /// What for.
        why: Why,
        /// When its patience ends.
        kill_at: Time,
    },
    /// Sent SIGKILL; at that time its exit is awaited no longer.
    Killing {
        /// What for.
        why: Why,
        /// When it is given up.
        until: Time,
    },
}

/// Why a process was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not wanted any more: replaced, scaled down, or the container stops.
    Unwanted,
    /// It was not ready in time.
    NotReady,
}

/// What every step of the machine needs beside the slot's own state.
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    pub(super) policy: &'a Policy,
    /// Whether a program of this app ever ran: if none did, a missing program is final.
    pub(super) proven: bool,
    pub(super) last_worker: &'a mut WorkerId,
    pub(super) dice: &'a mut Dice,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// So long after SIGKILL a process is stuck in the kernel, or not rinit's to kill: it is waited for no longer.
const GIVEN_UP_AFTER: Time = Time::from_secs(5);

impl Worker {
    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready => false,
            Phase::Draining { .. } | Phase::Killing { .. } => true,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Forked { until } | Phase::Starting { until } => Some(until),
            Phase::Draining { kill_at, .. } => Some(kill_at),
            Phase::Killing { until, .. } => Some(until),
            Phase::Ready => None,
        }
    }

    /// Asks it to stop, if it was not asked before.
    pub(super) fn stop(&mut self, slot: SlotId, why: Why, turn: &mut Turn) {
        if !self.is_leaving() {
            let (signal, timeout) = (turn.policy.stop_signal, turn.policy.stop_timeout);
            self.phase = Phase::Draining { why, kill_at: turn.now + timeout };
            turn.effects.push(Effect::Signal(self.id, signal));
            turn.report(Report::Stopping { slot, worker: self.id, signal, timeout });
        }
    }

    pub(super) fn kill(&mut self, slot: SlotId, late: bool, turn: &mut Turn) {
        let why = match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready => Why::Unwanted,
            Phase::Draining { why, .. } => why,
            Phase::Killing { .. } => return,
        };
        self.phase = Phase::Killing { why, until: turn.now + GIVEN_UP_AFTER };
        turn.effects.push(Effect::Kill(self.id));
        turn.report(Report::Killed { slot, worker: self.id, late });
    }
}

impl Turn<'_> {
    pub(super) fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }

    /// A process for that slot, forked now.
    pub(super) fn spawn(&mut self, slot: SlotId, generation: u32) -> Worker {
        self.last_worker.0 += 1;
        let worker = *self.last_worker;
        self.effects.push(Effect::Spawn { worker, slot, generation });
        let until = self.now + self.policy.ready_timeout;
        Worker { id: worker, generation, started: self.now, phase: Phase::Forked { until } }
    }
}
