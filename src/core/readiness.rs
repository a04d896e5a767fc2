//! Judges readiness: the signals that a worker has given against those that are expected of it.

use super::{Policy, Readiness, Time};

/// A way by which a worker shows that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadySignal {
    /// Its program runs (`--ready spawn`).
    Spawned,
    /// It has lived for `min_uptime`, or for `ready_timeout` without a signal.
    Uptime,
    /// It said `READY=1` to its `NOTIFY_SOCKET`, as `sd_notify(3)` does.
    Notify,
    /// It answered rinit's probe.
    Probe,
    /// It wrote a newline to the descriptor that was named (`--ready fd:N`).
    Newline,
    /// It waits for connections on a port that rinit shares among the workers.
    Listen,
    /// It sent `'ready'` over Node's channel.
    Message,
}

/// The signals that a worker has given within its ready timeout, or the first one after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The time from its start to its first signal.
    took: Option<Time>,
    notify: bool,
    probe: bool,
    newline: bool,
    message: bool,
    /// It has bound a port that rinit shares.
    bound: bool,
    /// The addresses at which it waits for connections, in the order in which it began to.
    addresses: Vec<String>,
}

/// The signals that a worker must give under `--ready auto`, known from its predecessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// This signal; and it must listen at this address, if its predecessor did.
    Signal(ReadySignal, Option<String>),
    /// Any signal, which came this long after the start: later than the ready timeout.
    Late(Time),
    /// None: such workers give no signal.
    Silent,
}

/// The moment at which uptime makes a worker ready that gives no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UptimeRule {
    /// None: without a signal within the ready timeout, the worker has failed.
    Never,
    /// The end of its first `min_uptime`.
    AfterMinUptime,
    /// The end of `ready_timeout`, or a later one where its predecessor was late: it then counts as a worker that gives no signal.
    AfterReadyTimeout,
}

/// An app keeps at most this many addresses of a worker; the rest tell nothing more.
const MAX_ADDRESSES: usize = 16;
/// A first signal after this many times the ready timeout is not one of a slow start, and tells nothing; no worker has longer.
const MAX_LATENESS: u32 = 4;

/// The time from a worker's start up to which a first signal is one of a slow start.
fn latest(policy: &Policy) -> Time {
    policy.ready_timeout.saturating_mul(MAX_LATENESS)
}

impl Evidence {
    /// Adds a signal.
    pub(super) fn add(&mut self, signal: ReadySignal) {
        match signal {
            ReadySignal::Notify => self.notify = true,
            ReadySignal::Probe => self.probe = true,
            ReadySignal::Newline => self.newline = true,
            ReadySignal::Message => self.message = true,
            ReadySignal::Spawned | ReadySignal::Uptime | ReadySignal::Listen => {}
        }
    }

    /// Records when the first signal was given, this long after the start.
    pub(super) fn note_time(&mut self, took: Time) {
        if self.strongest().is_some() {
            self.took.get_or_insert(took);
        }
    }

    /// True if a signal this long after the start is the first one, and of a slow start.
    pub(super) fn may_begin_at(&self, took: Time, policy: &Policy) -> bool {
        policy.readiness.is_auto() && self.strongest().is_none() && took <= latest(policy)
    }

    /// Adds a port that is bound, and at which nobody waits for connections yet.
    pub(super) fn add_bound(&mut self) {
        self.bound = true;
    }

    /// Adds an address at which the worker waits for connections.
    pub(super) fn add_address(&mut self, address: String) {
        self.bound = true;
        if self.addresses.len() < MAX_ADDRESSES && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
    }

    /// The addresses at which the worker waits for connections.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// True if the worker waits for connections on a shared port.
    pub(super) fn listens(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// True if the worker has bound a port at which nobody waits for connections: whatever else it says, it does not serve.
    pub(super) fn is_bound_only(&self) -> bool {
        self.bound && !self.listens()
    }

    fn has(&self, signal: ReadySignal) -> bool {
        match signal {
            ReadySignal::Notify => self.notify,
            ReadySignal::Probe => self.probe,
            ReadySignal::Newline => self.newline,
            ReadySignal::Message => self.message,
            ReadySignal::Listen => self.listens(),
            ReadySignal::Spawned | ReadySignal::Uptime => false,
        }
    }

    /// The signal that says most: a worker's own word counts for more than that it listens.
    pub(super) fn strongest(&self) -> Option<ReadySignal> {
        let order = [ReadySignal::Message, ReadySignal::Notify, ReadySignal::Probe, ReadySignal::Listen];
        order.into_iter().find(|signal| self.has(*signal))
    }

    /// The signal that makes the worker ready, if it has given it.
    pub(super) fn shows(&self, readiness: Readiness, expected: Option<&Expectation>) -> Option<ReadySignal> {
        match (readiness, expected) {
            (Readiness::Spawn | Readiness::Uptime, _) => None,
            (Readiness::Signal(signal), _) => self.has(signal).then_some(signal),
            (Readiness::Auto { .. }, _) if self.is_bound_only() => None,
            (Readiness::Auto { .. }, Some(Expectation::Signal(signal, address))) => {
                let is_there = address.as_ref().is_none_or(|address| self.addresses.contains(address));
                (self.has(*signal) && is_there).then_some(*signal)
            }
            (Readiness::Auto { .. }, Some(Expectation::Late(_) | Expectation::Silent) | None) => self.strongest(),
        }
    }

    /// The expectation for a successor of this worker, if it gave a signal at all.
    pub(super) fn expectation(&self, policy: &Policy) -> Option<Expectation> {
        let signal = self.strongest()?;
        match self.took {
            Some(took) if took > policy.ready_timeout => Some(Expectation::Late(took)),
            _ => Some(Expectation::Signal(signal, self.addresses.first().cloned())),
        }
    }
}

impl Expectation {
    /// The time that a worker has for its signal: the ready timeout, or twice as long as its predecessor took, if that was late.
    pub(super) fn patience(expected: Option<&Expectation>, policy: &Policy) -> Time {
        match expected {
            Some(Expectation::Late(took)) => took.saturating_mul(2).clamp(policy.ready_timeout, latest(policy)),
            Some(Expectation::Signal(..) | Expectation::Silent) | None => policy.ready_timeout,
        }
    }
}

impl UptimeRule {
    /// The rule for a worker of whose slot this is expected. `is_app_silent`: a sibling has turned out to give no signal.
    pub(super) fn new(policy: &Policy, expected: Option<&Expectation>, is_app_silent: bool) -> UptimeRule {
        match (policy.readiness, expected) {
            (Readiness::Spawn | Readiness::Signal(_), _) => UptimeRule::Never,
            (Readiness::Uptime, _) => UptimeRule::AfterMinUptime,
            (Readiness::Auto { .. }, Some(Expectation::Signal(..))) => UptimeRule::Never,
            (Readiness::Auto { .. }, Some(Expectation::Late(_))) => UptimeRule::AfterReadyTimeout,
            (Readiness::Auto { .. }, Some(Expectation::Silent)) => UptimeRule::AfterMinUptime,
            (Readiness::Auto { .. }, None) if is_app_silent => UptimeRule::AfterMinUptime,
            (Readiness::Auto { sees_listening: true }, None) => UptimeRule::AfterReadyTimeout,
            (Readiness::Auto { sees_listening: false }, None) => UptimeRule::AfterMinUptime,
        }
    }
}
