//! Rules of the core by example, one history each.

use crate::world::*;
use rinit::core::*;

fn one(policy: Policy) -> Vec<Policy> {
    vec![policy]
}

fn starts(world: &World) -> Vec<u128> {
    world.spawned.iter().map(|(time, ..)| time.as_millis()).collect()
}

#[test]
fn a_crash_after_a_stable_life_restarts_at_once() {
    let mut world = World::healthy(one(Policy { instances: 1, ..policy() }));
    world.play(&[Exits(0, 1)]);
    assert_eq!(starts(&world), [0, 10_000]);
}

#[test]
fn crashes_in_a_row_wait_longer_and_end_in_failed_with_the_apps_code() {
    let mut world = World::new(one(Policy { instances: 1, max_restarts: 3, ..policy() }));
    world.play(&[Exits(0, 7), Pass(120), Exits(0, 7), Pass(180), Exits(0, 7), Pass(260), Exits(0, 9)]);
    let waits: Vec<u128> = starts(&world).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((90..=110).contains(&waits[0]), "{waits:?}");
    assert_eq!(world.spawned.len(), 4);
    assert_eq!(world.fleet.finished(), Some(9));
    assert_eq!(world.saw(|report| matches!(report, Report::Exited { next: Next::GiveUp { crashes: 4 }, .. })), 1);
}

#[test]
fn a_stable_life_gives_the_crash_budget_back() {
    let mut world = World::healthy(one(Policy { instances: 1, max_restarts: 1, ..policy() }));
    for _ in 0..10 {
        world.play(&[Exits(0, 1), Pass(1), Exits(0, 1), Pass(2000)]);
    }
    assert_eq!(world.fleet.finished(), None);
}

#[test]
fn zero_max_restarts_never_gives_up() {
    let mut world = World::new(one(Policy { instances: 1, max_restarts: 0, ..policy() }));
    for _ in 0..200 {
        world.play(&[Exits(0, 1), Pass(17_000)]);
    }
    assert_eq!((world.fleet.finished(), world.running()), (None, 1));
}

#[test]
fn one_failed_worker_does_not_end_the_others() {
    let mut world = World::new(one(Policy { max_restarts: 1, ..policy() }));
    world.play(&[Says(0), Says(1), Exits(1, 1), Pass(200), Exits(1, 1)]);
    assert_eq!((world.fleet.finished(), world.running()), (None, 1));
}

#[test]
fn restart_never_and_on_failure_end_with_the_highest_code() {
    let mut world = World::new(one(Policy { restart: Restart::Never, ..policy() }));
    world.play(&[Exits(0, 0), Exits(0, 5)]);
    assert_eq!(world.fleet.finished(), Some(5));

    let mut world = World::new(one(Policy { restart: Restart::OnFailure, ..policy() }));
    world.play(&[Exits(0, 0), Exits(0, 5), Pass(200)]);
    assert_eq!((world.fleet.finished(), world.running()), (None, 1));
    world.play(&[Exits(0, 0)]);
    assert_eq!(world.fleet.finished(), Some(5).filter(|_| false).or(Some(0)));
}

#[test]
fn a_stop_exit_code_is_not_restarted() {
    let mut world = World::new(one(Policy { instances: 1, stop_exit_codes: vec![0, 3], ..policy() }));
    world.play(&[Exits(0, 3)]);
    assert_eq!(world.fleet.finished(), Some(3));
}

#[test]
fn a_missing_program_fails_at_once_when_it_never_ran_and_backs_off_when_it_did() {
    let mut world = World::new(vec![]);
    world.play(&[Program(false)]);
    let mut fresh = World::new(one(Policy { instances: 1, ..policy() }));
    fresh.play(&[Program(false), Exits(0, 1), Pass(120)]);
    assert_eq!(fresh.fleet.finished(), None, "it ran before");
    fresh.play(&[Program(true), Pass(1000)]);
    assert_eq!(fresh.running(), 1);

    let mut fleet = Fleet::new(one(policy()), 1);
    let mut effects = vec![];
    fleet.handle(Time::ZERO, Event::Boot, &mut effects);
    for id in [1, 2] {
        let error = SpawnError::Program { status: 127, message: "not found".into() };
        fleet.handle(Time::ZERO, Event::SpawnFailed(WorkerId(id), error), &mut effects);
    }
    assert_eq!(fleet.finished(), Some(127));
}

