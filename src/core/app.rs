//! Runs one app: its slots, the number of them that is wanted, and the rollout in progress.

mod lifecycle;
mod result;
mod rollouts;
mod scaling;

use super::*;
pub use result::AppResult;
use rollout::{Progress, Replacements};
use slot::Outcome;
use std::sync::Arc;

/// One program and the slots in which it runs.
#[derive(Clone, Debug)]
pub struct App {
    /// Its number.
    pub id: AppId,
    /// Its slots, in the order of their numbers.
    pub slots: Vec<Slot>,
    /// The rollout in progress.
    pub rollout: Option<Rollout>,
    profile: Profile,
    /// The end of the drain delay, once the app was asked to stop.
    drain_until: Option<Time>,
    /// The configuration has it no more: it is forgotten when its last worker has ended.
    is_removed: bool,
    /// Apps that come after it still run: it stops after them.
    is_needed: bool,
    /// It has had a ready worker; of a task: it has succeeded.
    has_been_up: bool,
    /// The settings that the next reload brings.
    next_policy: Option<Arc<Policy>>,
    /// The last reload failed.
    has_reload_failed: bool,
    /// The recent usage, by which the number of workers changes by itself.
    pub(super) trend: Trend,
    /// A reload was asked for during the rollout in progress.
    is_reload_queued: bool,
    /// Workers that are to be replaced after the rollout in progress.
    replacements: Replacements,
    /// The generation that last reached every slot: new slots run it.
    settled: u32,
    /// The newest generation that any reload was for.
    newest: u32,
    /// The time and the exit status of the last worker that failed for good.
    last_failure: Option<(Time, u8)>,
    /// A worker had to be killed while the app went down.
    had_to_kill: bool,
}

/// The facts that an app's slots share.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    /// The settings of the generation that last reached every slot.
    pub(super) policy: Arc<Policy>,
    /// It waits for other apps, and has started nothing.
    pub(super) is_held: bool,
    /// The state that was asked for.
    pub(super) desired: Desired,
    /// The number of slots that are wanted.
    pub(super) workers: u32,
    /// A program of this app has run: a missing one is not final.
    pub(super) has_run: bool,
    /// A worker has turned out to give no signal of readiness, and no other has given one since.
    pub(super) is_silent: bool,
}

/// A number of workers, absolute or relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// That many.
    To(u32),
    /// That many more, or fewer.
    By(i32),
}

/// The context of one step: the time, and what it brings about.
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) last_worker: &'a mut WorkerId,
    pub(super) jitter: &'a mut Jitter,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// A larger number of workers is taken for a mistake, or for a storm of SIGTTIN.
const MAX_SLOTS: u32 = 1024;

impl Profile {
    /// True while its workers are to run.
    pub(super) fn is_wanted(&self) -> bool {
        self.desired == Desired::Up
    }

    pub(super) fn stop_context(&self) -> StopContext {
        if self.is_wanted() { StopContext::Running } else { StopContext::GoingDown }
    }
}

impl App {
    pub(super) fn new(id: AppId, policy: Arc<Policy>) -> App {
        let slot = |index| Slot::new(SlotId { app: id, index }, 1, policy.clone(), None);
        App {
            id,
            slots: (0..policy.instances).map(slot).collect(),
            rollout: None,
            profile: Profile {
                workers: policy.instances,
                is_held: !policy.after.is_empty(),
                policy,
                desired: Desired::Up,
                has_run: false,
                is_silent: false,
            },
            drain_until: None,
            is_removed: false,
            is_needed: false,
            has_been_up: false,
            next_policy: None,
            has_reload_failed: false,
            trend: Trend::default(),
            is_reload_queued: false,
            replacements: Replacements::new(),
            settled: 1,
            newest: 1,
            last_failure: None,
            had_to_kill: false,
        }
    }

    /// Its settings.
    pub fn policy(&self) -> &Policy {
        &self.profile.policy
    }

