//! Runs one slot: a numbered place for a worker that outlives its processes.
//!
//! A slot has room for three processes, each with a part of its own:
//!
//! | part | process | how it gets there |
//! |---|---|---|
//! | holder | the slot's worker, in any phase | started when the place is vacant |
//! | incoming | its replacement, during a rollout | started by the rollout; takes over when it has been ready for `min_uptime` |
//! | outgoing | the worker that was replaced | the holder, when it is replaced |
//!
//! The holder's life does not depend on the other two: a crash in the middle of a reload is restarted as any other.

mod deadlines;
mod ending;
mod readiness;

use super::*;
use crash_budget::End;
use std::sync::Arc;

/// A numbered place for a worker.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// The state that was asked for.
    pub desired: Desired,
    /// The generation that its holder runs, or will run when it is started again.
    pub generation: u32,
    /// The settings of that generation.
    pub policy: Arc<Policy>,
    /// The holder, or what stands in its place.
    pub state: SlotState,
    /// The replacement on its way in.
    pub incoming: Option<Worker>,
    /// The replaced worker on its way out.
    pub outgoing: Option<Worker>,
    /// The last exit of a holder.
    pub last_exit: Option<Exit>,
    budget: CrashBudget,
    pub(super) memory_backoff: MemoryBackoff,
    /// The signals that the next worker here must give (`--ready auto`), known from the holders before it.
    expectation: Option<Expectation>,
}

/// The state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desired {
    /// To run.
    Up,
    /// Not to run until it is asked for again.
    Down,
    /// To end, and to be forgotten.
    Removed,
}

/// The state of a slot's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// No process: one is due, or the slot ends.
    Vacant,
    /// A process, the holder.
    Held(Worker),
    /// No process until this time.
    Backoff(Time),
    /// Finished, or stopped by an operator: not started again.
    Stopped,
    /// Crashed too often: not started again before a reload.
    Failed,
}

/// The parts that a process can have in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Holder,
    Incoming,
    Outgoing,
}

/// The outcome of an event in a slot, for the app that it belongs to.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Nothing,
    /// A worker of the slot has given no signal in all of its ready timeout, and counts as ready.
    Silent,
    /// A worker of the slot has given a signal.
    Signalled,
    /// The replacement has failed, or the replaced worker cannot be stopped.
    RolloutFailed(RolloutError),
    /// The replacement has taken over.
    Replaced,
    /// The holder has lived long enough.
    Expired(WorkerId),
}

impl SlotState {
    /// The state that follows a holder's end.
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
    pub(super) fn new(id: SlotId, generation: u32, policy: Arc<Policy>, expectation: Option<Expectation>) -> Slot {
        Slot {
            id,
            desired: Desired::Up,
            generation,
            policy,
            state: SlotState::Vacant,
            incoming: None,
            outgoing: None,
            last_exit: None,
            budget: CrashBudget::default(),
            memory_backoff: MemoryBackoff::default(),
            expectation,
        }
    }

