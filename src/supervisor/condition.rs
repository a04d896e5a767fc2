//! Judges the condition of an app from its slots: ready, starting, degraded, crash-looping or down.

/// The crashes in a row from which on a worker is called crash-looping.
const CRASH_LOOPING_FROM: u32 = 3;

/// The facts about a slot whose worker is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotFacts {
    pub is_ready: bool,
    /// Crashes in a row.
    pub crashes: u32,
    /// True if its worker has lived long enough since its last crash.
    pub is_stable: bool,
    /// True if it is not started again.
    pub has_failed: bool,
}

impl SlotFacts {
    /// True if its workers crash again and again.
    pub fn is_crash_looping(self) -> bool {
        self.crashes >= CRASH_LOOPING_FROM && !self.is_stable && !self.has_failed
    }
}

/// The condition of an app with these slots, in a word.
pub(super) fn condition(slots: &[SlotFacts]) -> &'static str {
    let has_crashed = |slot: &SlotFacts| slot.has_failed || slot.crashes > 0 && !slot.is_stable;
    let missing: Vec<&SlotFacts> = slots.iter().filter(|slot| !slot.is_ready).collect();
    if slots.is_empty() {
        "idle"
    } else if slots.iter().any(|slot| slot.is_crash_looping()) {
        "crash-looping"
    } else if missing.is_empty() {
        "ready"
    } else if !missing.iter().any(|slot| has_crashed(slot)) {
        "starting"
    } else if missing.len() == slots.len() {
        "down"
    } else {
        "degraded"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_of_an_app_is_that_of_its_worst_worker() {
        let ready = SlotFacts { is_ready: true, crashes: 0, is_stable: true, has_failed: false };
        let starting = SlotFacts { is_ready: false, is_stable: false, ..ready };
        let crashed = SlotFacts { crashes: 1, ..starting };
        let looping = SlotFacts { crashes: 3, ..starting };
        let failed = SlotFacts { crashes: 16, has_failed: true, ..starting };
        assert_eq!(condition(&[]), "idle");
        assert_eq!(condition(&[ready, SlotFacts { crashes: 9, ..ready }]), "ready", "it has been stable since");
        assert_eq!(condition(&[ready, SlotFacts { is_ready: true, ..looping }]), "crash-looping", "ready for a moment");
        assert_eq!(condition(&[ready, starting]), "starting");
        assert_eq!(condition(&[ready, crashed]), "degraded");
        assert_eq!(condition(&[crashed, starting]), "down");
        assert_eq!(condition(&[ready, looping, failed]), "crash-looping");
        assert_eq!([condition(&[ready, failed]), condition(&[failed])], ["degraded", "down"]);
    }
}
