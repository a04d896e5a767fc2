//! Simulates the kernel and the workers: it obeys the fleet's effects, and after every event asserts what must always hold.

use rinit::core::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A step of a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// This many milliseconds pass; workers that were asked to stop, and heed it, end.
    Pass(u64),
    /// The n-th live worker exits with that code.
    Exits(usize, u8),
    /// The n-th live worker is killed by the kernel.
    Killed(usize),
    /// The n-th live worker says `READY=1`.
    Says(usize),
    /// The n-th live worker gives another signal of readiness.
    Signals(usize, ReadySignal),
    /// The n-th live worker binds a port.
    Binds(usize),
    /// The n-th live worker waits for connections on that port.
    Listens(usize, u16),
    /// The n-th live worker's liveness probe is answered, or not.
    Probes(usize, bool),
    /// From now on every worker is busy for this share of its time, in thousandths.
    Busy(u16),
    /// From now on so many connections wait for workers of each app. `None`: their number is not known.
    Waits(Option<u32>),
    /// From now on the container may use so many CPUs.
    Cpus(u32),
    /// Samples are taken, one a second, so often.
    Sampled(u32),
    /// The n-th live worker uses this many MiB, the others 10; the container has 1000.
    Uses(usize, u64),
    /// From now on the kernel forks, or refuses to.
    Forks(bool),
    /// From now on the program is there, or not.
    Program(bool),
    /// From now on new workers heed the stop signal, or not.
    Heeds(bool),
    /// From now on a worker's first process leaves others of its group behind, or not.
    Leaves(bool),
    /// From now on a kill takes this many milliseconds.
    KillTakes(u64),
    /// From now on a new generation's settings can be read, or not.
    Reads(bool),
    /// SIGHUP.
    Hup,
    /// SIGTTIN and SIGTTOU, this many times.
    Scale(i32),
    /// This many workers in the n-th app, by the operator.
    ScaleTo(usize, u32),
    /// The configuration is read again, with a new app that comes after the n-th.
    AddsAfter(usize),
    /// The configuration is read again, with that many workers in the n-th app, and other settings.
    Configures(usize, u32),
    /// The configuration is read again, without the n-th app. Others that came after it do not any more.
    RemovesApp(usize),
    /// An operator reloads the n-th app.
    ReloadApp(usize),
    /// An operator starts, stops, restarts, removes or replaces the n-th slot.
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
    Replace,
}

/// A worker's processes, as the simulated kernel has them.
struct Process {
    slot: SlotId,
    generation: u32,
    heeds: bool,
    /// Its first process leaves others of its group behind.
    leaves: bool,
    was_asked: bool,
    /// Its stop has begun, by this plan.
    plan: Option<(Time, StopPlan)>,
    /// It has bound a port.
    has_bound: bool,
    /// It waits for connections.
    listens: bool,
    /// Its first process has ended; others of its group run.
    has_no_leader: bool,
    /// SIGKILL takes effect at this time.
    dies_at: Option<Time>,
}

/// A start that a report has announced.
struct Announced {
    start_at: Time,
    /// The replacement that was under way then: it may take over first.
    replacement: Option<WorkerId>,
    /// An operator, a rollout or a stop has changed the plan since.
    is_overruled: bool,
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
    leaves: bool,
    kill_takes: Duration,
    /// The longest that a kill has taken so far.
    slowest_kill: Duration,
    reads: bool,
    /// New workers give every signal of readiness at once.
    pub eager: bool,
    /// The share of its time for which every worker is busy, in thousandths.
    pub busy: u16,
    /// The connections that wait for workers of each app.
    pub waiting: Option<u32>,
    /// The CPUs that the container may use.
    pub cpus: u32,
    was_autoscaled: bool,
    stop_asked: Option<Time>,
    stops: u32,
    closed: BTreeSet<AppId>,
    /// Apps that were up at some time.
    been_up: BTreeSet<AppId>,
    /// The workers that are told to have started.
    been_started: BTreeSet<WorkerId>,
    last_app: u32,
    announced: BTreeMap<SlotId, Announced>,
    /// Slots whose worker is not to be started again, unless somebody asks for it.
    ended: BTreeSet<SlotId>,
    /// Workers that were started as replacements, and have not taken over.
    replacements: BTreeSet<WorkerId>,
    /// The last start of each slot's holder, unless somebody has asked for another since.
    last_start: BTreeMap<SlotId, Time>,
    /// The last replacement of a worker of that generation for its memory, unless somebody has asked for another since.
    last_oversized: BTreeMap<(SlotId, u32), Time>,
    /// The service manager was told that all apps are ready.
    pub is_announced: bool,
    is_stop_announced: bool,
    /// A worker was stopped before its successor was started.
    had_gap: bool,
    /// Other settings may come with fewer workers.
    is_configured: bool,
    removals: BTreeMap<AppId, Time>,
    /// The last known settings of each app.
    policies: BTreeMap<AppId, Policy>,
    pub spawned: Vec<(Time, SlotId, u32)>,
}

