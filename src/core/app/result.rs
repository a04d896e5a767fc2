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
        let is_at_rest = !self.is_removed && !is_reloading && self.slots.iter().all(Slot::is_at_rest);
        let ended = || self.slots.iter().filter(|slot| slot.desired == Desired::Up);
        if !is_at_rest || ended().next().is_none() {
            return None;
        }
        Some(match self.last_failure.filter(|_| ended().any(|slot| slot.state == SlotState::Failed)) {
            Some((time, status)) => AppResult::Failed(time, status),
            None => {
                let statuses = ended().filter_map(|slot| slot.last_exit).map(|exit| exit.status());
                AppResult::Finished(statuses.max().unwrap_or(0))
            }
        })
    }

    /// True if every worker of a service has ended with 0 or with a status after which it is to stay away. What waits for a
    /// task needs its success.
    pub(in super::super) fn ended_as_expected(&self) -> bool {
        let Policy { kind, stop_exit_codes, .. } = self.policy();
        let is_expected = |exit: Exit| exit.status() == 0 || stop_exit_codes.contains(&exit.status());
        let mut ended = self.slots.iter().filter(|slot| slot.desired == Desired::Up);
        *kind == Kind::Service
            && ended.all(|slot| slot.state == SlotState::Stopped && slot.last_exit.is_some_and(is_expected))
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
