//! Judges an app in which nothing will happen any more.

use super::*;

/// The result of an app in which nothing will happen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppResult {
    /// Every worker finished: the highest exit status.
    Finished(u8),
    /// Workers failed for good: the time and the exit status of the last one.
    Failed(Time, u8),
}

impl AppResult {
    /// True unless every worker has ended with 0.
    pub fn is_failure(self) -> bool {
        match self {
            AppResult::Finished(status) => status != 0,
            AppResult::Failed(..) => true,
        }
    }
}

impl App {
    /// Its result, once nothing will happen in it by itself any more. An app of which every slot was stopped by an operator
    /// has none: it waits for the operator.
    pub fn result(&self) -> Option<AppResult> {
        let is_reloading = self.rollout.is_some() || self.is_reload_queued;
        if self.is_removed || is_reloading || !self.is_at_rest() {
            return None;
        }
        Some(match self.last_failure.filter(|_| self.ended().any(|slot| slot.state == SlotState::Failed)) {
            Some((time, status)) => AppResult::Failed(time, status),
            None => {
                let statuses = self.ended().filter_map(|slot| slot.last_exit).map(|exit| exit.status());
                AppResult::Finished(statuses.max().unwrap_or(0))
            }
        })
    }

    /// True if every worker has ended for good, and not all of them because an operator stopped them.
    fn is_at_rest(&self) -> bool {
        self.slots.iter().all(Slot::is_at_rest) && self.ended().next().is_some()
    }

    /// The slots of an app at rest that no operator has stopped.
    fn ended(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.desired == Desired::Up)
    }

    /// True if every worker of a service has ended with 0 or with a status after which it is to stay away. What waits for a
    /// task needs its success.
    fn ended_as_expected(&self) -> bool {
        let Policy { kind, stop_exit_codes, .. } = self.policy();
        let is_expected = |exit: Exit| exit.status() == 0 || stop_exit_codes.contains(&exit.status());
        *kind == Kind::Service
            && self.ended().all(|slot| slot.state == SlotState::Stopped && slot.last_exit.is_some_and(is_expected))
    }

    /// True if it has ended and the container goes on without it: it has finished as it may, or its end is ignored. Neither
    /// the apps that come after it nor the container's readiness wait for it, also not while it is reloaded.
    pub fn is_over(&self) -> bool {
        self.is_at_rest() && (self.policy().on_exit == OnExit::Ignore || self.ended_as_expected())
    }

    /// Its result, if the container is to end because of it while others go on.
    pub(in super::super) fn decisive_result(&self) -> Option<AppResult> {
        let result = self.result()?;
        let Policy { kind, on_exit, .. } = self.policy();
        // A task that fails when it is run again fails a reload, and no start.
        let was_done = *kind == Kind::Task && self.has_been_up;
        let is_decisive = match on_exit {
            OnExit::Ignore => false,
            OnExit::End => true,
            OnExit::EndOnFailure => !was_done && result.is_failure() && !self.ended_as_expected(),
        };
        is_decisive.then_some(result)
    }
}