/// The port at which eager workers listen.
pub const EAGER_PORT: u16 = 80;
pub const MS: Duration = Duration::from_millis(1);

pub fn policy() -> Policy {
    Policy {
        kind: Kind::Service,
        after: vec![],
        on_exit: OnExit::EndOnFailure,
        instances: 2,
        scaling: Scaling::fixed(),
        restart: Restart::Always,
        stop_exit_codes: vec![],
        min_uptime: 1000 * MS,
        stable_after: 1000 * MS,
        max_restarts: 16,
        backoff: Backoff { min: 100 * MS, max: 15_000 * MS },
        readiness: Readiness::Signal(ReadySignal::Notify),
        ready_timeout: 30_000 * MS,
        live_failures: 3,
        stop: StopPolicy { signal: Signal::TERM, timeout: 8000 * MS, request: None, to_group: false },
        max_uptime: None,
        max_memory: None,
        drain_delay: Duration::ZERO,
        reload: Reload::Rolling(1),
    }
}

impl World {
    pub fn new(policies: Vec<Policy>) -> World {
        let last_app = (policies.len() as u32).saturating_sub(1);
        let mut world = World {
            now: Time::ZERO,
            fleet: Fleet::new(policies, 42),
            reports: vec![],
            processes: BTreeMap::new(),
            pending: VecDeque::new(),
            forks: true,
            program: true,
            heeds: true,
            leaves: false,
            kill_takes: Duration::ZERO,
            slowest_kill: Duration::ZERO,
            reads: true,
            eager: false,
            busy: 0,
            waiting: Some(0),
            cpus: 2,
            was_autoscaled: false,
            stop_asked: None,
            stops: 0,
            closed: BTreeSet::new(),
            been_up: BTreeSet::new(),
            been_started: BTreeSet::new(),
            last_app,
            announced: BTreeMap::new(),
            ended: BTreeSet::new(),
            replacements: BTreeSet::new(),
            last_start: BTreeMap::new(),
            last_oversized: BTreeMap::new(),
            is_announced: false,
            is_stop_announced: false,
            had_gap: false,
            is_configured: false,
            removals: BTreeMap::new(),
            policies: BTreeMap::new(),
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
        // A worker whose first process has ended says nothing more.
        let live = || self.processes.iter().filter(|(_, process)| !process.has_no_leader).map(|(id, _)| *id);
        let nth = |n: usize| live().nth(n % live().count().max(1));
        match step {
            Pass(ms) => self.pass(ms as u32 * MS),
            Exits(n, code) => nth(n).into_iter().for_each(|id| self.end(id, Exit::code(code))),
            Killed(n) => nth(n).into_iter().for_each(|id| self.end(id, Exit::signal(Signal::KILL))),
            Says(n) => nth(n).into_iter().for_each(|id| self.give(Event::Ready(id, ReadySignal::Notify))),
            Signals(n, signal) => nth(n).into_iter().for_each(|id| self.give(Event::Ready(id, signal))),
            Binds(n) => nth(n).into_iter().for_each(|id| {
                self.processes.get_mut(&id).expect("a live process").has_bound = true;
                self.give(Event::Bound(id));
            }),
            Listens(n, port) => nth(n).into_iter().for_each(|id| {
                self.processes.get_mut(&id).expect("a live process").listens = true;
                self.give(Event::Listens(id, port.to_string()));
            }),
            Probes(n, passes) => nth(n).into_iter().for_each(|id| {
                self.give(Event::Probed(id, if passes { Ok(()) } else { Err("no answer".into()) }));
            }),
            Uses(n, mib) => {
                let usage = |mib: u64| WorkerUsage { memory: mib << 20, busy: self.busy };
                let mut workers: BTreeMap<WorkerId, WorkerUsage> = live().map(|id| (id, usage(10))).collect();
                workers.extend(nth(n).map(|id| (id, usage(mib))));
                let memory_used = workers.values().map(|usage| usage.memory).sum();
                let waiting = self.fleet.apps().iter().filter_map(|app| Some((app.id, self.waiting?))).collect();
                self.give(Event::Sampled(UsageSample {
                    workers,
                    waiting,
                    memory_limit: Some(1000 << 20),
                    memory_used,
                    cpus: self.cpus,
                    ..UsageSample::default()
                }));
            }
            Busy(busy) => self.busy = busy,
            Waits(waiting) => self.waiting = waiting,
            Cpus(cpus) => self.cpus = cpus,
            Sampled(count) => (0..count).for_each(|_| {
                self.step(Pass(1000));
                self.step(Uses(0, 10));
            }),
            Forks(forks) => self.forks = forks,
            Program(program) => self.program = program,
            Heeds(heeds) => self.heeds = heeds,
            Leaves(leaves) => self.leaves = leaves,
            KillTakes(ms) => {
                self.kill_takes = ms as u32 * MS;
                self.slowest_kill = self.slowest_kill.max(self.kill_takes);
            }
            Reads(reads) => self.reads = reads,
            Hup => self.give(Event::Reload(Target::All)),
            Scale(by) => self.give(Event::Scale(Target::All, Count::By(by))),
            ScaleTo(n, count) => self.nth_app(n).into_iter().for_each(|app| {
                self.give(Event::Scale(Target::App(app), Count::To(count)));
            }),
            AddsAfter(n) => {
                self.last_app += 1;
                let after = self.nth_app(n).into_iter().collect();
                self.give(Event::AddApp(AppId(self.last_app), Policy { after, ..policy() }.into()));
            }
            Configures(n, instances) => {
                if let Some(id) = self.nth_app(n)
                    && let Some(app) = self.fleet.app(id)
                {
                    let stop = StopPolicy { timeout: 4000 * MS, ..app.policy().stop };
                    let policy = Policy { instances, stop, ..app.policy().clone() };
                    self.give(Event::ConfigureApp(id, policy.into()));
                }
            }
            RemovesApp(n) => self.removes(n),
            ReloadApp(n) => self.nth_app(n).into_iter().for_each(|app| self.give(Event::Reload(Target::App(app)))),
            Operates(operation, n) => {
                let slots: Vec<SlotId> = self.all_slots().map(|slot| slot.id).collect();
                let Some(slot) = slots.get(n % slots.len().max(1)).map(|slot| Target::Slot(*slot)) else { return };
                self.give(match operation {
                    Operation::Start => Event::Start(slot),
                    Operation::Halt => Event::Stop(slot),
                    Operation::Restart => Event::Restart(slot),
                    Operation::Drop => Event::Remove(slot),
                    Operation::Replace => Event::Reload(slot),
                });
            }
            Forward => self.give(Event::Forward(Signal::HUP)),
            Stop => self.give(Event::Shutdown),
        }
    }

    fn nth_app(&self, n: usize) -> Option<AppId> {
        let apps = self.fleet.apps();
        apps.get(n % apps.len().max(1)).map(|app| app.id)
    }

    fn removes(&mut self, n: usize) {
        let Some(id) = self.nth_app(n).filter(|_| self.fleet.apps().iter().filter(|app| !app.is_removed()).count() > 1)
        else {
            return;
        };
        let dependents = self.fleet.apps().iter().filter(|app| app.policy().after.contains(&id));
        let freed: Vec<(AppId, Policy)> = dependents
            .map(|app| {
                let after = app.policy().after.iter().copied().filter(|other| *other != id).collect();
                (app.id, Policy { after, ..app.policy().clone() })
            })
            .collect();
        self.give(Event::RemoveApp(id));
        freed.into_iter().for_each(|(id, policy)| self.give(Event::ConfigureApp(id, policy.into())));
    }

    fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.fleet.apps().iter().flat_map(|app| &app.slots)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.let_the_asked_go();
        let (mut turns, mut at_once) = (0, 0);
        loop {
            let dies = self.processes.values().filter_map(|process| process.dies_at).min();
            let Some(next) = self.fleet.next_deadline().into_iter().chain(dies).min().filter(|next| *next <= end)
            else {
                break;
            };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            // With `--min-uptime 0` a whole reload may pass in no time, but not go on for ever.
            assert!(at_once < 100, "busy loop: at {:?} something is due at {next:?}, again and again", self.now);
            self.now = self.now.max(next);
            self.give(Event::Tick);
            self.let_the_asked_go();
            turns += 1;
            assert!(turns < 100_000, "too many turns in {time:?}");
        }
        self.now = end;
    }

