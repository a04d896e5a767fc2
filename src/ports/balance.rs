//! Chooses the worker that gets the next connection: pure functions of what the workers were assigned and have accepted.
//!
//! Round robin alone spreads connections that stay (keep-alive) evenly: no worker gets more than one connection ahead of
//! another. Few connections are on their way to a worker at any time, so few wait when it stops responding. A worker that
//! has not responded for a while is skipped until it does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

/// `--balance`: how connections reach workers that share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// rinit hands them out in turn.
    RoundRobin,
    /// rinit accepts them and hands those of one client address to one worker.
    IpHash,
    /// A socket for each slot; the kernel spreads by the connections' addresses.
    Reuseport,
    /// Every worker accepts from one socket.
    Shared,
}

/// A worker's load at one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Connections that it was assigned.
    pub assigned: u64,
    /// Connections of all listeners that it was sent and has not accepted.
    pub unanswered: usize,
    /// The age of the oldest of them.
    pub oldest: Duration,
    /// The time for which it gets none, because it did not respond.
    pub paused_for: Duration,
    /// It takes no more for now.
    pub is_full: bool,
}

/// The maximum number of connections on their way to one worker.
const MAX_UNANSWERED: usize = 16;
/// A worker that has not responded for this long is skipped.
const BLOCKED_AFTER: Duration = Duration::from_millis(20);
/// After this long the connections that a worker has not accepted go to others. It is longer than a busy machine keeps a
/// process from running: connections that stay would be spread unevenly.
const STALLED_AFTER: Duration = Duration::from_millis(50);

impl WorkerLoad {
    fn is_responsive(&self) -> bool {
        self.paused_for.is_zero() && (self.unanswered == 0 || self.oldest < BLOCKED_AFTER)
    }
}

/// The position of the worker that gets the next connection, searched from the one after `last`; `None` until a worker
/// accepts or is blocked. None gets one that is `max_ahead` connections ahead of another that is not blocked. A worker that was
/// skipped does not get later what it missed, nor one that is far behind, by turns for many that others have had.
pub fn choose(workers: &mut [WorkerLoad], last: usize, max_ahead: u64) -> Option<usize> {
    let most = workers.iter().map(|worker| worker.assigned).max()?;
    for worker in workers.iter_mut() {
        worker.assigned = worker.assigned.max(most.saturating_sub(2 * max_ahead));
    }
    let responsive = workers.iter().filter(|worker| worker.is_responsive());
    let least = responsive.map(|worker| worker.assigned).min()?;
    for worker in workers.iter_mut().filter(|worker| !worker.is_responsive()) {
        worker.assigned = worker.assigned.max(least);
    }
    let takes = |worker: &WorkerLoad| {
        let has_room = !worker.is_full && worker.unanswered < MAX_UNANSWERED;
        worker.is_responsive() && has_room && worker.assigned < least + max_ahead
    };
    let count = workers.len();
    (1..=count).map(|step| (last + step) % count).find(|at| workers.get(*at).is_some_and(takes))
}

/// The position of the worker that gets the connections of that client: the same slot's while it has a worker, whichever others
/// come and go (rendezvous hashing). While that one has no room, another's.
pub fn choose_by_client(client: IpAddr, slots: &[u32], workers: &[WorkerLoad]) -> Option<usize> {
    let rank = |slot: u32| {
        let mut hasher = DefaultHasher::new();
        (client, slot).hash(&mut hasher);
        hasher.finish()
    };
    let with_room = (0..).zip(slots.iter().zip(workers)).filter(|(_, (_, worker))| !worker.is_full);
    with_room.max_by_key(|(_, (slot, _))| rank(**slot)).map(|(at, _)| at)
}

/// The positions of workers whose connections are to go to others. Empty while no worker responds.
pub fn stalled(workers: &[WorkerLoad]) -> Vec<usize> {
    let is_stalled = |worker: &WorkerLoad| worker.unanswered > 0 && worker.oldest >= STALLED_AFTER;
    let has_others = workers.iter().any(WorkerLoad::is_responsive);
    (0..).zip(workers).filter(|(_, worker)| has_others && is_stalled(worker)).map(|(at, _)| at).collect()
}