#[test]
fn a_refused_fork_is_tried_again_within_a_second_and_costs_no_budget() {
    let mut world = World::healthy(one(Policy { instances: 1, max_restarts: 1, ..policy() }));
    world.play(&[Forks(false), Exits(0, 1), Pass(60_000)]);
    assert_eq!((world.fleet.finished(), world.running()), (None, 0));
    world.play(&[Forks(true), Pass(1000)]);
    assert_eq!(world.running(), 1);
}

#[test]
fn a_backoff_of_nothing_does_not_try_again_in_the_same_moment() {
    let nothing = Backoff { min: Time::ZERO, max: Time::ZERO };
    let mut world = World::healthy(one(Policy { instances: 1, max_restarts: 0, backoff: nothing, ..policy() }));
    world.play(&[Forks(false), Exits(0, 1), Pass(1000)]);
    assert!(world.saw(|report| matches!(report, Report::StartFailed { .. })) <= 101);
    world.play(&[Forks(true), Program(false), Pass(100), Program(true), Pass(100)]);
    assert_eq!(world.running(), 1);
}

#[test]
fn who_is_not_ready_in_time_has_failed_whatever_code_it_ends_with() {
    let mut fleet = Fleet::new(one(Policy { instances: 1, max_restarts: 1, ..policy() }), 1);
    let mut give = |second, event| fleet.handle(Time::from_secs(second), event, &mut vec![]);
    give(0, Event::Boot);
    for (second, worker) in [(30, WorkerId(1)), (70, WorkerId(2))] {
        give(second - 30, Event::Spawned(worker));
        give(second, Event::Tick);
        give(second, Event::Exited(worker, Exit::code(0)));
        give(second, Event::GroupEnded(worker));
        give(second + 10, Event::Tick);
    }
    assert_eq!(fleet.finished(), Some(1));
}

#[test]
fn a_process_that_cannot_be_killed_is_given_up() {
    let mut fleet = Fleet::new(one(Policy { instances: 1, ..policy() }), 1);
    let mut give = |second, event| fleet.handle(Time::from_secs(second), event, &mut vec![]);
    give(0, Event::Boot);
    give(0, Event::Spawned(WorkerId(1)));
    give(1, Event::Shutdown);
    give(9, Event::Tick);
    give(13, Event::Tick);
    give(14, Event::Tick);
    assert_eq!(fleet.finished(), Some(137));
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_stopped_and_counts_as_crashed() {
    let mut world = World::new(one(Policy { instances: 1, max_restarts: 1, ..policy() }));
    world.play(&[Pass(70_000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::NotReady { .. })), 2);
    assert_eq!(world.fleet.finished(), Some(143));
}

#[test]
fn a_reload_replaces_one_at_a_time_and_keeps_the_old_until_the_new_is_ready_and_stays() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Pass(5000)]);
    assert_eq!(world.generations(), [1, 1, 2], "the second waits for the first");
    world.play(&[Says(2), Pass(800)]);
    assert_eq!(world.generations(), [1, 1, 2], "ready, but it must stay so for min-uptime first");
    world.play(&[Pass(200)]);
    assert_eq!(world.generations(), [1, 2, 2]);
    world.play(&[Says(2), Pass(1100)]);
    assert_eq!(world.generations(), [2, 2]);
    assert_eq!(world.saw(|report| matches!(report, Report::Reloaded { generation: 2, .. })), 1);
}

