//! Tests stops: the plan of one worker's stop, the group that outlives its first process, and the clock of each app.

use crate::world::*;
use rinit::core::*;

fn one(policy: Policy) -> Vec<Policy> {
    vec![Policy { instances: 1, ..policy }]
}

/// The effects of an event on a fleet of one worker that is ready.
struct Core(Fleet);

impl Core {
    fn ready(policy: Policy) -> Core {
        let mut core = Core(Fleet::new(one(policy), 1));
        core.give(0, Event::Boot);
        core.give(0, Event::Spawned(WorkerId(1)));
        core.give(0, Event::Ready(WorkerId(1), ReadySignal::Notify));
        core
    }

    fn give(&mut self, ms: u32, event: Event) -> Vec<Effect> {
        let mut effects = vec![];
        self.0.handle(ms * MS, event, &mut effects);
        effects
            .retain(|effect| !matches!(effect, Effect::Report(_) | Effect::AnnounceReady | Effect::AnnounceStopping));
        effects
    }
}

const WORKER: WorkerId = WorkerId(1);

fn signal(to_group: bool) -> Effect {
    Effect::Signal { worker: WORKER, signal: Signal::TERM, to_group }
}

fn stop_policy(request: Option<DrainKind>) -> StopPolicy {
    StopPolicy { request, ..policy().stop }
}

#[test]
fn the_plan_says_when_each_step_of_a_stop_comes() {
    let plan_of = |request, event| {
        let mut core = Core::ready(Policy { stop: stop_policy(request), ..policy() });
        let effects = core.give(20_000, event);
        effects.into_iter().find_map(|effect| if let Effect::Drain(_, plan) = effect { Some(plan) } else { None })
    };
    let ms = |plan: StopPlan| {
        [plan.idle_for, plan.handler_after, plan.signal_after, plan.kill_after].map(|time| time.as_millis())
    };
    let slot = SlotId { app: AppId(0), index: 0 };
    let restart = Event::Restart(Target::Slot(slot));
    assert_eq!(ms(plan_of(None, restart.clone()).unwrap()), [0, 0, 0, 8000]);
    assert_eq!(ms(plan_of(Some(DrainKind::Cluster), restart.clone()).unwrap()), [5500, 4000, 7000, 8000]);
    assert_eq!(ms(plan_of(Some(DrainKind::Message), restart.clone()).unwrap()), [3200, 4000, 4000, 8000]);
    // A worker that does not listen has no connections.
    assert_eq!(ms(plan_of(Some(DrainKind::Hook), restart.clone()).unwrap()), [3200, 4000, 4000, 8000]);
    assert_eq!(ms(plan_of(Some(DrainKind::Connections), restart).unwrap()), [0, 0, 0, 8000]);
    assert_eq!(ms(plan_of(Some(DrainKind::Cluster), Event::Shutdown).unwrap()), [1000, 4000, 7000, 8000]);
}

#[test]
fn a_worker_without_a_request_gets_the_signal_at_once_and_sigkill_when_its_time_is_over() {
    let mut core = Core::ready(policy());
    let effects = core.give(1000, Event::Shutdown);
    assert!(matches!(effects[..], [Effect::ClosePorts(_), Effect::Drain(..), Effect::Signal { .. }]), "{effects:?}");
    assert_eq!(core.0.next_deadline(), Some(9000 * MS));
    assert_eq!(core.give(9000, Event::Tick), [Effect::Kill(WORKER)]);
}

#[test]
fn a_worker_that_has_finished_gets_a_moment_to_exit_and_then_the_signal() {
    let mut core = Core::ready(Policy { stop: stop_policy(Some(DrainKind::Cluster)), ..policy() });
    core.give(1000, Event::Shutdown);
    assert_eq!(core.0.next_deadline(), Some(8000 * MS), "the signal, if it does not finish");
    core.give(2000, Event::Drained(WORKER));
    assert_eq!(core.give(2200, Event::Tick), [signal(false)]);
}

#[test]
fn a_worker_whose_pre_stop_hook_has_ended_gets_the_signal_at_once() {
    let mut core = Core::ready(Policy { stop: stop_policy(Some(DrainKind::Hook)), ..policy() });
    core.give(1000, Event::Shutdown);
    core.give(1500, Event::Drained(WORKER));
    assert_eq!(core.give(1500, Event::Tick), [signal(false)]);
}