/// The time until the next of these workers is skipped or stalled, if it does not respond, or gets connections again.
pub fn next_check(workers: &[WorkerLoad]) -> Option<Duration> {
    let waiting = workers.iter().filter(|worker| worker.unanswered > 0).map(|worker| worker.oldest);
    let limits = waiting.filter_map(|oldest| {
        let limit = [BLOCKED_AFTER, STALLED_AFTER].into_iter().find(|limit| oldest < *limit)?;
        Some(limit - oldest)
    });
    let paused = workers.iter().map(|worker| worker.paused_for).filter(|pause| !pause.is_zero());
    limits.chain(paused).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(assigned: u64, unanswered: usize, oldest: u64) -> WorkerLoad {
        WorkerLoad { assigned, unanswered, oldest: Duration::from_millis(oldest), ..WorkerLoad::default() }
    }

    #[test]
    fn connections_that_stay_are_spread_evenly_whichever_worker_answers_first() {
        let mut workers = [worker(0, 0, 0); 4];
        let mut last = 3;
        for step in 0..640 {
            match choose(&mut workers, last, 1) {
                Some(at) => {
                    workers[at].assigned += 1;
                    workers[at].unanswered += 1;
                    last = at;
                }
                // The first two answer sooner than the others.
                _ => workers[[0, 1, 0, 1, 2, 3][step % 6]].unanswered = 0,
            }
        }
        let assigned = workers.map(|worker| worker.assigned);
        assert!(assigned.iter().max().unwrap() - assigned.iter().min().unwrap() <= 1, "{assigned:?}");
    }

    #[test]
    fn a_worker_that_does_not_answer_delays_the_others_for_a_moment_only() {
        let mut workers = [worker(9, 2, 15), worker(9, 1, 0)];
        assert_eq!(choose(&mut workers, 0, 1), Some(1), "it may be one ahead");
        workers[1].assigned = 10;
        workers[0].unanswered = MAX_UNANSWERED;
        assert_eq!((choose(&mut workers, 1, 1), next_check(&workers)), (None, Some(Duration::from_millis(5))));
        workers[0].oldest = Duration::from_millis(20);
        assert_eq!(choose(&mut workers, 1, 1), Some(1), "the first is blocked, and skipped");
        assert_eq!(workers[0].assigned, 10, "what it missed it does not get later");
    }

    #[test]
    fn a_worker_that_is_behind_by_others_turns_for_many_gets_no_burst() {
        let mut workers = [worker(1064, 0, 0), worker(1000, 0, 0)];
        assert_eq!(choose(&mut workers, 1, 32), Some(1));
        assert_eq!(workers[1].assigned, 1000, "so much is allowed");
        assert_eq!(choose(&mut workers, 1, 1), Some(1));
        assert_eq!(workers[1].assigned, 1062);
    }

    #[test]
    fn no_worker_is_chosen_while_all_are_blocked() {
        assert_eq!(choose(&mut [worker(0, 1, 30), worker(0, 3, 20)], 0, 1), None);
        assert_eq!(choose(&mut [], 0, 1), None);
        let paused = WorkerLoad { paused_for: Duration::from_millis(7), ..worker(0, 0, 0) };
        assert_eq!((choose(&mut [paused], 0, 1), next_check(&[paused])), (None, Some(paused.paused_for)));
        assert_eq!(choose(&mut [WorkerLoad { is_full: true, ..worker(0, 0, 0) }], 0, 1), None);
    }

    #[test]
    fn a_client_stays_with_its_worker_while_others_come_and_go() {
        let clients: Vec<IpAddr> = (0..200).map(|host| IpAddr::from([10, 0, 0, host])).collect();
        let of = |slots: &[u32]| -> Vec<u32> {
            let workers = vec![worker(0, 0, 0); slots.len()];
            clients.iter().map(|client| slots[choose_by_client(*client, slots, &workers).unwrap()]).collect()
        };
        let (four, three) = (of(&[0, 1, 2, 3]), of(&[3, 1, 0]));
        assert!(four.iter().zip(&three).all(|(before, after)| *before == 2 || before == after));
        assert!((0..4).all(|slot| four.iter().filter(|one| **one == slot).count() > 25), "{four:?}");
        let full = WorkerLoad { is_full: true, ..worker(0, 0, 0) };
        assert_eq!(choose_by_client(clients[0], &[7], &[full]), None);
    }

    #[test]
    fn a_worker_is_stalled_only_while_another_responds() {
        assert_eq!(stalled(&[worker(0, 1, 50), worker(0, 0, 0), worker(0, 1, 49)]), [0]);
        assert!(stalled(&[worker(0, 1, 50), worker(0, 3, 20)]).is_empty());
        assert!(stalled(&[]).is_empty());
        assert_eq!(next_check(&[worker(0, 1, 20), worker(0, 1, 50), worker(0, 0, 0)]), Some(Duration::from_millis(30)));
    }
}
