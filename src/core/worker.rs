//! Tracks one process from its fork to its end.

use super::*;
use std::sync::Arc;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// The generation of the app's settings that it runs.
    pub generation: u32,
    /// The time of its fork.
    pub started: Time,
    /// The phase of its life.
    pub phase: Phase,
    /// The signals of readiness that it has given in time.
    pub evidence: Evidence,
    /// Its program has been heard to run.
    pub(super) has_run: bool,
    /// Liveness probes in a row that have failed.
    pub(super) failed_probes: u32,
    /// The time at which it has lived long enough (`max_uptime`).
    pub(super) retire_at: Option<Time>,
    /// The memory that it used when it had become ready.
    pub(super) first_memory: Option<u64>,
    /// The time until which it may use more than its limit, once it has.
    pub(super) oversized_until: Option<Time>,
    /// It is not replaced for its memory before this.
    pub(super) replace_again_at: Time,
    /// The settings of its generation.
    pub(super) policy: Arc<Policy>,
}

/// The phase of a process's life. Each deadline is part of the phase that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its program does not run yet.
    Forked {
        /// The time at which it has failed to become ready.
        fail_at: Time,
    },
    /// Its program runs, and is not ready yet.
    Starting {
        /// The time at which it will have lived for `min_uptime`.
        min_uptime_at: Time,
        /// The time at which it has failed to become ready, or has turned out to give no signal.
        fail_at: Time,
    },
    /// Serving.
    Ready {
        /// The time from which on a replacement has shown that it stays.
        stays_from: Time,
    },
    /// Asked to stop, or sent the stop signal.
    Draining {
        /// The reason for the stop.
        reason: StopReason,
        /// The time at which the stop began.
        since: Time,
        /// The time at which the stop signal is due, if it was not sent yet.
        signal_at: Option<Time>,
        /// The time of SIGKILL.
        kill_at: Time,
        /// The exit of its first process, when others of its group still run.
        leader: Option<Exit>,
    },
    /// Sent SIGKILL.
    Killing {
        /// The reason for the stop.
        reason: StopReason,
        /// The time at which the stop began.
        since: Time,
        /// Its time was up; else a second stop came.
        is_late: bool,
        /// The time at which its exit is awaited no longer.
        give_up_at: Time,
        /// The exit of its first process, when others of its group still run.
        leader: Option<Exit>,
    },
}

/// The reason for which a process was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It is not wanted any more: replaced, scaled down, or the container stops.
    Unwanted,
    /// It was not ready in time.
    NotReady,
}

/// The time that a worker which has finished has to exit by itself before the stop signal.
const EXIT_AFTER_DRAINED: Time = Time::from_millis(200);
/// The time after SIGKILL at which a process is stuck in the kernel, or not rinit's to kill: it is waited for no longer.
const GIVE_UP_AFTER: Time = Time::from_secs(5);

impl Worker {
    /// A process that is forked now, and has this long to be ready.
    pub(super) fn new(id: WorkerId, generation: u32, policy: Arc<Policy>, now: Time, patience: Time) -> Worker {
        let phase = Phase::Forked { fail_at: now + patience };
        Worker {
            id,
            generation,
            started: now,
            phase,
            evidence: Evidence::default(),
            has_run: false,
            failed_probes: 0,
            retire_at: None,
            first_memory: None,
            oversized_until: None,
            replace_again_at: Time::ZERO,
            policy,
        }
    }