#[test]
fn after_a_requested_stop_the_rest_of_the_group_gets_the_signal_and_the_rest_of_the_time() {
    let mut core = Core::ready(policy());
    core.give(1000, Event::Shutdown);
    assert_eq!(core.give(1100, Event::Exited(WORKER, Exit::signal(Signal::TERM))), [signal(true)]);
    assert_eq!(core.0.finished(), None);
    assert_eq!(core.give(3000, Event::GroupEnded(WORKER)), [Effect::Release(WORKER)]);
    assert_eq!(core.0.finished(), Some(0));

    let mut core = Core::ready(policy());
    core.give(1000, Event::Shutdown);
    core.give(1100, Event::Exited(WORKER, Exit::signal(Signal::TERM)));
    assert_eq!(core.give(9000, Event::Tick), [Effect::Kill(WORKER)], "a group that does not end");
    core.give(9001, Event::GroupEnded(WORKER));
    assert_eq!(core.0.finished(), Some(137));
}

#[test]
fn with_kill_process_group_the_whole_group_gets_the_signal_once_and_from_the_start() {
    let mut core = Core::ready(Policy { stop: StopPolicy { to_group: true, ..policy().stop }, ..policy() });
    assert!(core.give(1000, Event::Shutdown).contains(&signal(true)));
    assert_eq!(core.give(1100, Event::Exited(WORKER, Exit::signal(Signal::TERM))), []);
}

#[test]
fn what_a_crashed_worker_leaves_in_its_group_is_killed_before_the_next_one_starts() {
    let mut core = Core::ready(policy());
    let effects = core.give(20_000, Event::Exited(WORKER, Exit::code(1)));
    assert!(matches!(effects[..], [Effect::Release(WORKER), Effect::Spawn { .. }]), "{effects:?}");
}

#[test]
fn a_reload_that_is_stopped_in_the_drain_delay_keeps_the_ports_open_until_it_is_over() {
    let mut world = World::healthy(vec![Policy { drain_delay: 6000 * MS, ..policy() }]);
    world.eager = false;
    // That the ports are not closed before is asserted by the world.
    world.play(&[Hup, Pass(1000), Stop, Pass(5999)]);
    assert_eq!((world.ready(), world.fleet.finished()), (2, None));
    world.play(&[Pass(1)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn every_app_stops_by_its_own_clock() {
    let mut world = World::healthy(vec![policy(), Policy { drain_delay: 5000 * MS, ..policy() }]);
    world.play(&[Stop, Pass(1)]);
    assert_eq!(world.running(), 2, "the app without a drain delay is gone");
    world.play(&[Pass(5000)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn an_old_worker_that_cannot_be_killed_fails_the_reload() {
    let mut world = World::new(one(policy()));
    world.play(&[Heeds(false), KillTakes(60_000), Exits(0, 1), Pass(200), Says(0), Pass(10_000)]);
    world.play(&[Hup, Says(1), Pass(30_000)]);
    let remains =
        |report: &Report| matches!(report, Report::ReloadFailed { error: RolloutError::OldRemains { .. }, .. });
    assert_eq!((world.saw(remains), world.saw(|report| matches!(report, Report::Reloaded { .. }))), (1, 0));
}

#[test]
fn a_refused_signal_is_reported_and_not_counted_as_sent() {
    let mut fleet = Fleet::new(one(policy()), 1);
    let mut effects = vec![];
    fleet.handle(Time::ZERO, Event::Boot, &mut effects);
    fleet.handle(MS, Event::Spawned(WORKER), &mut effects);
    fleet.handle(2 * MS, Event::Shutdown, &mut effects);
    fleet.handle(8002 * MS, Event::Tick, &mut effects);
    fleet.handle(8002 * MS, Event::SignalRefused(WORKER, Signal::KILL, "not permitted".into()), &mut effects);
    let saw = |what: fn(&Report) -> bool| {
        effects.iter().any(|effect| matches!(effect, Effect::Report(report) if what(report)))
    };
    assert!(saw(|report| matches!(report, Report::SignalRefused { signal: Signal::KILL, .. })));
    assert!(!saw(|report| matches!(report, Report::Killed { .. })));
}
