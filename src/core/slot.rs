//! One slot: a numbered place that outlives the processes that hold it.
//!
//! A slot has room for three processes, each with a part of its own:
//!
//! | part | who | how it gets there |
//! |---|---|---|
//! | holder | the slot's worker, in any state | started when the place is vacant |
//! | incoming | its replacement, during a reload | started by the rollout; takes the place when it has been ready for `min_uptime` |
//! | outgoing | the one that was replaced | the holder's when it is replaced |
//!
//! The holder lives its life whatever the other two do: a crash in the middle of a reload is restarted as any other.

mod ending;

use super::worker::Turn;
use super::*;

/// A numbered place for a worker.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Which.
    pub id: SlotId,
    /// Whether it is to be there.
    pub wish: Desired,
    /// What its holder runs, or will run when it is started again.
    pub generation: u32,
    /// What holds the place.
    pub place: SlotState,
    /// The replacement on its way in.
    pub incoming: Option<Worker>,
    /// The replaced one on its way out.
    pub outgoing: Option<Worker>,
    /// How its workers have fared.
    tally: CrashBudget,
    /// How its holder ended last.
    pub last_exit: Option<Exit>,
    /// The word by which a worker here last said that it is ready: its successor must say it too (`--ready auto`).
    word: Option<ReadySignal>,
}

/// What is asked of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desired {
    /// A worker runs in it.
    Up,
    /// No worker runs in it until one is asked for.
    Down,
    /// It ends with its workers.
    Gone,
}

/// What holds the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody: a worker is due, or the slot ends.
    Vacant,
    /// A process.
    Held(Worker),
    /// The next start, at this time.
    Backoff(Time),
    /// It finished, and is not to be started again.
    Stopped,
    /// It crashed too often, and is not started again before a reload.
    Failed,
}

/// What came of an event for the rollout that watches the slot.
#[derive(Debug, PartialEq)]
pub(super) enum Upshot {
    Nothing,
    /// The replacement did not make it.
    ReplacementFailed(RolloutError),
}

impl SlotState {
    /// What becomes of the place when its holder has ended.
    fn after(next: Next, now: Time) -> SlotState {
        match next {
            Next::Restart => SlotState::Backoff(now),
            Next::Backoff { wait, .. } => SlotState::Backoff(now + wait),
            Next::GiveUp { .. } => SlotState::Failed,
            Next::Finished => SlotState::Stopped,
            Next::Gone => SlotState::Vacant,
        }
    }
}

impl Slot {
    pub(super) fn new(id: SlotId, generation: u32) -> Slot {
        Slot {
            id,
            wish: Desired::Up,
            generation,
            place: SlotState::Vacant,
            incoming: None,
            outgoing: None,
            tally: CrashBudget::default(),
            last_exit: None,
            word: None,
        }
    }

