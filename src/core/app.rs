//! One app: its slots, how many are wanted, and the reload in progress.

use super::*;
use slot::Upshot;
use worker::Turn;

/// One program and the places in which it runs.
#[derive(Clone, Debug)]
pub struct App {
    /// Which.
    pub id: AppId,
    /// By what rules.
    pub policy: Policy,
    /// Its places, in the order of their numbers.
    pub slots: Vec<Slot>,
    /// Whether it is to run.
    wish: Wanted,
    /// The reload in progress.
    pub rollout: Option<Rollout>,
    /// A reload was asked for during the one in progress.
    queued: bool,
    /// The generation that last reached every slot: what new slots run.
    settled: u32,
    /// The newest generation that any reload was for.
    newest: u32,
    /// A program of this app has run.
    proven: bool,
}

/// What is asked of the app as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// To run.
    Up,
    /// To serve until that time (`--drain-delay`), and then to stop.
    UpUntil(Time),
    /// To stop.
    Down,
}

/// What the fleet has for each step: see [`Turn`].
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) last_worker: &'a mut WorkerId,
    pub(super) dice: &'a mut Jitter,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// More workers than this are taken for a mistake, or for a storm of SIGTTIN.
const MOST_SLOTS: u32 = 1024;

impl App {
    pub(super) fn new(id: AppId, policy: Policy) -> App {
        let slots = (0..policy.instances).map(|index| Slot::new(SlotId { app: id, index }, 1)).collect();
        App { id, policy, slots, wish: Wanted::Up, rollout: None, queued: false, settled: 1, newest: 1, proven: false }
    }

