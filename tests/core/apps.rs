//! Several apps: their order, tasks, and a configuration that changes.

use crate::world::*;
use rinit::core::*;
use std::time::Duration;

fn after(apps: &[u32]) -> Vec<AppId> {
    apps.iter().copied().map(AppId).collect()
}

fn service() -> Policy {
    Policy { instances: 1, ..policy() }
}

fn task() -> Policy {
    Policy { kind: Kind::Task, restart: Restart::Never, readiness: Readiness::Spawn, ..service() }
}

/// The apps that have a process.
fn running(world: &World) -> Vec<u32> {
    let apps = world.fleet.apps().iter().filter(|app| app.slots.iter().any(|slot| slot.workers().next().is_some()));
    apps.map(|app| app.id.0).collect()
}

#[test]
fn an_app_starts_when_those_before_it_are_up_and_stops_before_them() {
    let mut world = World::new(vec![service(), Policy { after: after(&[0]), ..service() }]);
    assert_eq!(running(&world), [0]);
    world.play(&[Says(0)]);
    assert_eq!(running(&world), [0, 1]);
    world.play(&[Says(1), Heeds(true), Stop]);
    assert_eq!(world.saw(|report| matches!(report, Report::Stopping { slot, .. } if slot.app == AppId(0))), 0);
    world.play(&[Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn what_comes_after_a_task_starts_when_that_has_succeeded() {
    let mut world = World::new(vec![task(), Policy { after: after(&[0]), ..service() }]);
    world.play(&[Pass(60_000)]);
    assert_eq!(running(&world), [0], "a task is up when it has succeeded, however long it runs");
    world.play(&[Exits(0, 0)]);
    assert_eq!(running(&world), [1]);
    world.play(&[Says(0), Pass(60_000)]);
    assert_eq!((running(&world), world.fleet.finished()), (vec![1], None));
}

#[test]
fn a_task_that_fails_ends_the_start_with_its_code() {
    let mut world = World::new(vec![task(), Policy { after: after(&[0]), ..service() }, service()]);
    world.play(&[Exits(0, 7), Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(7));
    let ending =
        |report: &Report| matches!(report, Report::Ending { app: AppId(0), result, .. } if result.is_failure());
    assert_eq!(world.saw(ending), 1);
}

#[test]
fn a_reload_runs_a_task_again_before_what_comes_after_it() {
    let mut world = World::new(vec![task(), Policy { after: after(&[0]), ..service() }]);
    world.play(&[Exits(0, 0), Says(0), Pass(2000), Hup]);
    assert_eq!(world.generations(), [1, 2], "the new task runs beside the old service");
    world.play(&[Pass(5000)]);
    assert_eq!(world.generations(), [1, 2]);
    world.play(&[Exits(1, 0)]);
    assert_eq!(world.generations(), [1, 2], "the old service, and its replacement");
    world.play(&[Says(1), Pass(2000)]);
    assert_eq!(world.generations(), [2]);
}

#[test]
fn a_task_that_fails_at_a_reload_stops_the_reload_of_what_comes_after_it_and_nothing_else() {
    let mut world = World::new(vec![task(), Policy { after: after(&[0]), ..service() }]);
    world.play(&[Exits(0, 0), Says(0), Pass(2000), Hup, Exits(1, 3), Pass(60_000)]);
    assert_eq!((world.generations(), world.fleet.finished()), (vec![1], None));
    let failed = |report: &Report| match report {
        Report::ReloadFailed { app, error, .. } => match error {
            RolloutError::Task { .. } => *app == AppId(0),
            RolloutError::Dependency(before) => (*app, *before) == (AppId(1), AppId(0)),
            _ => false,
        },
        _ => false,
    };
    assert_eq!(world.saw(failed), 2);
}

#[test]
fn the_container_ends_when_one_app_has_failed_for_good_unless_that_is_ignored() {
    let fails = Policy { max_restarts: 1, ..service() };
    let mut world = World::new(vec![fails.clone(), service()]);
    world.play(&[Exits(0, 4), Pass(200), Exits(1, 4), Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(4));

    let mut world = World::new(vec![Policy { on_exit: OnExit::Ignore, ..fails }, service()]);
    world.play(&[Exits(0, 4), Pass(200), Exits(1, 4), Says(0), Pass(60_000)]);
    assert_eq!((running(&world), world.fleet.finished()), (vec![1], None));
}

#[test]
fn a_removed_app_of_which_nothing_runs_holds_up_no_stop() {
    let last = Policy { after: after(&[0]), drain_delay: 5000 * MS, ..service() };
    let mut world = World::new(vec![service(), last]);
    world.play(&[Says(0), Says(1), Heeds(true), Operates(Operation::Halt, 1), RemovesApp(1), Stop, Pass(6000)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn an_app_that_has_finished_before_it_was_ready_holds_up_nobody() {
    let job = Policy { restart: Restart::Never, ..service() };
    let mut world = World::new(vec![job, Policy { after: after(&[0]), ..service() }]);
    world.play(&[Exits(0, 0)]);
    assert_eq!((running(&world), world.fleet.finished()), (vec![1], None));
}

#[test]
fn an_app_that_is_over_is_no_obstacle_to_the_containers_readiness() {
    let finishes = Policy { stop_exit_codes: vec![42], ..service() };
    let fails = Policy { restart: Restart::Never, on_exit: OnExit::Ignore, ..service() };
    for (policy, status) in [(finishes.clone(), 42), (fails, 1), (Policy { on_exit: OnExit::Ignore, ..task() }, 1)] {
        let mut world = World::new(vec![policy, service()]);
        world.play(&[Exits(0, status)]);
        assert!(world.fleet.apps()[0].is_over() && !world.is_announced);
        world.play(&[Says(0)]);
        assert!(world.is_announced, "the other app serves");
        world.play(&[Hup]);
        assert!(world.fleet.apps()[0].policy().kind == Kind::Task || world.fleet.apps()[0].is_over());
    }
    let mut world = World::new(vec![finishes, service()]);
    world.play(&[Says(1), Operates(Operation::Halt, 0), Pass(60_000)]);
    assert!(!world.fleet.apps()[0].is_over() && !world.is_announced, "what an operator has stopped is missed");
}

#[test]
fn a_status_after_which_an_app_is_to_stay_away_is_no_failure_while_others_run() {
    let job = Policy { stop_exit_codes: vec![7], ..service() };
    let mut world = World::new(vec![job.clone(), service()]);
    world.play(&[Says(1), Exits(0, 7), Pass(60_000)]);
    assert_eq!((running(&world), world.fleet.finished()), (vec![1], None));
    // What comes after a task needs its success.
    let mut world = World::new(vec![Policy { stop_exit_codes: vec![7], ..task() }, service()]);
    world.play(&[Says(1), Exits(0, 7), Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(7));
    let mut world = World::new(vec![Policy { restart: Restart::Never, instances: 2, ..job }, service()]);
    world.play(&[Says(2), Exits(0, 3), Exits(0, 7), Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(7), "one of its workers has failed");
}

#[test]
fn the_container_ends_with_an_app_whose_end_is_its_own() {
    let job = Policy { restart: Restart::Never, on_exit: OnExit::End, ..service() };
    let mut world = World::new(vec![job, service()]);
    world.play(&[Says(0), Says(1), Exits(0, 0), Pass(0)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn a_stop_that_is_asked_for_while_the_container_ends_by_itself_kills_nobody() {
    let mut world = World::new(vec![Policy { max_restarts: 1, ..service() }, service()]);
    world.play(&[Says(1), Heeds(false), Exits(0, 4), Pass(200), Exits(1, 4), Stop]);
    assert_eq!(world.running_and_not_killed(), 1);
    world.play(&[Stop]);
    assert_eq!(world.running_and_not_killed(), 0);
}

#[test]
fn new_settings_come_with_a_reload_and_each_worker_is_stopped_by_its_own() {
    let mut world = World::healthy(vec![service()]);
    let stop = StopPolicy { timeout: 1000 * MS, ..policy().stop };
    world.give(Event::ConfigureApp(AppId(0), Policy { instances: 3, stop, ..service() }.into()));
    world.play(&[Pass(20_000)]);
    assert_eq!(world.generations(), [2, 2, 2]);
    let timeouts: Vec<Time> = world
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Stopping { timeout, .. } => Some(*timeout),
            _ => None,
        })
        .collect();
    assert_eq!(timeouts, [8000 * MS], "the old worker has the time that it was started with");
}

#[test]
fn settings_that_fail_are_not_in_force_and_are_tried_again_with_the_next_reload() {
    let mut world = World::healthy(vec![service()]);
    world.play(&[Program(false)]);
    world.give(Event::ConfigureApp(AppId(0), Policy { instances: 3, ..service() }.into()));
    world.play(&[Pass(20_000), Program(true)]);
    assert_eq!((world.generations(), world.fleet.apps()[0].policy().instances), (vec![1], 1));
    world.play(&[Hup, Pass(20_000)]);
    assert_eq!((world.generations(), world.fleet.apps()[0].policy().instances), (vec![3, 3, 3], 3));
}

#[test]
fn an_app_that_the_configuration_has_no_more_is_stopped_and_forgotten() {
    let mut world = World::healthy(vec![service(), service()]);
    world.give(Event::RemoveApp(AppId(0)));
    assert_eq!(world.fleet.admit(&Event::Reload(Target::App(AppId(0)))), Err(Refused::AppRemoved));
    world.play(&[Pass(0)]);
    assert_eq!((running(&world), world.fleet.apps().len()), (vec![1], 1));
    world.give(Event::AddApp(AppId(2), Policy { after: after(&[1]), ..service() }.into()));
    assert_eq!(running(&world), [1, 2]);
}

#[test]
fn a_reload_that_brings_fewer_workers_stops_the_others() {
    let mut world = World::healthy(vec![Policy { instances: 4, ..policy() }]);
    world.give(Event::ConfigureApp(AppId(0), Policy { instances: 3, ..policy() }.into()));
    world.play(&[Pass(20_000)]);
    assert_eq!((world.generations(), world.fleet.apps()[0].slots.len()), (vec![2, 2, 2], 3));
}

/// Ready at once, stable at once, and without a further try.
fn quick() -> Policy {
    let (min_uptime, stable_after) = (Duration::ZERO, Duration::ZERO);
    Policy { min_uptime, stable_after, max_restarts: 0, readiness: Readiness::Spawn, ..service() }
}

#[test]
fn a_task_that_runs_again_is_stopped_with_the_container_that_ends_in_the_same_moment() {
    let first = Policy { restart: Restart::Never, ..quick() };
    let second = Policy { kind: Kind::Task, after: after(&[0]), instances: 2, ..first.clone() };
    let mut world = World::new(vec![first, second]);
    world.play(&[Hup, Exits(5, 0), Exits(1, 0), Killed(5), Pass(0)]);
    assert!(world.fleet.is_stopping());
}

#[test]
fn a_removed_app_that_another_needs_and_that_starts_again_keeps_what_it_needs() {
    let first = Policy { instances: 2, ..quick() };
    let second = Policy { after: after(&[0]), readiness: Readiness::Auto { sees_listening: false }, ..quick() };
    let mut world = World::new(vec![first, second]);
    world.play(&[Says(0), Pass(110), Forks(false), AddsAfter(1), RemovesApp(1), RemovesApp(0), Exits(2, 0)]);
    assert_eq!(running(&world)[0], 0);
}

#[test]
fn an_app_for_which_a_reload_waits_has_not_ended() {
    let first = Policy { readiness: Readiness::Uptime, stop_exit_codes: vec![3], ..quick() };
    let second = Policy { after: after(&[0]), ..quick() };
    let mut world = World::new(vec![first, second]);
    world.play(&[Hup, Exits(2, 3), ReloadApp(0), Exits(0, 0)]);
    assert!(!world.fleet.is_stopping(), "its workers start again, and only then what comes after it");
}

#[test]
fn an_app_that_a_reload_stops_when_it_has_just_become_ready_lets_those_after_it_start() {
    let at_once = || Policy { min_uptime: Duration::ZERO, stable_after: Duration::ZERO, max_restarts: 0, ..policy() };
    let mut world = World::new(vec![
        Policy { instances: 3, readiness: Readiness::Auto { sees_listening: false }, ..at_once() },
        Policy {
            after: vec![AppId(0)],
            instances: 1,
            readiness: Readiness::Uptime,
            reload: Reload::Restart,
            ..at_once()
        },
        Policy { after: vec![AppId(1)], instances: 1, readiness: Readiness::Spawn, ..at_once() },
    ]);
    world.play(&[Exits(0, 0), Operates(Operation::Halt, 0), Hup, Exits(1, 0), Killed(0), Pass(0)]);
    let last = world.spawned.iter().any(|(_, slot, ..)| slot.app == AppId(2));
    assert!(last, "{:?}", world.spawned);
}
