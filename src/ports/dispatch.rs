//! Who gets the next connection: a plain function of what the workers have got and what they owe.
//!
//! Round robin, since that alone spreads connections that stay (keep-alive) evenly: nobody gets more than one connection
//! ahead of another. Few are on their way to a worker at any time, so that few wait with one that stops answering; and one
//! that has not answered for a while is passed over until it does.

use std::time::Duration;

/// How a worker stands with one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Connections that it was given.
    pub given: u64,
    /// Connections that are on their way to it: it has not answered for them, whichever listener's they are.
    pub unanswered: usize,
    /// How long the oldest of them waits.
    pub oldest: Duration,
    /// Its channel takes no more for now.
    pub full: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The worker at that position.
    Of(usize),
    /// Nobody's, until somebody answers, or that time has passed.
    Later(Duration),
    /// Nobody's, until somebody answers.
    Nobodys,
}

/// So many connections at most are on their way to one worker.
const WINDOW: usize = 16;
/// A worker that has not answered for so long is blocked.
const BLOCKED: Duration = Duration::from_millis(20);
/// So many connections a worker may be ahead of another that is not blocked.
const AHEAD: u64 = 1;

impl Standing {
    fn is_blocked(&self) -> bool {
        self.unanswered > 0 && self.oldest >= BLOCKED
    }

    fn can_take(&self) -> bool {
        !self.full && self.unanswered < WINDOW && !self.is_blocked()
    }
}

/// Whose turn it is, after the worker at position `last`. One that was passed over does not get later what it missed.
pub fn choose(workers: &mut [Standing], last: usize) -> Turn {
    let awake = || workers.iter().filter(|worker| !worker.is_blocked());
    let Some(least) = awake().map(|worker| worker.given).min() else { return Turn::Nobodys };
    let patience = awake().filter(|worker| worker.unanswered > 0).map(|worker| BLOCKED - worker.oldest).min();
    for worker in workers.iter_mut().filter(|worker| worker.is_blocked()) {
        worker.given = worker.given.max(least);
    }
    let count = workers.len();
    let takes = |at: &usize| workers.get(*at).is_some_and(|worker| worker.can_take() && worker.given < least + AHEAD);
    // Who has got least has the turn; of several, the next after the last one.
    let in_turn = || (1..=count).map(|step| (last + step) % count).filter(takes);
    match in_turn().min_by_key(|at| workers.get(*at).map(|worker| worker.given)) {
        Some(at) => Turn::Of(at),
        None => patience.map_or(Turn::Nobodys, Turn::Later),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(given: u64, unanswered: usize, oldest: u64) -> Standing {
        Standing { given, unanswered, oldest: Duration::from_millis(oldest), full: false }
    }

    #[test]
    fn connections_that_stay_are_spread_evenly_whoever_answers_first() {
        let mut workers = [worker(0, 0, 0); 4];
        let mut last = 3;
        for step in 0..64 {
            match choose(&mut workers, last) {
                Turn::Of(at) => {
                    workers[at].given += 1;
                    workers[at].unanswered += 1;
                    last = at;
                }
                // Only the first one answers soon.
                _ => workers[if step % 3 == 0 { 1 } else { 0 }].unanswered = 0,
            }
        }
        let given = workers.map(|worker| worker.given);
        assert!(given.iter().max().unwrap() - given.iter().min().unwrap() <= 1, "{given:?}");
    }

    #[test]
    fn a_worker_that_does_not_answer_holds_the_others_up_for_a_moment_only() {
        let mut workers = [worker(9, WINDOW, 15), worker(9, 0, 0)];
        assert_eq!(choose(&mut workers, 0), Turn::Of(1), "it may be one ahead");
        workers[1].given = 10;
        assert_eq!(choose(&mut workers, 1), Turn::Later(Duration::from_millis(5)));
        workers[0].oldest = Duration::from_millis(20);
        assert_eq!(choose(&mut workers, 1), Turn::Of(1), "it is blocked, and passed over");
        assert_eq!(workers[0].given, 10, "what it missed it does not get later");
    }

    #[test]
    fn when_all_are_blocked_it_waits_for_an_answer() {
        assert_eq!(choose(&mut [worker(0, 1, 30), worker(0, 3, 20)], 0), Turn::Nobodys);
        assert_eq!(choose(&mut [], 0), Turn::Nobodys);
        assert_eq!(choose(&mut [Standing { full: true, ..worker(0, 0, 0) }], 0), Turn::Nobodys);
    }
}
