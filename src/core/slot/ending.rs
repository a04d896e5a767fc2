//! How a slot's processes end, and what follows: the other half of [`Slot`].

use super::*;

impl Slot {
    /// One of its processes ended.
    pub(in super::super) fn exited(&mut self, id: WorkerId, exit: Exit, turn: &mut Turn) -> Upshot {
        // It may have been ready already, and its end be heard of first: the loop was busy, or the machine.
        let grown_up = |phase| matches!(phase, Phase::Starting { until } if until <= turn.now);
        if self.is_ready_by_uptime(turn) && self.find(id).is_some_and(|worker| grown_up(worker.phase)) {
            self.ready(id, ReadySignal::Uptime, turn);
        }
        let (slot, role) = (self.id, self.role(id));
        let is = |worker: &mut Worker| worker.id == id;
        let report = |started: Time, next: Next, turn: &mut Turn| {
            let lived = turn.now - started;
            turn.report(Report::Exited { slot, worker: id, role, exit, lived, next });
            lived
        };
        if let Some(worker) = self.outgoing.take_if(is) {
            report(worker.started, Next::Gone, turn);
            return Upshot::Nothing;
        }
        if let Some(worker) = self.incoming.take_if(is) {
            let lived = report(worker.started, Next::Gone, turn);
            return match worker.is_leaving() {
                true => Upshot::Nothing,
                false => Upshot::ReplacementFailed(RolloutError::Exited { slot, worker: id, exit, lived }),
            };
        }
        if let Some(worker) = self.holder().filter(|worker| worker.id == id).cloned() {
            // Who is stopped for not being ready has failed, with whatever code it ends.
            let succeeded = exit.how == ExitKind::Code(0) && role == Role::Late;
            self.last_exit = Some(if succeeded { Exit::code(1) } else { exit });
            let next = match worker.phase {
                Phase::Forked { .. } | Phase::Starting { .. } => self.tally.exited(exit, false, turn),
                Phase::Ready => self.tally.exited(exit, turn.now - worker.started >= turn.policy.min_uptime, turn),
                Phase::Draining { why: StopReason::NotReady, .. }
                | Phase::Killing { why: StopReason::NotReady, .. } => self.tally.crashed(false, turn),
                Phase::Draining { why: StopReason::Unwanted, .. }
                | Phase::Killing { why: StopReason::Unwanted, .. } => Next::Gone,
            };
            self.place = SlotState::after(next, turn.now);
            report(worker.started, next, turn);
        }
        Upshot::Nothing
    }

    /// One of its processes could not be started.
    pub(in super::super) fn spawn_failed(&mut self, id: WorkerId, error: SpawnError, turn: &mut Turn) -> Upshot {
        let slot = self.id;
        let (SpawnError::NotNow(message) | SpawnError::Program { message, .. }) = &error;
        let message = message.clone();
        if let Some(worker) = self.incoming.take_if(|worker| worker.id == id) {
            turn.report(Report::StartFailed { slot, worker: id, error: message.clone(), next: Next::Gone });
            return match worker.is_leaving() {
                true => Upshot::Nothing,
                false => Upshot::ReplacementFailed(RolloutError::Start { slot, error: message }),
            };
        }
        if self.outgoing.take_if(|worker| worker.id == id).is_some() {
            return Upshot::Nothing;
        }
        let Some(holder) = self.holder().filter(|worker| worker.id == id) else { return Upshot::Nothing };
        let leaving = holder.is_leaving();
        let next = match error {
            _ if leaving => Next::Gone,
            SpawnError::NotNow(_) => self.tally.refused(turn),
            SpawnError::Program { status, .. } => {
                self.last_exit = Some(Exit::code(status));
                if turn.proven { self.tally.crashed(false, turn) } else { Next::GiveUp { crashes: 1 } }
            }
        };
        self.place = SlotState::after(next, turn.now);
        turn.report(Report::StartFailed { slot, worker: id, error: message, next });
        Upshot::Nothing
    }
}
