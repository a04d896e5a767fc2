//! Decides which workers are replaced because of the memory that they use.

use super::*;

/// The memory that a worker's processes may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes.
    Bytes(u64),
    /// A share of the container's memory, in percent: 1 to 100.
    Percent(u8),
}

/// The life after which a worker may be replaced because the container's memory runs short. One that is younger and as big
/// needs that much from its start, and a new one would be no smaller.
const MIN_LIFE_AT_SHORTAGE: Time = Time::from_secs(300);
/// The life after which a worker that uses more than its limit has grown; a younger one needs that much from its start.
const GROWN_AFTER: Time = Time::from_secs(60);
/// The time after a replacement for its memory before a worker is replaced for that again.
const RETRY_AFTER: Time = Time::from_secs(30);
/// The longest wait before a worker that needs more than its limit from the start is replaced.
const MAX_WAIT: Time = Time::from_secs(900);

/// The number of a slot's workers in a row that used more than their limit soon after their start.
///
/// A new worker does not help an app that needs more than its limit: each is left alone for twice as long as the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryBackoff {
    oversized: u32,
}

impl MemoryBackoff {
    /// Returns the wait before the replacement of a worker that uses too much at that age, and the number of those before it.
    fn next(&mut self, age: Time) -> (Time, u32) {
        if age >= GROWN_AFTER {
            self.oversized = 0;
        }
        let before = self.oversized;
        self.oversized = before.saturating_add(1);
        let wait = match before.checked_sub(1) {
            None => Time::ZERO,
            Some(doublings) => RETRY_AFTER.saturating_mul(2u32.saturating_pow(doublings)).min(MAX_WAIT),
        };
        (wait, before)
    }
}

impl MemoryLimit {
    /// The limit in bytes, in a container that may use that many. A share of what is not known is no limit.
    pub fn bytes(self, container: Option<u64>) -> Option<u64> {
        match self {
            MemoryLimit::Bytes(bytes) => Some(bytes),
            MemoryLimit::Percent(percent) => {
                let share = u128::from(container?) * u128::from(percent) / 100;
                u64::try_from(share).ok()
            }
        }
    }
}

/// Replaces workers that use more than they may; or, when the container is nearly out of memory, the biggest of all.
pub(super) fn on_sample(apps: &mut [App], sample: &UsageSample, context: &mut Context) {
    apps.iter_mut().for_each(|app| app.replace_oversized(sample, context));
    let reasons = [RolloutReason::Memory, RolloutReason::MemoryShortage];
    let is_under_way = apps.iter().any(|app| reasons.iter().any(|reason| app.is_replacing(*reason)));
    if !sample.is_nearly_out_of_memory() || is_under_way {
        return;
    }
    let now = context.now;
    let biggest = apps.iter().enumerate().flat_map(|(at, app)| {
        let holders = app.slots.iter().filter_map(Slot::holder).filter(|worker| worker.is_ready());
        let may_go = move |worker: &Worker| worker.may_be_replaced(now) && now >= worker.started + MIN_LIFE_AT_SHORTAGE;
        holders.filter_map(move |worker| Some((sample.workers.get(&worker.id)?.memory, worker.id, at, may_go(worker))))
    });
    // If the biggest has just been replaced, or could not be, no smaller one helps.
    let Some((used, worker, at, true)) = biggest.max() else { return };
    if let Some(app) = apps.get_mut(at) {
        let reason = RolloutReason::MemoryShortage;
        app.replace_for_memory(worker, Replacement { worker, reason, drain_first: true }, context, |slot| {
            Report::MemoryShort { slot, worker, used, container: sample.memory_used, limit: sample.memory_limit }
        });
    }
}

impl App {
    /// Replaces the workers that use more than the app's limit. The new one comes first where both have room.
    fn replace_oversized(&mut self, sample: &UsageSample, context: &mut Context) {
        let now = context.now;
        let mut oversized = Vec::new();
        for slot in &mut self.slots {
            let Slot { id, policy, state: SlotState::Held(worker), memory_backoff, .. } = slot else { continue };
            let Some(limit) = policy.max_memory.and_then(|limit| limit.bytes(sample.memory_limit)) else { continue };
            let Some(used) = sample.workers.get(&worker.id).map(|usage| usage.memory) else { continue };
            if !worker.is_ready() {
                continue;
            }
            let first = *worker.first_memory.get_or_insert(used);
            if used <= limit {
                continue;
            }
            let due = *worker.oversized_until.get_or_insert_with(|| {
                let (wait, before) = memory_backoff.next(now - worker.started);
                if !wait.is_zero() {
                    context.report(Report::OversizedAgain { slot: *id, worker: worker.id, used, limit, before, wait });
                }
                now + wait
            });
            if due <= now && worker.may_be_replaced(now) {
                let drain_first = sample.free_memory().is_some_and(|free| free < first);
                oversized.push((worker.id, used, limit, drain_first));
            }
        }
        for (worker, used, limit, drain_first) in oversized {
            let replacement = Replacement { worker, reason: RolloutReason::Memory, drain_first };
            self.replace_for_memory(worker, replacement, context, |slot| Report::Oversized {
                slot,
                worker,
                used,
                limit,
                drain_first,
            });
        }
    }

    fn replace_for_memory(
        &mut self,
        worker: WorkerId,
        replacement: Replacement,
        context: &mut Context,
        report: impl FnOnce(SlotId) -> Report,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.holder().is_some_and(|one| one.id == worker)) else {
            return;
        };
        if let Some(worker) = slot.holder_mut() {
            worker.replace_again_at = context.now + RETRY_AFTER;
        }
        let id = slot.id;
        context.report(report(id));
        self.replace(id.index, replacement);
    }
}