    /// Ends the workers that were asked to stop and heed it, and those whose SIGKILL takes effect now.
    fn let_the_asked_go(&mut self) {
        let now = self.now;
        let is_dead = |process: &Process| process.dies_at.is_some_and(|time| time <= now);
        let goes = |process: &Process| process.was_asked && process.heeds || is_dead(process);
        while let Some((id, process)) = self.processes.iter().find(|(_, process)| goes(process)) {
            let signal = if is_dead(process) { Signal::KILL } else { Signal::TERM };
            self.end(*id, Exit::signal(signal));
        }
    }

    /// Ends a worker's first process, or else the rest of its group. What the first one leaves behind goes on, unless the
    /// fleet releases it.
    fn end(&mut self, id: WorkerId, exit: Exit) {
        let process = self.processes.get_mut(&id).expect("a live process");
        let leaves = process.leaves && process.dies_at.is_none();
        process.was_asked = false;
        if !std::mem::replace(&mut process.has_no_leader, true) {
            self.give(Event::Exited(id, exit));
            if leaves {
                return;
            }
        }
        if self.processes.remove(&id).is_some() {
            self.give(Event::GroupEnded(id));
        }
    }

    pub fn give(&mut self, event: Event) {
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            // A replacement that is ready serves beside the old worker, but goes when the reload fails.
            let before = self.ready_holders();
            let may_lower = self.fleet.is_stopping()
                || matches!(event, Event::Exited(..) | Event::Scale(..) | Event::Shutdown)
                || matches!(event, Event::Stop(_) | Event::Restart(_) | Event::Remove(_));
            if event == Event::Shutdown {
                self.stop_asked.get_or_insert(self.now);
                self.stops += 1;
            }
            self.is_configured |= matches!(event, Event::ConfigureApp(..));
            self.note_overruled(&event);
            let mut effects = vec![];
            self.policies.extend(self.fleet.apps().iter().map(|app| (app.id, app.policy().clone())));
            self.fleet.handle(self.now, event.clone(), &mut effects);
            self.policies.extend(self.fleet.apps().iter().map(|app| (app.id, app.policy().clone())));
            // What has finished is waited for no longer.
            let has_finished = |slot: &Slot| slot.is_at_rest() && slot.state == SlotState::Stopped;
            let is_over = |app: &App| app.policy().kind == Kind::Service && app.slots.iter().all(has_finished);
            let been_up = self.fleet.apps().iter().filter(|app| app.is_up() || is_over(app)).map(|app| app.id);
            self.been_up.extend(been_up);
            effects.into_iter().for_each(|effect| self.perform(effect));
            self.note_take_overs();
            if self.pending.is_empty() {
                self.check(&event);
                let is_order = |app: &App| app.rollout.as_ref().is_some_and(|rollout| rollout.order == Reload::Restart);
                let apps = self.fleet.apps();
                self.had_gap |= apps.iter().any(is_order);
                let cannot_overlap = self.had_gap || apps.iter().any(|app| app.policy().reload == Reload::Restart);
                let has_lowered =
                    self.was_autoscaled || self.fleet.is_stopping() || !self.removals.is_empty() || self.is_configured;
                if !may_lower && !cannot_overlap && !has_lowered {
                    assert!(self.ready() >= before, "{before} ready workers before, {} after {event:?}", self.ready());
                }
            }
        }
        let now = self.now;
        let dead = self.processes.iter().find(|(_, process)| process.dies_at.is_some_and(|time| time <= now));
        if let Some(id) = dead.map(|(id, _)| *id) {
            self.end(id, Exit::signal(Signal::KILL));
        }
    }

    /// Notes the slots for which another plan was made than the one that was announced.
    fn note_overruled(&mut self, event: &Event) {
        let target = match event {
            Event::Scale(target, _)
            | Event::Start(target)
            | Event::Stop(target)
            | Event::Restart(target)
            | Event::Remove(target)
            | Event::Reload(target) => *target,
            Event::Shutdown => Target::All,
            Event::ConfigureApp(app, _) | Event::RemoveApp(app) => Target::App(*app),
            _ => return,
        };
        let slots: Vec<SlotId> = self.all_slots().map(|slot| slot.id).filter(|slot| target.has_app(slot.app)).collect();
        for slot in slots {
            self.overrule(slot);
            self.last_oversized.retain(|(other, _), _| *other != slot);
        }
    }

    /// Notes the replacements that have taken over before the start that was announced.
    fn note_take_overs(&mut self) {
        for (id, announced) in &mut self.announced {
            let holder = self.fleet.slot(*id).and_then(Slot::holder).map(|worker| worker.id);
            announced.is_overruled |= holder.is_some() && holder == announced.replacement;
        }
        // A replacement has a life of its own: it began before the last start of the worker whose place it takes.
        let holders: Vec<(SlotId, WorkerId)> =
            self.all_slots().filter_map(|slot| Some((slot.id, slot.holder()?.id))).collect();
        for (slot, holder) in holders {
            if self.replacements.remove(&holder) {
                self.last_start.remove(&slot);
            }
        }
        self.ended.retain(|id| self.fleet.slot(*id).is_none_or(|slot| slot.holder().is_none()));
    }

    fn overrule(&mut self, slot: SlotId) {
        self.ended.remove(&slot);
        self.last_start.remove(&slot);
        self.announced.entry(slot).and_modify(|announced| announced.is_overruled = true);
    }

    fn policy_of(&self, slot: SlotId) -> &Policy {
        &self.policies[&slot.app]
    }

    fn process(&mut self, worker: WorkerId) -> &mut Process {
        self.processes.get_mut(&worker).unwrap_or_else(|| panic!("{worker:?} is not alive"))
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { worker, slot, generation, workers } => {
                assert_eq!(workers, self.fleet.app(slot.app).expect("an app").wanted());
                self.spawn(worker, slot, generation);
            }
            Effect::Drain(worker, plan) => self.drain(worker, plan),
            Effect::Signal { worker, .. } | Effect::Kill(worker) if self.was_refused(worker) => {}
            Effect::Signal { worker, signal, to_group } => {
                let now = self.now;
                let process = self.process(worker);
                if signal != Signal::TERM {
                    return;
                }
                assert!(to_group || !process.has_no_leader, "the first process of {worker:?} has ended");
                let (begun, plan) = process.plan.expect("a stop begins with its plan");
                assert!(now <= begun + plan.signal_after || process.has_no_leader, "the stop signal comes late");
                process.was_asked = true;
            }
            Effect::Kill(worker) => {
                let dies_at = self.now + self.kill_takes;
                let (now, stops) = (self.now, self.stops);
                let process = self.process(worker);
                process.dies_at.get_or_insert(dies_at);
                if let Some((begun, plan)) = process.plan {
                    assert!(now <= begun + plan.kill_after, "SIGKILL comes late");
                    assert!(stops > 1 || now == begun + plan.kill_after, "SIGKILL comes early");
                }
                self.pending.push_back(Event::Killed(worker));
            }
            Effect::Release(worker) => drop(self.processes.remove(&worker)),
            Effect::ClosePorts(app) => {
                assert!(self.closed.insert(app), "the ports of {app:?} are closed twice");
                // One without processes is gone already.
                let delay = self.fleet.app(app).map_or(Duration::ZERO, |app| app.policy().drain_delay);
                let asked = self.removals.get(&app).copied().or(self.stop_asked);
                let asked = asked.expect("ports are closed only when the app stops");
                assert!(self.stops > 1 || self.now >= asked + delay, "ports are closed before the drain delay is over");
                let dependents = self.fleet.apps().iter().filter(|other| other.policy().after.contains(&app));
                assert!(
                    self.stops > 1 || dependents.flat_map(|app| &app.slots).all(|slot| slot.workers().next().is_none()),
                    "{app:?} is stopped before those that come after it"
                );
                // From now on the app's workers are asked to stop, and none is started.
                let slots: Vec<SlotId> = self.all_slots().map(|slot| slot.id).filter(|slot| slot.app == app).collect();
                slots.into_iter().for_each(|slot| self.overrule(slot));
            }
            Effect::Prepare(app, generation) => {
                let result = if self.reads { Ok(()) } else { Err("no such file".to_owned()) };
                self.pending.push_back(Event::Prepared(app, generation, result));
            }
            Effect::KeepGenerations(app, kept) => {
                for slot in self.fleet.app(app).map_or(&[][..], |app| &app.slots) {
                    assert!(kept.contains(&slot.generation), "generation {} is still used", slot.generation);
                }
            }
            Effect::ForgetApp(app) => {
                assert!(self.processes.values().all(|process| process.slot.app != app), "{app:?} still runs");
            }
            Effect::SlotRemoved(slot) => {
                self.announced.remove(&slot);
                self.ended.remove(&slot);
                self.last_start.remove(&slot);
            }
            Effect::AnnounceReady => {
                let apps = self.fleet.apps();
                assert!(apps.iter().any(App::is_up) && apps.iter().all(|app| app.is_up() || app.is_over()));
                assert!(!std::mem::replace(&mut self.is_announced, true), "announced twice");
            }
            Effect::AnnounceStopping => assert!(!std::mem::replace(&mut self.is_stop_announced, true)),
            Effect::Report(report) => self.judge(report),
        }
    }

    fn spawn(&mut self, worker: WorkerId, slot: SlotId, generation: u32) {
        // The fleet has handled the whole event by now: the worker is in its part of the slot.
        let app = self.fleet.app(slot.app).expect("an app");
        // The container may come to its end in the same moment.
        let is_run_again = app.policy().kind == Kind::Task && (app.rollout.is_some() || self.fleet.is_stopping());
        let is_replacement = self.fleet.slot(slot).is_some_and(|slot| slot.incoming.iter().any(|one| one.id == worker));
        if is_replacement {
            self.replacements.insert(worker);
            self.overrule(slot);
        } else {
            assert!(
                is_run_again || !self.ended.contains(&slot),
                "{slot:?} is started again, and nobody has asked for it"
            );
            if let Some(announced) = self.announced.remove(&slot).filter(|announced| !announced.is_overruled) {
                assert_eq!(announced.start_at, self.now, "{slot:?} is started at another time than announced");
            }
        }
        if !self.forks {
            self.pending.push_back(Event::SpawnFailed(worker, SpawnError::NotNow("no room".into())));
            return;
        }
        if self.stops < 2 {
            for before in &self.fleet.app(slot.app).expect("an app").policy().after {
                let is_there = self.fleet.app(*before).is_some_and(|app| app.policy().on_exit != OnExit::Ignore);
                assert!(!is_there || self.been_up.contains(before), "{slot:?} is started before {before:?} is up");
            }
        }
        if !is_replacement
            && !is_run_again
            && let Some(last) = self.last_start.insert(slot, self.now)
        {
            let shortest = self.policy_of(slot).backoff.delay(0, -1.0);
            assert!(self.now - last >= shortest, "{slot:?} is started again after {:?}", self.now - last);
        }
        if !self.program {
            let error = SpawnError::Program { status: 127, message: "not found".into() };
            self.pending.push_back(Event::SpawnFailed(worker, error));
            return;
        }
        let process = Process {
            slot,
            generation,
            heeds: self.heeds,
            leaves: self.leaves,
            was_asked: false,
            plan: None,
            has_bound: false,
            listens: false,
            has_no_leader: false,
            dies_at: None,
        };
        assert!(self.processes.insert(worker, process).is_none(), "{worker:?} twice");
        self.spawned.push((self.now, slot, generation));
        // What an eager one shows may come before rinit hears that it runs.
        let is_heard_late = self.eager && worker.0.is_multiple_of(3);
        if !is_heard_late {
            self.pending.push_back(Event::Spawned(worker));
        }
        if self.eager {
            let process = self.process(worker);
            (process.has_bound, process.listens) = (true, true);
            self.pending.push_back(Event::Listens(worker, EAGER_PORT.to_string()));
            let signals = [ReadySignal::Notify, ReadySignal::Message, ReadySignal::Probe];
            self.pending.extend(signals.map(|signal| Event::Ready(worker, signal)));
        }
        if is_heard_late {
            self.pending.push_back(Event::Spawned(worker));
        }
    }

    fn drain(&mut self, worker: WorkerId, plan: StopPlan) {
        if self.was_refused(worker) {
            return;
        }
        let now = self.now;
        assert!(plan.signal_after <= plan.kill_after && plan.handler_after <= plan.signal_after, "{plan:?}");
        assert!(plan.idle_for < plan.signal_after || plan.idle_for.is_zero(), "{plan:?}");
        assert_eq!(plan.request.is_none(), plan.signal_after.is_zero(), "{plan:?}");
        let process = self.process(worker);
        assert!(process.plan.replace((now, plan)).is_none(), "the stop of {worker:?} begins twice");
        if plan.request.is_some() && process.heeds {
            self.pending.push_back(Event::Drained(worker));
        }
    }

    /// Holds a report against what has happened, and notes what it announces.
    fn judge(&mut self, report: Report) {
        match &report {
            Report::Ending { app, .. } => {
                let app = self.fleet.app(*app).expect("an app");
                assert_ne!(app.policy().on_exit, OnExit::Ignore, "{:?} ends the container", app.id);
                self.stop_asked = Some(self.now);
                let slots: Vec<SlotId> = self.all_slots().map(|slot| slot.id).collect();
                slots.into_iter().for_each(|slot| self.overrule(slot));
            }
            Report::Removing { app, .. } => drop(self.removals.insert(*app, self.now)),
            Report::Autoscaled { .. } => {
                self.was_autoscaled = true;
                // Slots go, and come again as new ones.
                self.last_oversized.clear();
            }
            Report::Oversized { slot, worker, .. } => {
                let generation = self.process(*worker).generation;
                let last = self.last_oversized.insert((*slot, generation), self.now);
                let pause = last.map_or(Duration::MAX, |last| self.now - last);
                assert!(pause >= 30_000 * MS, "{slot:?} is replaced for its memory again after {pause:?}");
            }
            Report::NotReady { slot, after, .. } => {
                let patience = self.policy_of(*slot).ready_timeout;
                assert!(*after >= patience, "judged not ready after {after:?}, before the timeout of {patience:?}");
            }
            Report::Started { worker, .. } => {
                assert!(self.been_started.insert(*worker), "{worker:?} is told to have started twice");
            }
            Report::Ready { slot, worker, .. } => {
                // A reload may stop it in the same event.
                if self.policy_of(*slot).kind == Kind::Service {
                    self.been_up.insert(slot.app);
                }
                assert!(self.been_started.contains(worker), "{worker:?} is told to be ready before it has started");
                let is_auto = matches!(self.policy_of(*slot).readiness, Readiness::Auto { .. });
                let process = self.process(*worker);
                let serves = !process.has_bound || process.listens;
                assert!(
                    !is_auto || serves,
                    "{worker:?} is called ready, and nobody waits at the port that it has bound"
                );
            }
            Report::Exited { slot, role, next, exit, .. } => {
                if self.policy_of(*slot).kind == Kind::Task && exit.status() == 0 {
                    self.been_up.insert(slot.app);
                }
                if matches!(role, Role::Holder) && matches!(next, Next::Restart | Next::Backoff { .. }) {
                    let policy = self.policy_of(*slot);
                    let is_failure = exit.kind != ExitKind::Code(0);
                    assert!(policy.restart != Restart::Never, "started again under `never`");
                    assert!(policy.restart != Restart::OnFailure || is_failure, "started again after a success");
                }
                self.note_announced(*slot, *role, *next);
            }
            Report::StartFailed { slot, next, .. } => self.note_announced(*slot, Role::Holder, *next),
            _ => {}
        }
        self.reports.push(report);
    }

    fn note_announced(&mut self, slot: SlotId, role: Role, next: Next) {
        let start_at = match next {
            Next::Restart => self.now,
            Next::Backoff { wait, .. } => self.now + wait,
            Next::GiveUp { .. } | Next::Finished => {
                self.ended.insert(slot);
                return;
            }
            Next::Gone => return,
        };
        assert!(role != Role::Leaving, "a restart is announced of a worker that is not wanted");
        let replacement = self.fleet.slot(slot).and_then(|slot| slot.incoming.as_ref()).map(|worker| worker.id);
        self.announced.insert(slot, Announced { start_at, replacement, is_overruled: false });
    }

    /// True if the fleet is about to hear that this worker could not be started.
    fn was_refused(&self, worker: WorkerId) -> bool {
        self.pending.iter().any(|event| matches!(event, Event::SpawnFailed(id, _) if *id == worker))
    }

    /// Asserts what must hold after every event.
    fn check(&self, event: &Event) {
        for app in self.fleet.apps() {
            for slot in &app.slots {
                for worker in slot.workers() {
                    let process = self.processes.get(&worker.id).unwrap_or_else(|| {
                        // Its group has just ended; the fleet hears of that next.
                        panic!("after {event:?}: slot {:?} holds {worker:?}, which is dead", slot.id)
                    });
                    assert_eq!((process.slot, process.generation), (slot.id, worker.generation));
                }
                if let Some(announced) = self.announced.get(&slot.id).filter(|announced| !announced.is_overruled) {
                    let waits = slot.state == SlotState::Backoff(announced.start_at) && announced.start_at > self.now;
                    assert!(waits, "after {event:?}: a start was announced, and {:?} is {:?}", slot.id, slot.state);
                }
            }
            assert!(
                app.slots.is_sorted_by(|a, b| a.id.index < b.id.index),
                "slots have numbers of their own, in order"
            );
            let width = match app.rollout.as_ref().map_or(app.policy().reload, |rollout| rollout.order) {
                Reload::Rolling(width) => width as usize,
                Reload::Restart => 1,
            };
            let new =
                app.slots.iter().filter_map(|slot| slot.incoming.as_ref()).filter(|new| !new.is_leaving()).count();
            assert!(new <= width, "{new} replacements under way, at most {width} may be");
            assert!(new == 0 || app.rollout.is_some(), "a replacement without a rollout");
            assert!(app.wanted() >= 1);
        }
        let known = self.fleet.apps().iter().flat_map(|app| &app.slots).flat_map(Slot::workers).count();
        assert_eq!(known, self.processes.len(), "after {event:?}: every process belongs to a slot");
        self.check_that_the_stop_is_in_time();
    }

    /// Every app stops by its own clock.
    fn check_that_the_stop_is_in_time(&self) {
        let Some(asked) = self.stop_asked else { return };
        // A worker of an older generation has the time of its own settings.
        let timeout = |policy: &Policy| policy.stop.timeout.max(crate::world::policy().stop.timeout);
        let allowance = |policy: &Policy| policy.drain_delay + timeout(policy) + self.slowest_kill.min(5000 * MS);
        for app in self.fleet.apps() {
            // It may have to wait for each of the others.
            let others = self.policies.iter().filter(|(id, _)| **id != app.id);
            let has_dependents = self.policies.values().any(|policy| policy.after.contains(&app.id));
            let first: Time = others.filter(|_| has_dependents).map(|(_, policy)| allowance(policy)).sum();
            // A kill that does not take effect is given up after 5 s.
            let patience = allowance(app.policy()) + first;
            let is_over = self.now <= asked + patience || app.slots.iter().all(|slot| slot.workers().next().is_none());
            assert!(is_over, "{:?} still runs {patience:?} after the stop", app.id);
        }
    }

    fn ready_holders(&self) -> usize {
        self.all_slots().filter(|slot| slot.holder().is_some_and(Worker::is_ready)).count()
    }

    /// The number of slots with a worker that serves.
    pub fn ready(&self) -> usize {
        self.all_slots().filter(|slot| slot.is_ready()).count()
    }

    pub fn running(&self) -> usize {
        self.processes.len()
    }

    /// The number of workers that were not sent SIGKILL.
    pub fn running_and_not_killed(&self) -> usize {
        self.processes.values().filter(|process| process.dies_at.is_none()).count()
    }

    /// The generation of each live worker, in the order of their starts.
    pub fn generations(&self) -> Vec<u32> {
        self.processes.values().map(|process| process.generation).collect()
    }

    pub fn saw(&self, what: impl Fn(&Report) -> bool) -> usize {
        self.reports.iter().filter(|report| what(report)).count()
    }
}