    /// The slots' number that is wanted.
    pub fn wanted(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.wish != Desired::Gone).count() as u32
    }

    /// The newest generation that any reload was for.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// Whether a worker of that generation may still be asked for.
    pub fn uses(&self, generation: u32) -> bool {
        let targets = self.rollout.iter().map(|rollout| rollout.target);
        let slots = self.slots.iter().map(|slot| slot.generation);
        slots.chain(targets).chain([self.settled]).any(|used| used == generation)
    }

    /// Whether nothing will happen in it by itself any more.
    pub fn is_at_rest(&self) -> bool {
        self.rollout.is_none() && self.slots.iter().all(Slot::is_at_rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let stop = match self.wish {
            Wanted::UpUntil(time) => Some(time),
            Wanted::Up | Wanted::Down => None,
        };
        self.slots.iter().filter_map(Slot::deadline).chain(stop).min()
    }

    /// The exit status with which the slot has failed for good.
    pub(super) fn failure(&self, slot: usize) -> Option<u8> {
        let slot = self.slots.get(slot).filter(|slot| slot.place == SlotState::Failed)?;
        slot.last_exit.map(|exit| exit.status())
    }

    /// Whether a worker was sent SIGKILL.
    pub(super) fn is_killing(&self) -> bool {
        let mut workers = self.slots.iter().flat_map(Slot::workers);
        workers.any(|worker| matches!(worker.phase, Phase::Killing { .. }))
    }

    /// Whether the worker is one of its own.
    pub(super) fn slot_of(&self, id: WorkerId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.workers().any(|worker| worker.id == id))
    }

    /// Does something to one slot, and ends the reload if that was the end of a replacement.
    pub(super) fn touch(
        &mut self,
        slot: usize,
        context: &mut Context,
        act: impl FnOnce(&mut Slot, &mut Turn) -> Upshot,
    ) {
        let mut turn = context.turn(&self.policy, self.proven);
        if let Some(slot) = self.slots.get_mut(slot)
            && let Upshot::ReplacementFailed(trouble) = act(slot, &mut turn)
        {
            self.fail_reload(trouble, context);
        }
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        for slot in 0..self.slots.len() {
            self.touch(slot, context, Slot::tick);
        }
    }

    pub(super) fn spawned(&mut self, slot: usize, id: WorkerId, context: &mut Context) {
        self.proven = true;
        self.touch(slot, context, |slot, turn| {
            slot.spawned(id, turn);
            Upshot::Nothing
        });
    }

    /// Asks for a reload; while one is in progress it is remembered once.
    pub(super) fn reload(&mut self, context: &mut Context) {
        if self.rollout.is_none() {
            self.begin_reload(context);
        } else if !self.queued {
            self.queued = true;
            context.report(Report::ReloadQueued { app: self.id });
        }
    }

    fn begin_reload(&mut self, context: &mut Context) {
        self.queued = false;
        self.newest += 1;
        let generation = self.newest;
        self.rollout = Some(Rollout { target: generation, since: context.now, prepared: false });
        context.report(Report::Reloading { app: self.id, generation });
        context.effects.push(Effect::Prepare(self.id, generation));
    }

    pub(super) fn prepared(&mut self, generation: u32, result: Result<(), String>, context: &mut Context) {
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.target == generation) {
            match result {
                Ok(()) => rollout.prepared = true,
                Err(reason) => self.fail_reload(RolloutError::Prepare(reason), context),
            }
        }
    }

    /// Ends the reload where it stands: what is new and in its place stays, what is old and runs stays.
    pub(super) fn fail_reload(&mut self, trouble: RolloutError, context: &mut Context) {
        if let Some(rollout) = self.rollout.take() {
            let mut turn = context.turn(&self.policy, self.proven);
            self.slots.iter_mut().for_each(|slot| slot.abandon_replacement(&mut turn));
            let took = context.now - rollout.since;
            context.report(Report::ReloadFailed { app: self.id, generation: rollout.target, trouble, took });
        }
    }

    fn finish_reload(&mut self, context: &mut Context) {
        if let Some(Rollout { target, since, .. }) = self.rollout.take() {
            self.settled = target;
            // Workers that have finished for good have nothing to replace; if ever, they start as what all others are.
            self.slots.iter_mut().for_each(|slot| slot.generation = target);
            context.report(Report::Reloaded { app: self.id, generation: target, took: context.now - since });
        }
    }

    /// Wants so many slots more or fewer, at least one.
    pub(super) fn scale(&mut self, by: i32, context: &mut Context) {
        let from = self.wanted();
        let to = from.saturating_add_signed(by).clamp(1, MOST_SLOTS.max(from));
        (from..to).for_each(|_| self.add_slot());
        (to..from).for_each(|_| self.drop_slot());
        if from != to {
            context.report(Report::Scaled { app: self.id, from, to });
        }
    }

    /// Takes back a slot that is on its way out, or adds the lowest number that is free.
    fn add_slot(&mut self) {
        let generation = self.settled;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.wish == Desired::Gone) {
            slot.wish = Desired::Up;
            slot.generation = generation;
            return;
        }
        let free = (0..).zip(&self.slots).take_while(|(number, slot)| *number == slot.id.index).count();
        self.slots.insert(free, Slot::new(SlotId { app: self.id, index: free as u32 }, generation));
    }

    /// Lets go the sickest slot, of equally healthy ones an outdated one, of those the one with the highest number.
    fn drop_slot(&mut self) {
        let newest = self.rollout.as_ref().map_or(self.settled, |rollout| rollout.target);
        let rank = |slot: &Slot| {
            let sickness = match &slot.place {
                SlotState::Held(worker) if worker.phase == Phase::Ready => 0,
                SlotState::Held(_) | SlotState::Vacant => 1,
                SlotState::Backoff(_) => 2,
                SlotState::Stopped | SlotState::Failed => 3,
            };
            (sickness, slot.generation < newest, slot.id.index)
        };
        let staying = self.slots.iter_mut().filter(|slot| slot.wish != Desired::Gone);
        if let Some(slot) = staying.max_by_key(|slot| rank(slot)) {
            slot.wish = Desired::Gone;
        }
    }

    /// Wants something else of a slot.
    pub(super) fn wish(&mut self, slot: usize, wish: Desired) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.wish = wish;
        }
    }

    /// Wants a worker in a slot that has none, now and with a clean slate.
    pub(super) fn start_slot(&mut self, slot: usize) {
        self.wish(slot, Desired::Up);
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.start_afresh();
        }
    }

    /// The same, and lets go of the one that is there.
    pub(super) fn restart_slot(&mut self, slot: usize, context: &mut Context) {
        self.start_slot(slot);
        let mut turn = context.turn(&self.policy, self.proven);
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.vacate(&mut turn);
        }
    }

    /// Closes the gap between what is wanted and what is.
    pub(super) fn reconcile(&mut self, context: &mut Context) {
        if matches!(self.wish, Wanted::UpUntil(time) if time <= context.now) {
            self.wish = Wanted::Down;
        }
        let mut turn = context.turn(&self.policy, self.proven);
        if self.wish == Wanted::Down {
            self.slots.iter_mut().for_each(|slot| slot.stop(&mut turn));
            return;
        }
        self.slots.iter_mut().filter(|slot| slot.wish != Desired::Up).for_each(|slot| slot.stop(&mut turn));
        self.slots.retain(|slot| slot.wish != Desired::Gone || !slot.is_empty());
        self.slots.iter_mut().for_each(|slot| slot.take_over_if_due(&mut turn));
        if self.rollout.as_ref().is_some_and(|rollout| rollout.advance(&mut self.slots, &mut turn)) {
            self.finish_reload(context);
        }
        if self.rollout.is_none() && self.queued {
            self.begin_reload(context);
        }
        let mut turn = context.turn(&self.policy, self.proven);
        let up = self.slots.iter_mut().filter(|slot| slot.wish == Desired::Up);
        up.for_each(|slot| slot.start_if_due(&mut turn));
    }

    /// Ends the reload at once, and the workers after the drain delay.
    pub(super) fn stop(&mut self, context: &mut Context) {
        self.queued = false;
        self.fail_reload(RolloutError::Stopped, context);
        self.wish = Wanted::UpUntil(context.now + self.policy.drain_delay);
    }

    /// Kills all that runs.
    pub(super) fn kill(&mut self, context: &mut Context) {
        self.wish = Wanted::Down;
        let mut turn = context.turn(&self.policy, self.proven);
        self.slots.iter_mut().for_each(|slot| slot.kill(&mut turn));
    }
}

impl Context<'_> {
    fn turn<'a>(&'a mut self, policy: &'a Policy, proven: bool) -> Turn<'a> {
        let Context { now, last_worker, dice, effects } = self;
        Turn { now: *now, policy, proven, last_worker, dice, effects }
    }

    pub(super) fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }
}
