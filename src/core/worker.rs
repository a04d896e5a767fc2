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
    /// From when on a replacement that is ready has shown that it stays.
    pub stays_from: Time,
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
    /// Asked to stop, or sent the stop signal; killed at that time.
    Draining {
        /// What for.
        why: StopReason,
        /// When the stop signal is due, if it was not sent yet.
        signal_at: Option<Time>,
        /// When its patience ends.
        kill_at: Time,
    },
    /// Sent SIGKILL; at that time its exit is awaited no longer.
    Killing {
        /// What for.
        why: StopReason,
        /// When it is given up.
        until: Time,
    },
}

/// Why a process was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
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
    pub(super) dice: &'a mut Jitter,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// A worker that has finished has this long to exit by itself before the stop signal.
const GOES_BY_ITSELF: Time = Time::from_millis(200);
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
            Phase::Draining { signal_at, kill_at, .. } => Some(signal_at.unwrap_or(kill_at).min(kill_at)),
            Phase::Killing { until, .. } => Some(until),
            Phase::Ready => None,
        }
    }

    /// Asks it to stop, if it was not asked before.
    pub(super) fn stop(&mut self, slot: SlotId, why: StopReason, turn: &mut Turn) {
        if !self.is_leaving() {
            let (signal, timeout) = (turn.policy.stop_signal, turn.policy.stop_timeout);
            // One that does not serve has nothing to finish.
            let ask = turn.policy.ask.filter(|_| self.phase == Phase::Ready);
            let signal_at = ask.map(|patience| turn.now + patience);
            self.phase = Phase::Draining { why, signal_at, kill_at: turn.now + timeout };
            turn.effects.push(Effect::Retire(self.id));
            turn.effects.push(if ask.is_some() { Effect::Ask(self.id) } else { Effect::Signal(self.id, signal) });
            let signal = if ask.is_some() { None } else { Some(signal) };
            turn.report(Report::Stopping { slot, worker: self.id, signal, timeout });
        }
    }

    /// It has finished what it was asked to finish. What is left of it, such as timers, is ended by the stop signal.
    pub(super) fn finished(&mut self, now: Time) {
        if let Phase::Draining { signal_at: Some(due), .. } = &mut self.phase {
            *due = (now + GOES_BY_ITSELF).min(*due);
        }
    }

    /// Sends the stop signal that was put off, if it is due.
    pub(super) fn signal_if_due(&mut self, turn: &mut Turn) -> bool {
        match &mut self.phase {
            Phase::Draining { signal_at, .. } if signal_at.is_some_and(|due| due <= turn.now) => {
                *signal_at = None;
                turn.effects.push(Effect::Signal(self.id, turn.policy.stop_signal));
                true
            }
            _ => false,
        }
    }

    pub(super) fn kill(&mut self, slot: SlotId, late: bool, turn: &mut Turn) {
        let why = match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready => StopReason::Unwanted,
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
        Worker { id: worker, generation, started: self.now, phase: Phase::Forked { until }, stays_from: Time::MAX }
    }
}
