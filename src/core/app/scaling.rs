//! Adds and drops slots of an app.

use super::*;

impl App {
    /// Wants another number of slots, at least one.
    pub(in super::super) fn scale(&mut self, count: Count, context: &mut Context) {
        let from = self.wanted();
        let to = match count {
            Count::To(to) => to,
            Count::By(by) => from.saturating_add_signed(by),
        };
        let to = to.clamp(1, MAX_SLOTS.max(from));
        (from..to).for_each(|_| self.add_slot());
        (to..from).for_each(|_| self.drop_slot());
        if from != to {
            context.report(Report::Scaled { app: self.id, from, to });
        }
    }

    /// Takes back a slot that is on its way out, or adds the lowest number that is free.
    fn add_slot(&mut self) {
        let (generation, policy) = (self.settled, self.profile.policy.clone());
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.desired == Desired::Removed) {
            slot.desired = Desired::Up;
            (slot.generation, slot.policy) = (generation, policy);
            return;
        }
        let free = (0..).zip(&self.slots).take_while(|(number, slot)| *number == slot.id.index).count();
        let id = SlotId { app: self.id, index: free as u32 };
        self.slots.insert(free, Slot::new(id, generation, policy, self.common_expectation()));
    }

    /// The signals that every worker gives, if all are known and the same: a new slot's worker must give them too.
    fn common_expectation(&self) -> Option<Expectation> {
        let first = self.slots.first()?.expectation()?;
        self.slots.iter().all(|slot| slot.expectation() == Some(first)).then(|| first.clone())
    }

    /// Drops the least healthy slot; of equally healthy ones an outdated one; of those the one with the highest number.
    fn drop_slot(&mut self) {
        let newest = self.rollout.as_ref().map_or(self.settled, |rollout| rollout.generation);
        let rank = |slot: &Slot| {
            let illness = match &slot.state {
                SlotState::Held(worker) if worker.is_ready() => 0,
                SlotState::Held(_) | SlotState::Vacant => 1,
                SlotState::Backoff(_) => 2,
                SlotState::Stopped | SlotState::Failed => 3,
            };
            (illness, slot.generation < newest, slot.id.index)
        };
        let staying = self.slots.iter_mut().filter(|slot| slot.desired != Desired::Removed);
        if let Some(slot) = staying.max_by_key(|slot| rank(slot)) {
            slot.desired = Desired::Removed;
        }
    }
}
