//! Begins and ends an app's rollouts, one after the other.

use super::*;
use order::ReloadState;
use std::sync::Arc;

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

    /// Asks for a reload with new settings. They are in force when it is done.
    pub(in super::super) fn configure(&mut self, policy: Arc<Policy>, context: &mut Context) {
        self.next_policy = Some(policy);
        self.reload(context);
    }

    /// Changes settings by which no process is started. After a reload in progress another one brings them.
    pub(in super::super) fn adjust(&mut self, policy: Arc<Policy>, context: &mut Context) {
        if self.is_reloading() {
            return self.configure(policy, context);
        }
        self.slots.iter_mut().for_each(|slot| slot.adjust(&policy));
        let old = std::mem::replace(&mut self.profile.policy, policy.clone());
        if old.instances != policy.instances {
            self.scale(Count::To(policy.instances), context);
        }
    }

    /// True while a reload of it is in progress.
    pub(in super::super) fn is_reloading(&self) -> bool {
        self.reload_state() == ReloadState::UnderWay
    }

    pub(in super::super) fn reload_state(&self) -> ReloadState {
        match &self.rollout {
            Some(rollout) if rollout.reason == RolloutReason::Reload => ReloadState::UnderWay,
            Some(_) | None if self.is_reload_queued => ReloadState::UnderWay,
            Some(_) | None if self.has_reload_failed => ReloadState::Failed,
            Some(_) | None => ReloadState::Done,
        }
    }

    /// Looks at the reloads that its own waits for; `state` is that of an app's. Returns true if there was one, and none is
    /// left, or its own has failed with one of them.
    pub(in super::super) fn await_reloads(
        &mut self,
        state: impl Fn(AppId) -> Option<ReloadState>,
        context: &mut Context,
    ) -> bool {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| !rollout.waits_for.is_empty()) else { return false };
        if let Some(failed) = rollout.waits_for.iter().find(|id| state(**id) == Some(ReloadState::Failed)).copied() {
            self.fail_rollout(RolloutError::Dependency(failed), context);
            return true;
        }
        rollout.waits_for.retain(|id| state(*id) == Some(ReloadState::UnderWay));
        rollout.waits_for.is_empty()
    }

    /// Asks for a replacement of one worker, of the same generation. It begins when no other rollout is in progress.
    pub(in super::super) fn replace(&mut self, index: u32, replacement: Replacement) {
        self.replacements.insert(index, replacement);
    }

    /// True while a worker is replaced for that reason, or is to be.
    pub(in super::super) fn is_replacing(&self, reason: RolloutReason) -> bool {
        let is_queued = self.replacements.values().any(|replacement| replacement.reason == reason);
        is_queued || self.rollout.as_ref().is_some_and(|rollout| rollout.reason == reason)
    }

    fn begin_reload(&mut self, context: &mut Context) {
        self.is_reload_queued = false;
        // It replaces every worker anyway.
        self.replacements.clear();
        self.newest += 1;
        let generation = self.newest;
        let policy = match self.next_policy.take() {
            Some(policy) => {
                self.slots.iter_mut().for_each(Slot::forget_address);
                policy
            }
            None => self.profile.policy.clone(),
        };
        self.rollout = Some(Rollout::reload(generation, policy, context.now));
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
        while let Some((index, replacement)) = self.replacements.pop_first() {
            let Replacement { worker, reason, .. } = replacement;
            let slot = self.slots.iter().find(|slot| slot.id.index == index && slot.desired == Desired::Up);
            if let Some(slot) = slot.filter(|slot| slot.holder().is_some_and(|holder| holder.id == worker)) {
                context.report(Report::Replacing { slot: slot.id, worker, reason });
                self.rollout = Some(Rollout::replacement(slot, replacement, context.now));
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
            // What the configuration has is tried again with the next reload.
            if rollout.reason == RolloutReason::Reload {
                self.next_policy.get_or_insert_with(|| rollout.policy.clone());
            }
            self.end_rollout(&rollout, Err(error), context);
        }
    }

    pub(super) fn finish_rollout(&mut self, context: &mut Context) {
        if let Some(rollout) = self.rollout.take() {
            if rollout.reason == RolloutReason::Reload {
                self.settled = rollout.generation;
                // Workers that have finished for good have nothing to replace; if ever, they start as what all others are.
                self.slots.iter_mut().for_each(|slot| slot.adopt(&rollout));
                let old = std::mem::replace(&mut self.profile.policy, rollout.policy.clone());
                if old.instances != rollout.policy.instances {
                    self.scale(Count::To(rollout.policy.instances), context);
                }
            }
            self.end_rollout(&rollout, Ok(()), context);
        }
    }

    fn end_rollout(&mut self, rollout: &Rollout, result: Result<(), RolloutError>, context: &mut Context) {
        let (app, took) = (self.id, context.now - rollout.since);
        if rollout.reason == RolloutReason::Reload {
            self.has_reload_failed = result.is_err();
        }
        let &Rollout { reason, generation, .. } = rollout;
        context.report(match (reason, result) {
            (RolloutReason::Reload, Ok(())) => Report::Reloaded { app, generation, took },
            (RolloutReason::Reload, Err(error)) => Report::ReloadFailed { app, generation, error, took },
            (reason, Ok(())) => Report::Replaced { app, reason, took },
            (reason, Err(error)) => Report::ReplaceFailed { app, reason, error, took },
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
