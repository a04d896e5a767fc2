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

/// So many connections at most are on their way to one worker.
const WINDOW: usize = 16;
/// A worker that has not answered for so long is passed over.
const BLOCKED: Duration = Duration::from_millis(20);
/// After so long what it has not taken is given to others. Longer than a busy machine lets a process wait for its turn:
/// connections that stay would be spread unevenly.
const GIVEN_UP: Duration = Duration::from_millis(50);
/// So many connections a worker may be ahead of another that is not blocked.
const AHEAD: u64 = 1;

impl Standing {
    fn is_awake(&self) -> bool {
        self.unanswered == 0 || self.oldest < BLOCKED
    }
}

/// Whose turn it is, after the worker at position `last`: a position, or nobody's until one answers or is blocked. One that
/// was passed over does not get later what it missed.
pub fn choose(workers: &mut [Standing], last: usize) -> Option<usize> {
    let awake = workers.iter().filter(|worker| worker.is_awake());
    let least = awake.map(|worker| worker.given).min()?;
    for worker in workers.iter_mut().filter(|worker| !worker.is_awake()) {
        worker.given = worker.given.max(least);
    }
    let takes = |worker: &Standing| {
        worker.is_awake() && !worker.full && worker.unanswered < WINDOW && worker.given < least + AHEAD
    };
    let count = workers.len();
    (1..=count).map(|step| (last + step) % count).find(|at| workers.get(*at).is_some_and(takes))
}

/// The positions of workers whose connections are to be given to others: there is one who answers.
pub fn given_up(workers: &[Standing]) -> Vec<usize> {
    let is_given_up = |worker: &Standing| worker.unanswered > 0 && worker.oldest >= GIVEN_UP;
    let others = workers.iter().any(Standing::is_awake);
    (0..).zip(workers).filter(|(_, worker)| others && is_given_up(worker)).map(|(at, _)| at).collect()
}

/// When the next of these workers will be passed over or given up, if it does not answer.
pub fn until_blocked(workers: &[Standing]) -> Option<Duration> {
    let owing = workers.iter().filter(|worker| worker.unanswered > 0).map(|worker| worker.oldest);
    owing
        .filter_map(|oldest| [BLOCKED, GIVEN_UP].into_iter().find(|limit| oldest < *limit).map(|limit| limit - oldest))
        .min()
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
        for step in 0..640 {
            match choose(&mut workers, last) {
                Some(at) => {
                    workers[at].given += 1;
                    workers[at].unanswered += 1;
                    last = at;
                }
                // The first two answer sooner than the others.
                _ => workers[[0, 1, 0, 1, 2, 3][step % 6]].unanswered = 0,
            }
        }
        let given = workers.map(|worker| worker.given);
        assert!(given.iter().max().unwrap() - given.iter().min().unwrap() <= 1, "{given:?}");
    }

    #[test]
    fn a_worker_that_does_not_answer_holds_the_others_up_for_a_moment_only() {
        let mut workers = [worker(9, 2, 15), worker(9, 1, 0)];
        assert_eq!(choose(&mut workers, 0), Some(1), "it may be one ahead");
        workers[1].given = 10;
        workers[0].unanswered = WINDOW;
        assert_eq!((choose(&mut workers, 1), until_blocked(&workers)), (None, Some(Duration::from_millis(5))));
        workers[0].oldest = Duration::from_millis(20);
        assert_eq!(choose(&mut workers, 1), Some(1), "it is blocked, and passed over");
        assert_eq!(workers[0].given, 10, "what it missed it does not get later");
    }

    #[test]
    fn when_all_are_blocked_it_waits_for_an_answer() {
        assert_eq!(choose(&mut [worker(0, 1, 30), worker(0, 3, 20)], 0), None);
        assert_eq!(choose(&mut [], 0), None);
        assert_eq!(choose(&mut [Standing { full: true, ..worker(0, 0, 0) }], 0), None);
    }

    #[test]
    fn only_while_another_answers_is_one_given_up() {
        assert_eq!(given_up(&[worker(0, 1, 50), worker(0, 0, 0), worker(0, 1, 49)]), [0]);
        assert!(given_up(&[worker(0, 1, 50), worker(0, 3, 20)]).is_empty());
        assert!(given_up(&[]).is_empty());
        assert_eq!(
            until_blocked(&[worker(0, 1, 20), worker(0, 1, 50), worker(0, 0, 0)]),
            Some(Duration::from_millis(30))
        );
    }
}
