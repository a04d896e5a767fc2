//! Decides when a slot's processes become ready, and learns what is expected of the next ones.

use super::*;

impl Slot {
    /// The worker's program runs.
    pub(in super::super) fn on_spawned(&mut self, id: WorkerId, context: &mut Context) {
        self.budget.on_forked();
        let (slot, role) = (self.id, self.role(id));
        let Some(worker) = self.find(id).filter(|worker| !worker.has_run) else { return };
        worker.has_run = true;
        context.report(Report::Started { slot, worker: id, role });
        worker.on_spawned(context.now);
        if worker.policy.readiness == Readiness::Spawn {
            self.become_ready(id, ReadySignal::Spawned, context);
        }
    }

    /// The worker has shown something by which it may be ready; `note` adds it to the evidence.
    pub(in super::super) fn on_evidence(
        &mut self,
        id: WorkerId,
        note: impl FnOnce(&mut Evidence),
        context: &mut Context,
    ) -> Outcome {
        let slot = self.id;
        let Some(worker) = self.find(id).filter(|worker| !worker.is_leaving()) else { return Outcome::Nothing };
        let took = context.now - worker.started;
        let is_late = worker.is_ready() && took > worker.policy.ready_timeout;
        // After the ready timeout only the first signal tells something: that such workers take longer.
        if is_late && !worker.evidence.may_begin_at(took, &worker.policy) {
            return Outcome::Nothing;
        }
        note(&mut worker.evidence);
        worker.evidence.note_time(took);
        let (evidence, readiness) = (worker.evidence.clone(), worker.policy.readiness);
        if let Some(signal) = evidence.strongest().filter(|_| is_late) {
            context.report(Report::LateSignal { slot, worker: id, signal, took });
        }
        if let Some(signal) = evidence.shows(readiness, self.expectation.as_ref()) {
            self.become_ready(id, signal, context);
        }
        self.learn_from_holder()
    }

    /// Takes the holder's signals as those that its successors must give. What a replacement shows counts when it takes over.
    pub(super) fn learn_from_holder(&mut self) -> Outcome {
        let holder = self.holder().filter(|worker| worker.policy.readiness.is_auto() && worker.is_ready());
        match holder.and_then(|worker| worker.evidence.expectation(&worker.policy)) {
            Some(expectation) => {
                self.expectation = Some(expectation);
                Outcome::Signalled
            }
            None => Outcome::Nothing,
        }
    }

    pub(super) fn become_ready(&mut self, id: WorkerId, signal: ReadySignal, context: &mut Context) {
        let slot = self.id;
        let Some(worker) = self.find(id) else { return };
        if !matches!(worker.phase, Phase::Forked { .. } | Phase::Starting { .. }) {
            return;
        }
        // What it did before its signal does not show that it serves.
        let since = match signal {
            ReadySignal::Notify
            | ReadySignal::Probe
            | ReadySignal::Newline
            | ReadySignal::Listen
            | ReadySignal::Message => context.now,
            ReadySignal::Spawned | ReadySignal::Uptime => worker.started,
        };
        worker.phase = Phase::Ready { stays_from: since + worker.policy.min_uptime };
        // A tenth less at the most, so that workers which started together do not end together.
        worker.retire_at =
            worker.policy.max_uptime.map(|life| worker.started + life.mul_f64(0.95 + context.jitter.sample() / 20.0));
        context.report(Report::Ready { slot, worker: id, signal, took: context.now - worker.started });
    }

    pub(super) fn uptime_rule(&self, worker: &Worker, profile: &Profile) -> UptimeRule {
        UptimeRule::new(&worker.policy, self.expectation.as_ref(), profile.is_silent)
    }
}
