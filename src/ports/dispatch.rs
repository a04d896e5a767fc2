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

/// So many connections at most are on their way to one worker; one alone while another worker is idle.
const WINDOW: usize = 16;
/// A worker that has not answered for so long is blocked; while another is idle, for so long.
const BLOCKED: Duration = Duration::from_millis(20);
const BLOCKED_ALONE: Duration = Duration::from_millis(5);
/// So many connections a worker may be ahead of another that is not blocked.
const AHEAD: u64 = 1;

/// How many may be on their way to each of these workers, and after how long one that has not answered is blocked.
fn terms(workers: &[Standing]) -> (usize, Duration) {
    let one_is_idle = workers.iter().any(|worker| worker.unanswered == 0 && !worker.full);
    if one_is_idle { (1, BLOCKED_ALONE) } else { (WINDOW, BLOCKED) }
}

impl Standing {
    fn is_awake(&self, patience: Duration) -> bool {
        self.unanswered == 0 || self.oldest < patience
    }
}

/// The positions of workers that are blocked while another one is not.
pub fn blocked(workers: &[Standing]) -> Vec<usize> {
    let (_, patience) = terms(workers);
    let (awake, blocked): (Vec<_>, Vec<_>) = (0..).zip(workers).partition(|(_, worker)| worker.is_awake(patience));
    if awake.is_empty() { Vec::new() } else { blocked.into_iter().map(|(at, _)| at).collect() }
}

/// When the next of these workers will be blocked, if it does not answer.
pub fn until_blocked(workers: &[Standing]) -> Option<Duration> {
    let (_, patience) = terms(workers);
    let owing = workers.iter().filter(|worker| worker.unanswered > 0 && worker.oldest < patience);
    owing.map(|worker| patience - worker.oldest).min()
}

/// Whose turn it is, after the worker at position `last`: a position, or nobody's until one answers or is blocked. One that
/// was passed over does not get later what it missed.
pub fn choose(workers: &mut [Standing], last: usize) -> Option<usize> {
    let (window, patience) = terms(workers);
    let is_awake = |worker: &&Standing| worker.is_awake(patience);
    let least = workers.iter().filter(is_awake).map(|worker| worker.given).min()?;
    for worker in workers.iter_mut().filter(|worker| !is_awake(&&**worker)) {
        worker.given = worker.given.max(least);
    }
    let takes = |at: &usize| {
        let worker = workers.get(*at).filter(|worker| is_awake(worker) && !worker.full && worker.unanswered < window);
        worker.is_some_and(|worker| worker.given < least + AHEAD)
    };
    let count = workers.len();
    (1..=count).map(|step| (last + step) % count).find(takes)
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
    fn while_another_is_idle_one_that_owes_an_answer_gets_no_second_connection() {
        let mut workers = [worker(4, 1, 1), worker(5, 0, 0)];
        assert_eq!(choose(&mut workers, 1), None, "it may answer soon");
        assert_eq!(until_blocked(&workers), Some(Duration::from_millis(4)));
        workers[0].oldest = Duration::from_millis(5);
        assert_eq!(choose(&mut workers, 1), Some(1));
    }

    #[test]
    fn when_all_are_blocked_it_waits_for_an_answer() {
        assert_eq!(choose(&mut [worker(0, 1, 30), worker(0, 3, 20)], 0), None);
        assert_eq!(choose(&mut [], 0), None);
        assert_eq!(choose(&mut [Standing { full: true, ..worker(0, 0, 0) }], 0), None);
    }

    #[test]
    fn only_while_another_is_awake_is_one_told_blocked() {
        assert_eq!(blocked(&[worker(0, 1, 4), worker(0, 0, 0), worker(0, 1, 5)]), [2]);
        assert_eq!(blocked(&[worker(0, 1, 19), worker(0, 3, 20)]), [1]);
        assert!(blocked(&[worker(0, 1, 20), worker(0, 3, 20)]).is_empty());
        assert!(blocked(&[]).is_empty());
    }
}
