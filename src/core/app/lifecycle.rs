//! Starts and stops an app as a whole, in its order among others.

use super::*;

impl App {
    /// True if the configuration has it no more.
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// True until its workers are asked to stop.
    pub(in super::super) fn is_wanted(&self) -> bool {
        self.profile.is_wanted()
    }

    /// True while it waits for other apps, before its first start.
    pub fn is_held(&self) -> bool {
        self.profile.is_held
    }

    /// True if it is up now: a worker is ready; of a task: it has succeeded.
    pub fn is_up(&self) -> bool {
        match self.policy().kind {
            Kind::Service => self.slots.iter().any(Slot::is_ready),
            Kind::Task => self.slots.iter().all(Slot::has_succeeded),
        }
    }

    /// True if it has been up.
    pub fn has_been_up(&self) -> bool {
        self.has_been_up
    }

    /// Notes that it is up.
    pub(in super::super) fn note_up(&mut self) {
        self.has_been_up |= self.is_up();
    }

    /// Says that it waits, if it does.
    pub(in super::super) fn report_held(&self, context: &mut Context) {
        if self.is_held() {
            context.report(Report::Held { app: self.id, after: self.policy().after.clone() });
        }
    }

    /// Lets it start: those that it waited for are up.
    pub(in super::super) fn release(&mut self) {
        self.profile.is_held = false;
    }

    /// Notes if apps that come after it still run. Returns true if it may stop now and could not before.
    pub(in super::super) fn set_needed(&mut self, is_needed: bool) -> bool {
        std::mem::replace(&mut self.is_needed, is_needed) && !is_needed && self.drain_until.is_some()
    }

    /// Begins its end: the rollout stops at once, and the workers after the drain delay.
    pub(in super::super) fn shut_down(&mut self, reason: RolloutError, context: &mut Context) {
        self.is_reload_queued = false;
        self.next_policy = None;
        self.replacements.clear();
        self.fail_rollout(reason, context);
        self.drain_until = Some(context.now + self.profile.policy.drain_delay);
    }

    /// Begins its end, since the configuration has it no more.
    pub(in super::super) fn remove(&mut self, context: &mut Context) {
        if !self.is_removed {
            self.is_removed = true;
            context.report(Report::Removing { app: self.id, drain_delay: self.profile.policy.drain_delay });
            self.shut_down(RolloutError::Removed, context);
        }
    }

    /// Kills all of its processes.
    pub(in super::super) fn kill(&mut self, context: &mut Context) {
        self.go_down(context);
        self.slots.iter_mut().for_each(|slot| slot.kill(context));
        self.had_to_kill |= self.is_killing();
    }

    /// The end of the drain delay: what waits is handed out, and new connections are refused.
    pub(super) fn go_down(&mut self, context: &mut Context) {
        if self.profile.is_wanted() {
            self.profile.desired = Desired::Down;
            context.effects.push(Effect::ClosePorts(self.id));
        }
    }

    /// True if a worker was sent SIGKILL and has not ended.
    pub(super) fn is_killing(&self) -> bool {
        let mut workers = self.slots.iter().flat_map(Slot::workers);
        workers.any(|worker| matches!(worker.phase, Phase::Killing { .. }))
    }
}