    /// Its processes, in any phase.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.holder().into_iter().chain(&self.incoming).chain(&self.outgoing)
    }

    /// Its worker.
    pub fn holder(&self) -> Option<&Worker> {
        match &self.state {
            SlotState::Held(worker) => Some(worker),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => None,
        }
    }

    /// The crashes of its workers in a row since the last stable life.
    pub fn crashes(&self) -> u32 {
        self.budget.crashes()
    }

    /// True if a worker in it serves: the holder, or the replacement that waits to take over.
    pub fn is_ready(&self) -> bool {
        self.holder().into_iter().chain(&self.incoming).any(Worker::is_ready)
    }

    /// True if nothing will happen in it by itself any more.
    pub fn is_at_rest(&self) -> bool {
        self.is_empty() && matches!(self.state, SlotState::Stopped | SlotState::Failed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.workers().next().is_none()
    }

    pub(super) fn expectation(&self) -> Option<&Expectation> {
        self.expectation.as_ref()
    }

    /// Starts a worker if one is due.
    pub(super) fn start_if_due(&mut self, profile: &Profile, context: &mut Context) {
        let is_due = match self.state {
            // After `--reload restart` has emptied the place, it is the replacement's.
            SlotState::Vacant => self.incoming.is_none() && self.outgoing.is_none(),
            SlotState::Backoff(until) => until <= context.now,
            SlotState::Held(_) | SlotState::Stopped | SlotState::Failed => false,
        };
        if is_due {
            self.state = SlotState::Held(context.spawn(self, self.generation, &self.policy, profile));
        }
    }

    /// Starts a replacement. The place is vacant, or its holder goes on serving.
    pub(super) fn start_replacement(&mut self, rollout: &Rollout, profile: &Profile, context: &mut Context) {
        self.incoming = Some(context.spawn(self, rollout.generation, &rollout.policy, profile));
    }

    /// Takes the generation of a rollout without a replacement: nothing runs here.
    pub(super) fn adopt(&mut self, rollout: &Rollout) {
        (self.generation, self.policy) = (rollout.generation, rollout.policy.clone());
    }

    /// Takes settings by which no process is started.
    pub(super) fn adjust(&mut self, policy: &Arc<Policy>) {
        self.policy = policy.clone();
        self.workers_mut().for_each(|worker| worker.policy = policy.clone());
    }

    /// True if its worker has finished, with success.
    pub fn has_succeeded(&self) -> bool {
        self.state == SlotState::Stopped && self.last_exit.is_some_and(|exit| exit.status() == 0)
    }

    /// Forgets the address at which its workers listen: the next ones may listen at another.
    pub(super) fn forget_address(&mut self) {
        if let Some(Expectation::Signal(_, address)) = &mut self.expectation {
            *address = None;
        }
    }

    /// Asks the holder to make room, or ends a wait that has no process.
    pub(super) fn vacate(&mut self, profile: &Profile, context: &mut Context) {
        match &mut self.state {
            SlotState::Held(worker) => worker.stop(self.id, StopReason::Unwanted, profile, context),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => {
                self.state = SlotState::Vacant;
            }
        }
    }

    /// Forgets the crashes and the size of its workers, and what it waits for.
    pub(super) fn start_afresh(&mut self) {
        self.budget = CrashBudget::default();
        self.memory_backoff = MemoryBackoff::default();
        if self.holder().is_none() {
            self.state = SlotState::Vacant;
        }
    }

    /// Asks the replacement to go.
    pub(super) fn abandon_replacement(&mut self, profile: &Profile, context: &mut Context) {
        if let Some(worker) = &mut self.incoming {
            worker.stop(self.id, StopReason::Unwanted, profile, context);
        }
    }

    /// Asks all of its processes to go.
    pub(super) fn stop(&mut self, profile: &Profile, context: &mut Context) {
        self.abandon_replacement(profile, context);
        self.vacate(profile, context);
        if self.desired == Desired::Down && self.state == SlotState::Vacant {
            self.state = SlotState::Stopped;
        }
    }

    /// Kills all of its processes.
    pub(super) fn kill(&mut self, context: &mut Context) {
        self.workers_mut().for_each(|worker| worker.kill(false, context));
        if self.holder().is_none() {
            self.state = SlotState::Vacant;
        }
    }

    fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        let holder = match &mut self.state {
            SlotState::Held(worker) => Some(worker),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => None,
        };
        holder.into_iter().chain(&mut self.incoming).chain(&mut self.outgoing)
    }

    pub(super) fn holder_mut(&mut self) -> Option<&mut Worker> {
        match &mut self.state {
            SlotState::Held(worker) => Some(worker),
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => None,
        }
    }

    fn find(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers_mut().find(|worker| worker.id == id)
    }

    fn part_of(&self, id: WorkerId) -> Option<Part> {
        let is_it = |worker: &&Worker| worker.id == id;
        let holder = self.holder().filter(is_it).map(|_| Part::Holder);
        let incoming = || self.incoming.as_ref().filter(is_it).map(|_| Part::Incoming);
        let outgoing = || self.outgoing.as_ref().filter(is_it).map(|_| Part::Outgoing);
        holder.or_else(incoming).or_else(outgoing)
    }

    /// The role of a worker in reports.
    fn role(&self, id: WorkerId) -> Role {
        let reason = self.workers().find(|worker| worker.id == id).and_then(Worker::stop_reason);
        match (reason, self.part_of(id)) {
            (Some(StopReason::NotReady), _) => Role::Late,
            (Some(StopReason::Unwanted), _) => Role::Leaving,
            (None, Some(Part::Incoming)) => Role::Replacement,
            (None, Some(Part::Holder | Part::Outgoing) | None) => Role::Holder,
        }
    }

    /// The worker has finished what it was asked to finish.
    pub(super) fn on_drained(&mut self, id: WorkerId, now: Time) {
        if let Some(worker) = self.find(id) {
            worker.on_drained(now);
        }
    }

    /// The worker has sent itself the stop signal.
    pub(super) fn on_signalled(&mut self, id: WorkerId) {
        if let Some(worker) = self.find(id) {
            worker.on_signalled();
        }
    }

    /// The worker's group was sent SIGKILL.
    pub(super) fn on_killed(&mut self, id: WorkerId, context: &mut Context) {
        let slot = self.id;
        if let Some(Phase::Killing { is_late, .. }) = self.find(id).map(|worker| worker.phase) {
            context.report(Report::Killed { slot, worker: id, is_late });
        }
    }

    /// A liveness probe of the worker was answered, or not. Returns true if the holder has failed so many in a row that it
    /// is to be replaced.
    pub(super) fn on_probed(&mut self, id: WorkerId, has_passed: bool) -> bool {
        let is_holder = self.part_of(id) == Some(Part::Holder);
        let Some(worker) = self.find(id).filter(|worker| worker.is_ready()) else { return false };
        worker.failed_probes = if has_passed { 0 } else { worker.failed_probes.saturating_add(1) };
        let limit = worker.policy.live_failures;
        let has_failed = is_holder && limit > 0 && worker.failed_probes >= limit;
        if has_failed {
            worker.failed_probes = 0;
        }
        has_failed
    }

    /// Lets a replacement take over that is ready and has shown that it stays.
    pub(super) fn take_over_if_due(&mut self, profile: &Profile, context: &mut Context) -> Outcome {
        let stays =
            |worker: &mut Worker| matches!(worker.phase, Phase::Ready { stays_from } if stays_from <= context.now);
        if self.outgoing.is_some() {
            return Outcome::Nothing;
        }
        let Some(worker) = self.incoming.take_if(stays) else { return Outcome::Nothing };
        if worker.generation != self.generation {
            self.memory_backoff = MemoryBackoff::default();
        }
        (self.generation, self.policy) = (worker.generation, worker.policy.clone());
        self.budget.on_stable();
        match std::mem::replace(&mut self.state, SlotState::Held(worker)) {
            SlotState::Held(mut old) => {
                old.stop(self.id, StopReason::Unwanted, profile, context);
                self.outgoing = Some(old);
            }
            SlotState::Vacant | SlotState::Backoff(_) | SlotState::Stopped | SlotState::Failed => {}
        }
        self.learn_from_holder();
        Outcome::Replaced
    }
}