    /// The number of slots that are wanted.
    pub fn wanted(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.desired != Desired::Removed).count() as u32
    }

    /// The newest generation that any reload was for.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }

    pub(super) fn had_to_kill(&self) -> bool {
        self.had_to_kill
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let drain = self.drain_until.filter(|_| self.profile.is_wanted() && !self.is_needed);
        self.slots.iter().filter_map(|slot| slot.deadline(&self.profile)).chain(drain).min()
    }

    /// The position of the slot that the worker belongs to.
    pub(super) fn slot_of(&self, id: WorkerId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.workers().any(|worker| worker.id == id))
    }

    /// Lets something happen in one slot, and draws the conclusions for the app.
    pub(super) fn in_slot(
        &mut self,
        at: usize,
        context: &mut Context,
        step: impl FnOnce(&mut Slot, &Profile, &mut Context) -> Outcome,
    ) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let had_failed = slot.state == SlotState::Failed;
        let outcome = step(slot, &self.profile, context);
        if slot.state == SlotState::Failed && !had_failed {
            let status = slot.last_exit.map_or(1, |exit| exit.status());
            self.last_failure = Some((context.now, status));
        }
        let index = slot.id.index;
        match outcome {
            Outcome::Nothing => {}
            Outcome::Silent => self.profile.is_silent = true,
            Outcome::Signalled => self.profile.is_silent = false,
            Outcome::Expired(worker) => self.replace(index, Replacement::new(worker, RolloutReason::Uptime)),
            Outcome::RolloutFailed(error) => self.fail_rollout(error, context),
            Outcome::Replaced => {
                if let Some(rollout) = &mut self.rollout {
                    rollout.on_replaced(index);
                }
            }
        }
    }

    pub(super) fn on_tick(&mut self, context: &mut Context) {
        for at in 0..self.slots.len() {
            self.in_slot(at, context, Slot::on_tick);
        }
    }

    pub(super) fn on_spawned(&mut self, at: usize, id: WorkerId, context: &mut Context) {
        self.profile.has_run = true;
        self.in_slot(at, context, |slot, _, context| {
            slot.on_spawned(id, context);
            Outcome::Nothing
        });
    }

    pub(super) fn on_probed(&mut self, at: usize, id: WorkerId, answer: Result<(), String>, context: &mut Context) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let slot_id = slot.id;
        if slot.on_probed(id, answer.is_ok())
            && let Err(answer) = answer
        {
            context.report(Report::Unhealthy { slot: slot_id, worker: id, answer });
            self.replace(slot_id.index, Replacement::new(id, RolloutReason::Liveness));
        }
    }

    /// Wants another state of a slot.
    pub(super) fn want(&mut self, at: usize, desired: Desired) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.desired = desired;
        }
    }

    /// Wants a worker in a slot: one that has none starts it now, with its crashes forgotten.
    pub(super) fn start_slot(&mut self, at: usize) {
        self.want(at, Desired::Up);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.start_afresh();
        }
    }

    /// The same, and stops the worker that is there.
    pub(super) fn restart_slot(&mut self, at: usize, context: &mut Context) {
        self.start_slot(at);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.vacate(&self.profile, context);
        }
    }

    /// Closes the gap between what is wanted and what is.
    pub(super) fn reconcile(&mut self, context: &mut Context) {
        if self.profile.is_wanted() && !self.is_needed && self.drain_until.is_some_and(|time| time <= context.now) {
            self.go_down(context);
        }
        self.had_to_kill |= self.drain_until.is_some() && self.is_killing();
        self.profile.workers = self.wanted();
        if !self.profile.is_wanted() {
            let profile = &self.profile;
            self.slots.iter_mut().for_each(|slot| slot.stop(profile, context));
            return;
        }
        self.stop_unwanted(context);
        for at in 0..self.slots.len() {
            self.in_slot(at, context, Slot::take_over_if_due);
        }
        let App { rollout, slots, profile, .. } = self;
        match rollout.as_mut().map(|rollout| rollout.advance(slots, profile, context)) {
            Some(Progress::Done) => self.finish_rollout(context),
            Some(Progress::Failed(error)) => self.fail_rollout(error, context),
            Some(Progress::UnderWay) | None => {}
        }
        // New settings may have come with another number.
        self.profile.workers = self.wanted();
        self.stop_unwanted(context);
        self.begin_queued(context);
        let App { rollout, slots, profile, .. } = self;
        // A replacement of one worker needs no preparation.
        if let Some(rollout) = rollout.as_mut().filter(|rollout| rollout.reason != RolloutReason::Reload) {
            rollout.advance(slots, profile, context);
        }
        let up = slots.iter_mut().filter(|slot| slot.desired == Desired::Up && !profile.is_held);
        up.for_each(|slot| slot.start_if_due(profile, context));
    }

    /// Stops what is not to run, and forgets the slots that are gone.
    fn stop_unwanted(&mut self, context: &mut Context) {
        let profile = &self.profile;
        let unwanted = self.slots.iter_mut().filter(|slot| slot.desired != Desired::Up);
        unwanted.for_each(|slot| slot.stop(profile, context));
        self.slots.retain(|slot| {
            let is_gone = slot.desired == Desired::Removed && slot.is_empty();
            if is_gone {
                context.effects.push(Effect::SlotRemoved(slot.id));
            }
            !is_gone
        });
    }
}

impl Context<'_> {
    pub(super) fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }

    /// Starts a process for that slot.
    pub(super) fn spawn(&mut self, slot: &Slot, generation: u32, policy: &Arc<Policy>, profile: &Profile) -> Worker {
        self.last_worker.0 += 1;
        let worker = *self.last_worker;
        self.effects.push(Effect::Spawn { worker, slot: slot.id, generation, workers: profile.workers });
        let patience = Expectation::patience(slot.expectation(), policy);
        Worker::new(worker, generation, policy.clone(), self.now, patience)
    }
}
