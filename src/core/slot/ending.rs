//! Handles the ends of a slot's processes: exits, failed starts, and processes that cannot be killed.

use super::*;

impl Slot {
    /// The worker's first process has ended.
    pub(in super::super) fn on_exited(
        &mut self,
        id: WorkerId,
        exit: Exit,
        profile: &Profile,
        context: &mut Context,
    ) -> Outcome {
        let Some(worker) = self.find(id) else { return Outcome::Nothing };
        if worker.waits_for_group(exit, context) {
            return Outcome::Nothing;
        }
        self.on_ended(id, exit, profile, context)
    }

    /// No process of the worker's group is left, after its first one has ended.
    pub(in super::super) fn on_group_ended(
        &mut self,
        id: WorkerId,
        profile: &Profile,
        context: &mut Context,
    ) -> Outcome {
        match self.find(id).and_then(|worker| worker.leader_exit()) {
            Some(exit) => self.on_ended(id, exit, profile, context),
            None => Outcome::Nothing,
        }
    }

    fn on_ended(&mut self, id: WorkerId, exit: Exit, profile: &Profile, context: &mut Context) -> Outcome {
        // It may have been ready already, and its end be seen first: the loop was busy, or the machine.
        let is_ready = |worker: &Worker| worker.is_ready_by_uptime(self.uptime_rule(worker, profile), context.now);
        if self.workers().any(|worker| worker.id == id && is_ready(worker)) {
            self.become_ready(id, ReadySignal::Uptime, context);
        }
        let role = self.role(id);
        let Some((part, worker)) = self.release(id, context) else { return Outcome::Nothing };
        let slot = self.id;
        let lived = context.now - worker.started;
        let stop_took = worker.stop_since().map(|since| context.now - since);
        let report = |next| Report::Exited { slot, worker: id, role, exit, lived, stop_took, next };
        match part {
            Part::Outgoing => {
                context.report(report(Next::Gone));
                Outcome::Nothing
            }
            Part::Incoming => {
                context.report(report(Next::Gone));
                match worker.is_leaving() {
                    true => Outcome::Nothing,
                    false => Outcome::RolloutFailed(RolloutError::Exited { slot, worker: id, exit, lived }),
                }
            }
            Part::Holder => {
                // One that is stopped for not being ready has failed, with whatever code it ends.
                let has_succeeded = exit.kind == ExitKind::Code(0) && role == Role::Late;
                self.last_exit = Some(if has_succeeded { Exit::code(1) } else { exit });
                let end = match worker.stop_reason() {
                    Some(StopReason::NotReady) => End::NotReady,
                    Some(StopReason::Unwanted) => End::Unwanted,
                    None => End::Exited { exit, lived, was_ready: worker.is_ready() },
                };
                let next = self.next_after(end, &worker.policy, profile, context);
                context.report(report(next));
                Outcome::Nothing
            }
        }
    }

    /// The worker could not be started.
    pub(in super::super) fn on_spawn_failed(
        &mut self,
        id: WorkerId,
        error: SpawnError,
        profile: &Profile,
        context: &mut Context,
    ) -> Outcome {
        let Some((part, worker)) = self.release(id, context) else { return Outcome::Nothing };
        let slot = self.id;
        let (SpawnError::NotNow(message) | SpawnError::Hook(message) | SpawnError::Program { message, .. }) = &error;
        let error_text = message.clone();
        let report = |next| Report::StartFailed { slot, worker: id, error: error_text.clone(), next };
        match part {
            Part::Outgoing => {
                context.report(report(Next::Gone));
                Outcome::Nothing
            }
            Part::Incoming => {
                context.report(report(Next::Gone));
                match worker.is_leaving() {
                    true => Outcome::Nothing,
                    false => Outcome::RolloutFailed(RolloutError::Start { slot, error: error_text }),
                }
            }
            Part::Holder => {
                let end = match error {
                    _ if worker.is_leaving() => End::Unwanted,
                    SpawnError::NotNow(_) => End::NoRoom,
                    SpawnError::Hook(_) => End::NoProgram { has_run: true },
                    SpawnError::Program { status, .. } => {
                        self.last_exit = Some(Exit::code(status));
                        End::NoProgram { has_run: profile.has_run }
                    }
                };
                let next = self.next_after(end, &worker.policy, profile, context);
                context.report(report(next));
                Outcome::Nothing
            }
        }
    }

    /// The worker is still there long after SIGKILL, and is waited for no longer.
    pub(super) fn on_given_up(&mut self, id: WorkerId, profile: &Profile, context: &mut Context) -> Outcome {
        let Some((part, worker)) = self.release(id, context) else { return Outcome::Nothing };
        let slot = self.id;
        context.report(Report::GivenUp { slot, worker: id });
        match part {
            // It may serve on, beside the new one.
            Part::Outgoing => Outcome::RolloutFailed(RolloutError::OldRemains { slot, worker: id }),
            Part::Incoming => Outcome::Nothing,
            Part::Holder => {
                let end = match worker.stop_reason() {
                    Some(StopReason::NotReady) => End::NotReady,
                    Some(StopReason::Unwanted) | None => End::Unwanted,
                };
                self.next_after(end, &worker.policy, profile, context);
                Outcome::Nothing
            }
        }
    }

    /// Decides what follows the end of the holder, in the one place that does.
    fn next_after(&mut self, end: End, policy: &Policy, profile: &Profile, context: &mut Context) -> Next {
        let is_wanted = self.desired == Desired::Up && profile.is_wanted();
        let end = if is_wanted { end } else { End::Unwanted };
        let next = self.budget.next(&end, policy, context.jitter);
        self.state = SlotState::after(next, context.now);
        next
    }

    /// Takes an ended process out of the slot, and has the shell forget it.
    fn release(&mut self, id: WorkerId, context: &mut Context) -> Option<(Part, Worker)> {
        let part = self.part_of(id)?;
        let worker = self.remove(part)?;
        context.effects.push(Effect::Release(id));
        Some((part, worker))
    }

    /// Takes a process out of its part of the slot.
    fn remove(&mut self, part: Part) -> Option<Worker> {
        match part {
            Part::Incoming => self.incoming.take(),
            Part::Outgoing => self.outgoing.take(),
            Part::Holder => match std::mem::replace(&mut self.state, SlotState::Vacant) {
                SlotState::Held(worker) => Some(worker),
                other => {
                    self.state = other;
                    None
                }
            },
        }
    }
}