    /// True if it is on its way out.
    pub fn is_leaving(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// True if it serves.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// True if it serves, and has not just been to be replaced for its memory.
    pub(super) fn may_be_replaced(&self, now: Time) -> bool {
        self.is_ready() && self.replace_again_at <= now
    }

    /// The reason for its stop, once it is on its way out.
    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready { .. } => None,
            Phase::Draining { reason, .. } | Phase::Killing { reason, .. } => Some(reason),
        }
    }

    /// The time at which its stop began.
    pub(super) fn stop_since(&self) -> Option<Time> {
        match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready { .. } => None,
            Phase::Draining { since, .. } | Phase::Killing { since, .. } => Some(since),
        }
    }

    /// The exit of its first process, when only others of its group still run.
    pub(super) fn leader_exit(&self) -> Option<Exit> {
        match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready { .. } => None,
            Phase::Draining { leader, .. } | Phase::Killing { leader, .. } => leader,
        }
    }

    /// The next time at which something is due, under this rule.
    pub(super) fn deadline(&self, rule: UptimeRule) -> Option<Time> {
        match self.phase {
            Phase::Forked { fail_at } => Some(fail_at),
            Phase::Starting { min_uptime_at, fail_at } => match rule {
                UptimeRule::AfterMinUptime if !self.evidence.is_bound_only() => Some(min_uptime_at.min(fail_at)),
                UptimeRule::AfterMinUptime | UptimeRule::AfterReadyTimeout | UptimeRule::Never => Some(fail_at),
            },
            Phase::Ready { .. } => self.retire_at,
            Phase::Draining { signal_at, kill_at, .. } => Some(signal_at.unwrap_or(kill_at).min(kill_at)),
            Phase::Killing { give_up_at, .. } => Some(give_up_at),
        }
    }

    /// True if it has lived long enough to be ready by this rule, without a signal.
    pub(super) fn is_ready_by_uptime(&self, rule: UptimeRule, now: Time) -> bool {
        let Phase::Starting { min_uptime_at, fail_at } = self.phase else { return false };
        let by = match rule {
            UptimeRule::Never => return false,
            UptimeRule::AfterMinUptime => min_uptime_at,
            UptimeRule::AfterReadyTimeout => fail_at,
        };
        by <= now && !self.evidence.is_bound_only()
    }

    /// Its program runs.
    pub(super) fn on_spawned(&mut self, now: Time) {
        if let Phase::Forked { fail_at } = self.phase {
            self.phase = Phase::Starting { min_uptime_at: now + self.policy.min_uptime, fail_at };
        }
    }

    /// Begins its stop, if it has not begun.
    pub(super) fn stop(&mut self, slot: SlotId, reason: StopReason, profile: &Profile, context: &mut Context) {
        if self.is_leaving() {
            return;
        }
        let now = context.now;
        let plan = StopPlan::new(&self.policy.stop, self, profile.stop_context());
        let signal_at = plan.request.map(|_| now + plan.signal_after);
        let kill_at = now + plan.kill_after;
        self.phase = Phase::Draining { reason, since: now, signal_at, kill_at, leader: None };
        context.effects.push(Effect::Drain(self.id, plan));
        if plan.request.is_none() {
            context.effects.push(Effect::Signal { worker: self.id, signal: plan.signal, to_group: plan.to_group });
        }
        let signal = if plan.request.is_none() { Some(plan.signal) } else { None };
        context.report(Report::Stopping { slot, worker: self.id, signal, timeout: plan.kill_after });
    }

    /// It has finished what it was asked to finish. What is left of it, such as timers, is ended by the stop signal.
    pub(super) fn on_drained(&mut self, now: Time) {
        let exits_by_itself = match self.policy.stop.request {
            Some(DrainKind::Cluster | DrainKind::Message) => true,
            Some(DrainKind::Hook | DrainKind::Connections) | None => false,
        };
        if let Phase::Draining { signal_at: Some(due), .. } = &mut self.phase {
            *due = if exits_by_itself { (now + EXIT_AFTER_DRAINED).min(*due) } else { now };
        }
    }

    /// It has sent itself the stop signal, and gets no second one: programs take that for an order to end at once. With `-g`
    /// the rest of its group still has to get it.
    pub(super) fn on_signalled(&mut self) {
        if let Phase::Draining { signal_at, .. } = &mut self.phase
            && !self.policy.stop.to_group
        {
            *signal_at = None;
        }
    }

    /// Sends the stop signal that was put off, if it is due.
    pub(super) fn signal_if_due(&mut self, context: &mut Context) -> bool {
        match &mut self.phase {
            Phase::Draining { signal_at, .. } if signal_at.is_some_and(|due| due <= context.now) => {
                *signal_at = None;
                let StopPolicy { signal, to_group, .. } = self.policy.stop;
                context.effects.push(Effect::Signal { worker: self.id, signal, to_group });
                true
            }
            _ => false,
        }
    }

    /// Its first process has ended. After a requested stop, those that remain in its process group get the stop signal and
    /// the rest of its time: the worker ends with the last of them. Returns false where they get none: it has ended.
    pub(super) fn waits_for_group(&mut self, exit: Exit, context: &mut Context) -> bool {
        match &mut self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready { .. } => false,
            Phase::Draining { signal_at, leader, .. } => {
                let StopPolicy { signal, to_group, .. } = self.policy.stop;
                // With `-g` they have it already, unless the worker ended before its own.
                if !to_group || signal_at.is_some() {
                    context.effects.push(Effect::Signal { worker: self.id, signal, to_group: true });
                }
                *signal_at = None;
                *leader = Some(exit);
                true
            }
            Phase::Killing { leader, .. } => {
                *leader = Some(exit);
                true
            }
        }
    }

    /// Sends SIGKILL to its whole group. `is_late`: its time was up.
    pub(super) fn kill(&mut self, is_late: bool, context: &mut Context) {
        let (reason, since, leader) = match self.phase {
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready { .. } => {
                (StopReason::Unwanted, context.now, None)
            }
            Phase::Draining { reason, since, leader, .. } => (reason, since, leader),
            Phase::Killing { .. } => return,
        };
        self.phase = Phase::Killing { reason, since, is_late, give_up_at: context.now + GIVE_UP_AFTER, leader };
        context.effects.push(Effect::Kill(self.id));
    }
}
