//! A pretended kernel: it obeys the fleet's effects, and after every event asserts what must always hold.

use rinit::core::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What can happen in a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// So many milliseconds pass; who was asked to stop, and listens, is gone.
    Pass(u64),
    /// The n-th live worker exits with that code.
    Exits(usize, u8),
    /// The n-th live worker is killed by the kernel.
    Killed(usize),
    /// The n-th live worker says that it is ready.
    Says(usize),
    /// From now on the kernel forks, or refuses to.
    Forks(bool),
    /// From now on the program is there, or not.
    Program(bool),
    /// From now on new workers heed the stop signal, or not.
    Heeds(bool),
    /// From now on a new generation's settings can be read, or not.
    Reads(bool),
    /// SIGHUP.
    Hup,
    /// SIGTTIN and SIGTTOU, so many times.
    Scale(i32),
    /// So many workers, by the operator.
    ScaleTo(u32),
    /// The operator starts, stops, restarts or drops the n-th slot of the first app.
    Operates(Operation, usize),
    /// SIGUSR1.
    Forward,
    /// SIGTERM.
    Stop,
}
pub use Step::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Start,
    Halt,
    Restart,
    Drop,
}

struct Process {
    slot: SlotId,
    generation: u32,
    heeds: bool,
    asked: bool,
}

pub struct World {
    pub now: Time,
    pub fleet: Fleet,
    pub reports: Vec<Report>,
    processes: BTreeMap<WorkerId, Process>,
    pending: VecDeque<Event>,
    forks: bool,
    program: bool,
    heeds: bool,
    reads: bool,
    /// New workers say at once that they are ready.
    pub eager: bool,
    stop_asked: Option<Time>,
    pub spawned: Vec<(Time, SlotId, u32)>,
}

pub const MS: Duration = Duration::from_millis(1);

pub fn policy() -> Policy {
    Policy {
        instances: 2,
        restart: Restart::Always,
        stop_exit_codes: vec![],
        min_uptime: 1000 * MS,
        max_restarts: 16,
        backoff: Backoff { min: 100 * MS, max: 15_000 * MS },
        ready: Readiness::Told,
        ready_timeout: 30_000 * MS,
        stop_signal: Signal::TERM,
        stop_timeout: 8000 * MS,
        ask: None,
        drain_delay: Duration::ZERO,
        reload: Reload::Rolling(1),
    }
}

impl World {
    pub fn new(policies: Vec<Policy>) -> World {
        let mut world = World {
            now: Time::ZERO,
            fleet: Fleet::new(policies, 42),
            reports: vec![],
            processes: BTreeMap::new(),
            pending: VecDeque::new(),
            forks: true,
            program: true,
            heeds: true,
            reads: true,
            eager: false,
            stop_asked: None,
            spawned: vec![],
        };
        world.give(Event::Boot);
        world
    }

    /// A world of healthy workers that say at once that they are ready, a while after its start.
    pub fn healthy(policies: Vec<Policy>) -> World {
        let mut world = World::new(policies);
        world.eager = true;
        let workers: Vec<WorkerId> = world.processes.keys().copied().collect();
        workers.into_iter().for_each(|id| world.give(Event::Ready(id, ReadySignal::Notify)));
        world.play(&[Pass(10_000)]);
        world
    }

    pub fn play(&mut self, steps: &[Step]) -> &mut Self {
        steps.iter().for_each(|step| self.step(*step));
        self
    }

