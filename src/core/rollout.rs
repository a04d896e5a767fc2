//! The reload in progress: which outdated slots may get their replacement now.

use super::*;
use worker::Turn;

/// A reload in progress.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The generation that every slot is to run.
    pub target: u32,
    /// When it began.
    pub since: Time,
    /// Whether what the new generation needs is read, and replacing can begin.
    pub prepared: bool,
}

impl Rollout {
    /// Starts as many replacements as may be under way. Tells whether every slot is new and nothing is under way.
    pub(super) fn advance(&self, slots: &mut [Slot], turn: &mut Turn) -> bool {
        if !self.prepared {
            return false;
        }
        let width = match turn.policy.reload {
            Reload::Rolling(width) => width as usize,
            Reload::Restart => 1,
        };
        let is_emptied = |slot: &Slot| self.is_outdated(slot) && slot.holder().is_some_and(Worker::is_leaving);
        let is_under_way = |slot: &&Slot| {
            let overlaps = slot.incoming.is_some() || slot.outgoing.is_some();
            overlaps || turn.policy.reload == Reload::Restart && is_emptied(slot)
        };
        let under_way = slots.iter().filter(is_under_way).count();
        let outdated = slots.iter_mut().filter(|slot| self.is_outdated(slot));
        // A place that was emptied for its replacement comes before any other.
        let (emptied, held): (Vec<&mut Slot>, Vec<&mut Slot>) =
            outdated.partition(|slot| slot.place == SlotState::Vacant);
        let done = under_way == 0 && emptied.is_empty() && held.is_empty();
        let may_begin =
            emptied.into_iter().chain(held).filter(|slot| slot.incoming.is_none() && slot.outgoing.is_none());
        for slot in may_begin.take(width.saturating_sub(under_way)) {
            match turn.policy.reload {
                Reload::Rolling(_) => slot.start_replacement(self.target, turn),
                Reload::Restart => {
                    slot.vacate(turn);
                    if slot.place == SlotState::Vacant {
                        slot.start_replacement(self.target, turn);
                    }
                }
            }
        }
        done
    }

    /// A slot whose worker finished for good has nothing to replace.
    fn is_outdated(&self, slot: &Slot) -> bool {
        slot.wish == Desired::Up && slot.generation < self.target && slot.place != SlotState::Stopped
    }
}
