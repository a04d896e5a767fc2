//! Handles the deadlines of a slot's processes.

use super::*;

/// The least time between two attempts to replace a worker that has lived long enough.
const RETIRE_RETRY_INTERVAL: Time = Time::from_secs(30);

impl Slot {
    /// The next time at which something is due here.
    pub(in super::super) fn deadline(&self, profile: &Profile) -> Option<Time> {
        let due = |worker: &Worker| worker.deadline(self.uptime_rule(worker, profile));
        let takes_over = self.incoming.iter().filter_map(|worker| match worker.phase {
            Phase::Ready { stays_from } if self.outgoing.is_none() => Some(stays_from),
            _ => None,
        });
        let start = match self.state {
            SlotState::Backoff(until) => Some(until),
            SlotState::Vacant | SlotState::Held(_) | SlotState::Stopped | SlotState::Failed => None,
        };
        self.workers().filter_map(due).chain(takes_over).chain(start).min()
    }

    /// Handles each deadline that has come.
    pub(in super::super) fn on_tick(&mut self, profile: &Profile, context: &mut Context) -> Outcome {
        let deadline = |worker: &Worker| worker.deadline(self.uptime_rule(worker, profile));
        let is_due = |worker: &&Worker| deadline(worker).is_some_and(|time| time <= context.now);
        let due: Vec<WorkerId> = self.workers().filter(is_due).map(|worker| worker.id).collect();
        let mut outcome = Outcome::Nothing;
        for id in due {
            match self.on_deadline(id, profile, context) {
                Outcome::Nothing => {}
                notable => outcome = notable,
            }
        }
        outcome
    }

    /// The deadline of the worker's phase has come.
    fn on_deadline(&mut self, id: WorkerId, profile: &Profile, context: &mut Context) -> Outcome {
        let (slot, part, expected) = (self.id, self.part_of(id), self.expectation.clone());
        let worker = self.workers().find(|worker| worker.id == id);
        let Some(rule) = worker.map(|worker| self.uptime_rule(worker, profile)) else { return Outcome::Nothing };
        let Some(worker) = self.find(id) else { return Outcome::Nothing };
        match worker.phase {
            Phase::Starting { fail_at, .. } if worker.is_ready_by_uptime(rule, context.now) => {
                let after = fail_at - worker.started;
                self.become_ready(id, ReadySignal::Uptime, context);
                if rule != UptimeRule::AfterReadyTimeout {
                    return Outcome::Nothing;
                }
                self.expectation = Some(Expectation::Silent);
                context.report(Report::Silent { slot, worker: id, after });
                Outcome::Silent
            }
            Phase::Forked { fail_at } | Phase::Starting { fail_at, .. } => {
                let after = fail_at - worker.started;
                let missing = Missing { expected, addresses: worker.evidence.addresses().to_vec() };
                context.report(Report::NotReady { slot, worker: id, after, missing: missing.clone() });
                worker.stop(slot, StopReason::NotReady, profile, context);
                match part {
                    Some(Part::Incoming) => {
                        Outcome::RolloutFailed(RolloutError::NotReady { slot, worker: id, after, missing })
                    }
                    Some(Part::Holder | Part::Outgoing) | None => Outcome::Nothing,
                }
            }
            Phase::Draining { kill_at, .. } => {
                if !worker.signal_if_due(context) || kill_at <= context.now {
                    worker.kill(true, context);
                }
                Outcome::Nothing
            }
            Phase::Killing { .. } => self.on_given_up(id, profile, context),
            Phase::Ready { .. } => {
                // Where it cannot be replaced, that is tried again.
                let pause = worker.policy.max_uptime.unwrap_or_default() / 10;
                worker.retire_at = Some(context.now + pause.max(RETIRE_RETRY_INTERVAL));
                if part == Some(Part::Holder) { Outcome::Expired(id) } else { Outcome::Nothing }
            }
        }
    }
}