    fn step(&mut self, step: Step) {
        let nth = |n: usize| self.processes.keys().nth(n % self.processes.len().max(1)).copied();
        match step {
            Pass(ms) => self.pass(ms as u32 * MS),
            Exits(n, code) => nth(n).into_iter().for_each(|id| self.end(id, Exit::code(code))),
            Killed(n) => nth(n).into_iter().for_each(|id| self.end(id, Exit::signal(Signal::KILL))),
            Says(n) => nth(n).into_iter().for_each(|id| self.give(Event::Ready(id, ReadySignal::Notify))),
            Forks(forks) => self.forks = forks,
            Program(program) => self.program = program,
            Heeds(heeds) => self.heeds = heeds,
            Reads(reads) => self.reads = reads,
            Hup => self.give(Event::Reload),
            Scale(by) => self.give(Event::Scale(by)),
            ScaleTo(count) => self.give(Event::ScaleTo(AppId(0), count)),
            Operates(operation, n) => {
                let slots = &self.fleet.apps()[0].slots;
                let Some(slot) = slots.get(n % slots.len().max(1)).map(|slot| slot.id) else { return };
                self.give(match operation {
                    Operation::Start => Event::StartSlot(slot),
                    Operation::Halt => Event::StopSlot(slot),
                    Operation::Restart => Event::RestartSlot(slot),
                    Operation::Drop => Event::DropSlot(slot),
                });
            }
            Forward => self.give(Event::Forward(Signal::HUP)),
            Stop => self.give(Event::Stop),
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.let_the_asked_go();
        let (mut turns, mut at_once) = (0, 0);
        while let Some(deadline) = self.fleet.next_deadline().filter(|deadline| *deadline <= end) {
            at_once = if deadline > self.now { 0 } else { at_once + 1 };
            // With `--min-uptime 0` a whole reload may pass in no time, but not go on for ever.
            assert!(at_once < 100, "busy loop: at {:?} something is due at {deadline:?}, again and again", self.now);
            self.now = self.now.max(deadline);
            self.give(Event::Tick);
            self.let_the_asked_go();
            turns += 1;
            assert!(turns < 100_000, "too many turns in {time:?}");
        }
        self.now = end;
    }

    fn let_the_asked_go(&mut self) {
        while let Some((id, _)) = self.processes.iter().find(|(_, process)| process.asked && process.heeds) {
            self.end(*id, Exit::signal(Signal::TERM));
        }
    }

    fn end(&mut self, id: WorkerId, exit: Exit) {
        self.processes.remove(&id).expect("a live process");
        self.give(Event::Exited(id, exit));
    }

    pub fn give(&mut self, event: Event) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            // A replacement that is ready serves beside the old worker, but goes when the reload fails.
            let before = self.ready_holders();
            let may_lower = self.fleet.is_stopping()
                || matches!(event, Event::Exited(..) | Event::Scale(_) | Event::ScaleTo(..))
                || matches!(event, Event::StopSlot(_) | Event::RestartSlot(_) | Event::DropSlot(_));
            if event == Event::Stop {
                self.stop_asked.get_or_insert(self.now);
            }
            let mut effects = vec![];
            self.fleet.handle(self.now, event.clone(), &mut effects);
            effects.into_iter().for_each(|effect| self.perform(effect));
            if self.pending.is_empty() {
                self.check(&event);
                let cannot_overlap = self.fleet.apps().iter().any(|app| app.policy.reload == Reload::Restart);
                if !may_lower && !cannot_overlap && event != Event::Stop {
                    assert!(self.ready() >= before, "{before} ready workers before, {} after {event:?}", self.ready());
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { worker, .. } if !self.forks => {
                self.pending.push_back(Event::SpawnFailed(worker, SpawnError::NotNow("no room".into())));
            }
            Effect::Spawn { worker, .. } if !self.program => {
                let error = SpawnError::Program { status: 127, message: "not found".into() };
                self.pending.push_back(Event::SpawnFailed(worker, error));
            }
            Effect::Spawn { worker, slot, generation } => {
                let process = Process { slot, generation, heeds: self.heeds, asked: false };
                assert!(self.processes.insert(worker, process).is_none(), "{worker:?} twice");
                self.spawned.push((self.now, slot, generation));
                self.pending.push_back(Event::Spawned(worker));
                if self.eager {
                    self.pending.push_back(Event::Ready(worker, ReadySignal::Notify));
                }
            }
            Effect::Signal(worker, _) | Effect::Ask(worker) | Effect::Kill(worker) if self.was_refused(worker) => {}
            Effect::Retire(_) => {}
            Effect::Ask(worker) => {
                let process = self.processes.get_mut(&worker).expect("only live workers are asked");
                if process.heeds {
                    self.pending.push_back(Event::Finished(worker));
                }
            }
            Effect::Signal(worker, signal) => {
                let process = self.processes.get_mut(&worker).expect("only live workers are signalled");
                process.asked |= signal == Signal::TERM;
            }
            Effect::Kill(worker) => {
                self.processes.remove(&worker).expect("only live workers are killed");
                self.pending.push_back(Event::Exited(worker, Exit::signal(Signal::KILL)));
            }
            Effect::Prepare(app, generation) => {
                let result = if self.reads { Ok(()) } else { Err("no such file".to_owned()) };
                self.pending.push_back(Event::Prepared(app, generation, result));
            }
            Effect::Report(report) => self.reports.push(report),
        }
    }

    /// Whether the fleet is about to hear that this worker could not be started.
    fn was_refused(&self, worker: WorkerId) -> bool {
        self.pending.iter().any(|event| matches!(event, Event::SpawnFailed(id, _) if *id == worker))
    }

    /// What must hold after every event.
    fn check(&self, event: &Event) {
        for app in self.fleet.apps() {
            for slot in &app.slots {
                for worker in slot.workers() {
                    let process = self.processes.get(&worker.id).unwrap_or_else(|| {
                        panic!("after {event:?}: slot {:?} holds {worker:?}, which is dead", slot.id)
                    });
                    assert_eq!((process.slot, process.generation), (slot.id, worker.generation));
                }
            }
            assert!(
                app.slots.is_sorted_by(|a, b| a.id.index < b.id.index),
                "slots have numbers of their own, in order"
            );
            let width = match app.policy.reload {
                Reload::Rolling(width) => width as usize,
                Reload::Restart => 1,
            };
            let new =
                app.slots.iter().filter_map(|slot| slot.incoming.as_ref()).filter(|new| !new.is_leaving()).count();
            assert!(new <= width, "{new} replacements under way, at most {width} may be");
            assert!(new == 0 || app.rollout.is_some(), "a replacement without a reload");
            assert!(app.wanted() >= 1);
        }
        let known = self.fleet.apps().iter().flat_map(|app| &app.slots).flat_map(Slot::workers).count();
        assert_eq!(known, self.processes.len(), "after {event:?}: every process belongs to a slot");
        if let Some(asked) = self.stop_asked {
            let policies = || self.fleet.apps().iter().map(|app| &app.policy);
            let patience = policies().map(|policy| policy.drain_delay + policy.stop_timeout).max().unwrap();
            assert!(
                self.now <= asked + patience || self.processes.is_empty(),
                "still running {patience:?} after the stop"
            );
        }
    }

    fn ready_holders(&self) -> usize {
        let slots = self.fleet.apps().iter().flat_map(|app| &app.slots);
        slots.filter(|slot| slot.holder().is_some_and(|worker| worker.phase == Phase::Ready)).count()
    }

    /// Slots with a worker that serves.
    pub fn ready(&self) -> usize {
        self.fleet.apps().iter().flat_map(|app| &app.slots).filter(|slot| slot.is_ready()).count()
    }

    pub fn running(&self) -> usize {
        self.processes.len()
    }

    /// The generation of each live worker, in the order of their starts.
    pub fn generations(&self) -> Vec<u32> {
        self.processes.values().map(|process| process.generation).collect()
    }

    pub fn saw(&self, what: impl Fn(&Report) -> bool) -> usize {
        self.reports.iter().filter(|report| what(report)).count()
    }
}
