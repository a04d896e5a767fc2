//! How the workers of a slot have fared, and what that means for the next one.

use super::*;
use worker::Turn;

/// Crashes and starts, counted.
#[derive(Clone, Debug, Default)]
pub struct CrashBudget {
    /// Crashes in a row since the last stable life.
    crashes: u32,
    /// Forks in a row that the kernel refused.
    refusals: u32,
}

/// The shortest and the longest wait after a fork that the kernel refused: a worker is back within a second of the shortage's end.
const SHORTEST_WAIT_FOR_ROOM: Time = Time::from_millis(10);
const LONGEST_WAIT_FOR_ROOM: Time = Time::from_millis(800);

impl CrashBudget {
    pub(super) fn crashes(&self) -> u32 {
        self.crashes
    }

    /// A worker has lived long enough.
    pub(super) fn is_stable(&mut self) {
        self.crashes = 0;
    }

    /// The kernel has forked.
    pub(super) fn has_room(&mut self) {
        self.refusals = 0;
    }

    /// A worker exited by itself.
    pub(super) fn exited(&mut self, exit: Exit, stable: bool, turn: &mut Turn) -> Next {
        let again = match turn.policy.restart {
            Restart::Always => true,
            Restart::OnFailure => exit.how != ExitKind::Code(0),
            Restart::Never => false,
        };
        let told_not_to = matches!(exit.how, ExitKind::Code(code) if turn.policy.stop_exit_codes.contains(&code));
        if again && !told_not_to { self.crashed(stable, turn) } else { Next::Finished }
    }

    /// A worker ended, and another one is wanted.
    pub(super) fn crashed(&mut self, stable: bool, turn: &mut Turn) -> Next {
        if stable {
            self.crashes = 0;
            return Next::Restart;
        }
        let Policy { max_restarts, backoff, .. } = turn.policy;
        if *max_restarts > 0 && self.crashes >= *max_restarts {
            return Next::GiveUp { crashes: self.crashes + 1 };
        }
        let wait = backoff.delay(self.crashes, turn.dice.throw());
        self.crashes = self.crashes.saturating_add(1);
        Next::Backoff { wait, crashes: self.crashes }
    }

    /// The kernel had no room for a process: nothing that the app could be blamed for.
    pub(super) fn refused(&mut self, turn: &mut Turn) -> Next {
        let wait = turn.policy.backoff.delay(self.refusals, turn.dice.throw());
        let wait = wait.clamp(SHORTEST_WAIT_FOR_ROOM, LONGEST_WAIT_FOR_ROOM);
        self.refusals = self.refusals.saturating_add(1);
        Next::Backoff { wait, crashes: 0 }
    }
}