    /// Its processes, in any state.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.holder().into_iter().chain(&self.incoming).chain(&self.outgoing)
    }

    /// The process that holds it.
    pub fn holder(&self) -> Option<&Worker> {
        match &self.place {
            SlotState::Held(worker) => Some(worker),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => None,
        }
    }

    /// Crashes of its workers in a row since the last stable life.
    pub fn crashes(&self) -> u32 {
        self.tally.crashes()
    }

    /// Whether a worker in it serves: the holder, or the replacement that waits to take its place.
    pub fn is_ready(&self) -> bool {
        self.holder().into_iter().chain(&self.incoming).any(|worker| worker.phase == Phase::Ready)
    }

    /// Whether nothing will happen in it by itself any more.
    pub fn is_at_rest(&self) -> bool {
        self.wish == Desired::Up
            && matches!(self.place, SlotState::Stopped | SlotState::Failed)
            && self.incoming.is_none()
            && self.outgoing.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers().next().is_none()
    }

    /// The next time at which something is due here.
    pub(super) fn deadline(&self) -> Option<Time> {
        let takes_over =
            self.incoming.as_ref().filter(|worker| worker.phase == Phase::Ready).map(|worker| worker.stays_from);
        let start = match self.place {
            SlotState::Backoff(until) => Some(until),
            SlotState::Vacant | SlotState::Held(_) | SlotState::Stopped | SlotState::Failed => None,
        };
        self.workers().filter_map(Worker::deadline).chain(takes_over).chain(start).min()
    }

    /// Starts a worker if one is due.
    pub(super) fn start_if_due(&mut self, turn: &mut Turn) {
        let due = match self.place {
            // After `--reload restart` has emptied the place, it is the replacement's.
            SlotState::Vacant => self.incoming.is_none() && self.outgoing.is_none(),
            SlotState::Backoff(until) => until <= turn.now,
            SlotState::Held(_) | SlotState::Stopped | SlotState::Failed => false,
        };
        if due {
            self.place = SlotState::Held(turn.spawn(self.id, self.generation));
        }
    }

    /// Starts a replacement. The place is vacant, or its holder goes on serving.
    pub(super) fn start_replacement(&mut self, generation: u32, turn: &mut Turn) {
        self.incoming = Some(turn.spawn(self.id, generation));
    }

    /// Asks the holder to make room, or takes the place from a wait that has no process.
    pub(super) fn vacate(&mut self, turn: &mut Turn) {
        match &mut self.place {
            SlotState::Held(worker) => worker.stop(self.id, StopReason::Unwanted, turn),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => {
                self.place = SlotState::Vacant
            }
        }
    }

    /// Forgets how its workers have fared, and what it waits for.
    pub(super) fn start_afresh(&mut self) {
        self.tally = CrashBudget::default();
        if self.holder().is_none() {
            self.place = SlotState::Vacant;
        }
    }

    /// Asks the replacement to go.
    pub(super) fn abandon_replacement(&mut self, turn: &mut Turn) {
        if let Some(worker) = &mut self.incoming {
            worker.stop(self.id, StopReason::Unwanted, turn);
        }
    }

    /// Asks all of its processes to go.
    pub(super) fn stop(&mut self, turn: &mut Turn) {
        self.abandon_replacement(turn);
        self.vacate(turn);
        if self.wish == Desired::Down && self.place == SlotState::Vacant {
            self.place = SlotState::Stopped;
        }
    }

    /// Kills all of its processes.
    pub(super) fn kill(&mut self, turn: &mut Turn) {
        let id = self.id;
        self.workers_mut().for_each(|worker| worker.kill(id, false, turn));
        if self.holder().is_none() {
            self.place = SlotState::Vacant;
        }
    }

    fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        let holder = match &mut self.place {
            SlotState::Held(worker) => Some(worker),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => None,
        };
        holder.into_iter().chain(&mut self.incoming).chain(&mut self.outgoing)
    }

    fn find(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers_mut().find(|worker| worker.id == id)
    }

    fn role(&self, id: WorkerId) -> Role {
        let phase = self.workers().find(|worker| worker.id == id).map(|worker| worker.phase);
        match phase {
            Some(
                Phase::Draining { why: StopReason::NotReady, .. } | Phase::Killing { why: StopReason::NotReady, .. },
            ) => Role::Late,
            Some(Phase::Draining { .. } | Phase::Killing { .. }) => Role::Leaving,
            _ if self.incoming.as_ref().is_some_and(|worker| worker.id == id) => Role::Replacement,
            Some(Phase::Forked { .. } | Phase::Starting { .. } | Phase::Ready) | None => Role::Holder,
        }
    }

    /// The worker's program runs.
    pub(super) fn spawned(&mut self, id: WorkerId, turn: &mut Turn) {
        self.tally.has_room();
        let role = self.role(id);
        turn.report(Report::Started { slot: self.id, worker: id, role });
        let by_uptime = self.is_ready_by_uptime(turn);
        if let Some(worker) = self.find(id)
            && let Phase::Forked { until } = worker.phase
        {
            worker.phase = Phase::Starting { until: if by_uptime { turn.now + turn.policy.min_uptime } else { until } };
        }
        if turn.policy.ready == Readiness::Spawn {
            self.ready(id, ReadySignal::Spawned, turn);
        }
    }

    /// The word that a worker here must say to be ready: the one that its predecessor said.
    fn must_say(&self, turn: &Turn) -> Option<ReadySignal> {
        self.word.filter(|_| turn.policy.ready == Readiness::Auto)
    }

    /// Whether to live long enough is all that a worker here must do to be ready.
    fn is_ready_by_uptime(&self, turn: &Turn) -> bool {
        matches!((turn.policy.ready, self.must_say(turn)), (Readiness::Uptime, _) | (Readiness::Auto, None))
    }

    /// The worker showed that it is ready.
    pub(super) fn ready(&mut self, id: WorkerId, sign: ReadySignal, turn: &mut Turn) {
        let (slot, must_say) = (self.id, self.must_say(turn));
        let Some(worker) = self.find(id) else { return };
        let is_ready = match worker.phase {
            Phase::Forked { .. } | Phase::Starting { .. } if must_say.is_none_or(|word| word == sign) => {
                worker.phase = Phase::Ready;
                // What it did before its word does not show that it serves.
                let since = if sign.is_a_word() { turn.now } else { worker.started };
                worker.stays_from = since + turn.policy.min_uptime;
                turn.report(Report::Ready { slot, worker: id, sign, took: turn.now - worker.started });
                true
            }
            Phase::Ready => true,
            Phase::Forked { .. } | Phase::Starting { .. } | Phase::Draining { .. } | Phase::Killing { .. } => false,
        };
        // A worker that was taken for ready by its uptime may find its word later; what it says itself counts for more
        // than that it listens.
        if is_ready && sign.is_a_word() && self.word.is_none_or(|word| word == ReadySignal::Listen) {
            self.word = Some(sign);
        }
    }

    /// The worker has finished what it was asked to finish.
    pub(super) fn finished(&mut self, id: WorkerId, now: Time) {
        if let Some(worker) = self.find(id) {
            worker.finished(now);
        }
    }

    /// Looks at what waits for a time that has come.
    pub(super) fn tick(&mut self, turn: &mut Turn) -> Upshot {
        let is_due = |worker: &&Worker| worker.deadline().is_some_and(|time| time <= turn.now);
        let due: Vec<WorkerId> = self.workers().filter(is_due).map(|worker| worker.id).collect();
        let mut upshot = Upshot::Nothing;
        for id in due {
            if let Some(trouble) = self.time_is_up(id, turn) {
                upshot = Upshot::ReplacementFailed(trouble);
            }
        }
        self.take_over_if_due(turn);
        upshot
    }

    /// The deadline in the worker's state has come. Tells what is wrong when that is the end of a replacement.
    fn time_is_up(&mut self, id: WorkerId, turn: &mut Turn) -> Option<RolloutError> {
        let (slot, role, missing, by_uptime) =
            (self.id, self.role(id), self.must_say(turn), self.is_ready_by_uptime(turn));
        let worker = self.find(id)?;
        match worker.phase {
            Phase::Starting { .. } if by_uptime => {
                self.ready(id, ReadySignal::Uptime, turn);
                None
            }
            Phase::Forked { .. } | Phase::Starting { .. } => {
                let after = turn.now - worker.started;
                turn.report(Report::NotReady { slot, worker: id, after, missing });
                worker.stop(slot, StopReason::NotReady, turn);
                (role == Role::Replacement).then_some(RolloutError::NotReady { slot, worker: id, after, missing })
            }
            Phase::Draining { kill_at, .. } => {
                if !worker.signal_if_due(turn) || kill_at <= turn.now {
                    worker.kill(slot, true, turn);
                }
                None
            }
            Phase::Killing { .. } => {
                turn.report(Report::GivenUp { slot, worker: id });
                self.exited(id, Exit::signal(Signal::KILL), turn);
                None
            }
            Phase::Ready => None,
        }
    }

    /// Gives the place to a replacement that is ready and has shown that it stays.
    pub(super) fn take_over_if_due(&mut self, turn: &mut Turn) {
        let due = |worker: &mut Worker| worker.phase == Phase::Ready && worker.stays_from <= turn.now;
        if self.outgoing.is_none()
            && let Some(worker) = self.incoming.take_if(due)
        {
            self.generation = worker.generation;
            self.tally.is_stable();
            match std::mem::replace(&mut self.place, SlotState::Held(worker)) {
                SlotState::Held(mut old) => {
                    old.stop(self.id, StopReason::Unwanted, turn);
                    self.outgoing = Some(old);
                }
                SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => {}
            }
        }
    }
}
