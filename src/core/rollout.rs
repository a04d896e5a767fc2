//! Plans a rollout: the set of slots whose workers are to be replaced, the reason, and which of them may go now.

use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rollout in progress.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The reason.
    pub reason: RolloutReason,
    /// The generation that the replacements run.
    pub generation: u32,
    /// The settings of that generation.
    pub policy: Arc<Policy>,
    /// The time at which it began.
    pub since: Time,
    /// True once what the generation needs is read.
    pub is_prepared: bool,
    /// The apps whose own reloads come first.
    pub waits_for: Vec<AppId>,
    /// The order of a new worker's start and the old one's stop.
    pub order: Reload,
    /// The slots that still have the worker which is to be replaced; of a new generation, those that are outdated.
    pending: BTreeMap<u32, Option<WorkerId>>,
}

/// The reason for which workers are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolloutReason {
    /// A new generation of the whole app (`SIGHUP`, `rinit reload`).
    Reload,
    /// An operator asked for a new process in this slot.
    Requested,
    /// The worker does not answer its liveness probe any more.
    Liveness,
    /// The worker uses more memory than it may (`max_memory`).
    Memory,
    /// The container is nearly out of memory, and the worker is the biggest.
    MemoryShortage,
    /// The worker has lived long enough (`max_uptime`).
    Uptime,
}

/// The progress of a rollout.
#[derive(Debug)]
pub(super) enum Progress {
    /// Some of it is pending or under way.
    UnderWay,
    /// Nothing is left to do.
    Done,
    /// It cannot go on.
    Failed(RolloutError),
}

/// Workers that wait to be replaced, each for a reason, while a rollout is in progress.
pub(super) type Replacements = BTreeMap<u32, Replacement>;

/// One worker that is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) worker: WorkerId,
    pub(super) reason: RolloutReason,
    /// Both together have no room: the old one stops first.
    pub(super) drain_first: bool,
}

impl Replacement {
    /// A replacement in the order that the app's settings have.
    pub(super) fn new(worker: WorkerId, reason: RolloutReason) -> Replacement {
        Replacement { worker, reason, drain_first: false }
    }
}

impl Rollout {
    /// A rollout of a new generation to every slot.
    pub(super) fn reload(generation: u32, policy: Arc<Policy>, now: Time) -> Rollout {
        let order = policy.reload;
        Rollout {
            reason: RolloutReason::Reload,
            generation,
            policy,
            since: now,
            is_prepared: false,
            waits_for: Vec::new(),
            order,
            pending: BTreeMap::new(),
        }
    }

    /// A replacement of one worker by another of the same generation.
    pub(super) fn replacement(slot: &Slot, replacement: Replacement, now: Time) -> Rollout {
        let Replacement { worker, reason, drain_first } = replacement;
        Rollout {
            reason,
            generation: slot.generation,
            policy: slot.policy.clone(),
            since: now,
            is_prepared: true,
            waits_for: Vec::new(),
            order: if drain_first { Reload::Restart } else { slot.policy.reload },
            pending: BTreeMap::from([(slot.id.index, Some(worker))]),
        }
    }

    /// The slots that are still to be replaced.
    pub fn pending(&self) -> impl Iterator<Item = u32> {
        self.pending.keys().copied()
    }

    /// A slot's replacement has taken over.
    pub(super) fn on_replaced(&mut self, slot: u32) {
        self.pending.remove(&slot);
    }

    /// Starts as many replacements as may be under way.
    pub(super) fn advance(&mut self, slots: &mut [Slot], profile: &Profile, context: &mut Context) -> Progress {
        if !self.is_prepared || !self.waits_for.is_empty() {
            return Progress::UnderWay;
        }
        if profile.is_held {
            slots.iter_mut().for_each(|slot| slot.adopt(self));
            return Progress::Done;
        }
        match self.policy.kind {
            Kind::Service => self.replace(slots, profile, context),
            Kind::Task => self.run_again(slots),
        }
    }

    /// Runs a task again, once it has ended.
    fn run_again(&mut self, slots: &mut [Slot]) -> Progress {
        for slot in slots.iter_mut().filter(|slot| slot.generation < self.generation && slot.is_at_rest()) {
            slot.adopt(self);
            if slot.desired == Desired::Up {
                slot.start_afresh();
            }
        }
        let mut wanted = slots.iter().filter(|slot| slot.desired == Desired::Up);
        if wanted.clone().any(|slot| !slot.is_at_rest()) {
            return Progress::UnderWay;
        }
        match wanted.find(|slot| !slot.has_succeeded()) {
            Some(slot) => Progress::Failed(RolloutError::Task { slot: slot.id, exit: slot.last_exit }),
            None => Progress::Done,
        }
    }

    fn replace(&mut self, slots: &mut [Slot], profile: &Profile, context: &mut Context) -> Progress {
        self.refresh(slots);
        let reload = self.order;
        let width = match reload {
            Reload::Rolling(width) => width as usize,
            Reload::Restart => 1,
        };
        let is_pending = |slot: &Slot| self.pending.contains_key(&slot.id.index);
        let is_emptied = |slot: &Slot| is_pending(slot) && slot.holder().is_some_and(Worker::is_leaving);
        let is_under_way = |slot: &&Slot| {
            let overlaps = slot.incoming.is_some() || slot.outgoing.is_some();
            overlaps || reload == Reload::Restart && is_emptied(slot)
        };
        let under_way = slots.iter().filter(is_under_way).count();
        let pending = slots.iter_mut().filter(|slot| is_pending(slot));
        // A place that was emptied for its replacement comes before any other.
        let (emptied, held): (Vec<&mut Slot>, Vec<&mut Slot>) =
            pending.partition(|slot| slot.state == SlotState::Vacant);
        let is_done = under_way == 0 && emptied.is_empty() && held.is_empty();
        let may_begin =
            emptied.into_iter().chain(held).filter(|slot| slot.incoming.is_none() && slot.outgoing.is_none());
        for slot in may_begin.take(width.saturating_sub(under_way)) {
            match reload {
                Reload::Rolling(_) => slot.start_replacement(self, profile, context),
                Reload::Restart => {
                    slot.vacate(profile, context);
                    if slot.state == SlotState::Vacant {
                        slot.start_replacement(self, profile, context);
                    }
                }
            }
        }
        if is_done { Progress::Done } else { Progress::UnderWay }
    }

    /// Brings the set of pending slots up to date: slots come and go, and workers end by themselves.
    fn refresh(&mut self, slots: &[Slot]) {
        // A slot whose worker finished for good has nothing to replace.
        let can_be_replaced = |slot: &&Slot| slot.desired == Desired::Up && slot.state != SlotState::Stopped;
        let candidates = slots.iter().filter(can_be_replaced);
        match self.reason {
            RolloutReason::Reload => {
                let outdated = candidates.filter(|slot| slot.generation < self.generation);
                // Not by collect(), which would sort first: a larger program.
                self.pending.clear();
                self.pending.extend(outdated.map(|slot| (slot.id.index, None)));
            }
            RolloutReason::Requested
            | RolloutReason::Liveness
            | RolloutReason::Memory
            | RolloutReason::MemoryShortage
            | RolloutReason::Uptime => {
                let still_has = |slot: &Slot, worker: Option<WorkerId>| {
                    slot.incoming.is_some()
                        || slot.state == SlotState::Vacant
                        || slot.holder().map(|holder| holder.id) == worker
                };
                self.pending.retain(|index, worker| {
                    let slot = candidates.clone().find(|slot| slot.id.index == *index);
                    slot.is_some_and(|slot| still_has(slot, *worker))
                });
            }
        }
    }
}
