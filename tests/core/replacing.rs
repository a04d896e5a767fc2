//! Workers that are replaced for their memory or their age.

use crate::world::*;
use rinit::core::*;

fn limited(instances: u32) -> Policy {
    Policy { instances, max_memory: Some(MemoryLimit::Percent(20)), ..policy() }
}

fn is_oversized(report: &Report) -> bool {
    matches!(report, Report::Oversized { .. })
}

#[test]
fn a_worker_that_uses_too_much_memory_is_replaced_and_the_new_one_comes_first() {
    let mut world = World::healthy(vec![limited(2)]);
    world.play(&[Uses(0, 100), Uses(0, 201)]);
    assert_eq!((world.running(), world.ready()), (3, 2), "the new one runs beside the old");
    world.play(&[Pass(20_000)]);
    assert_eq!((world.running(), world.spawned.len()), (2, 3));
    let order =
        |report: &Report| matches!(report, Report::Oversized { drain_first: false, used, limit, .. } if used > limit);
    assert_eq!(world.saw(order), 1);
}

#[test]
fn where_both_have_no_room_the_old_one_stops_first() {
    let mut world = World::healthy(vec![limited(2)]);
    // The first sample of a worker is what a new one will need.
    world.play(&[Heeds(false), Uses(0, 100), Uses(0, 941)]);
    assert_eq!(world.running(), 2, "no third one beside the two");
    world.play(&[Heeds(true), Pass(20_000)]);
    assert_eq!((world.running(), world.ready(), world.spawned.len()), (2, 2, 3));
}

#[test]
fn a_replacement_that_fails_is_tried_again_after_a_while_and_not_with_each_sample() {
    let mut world = World::healthy(vec![limited(1)]);
    world.play(&[Program(false)]);
    world.play(&[Uses(0, 300), Uses(0, 300), Uses(0, 300), Pass(20_000), Uses(0, 300)]);
    assert_eq!(world.saw(is_oversized), 1);
    world.play(&[Program(true), Pass(20_000), Uses(0, 300), Pass(20_000)]);
    assert_eq!((world.saw(is_oversized), world.ready()), (2, 1));
}

/// Lets the only worker use more than its limit, and returns the seconds at which it was replaced for that.
fn use_too_much(world: &mut World, seconds: u64) -> Vec<u64> {
    let is_replaced = |_: &u64| {
        let before = world.saw(is_oversized);
        world.play(&[Pass(1000), Uses(0, 300)]);
        world.saw(is_oversized) > before
    };
    (1..=seconds).filter(is_replaced).collect()
}

#[test]
fn an_app_that_needs_more_than_its_limit_is_replaced_ever_more_seldom() {
    let mut world = World::healthy(vec![limited(1)]);
    let seconds = use_too_much(&mut world, 7200);
    let pauses: Vec<u64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let bounds = [30, 60, 120, 240, 480, 900, 900, 900, 900, 900];
    assert_eq!(seconds.first(), Some(&1), "the first one is replaced at once");
    assert!(pauses.len() >= 8, "{pauses:?}");
    // The new worker has to become ready, and to stay so.
    assert!(pauses.iter().zip(bounds).all(|(pause, bound)| (bound..bound + 5).contains(pause)), "{pauses:?}");
    assert_eq!(world.ready(), 1);
    let again = world.reports.iter().filter_map(|report| match report {
        Report::OversizedAgain { before, wait, .. } => Some((*before, wait.as_secs())),
        _ => None,
    });
    assert_eq!(again.take(3).collect::<Vec<_>>(), [(1, 30), (2, 60), (3, 120)], "it is told once for each worker");
}

#[test]
fn a_worker_that_has_grown_for_a_minute_is_replaced_at_once() {
    let mut world = World::healthy(vec![limited(1)]);
    for _ in 0..3 {
        assert_eq!(use_too_much(&mut world, 1), [1]);
        world.play(&[Sampled(70)]);
    }
    assert_eq!(world.saw(|report| matches!(report, Report::OversizedAgain { .. })), 0);
}

#[test]
fn a_reload_or_a_restart_begins_to_count_anew() {
    for step in [Hup, Operates(Operation::Restart, 0)] {
        let mut world = World::healthy(vec![limited(1)]);
        assert_eq!(use_too_much(&mut world, 10), [1]);
        world.play(&[step, Pass(3000)]);
        assert_eq!(use_too_much(&mut world, 10), [1], "{step:?}: the new version may need less");
    }
}

#[test]
fn when_the_container_is_nearly_out_of_memory_the_biggest_worker_is_replaced_and_one_at_a_time() {
    let mut world = World::healthy(vec![Policy { instances: 3, ..policy() }]);
    world.play(&[Uses(1, 940)]);
    assert_eq!(world.running(), 3, "workers that are so big from the start are what the app needs");
    world.play(&[Pass(280_000), Uses(1, 940), Uses(1, 940)]);
    assert_eq!(world.saw(|report| matches!(report, Report::MemoryShort { .. })), 0, "as big from the start");
    world.play(&[Pass(20_000), Heeds(false), Uses(1, 940), Uses(1, 940), Uses(2, 940)]);
    let short = |report: &Report| matches!(report, Report::MemoryShort { .. });
    assert_eq!((world.saw(short), world.running()), (1, 3), "the old one stops first");
    let biggest = world.reports.iter().find_map(|report| match report {
        Report::MemoryShort { slot, .. } => Some(slot.index),
        _ => None,
    });
    assert_eq!(biggest, Some(1));
}

#[test]
fn a_worker_lives_no_longer_than_it_may_and_not_all_end_at_once() {
    let mut world = World::healthy(vec![Policy { instances: 4, max_uptime: Some(3_600_000 * MS), ..policy() }]);
    world.play(&[Pass(3_200_000)]);
    assert_eq!(world.spawned.len(), 4, "none has lived for nine tenths of it");
    world.play(&[Pass(400_000), Pass(60_000)]);
    assert_eq!((world.spawned.len(), world.ready()), (8, 4));
    let times: Vec<_> = world.spawned.iter().skip(4).map(|(time, ..)| time.as_secs()).collect();
    assert!(times.iter().max() > times.iter().min(), "{times:?}");
}
