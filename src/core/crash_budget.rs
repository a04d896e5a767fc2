//! Decides whether and when a slot's next worker starts, by the restart policy and the crashes in a row.

use super::*;

/// A slot's crashes in a row, and the only place that decides what follows the end of its worker.
#[derive(Clone, Debug, Default)]
pub struct CrashBudget {
    /// Crashes in a row since the last stable life.
    crashes: u32,
    /// Forks in a row that the kernel refused.
    refusals: u32,
}

/// The end of a slot's worker, as the restart policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is not wanted any more: it was asked to go, or its slot or app was while it ended.
    Unwanted,
    /// It exited by itself, after this long; `was_ready`: it had become ready.
    Exited { exit: Exit, lived: Time, was_ready: bool },
    /// It was stopped because it was not ready in time.
    NotReady,
    /// Its program could not be run; `has_run`: a program of this app has run before.
    NoProgram { has_run: bool },
    /// The kernel had no room for a process: nothing that the app could be blamed for.
    NoRoom,
}

/// The bounds of the wait after a fork that the kernel refused: a worker is back within a second of the shortage's end.
const MIN_WAIT_FOR_ROOM: Time = Time::from_millis(10);
const MAX_WAIT_FOR_ROOM: Time = Time::from_millis(800);

impl CrashBudget {
    /// The crashes in a row since the last stable life.
    pub(super) fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Forgets the crashes: a worker has lived long enough.
    pub(super) fn on_stable(&mut self) {
        self.crashes = 0;
    }

    /// Forgets the refused forks: the kernel has forked.
    pub(super) fn on_forked(&mut self) {
        self.refusals = 0;
    }

    /// Decides what follows the end of a worker.
    pub(super) fn next(&mut self, end: &End, policy: &Policy, jitter: &mut Jitter) -> Next {
        match end {
            End::Unwanted => Next::Gone,
            End::NoRoom => {
                let wait = policy.backoff.delay(self.refusals, jitter.sample());
                self.refusals = self.refusals.saturating_add(1);
                Next::Backoff { wait: wait.clamp(MIN_WAIT_FOR_ROOM, MAX_WAIT_FOR_ROOM), crashes: 0 }
            }
            End::NoProgram { has_run: false } => Next::GiveUp { crashes: 1 },
            End::Exited { exit, .. } if !restarts_after(exit, policy) => Next::Finished,
            End::Exited { lived, was_ready: true, .. } if *lived >= stable_after(policy) => {
                self.crashes = 0;
                Next::Restart
            }
            End::NoProgram { .. } | End::NotReady if policy.restart == Restart::Never => {
                Next::GiveUp { crashes: self.crashes.saturating_add(1) }
            }
            End::Exited { .. } | End::NotReady | End::NoProgram { .. } => self.on_crash(policy, jitter),
        }
    }

    fn on_crash(&mut self, policy: &Policy, jitter: &mut Jitter) -> Next {
        let Policy { max_restarts, backoff, .. } = policy;
        if *max_restarts > 0 && self.crashes >= *max_restarts {
            return Next::GiveUp { crashes: self.crashes + 1 };
        }
        let wait = backoff.delay(self.crashes, jitter.sample());
        self.crashes = self.crashes.saturating_add(1);
        Next::Backoff { wait, crashes: self.crashes }
    }
}

fn restarts_after(exit: &Exit, policy: &Policy) -> bool {
    let may = match policy.restart {
        Restart::Always => true,
        Restart::OnFailure => exit.kind != ExitKind::Code(0),
        Restart::Never => false,
    };
    may && !matches!(exit.kind, ExitKind::Code(code) if policy.stop_exit_codes.contains(&code))
}

/// The life that counts as stable. A shorter one than the shortest backoff never does, so that nothing is restarted faster.
fn stable_after(policy: &Policy) -> Time {
    policy.stable_after.max(policy.backoff.delay(0, 1.0))
}
