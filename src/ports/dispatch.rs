//! Who gets the next connection: a plain function of what the workers owe.
//!
//! Round robin, since that alone spreads connections that stay (keep-alive) evenly. It passes over a worker that has not
//! answered for a while, or owes many more answers than another: it is blocked, and a connection given to it would wait
//! where another worker could serve it.

use std::time::Duration;

/// What a worker owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debt {
    /// Connections that were handed to it and that it has not answered for.
    pub unanswered: usize,
    /// How long the oldest of them waits.
    pub oldest: Duration,
    /// It has no room for another: its channel is full, or it has just refused one.
    pub full: bool,
}

/// At most so many connections are unanswered by one worker.
pub const WINDOW: usize = 128;
/// A worker that owes so many more answers than another is passed over.
const AHEAD: usize = 8;
/// A worker that has not answered for so long is blocked.
const BLOCKED: Duration = Duration::from_millis(20);

impl Debt {
    fn can_take(&self) -> bool {
        !self.full && self.unanswered < WINDOW && (self.unanswered == 0 || self.oldest < BLOCKED)
    }
}

/// The position, among `debts`, of the worker whose turn it is; `last` is the position that had the turn before. `None`:
/// the connection waits until one of them answers.
pub fn choose(debts: &[Debt], last: usize) -> Option<usize> {
    let least = debts.iter().filter(|debt| debt.can_take()).map(|debt| debt.unanswered).min()?;
    let count = debts.len();
    (1..=count)
        .map(|step| (last + step) % count)
        .find(|at| debts.get(*at).is_some_and(|debt| debt.can_take() && debt.unanswered <= least + AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owes(unanswered: usize, oldest: u64) -> Debt {
        Debt { unanswered, oldest: Duration::from_millis(oldest), full: false }
    }

    #[test]
    fn connections_that_stay_are_spread_evenly() {
        let mut given = [0; 4];
        let mut last = 3;
        for _ in 0..64 {
            last = choose(&[owes(0, 0); 4], last).unwrap();
            given[last] += 1;
        }
        assert_eq!(given, [16; 4]);
    }

    #[test]
    fn a_blocked_worker_is_passed_over() {
        assert_eq!(choose(&[owes(1, 30), owes(0, 0)], 1), Some(1), "it has not answered for long");
        assert_eq!(choose(&[owes(12, 5), owes(3, 1)], 1), Some(1), "it owes many more than the other");
        assert_eq!(choose(&[owes(11, 5), owes(3, 1)], 1), Some(0), "a few more are a matter of timing");
        assert_eq!(choose(&[Debt { full: true, ..owes(0, 0) }, owes(100, 1)], 1), Some(1));
    }

    #[test]
    fn when_all_are_blocked_it_waits() {
        assert_eq!(choose(&[owes(1, 30), owes(WINDOW, 0)], 0), None);
        assert_eq!(choose(&[], 0), None);
    }
}
