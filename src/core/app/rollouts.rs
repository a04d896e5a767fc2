//! Begins and ends an app's rollouts, one after the other.

use super::*;

impl App {
    /// Asks for a reload. While a rollout is in progress, it is remembered once.
    pub(in super::super) fn reload(&mut self, context: &mut Context) {
        if self.rollout.is_none() {
            self.begin_reload(context);
        } else if !self.is_reload_queued {
            self.is_reload_queued = true;
            context.report(Report::ReloadQueued { app: self.id });
        }
    }

    /// Asks for a replacement of one worker, of the same generation. It begins when no other rollout is in progress.
    pub(in super::super) fn replace(&mut self, index: u32, worker: WorkerId, reason: RolloutReason) {
        self.replacements.insert(index, (worker, reason));
    }

    fn begin_reload(&mut self, context: &mut Context) {
        self.is_reload_queued = false;
        // It replaces every worker anyway.
        self.replacements.clear();
        self.newest += 1;
        let generation = self.newest;
        self.rollout = Some(Rollout::reload(generation, context.now));
        context.report(Report::Reloading { app: self.id, generation });
        context.effects.push(Effect::Prepare(self.id, generation));
    }

    pub(super) fn begin_queued(&mut self, context: &mut Context) {
        if self.rollout.is_some() {
            return;
        }
        if self.is_reload_queued {
            return self.begin_reload(context);
        }
        while let Some((index, (worker, reason))) = self.replacements.pop_first() {
            let slot = self.slots.iter().find(|slot| slot.id.index == index && slot.desired == Desired::Up);
            if let Some(slot) = slot.filter(|slot| slot.holder().is_some_and(|holder| holder.id == worker)) {
                context.report(Report::Replacing { slot: slot.id, worker, reason });
                self.rollout = Some(Rollout::replacement(index, worker, reason, slot.generation, context.now));
                return;
            }
        }
    }

    pub(in super::super) fn on_prepared(&mut self, generation: u32, result: Result<(), String>, context: &mut Context) {
        let is_it =
            |rollout: &&mut Rollout| rollout.generation == generation && rollout.reason == RolloutReason::Reload;
        if let Some(rollout) = self.rollout.as_mut().filter(is_it) {
            match result {
                Ok(()) => rollout.is_prepared = true,
                Err(reason) => self.fail_rollout(RolloutError::Prepare(reason), context),
            }
        }
    }

    /// Ends the rollout where it stands: new workers that have taken over stay, and so do old ones that run.
    pub(in super::super) fn fail_rollout(&mut self, error: RolloutError, context: &mut Context) {
        if let Some(rollout) = self.rollout.take() {
            let profile = &self.profile;
            self.slots.iter_mut().for_each(|slot| slot.abandon_replacement(profile, context));
            self.end_rollout(&rollout, Err(error), context);
        }
    }

    pub(super) fn finish_rollout(&mut self, context: &mut Context) {
        if let Some(rollout) = self.rollout.take() {
            if rollout.reason == RolloutReason::Reload {
                self.settled = rollout.generation;
                // Workers that have finished for good have nothing to replace; if ever, they start as what all others are.
                self.slots.iter_mut().for_each(|slot| slot.generation = rollout.generation);
            }
            self.end_rollout(&rollout, Ok(()), context);
        }
    }

    fn end_rollout(&mut self, rollout: &Rollout, result: Result<(), RolloutError>, context: &mut Context) {
        let (app, took) = (self.id, context.now - rollout.since);
        let &Rollout { reason, generation, .. } = rollout;
        context.report(match (reason, result) {
            (RolloutReason::Reload, Ok(())) => Report::Reloaded { app, generation, took },
            (RolloutReason::Reload, Err(error)) => Report::ReloadFailed { app, generation, error, took },
            (RolloutReason::Requested | RolloutReason::Liveness, Ok(())) => Report::Replaced { app, reason, took },
            (RolloutReason::Requested | RolloutReason::Liveness, Err(error)) => {
                Report::ReplaceFailed { app, reason, error, took }
            }
        });
        let used = self.slots.iter().flat_map(|slot| {
            let running = slot.workers().map(|worker| worker.generation);
            running.chain([slot.generation])
        });
        let mut used: Vec<u32> = used.chain([self.settled]).collect();
        used.sort_unstable();
        used.dedup();
        context.effects.push(Effect::KeepGenerations(self.id, used));
    }
}