#[test]
fn parallel_replaces_k_at_a_time() {
    let mut world = World::healthy(one(Policy { instances: 5, reload: Reload::Rolling(3), ..policy() }));
    world.eager = false;
    world.play(&[Hup, Pass(10)]);
    assert_eq!(world.generations(), [1, 1, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn restart_stops_the_old_before_the_new_starts_and_goes_back_when_that_fails() {
    let mut world = World::healthy(one(Policy { reload: Reload::Restart, ..policy() }));
    world.eager = false;
    world.play(&[Hup]);
    assert_eq!(world.generations(), [1, 1]);
    world.play(&[Pass(10)]);
    assert_eq!(world.generations(), [1, 2]);
    world.play(&[Exits(1, 1), Pass(10)]);
    assert_eq!(world.generations(), [1, 1], "the old version again");
    assert_eq!(world.saw(|report| matches!(report, Report::ReloadFailed { .. })), 1);
}

#[test]
fn a_new_version_that_exits_stops_the_reload_and_the_old_workers_stay() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Exits(2, 1), Pass(60_000)]);
    assert_eq!((world.generations(), world.ready()), (vec![1, 1], 2));
    let failed = |report: &Report| matches!(report, Report::ReloadFailed { error: RolloutError::Exited { .. }, .. });
    assert_eq!(world.saw(failed), 1);
    world.eager = true;
    world.play(&[Hup, Pass(10_000)]);
    assert_eq!(world.generations(), [3, 3], "the next one tries again");
}

#[test]
fn a_new_version_that_is_ready_and_then_exits_stops_the_reload_too() {
    let mut world = World::healthy(one(policy()));
    world.play(&[Hup, Pass(500)]);
    assert_eq!(world.ready(), 2);
    world.play(&[Exits(2, 1), Pass(5000)]);
    assert_eq!((world.generations(), world.ready()), (vec![1, 1], 2));
}

#[test]
fn a_new_version_that_is_never_ready_stops_the_reload_after_the_timeout() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Pass(40_000)]);
    assert_eq!((world.generations(), world.ready()), (vec![1, 1], 2));
}

#[test]
fn a_storm_of_reloads_is_one_reload_and_one_more() {
    let mut world = World::healthy(one(policy()));
    for _ in 0..1000 {
        world.play(&[Hup]);
    }
    world.play(&[Pass(60_000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::Reloaded { .. })), 2);
    assert_eq!(world.generations(), [3, 3]);
}

#[test]
fn settings_that_cannot_be_read_stop_the_reload_before_anything_starts() {
    let mut world = World::healthy(one(policy()));
    world.play(&[Reads(false), Hup, Pass(5000)]);
    assert_eq!(world.generations(), [1, 1]);
    assert_eq!(world.spawned.len(), 2);
}

#[test]
fn an_old_worker_that_crashes_during_a_reload_is_restarted_as_it_was() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Exits(1, 1), Pass(10)]);
    assert_eq!(world.generations(), [1, 2, 1], "the proven version again, until its turn comes");
    world.eager = true;
    world.play(&[Says(1), Says(2), Pass(10_000)]);
    assert_eq!(world.generations(), [2, 2]);
}

#[test]
fn a_failed_slot_is_tried_again_by_a_reload() {
    let mut world = World::healthy(one(Policy { max_restarts: 1, ..policy() }));
    world.eager = false;
    world.play(&[Exits(1, 1), Exits(1, 1), Pass(200), Exits(1, 1), Pass(60_000)]);
    assert_eq!(world.running(), 1);
    world.eager = true;
    world.play(&[Hup, Pass(10_000)]);
    assert_eq!(world.generations(), [2, 2]);
}

#[test]
fn a_stop_during_a_reload_ends_it_at_once() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Pass(10), Stop, Pass(10)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn a_worker_that_ignores_the_stop_is_killed_and_the_code_says_so() {
    let mut world = World::new(one(policy()));
    world.play(&[Heeds(false), Exits(0, 1), Pass(1000), Stop, Pass(7999)]);
    assert_eq!((world.fleet.finished(), world.running()), (None, 1));
    world.play(&[Pass(1)]);
    assert_eq!(world.fleet.finished(), Some(137));
}

#[test]
fn during_the_drain_delay_workers_go_on_serving() {
    let mut world = World::healthy(one(Policy { drain_delay: 5000 * MS, ..policy() }));
    world.play(&[Stop, Pass(4999)]);
    assert_eq!((world.ready(), world.running()), (2, 2));
    world.play(&[Pass(1)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn scaling_during_a_reload_is_obeyed_and_the_reload_goes_on() {
    let mut world = World::healthy(one(policy()));
    world.play(&[Hup, Scale(2), Pass(30_000)]);
    assert_eq!(world.generations(), [2, 2, 2, 2]);
    world.play(&[Hup, Scale(-3), Pass(30_000)]);
    assert_eq!(world.generations(), [3]);
}

#[test]
fn scaling_down_lets_the_sickest_go_and_never_the_last() {
    let mut world = World::healthy(one(Policy { instances: 3, ..policy() }));
    world.eager = false;
    world.play(&[Exits(0, 1), Exits(2, 1), Scale(-1), Pass(10)]);
    let left: Vec<u32> = world.fleet.apps()[0].slots.iter().map(|slot| slot.id.index).collect();
    assert_eq!(left, [1, 2], "slot 0 was waiting in backoff");
    world.play(&[Scale(-5), Scale(-1), Pass(10)]);
    assert_eq!(world.fleet.apps()[0].wanted(), 1);
    world.play(&[Scale(1), Pass(10)]);
    let left: Vec<u32> = world.fleet.apps()[0].slots.iter().map(|slot| slot.id.index).collect();
    assert_eq!(left, [0, 1], "the lowest number that is free");
}

#[test]
fn under_auto_the_next_worker_must_give_the_word_that_the_last_one_gave() {
    let mut world =
        World::new(one(Policy { readiness: Readiness::Auto { sees_listening: false }, instances: 1, ..policy() }));
    world.play(&[Pass(1000)]);
    assert_eq!(world.ready(), 1, "by its uptime");
    world.play(&[Says(0), Hup, Pass(29_000)]);
    assert_eq!(world.generations(), [1, 2], "its uptime is not enough any more");
    world.play(&[Says(1), Pass(1010)]);
    assert_eq!(world.generations(), [2]);
}

#[test]
fn a_new_version_that_takes_long_to_start_and_then_falls_costs_no_old_worker() {
    let mut world = World::healthy(one(policy()));
    world.eager = false;
    world.play(&[Hup, Pass(5000), Says(2), Pass(500), Exits(2, 1), Pass(100)]);
    assert_eq!(world.generations(), [1, 1]);
    assert_eq!(world.saw(|report| matches!(report, Report::ReloadFailed { .. })), 1);
}

#[test]
fn several_apps_reload_side_by_side_and_stop_together() {
    let mut world = World::healthy(vec![policy(), Policy { instances: 1, ..policy() }]);
    world.play(&[Hup, Pass(10_000)]);
    assert_eq!(world.generations(), [2, 2, 2]);
    world.play(&[Stop, Pass(1)]);
    assert_eq!(world.fleet.finished(), Some(0));
}

#[test]
fn every_state_and_event_without_an_owner_is_survived() {
    let mut fleet = Fleet::new(one(policy()), 1);
    let stranger = WorkerId(999);
    for round in 0..2 {
        for event in [
            Event::Tick,
            Event::Spawned(stranger),
            Event::SpawnFailed(stranger, SpawnError::NotNow("x".into())),
            Event::Ready(stranger, ReadySignal::Notify),
            Event::Exited(stranger, Exit::code(0)),
            Event::Prepared(AppId(7), 7, Ok(())),
            Event::Prepared(AppId(0), 7, Err("x".into())),
            Event::Forward(Signal::HUP),
        ] {
            fleet.handle(Time::from_secs(round), event, &mut vec![]);
        }
        fleet.handle(Time::from_secs(round), Event::Boot, &mut vec![]);
    }
}

#[test]
fn a_worker_that_may_never_be_started_again_is_not_when_it_was_not_ready_in_time() {
    let mut world = World::new(one(Policy { instances: 1, restart: Restart::Never, ..policy() }));
    world.play(&[Pass(100_000)]);
    assert_eq!((world.spawned.len(), world.fleet.finished()), (1, Some(143)));
}

#[test]
fn without_a_minimum_uptime_crashes_still_wait_for_the_backoff() {
    let nothing = Policy { instances: 1, min_uptime: Time::ZERO, stable_after: Time::ZERO, ..policy() };
    let mut world = World::new(one(Policy { readiness: Readiness::Spawn, ..nothing }));
    for _ in 0..20 {
        world.play(&[Exits(0, 1), Pass(100)]);
    }
    assert!(world.spawned.len() < 10, "{} starts in 2 s", world.spawned.len());
}

#[test]
fn a_slow_crash_loop_spends_the_crash_budget() {
    let mut world = World::new(one(Policy { instances: 1, stable_after: 10_000 * MS, max_restarts: 4, ..policy() }));
    for _ in 0..5 {
        world.play(&[Says(0), Pass(1300), Exits(0, 1), Pass(600)]);
    }
    assert_eq!(world.fleet.finished(), Some(1));
}

#[test]
fn workers_that_all_fail_with_code_0_end_the_container_with_1() {
    let mut world = World::new(one(Policy { instances: 1, max_restarts: 1, ..policy() }));
    world.play(&[Exits(0, 0), Pass(200), Exits(0, 0)]);
    assert_eq!(world.fleet.finished(), Some(1));
}

#[test]
fn the_container_ends_when_some_workers_are_stopped_by_hand_and_the_rest_has_failed() {
    let mut world = World::new(one(Policy { max_restarts: 1, ..policy() }));
    world.play(&[Operates(Operation::Halt, 0), Pass(10)]);
    assert_eq!(world.fleet.finished(), None);
    world.play(&[Exits(0, 7), Pass(200), Exits(0, 7)]);
    assert_eq!(world.fleet.finished(), Some(7));
    let mut world = World::new(one(policy()));
    world.play(&[Operates(Operation::Halt, 0), Operates(Operation::Halt, 1), Pass(100)]);
    assert_eq!((world.running(), world.fleet.finished()), (0, None), "an operator may start them again");
}

#[test]
fn replacing_one_worker_makes_no_other_outdated() {
    let mut world = World::healthy(one(policy()));
    world.play(&[Operates(Operation::Replace, 1), Pass(10_000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::Replaced { .. })), 1);
    assert_eq!(world.generations(), [1, 1]);
    assert_eq!(world.spawned.len(), 3);
}

#[test]
fn a_worker_that_fails_its_liveness_probes_is_replaced_and_the_new_one_comes_first() {
    let mut world = World::healthy(one(policy()));
    world.play(&[Probes(0, false), Probes(0, false), Probes(0, true), Probes(0, false), Probes(0, false), Pass(100)]);
    assert_eq!(world.spawned.len(), 2, "not three in a row");
    world.play(&[Probes(0, false), Pass(500)]);
    assert_eq!((world.spawned.len(), world.ready(), world.running()), (3, 2, 3), "the new one beside the old");
    world.play(&[Pass(1000)]);
    assert_eq!((world.ready(), world.running()), (2, 2));
}

#[test]
fn an_app_is_reloaded_and_scaled_without_the_others() {
    let mut world = World::healthy(vec![policy(), Policy { instances: 1, ..policy() }]);
    world.play(&[ReloadApp(1), ScaleTo(0, 3), Pass(10_000)]);
    assert_eq!(world.generations(), [1, 1, 2, 1], "in the order of their starts");
}

#[test]
fn the_container_ends_with_the_status_of_the_app_that_failed_last() {
    let mut world = World::new(vec![
        Policy { instances: 1, restart: Restart::Never, on_exit: OnExit::Ignore, ..policy() },
        Policy { instances: 1, max_restarts: 1, on_exit: OnExit::Ignore, ..policy() },
    ]);
    world.play(&[Exits(0, 9), Exits(0, 4), Pass(200), Exits(0, 4)]);
    assert_eq!(world.fleet.finished(), Some(4), "a failure counts for more than a higher status");
}
