//! Apps whose number of workers changes by itself.

use crate::world::*;
use rinit::core::*;

fn app(scaling: Scaling, instances: u32) -> World {
    World::healthy(vec![Policy { scaling, instances, ..policy() }])
}

fn wanted(world: &World) -> u32 {
    world.fleet.apps()[0].wanted()
}

fn reasons(world: &World) -> Vec<ScaleReason> {
    let reason = |report: &Report| match report {
        Report::Autoscaled { reason, .. } => Some(*reason),
        _ => None,
    };
    world.reports.iter().filter_map(reason).collect()
}

#[test]
fn the_number_of_workers_follows_the_cpus_when_their_number_stays() {
    let mut world = app(Scaling { fewer_than_cpus: Some(0), min: 1, max: Some(6) }, 2);
    world.play(&[Sampled(5), Cpus(4), Sampled(3), Cpus(2), Sampled(20)]);
    assert_eq!(wanted(&world), 2, "a short change is none");
    world.play(&[Cpus(4), Sampled(9)]);
    assert_eq!(wanted(&world), 4, "within ten seconds");
    world.play(&[Cpus(16), Sampled(9)]);
    assert_eq!(wanted(&world), 6, "not above the most");
    world.play(&[Cpus(1), Sampled(9)]);
    assert_eq!((wanted(&world), reasons(&world).last()), (1, Some(&ScaleReason::Cpus(1))));
}

#[test]
fn what_an_operator_scales_stays_until_the_cpus_change() {
    let mut world = app(Scaling { fewer_than_cpus: Some(0), min: 1, max: None }, 2);
    world.play(&[Sampled(5), ScaleTo(0, 5), Sampled(60)]);
    assert_eq!(wanted(&world), 5);
    world.play(&[Cpus(3), Sampled(9)]);
    assert_eq!(wanted(&world), 3);
}

#[test]
fn busy_workers_get_another_one_and_idle_ones_go_one_at_a_time() {
    let mut world = app(Scaling { fewer_than_cpus: None, min: 1, max: Some(3) }, 1);
    world.play(&[Busy(900), Sampled(9)]);
    assert_eq!(wanted(&world), 1, "a moment of much is no load");
    world.play(&[Sampled(3)]);
    assert_eq!(wanted(&world), 2);
    world.play(&[Sampled(200)]);
    assert_eq!(wanted(&world), 3, "not above the most");
    world.play(&[Busy(500), Sampled(200)]);
    assert_eq!(wanted(&world), 3, "neither much nor little");
    world.play(&[Busy(50), Sampled(50)]);
    assert_eq!(wanted(&world), 3, "less than a minute of little");
    world.play(&[Sampled(20)]);
    assert_eq!(wanted(&world), 2);
    world.play(&[Sampled(300)]);
    assert_eq!(wanted(&world), 1);
    assert!(matches!(reasons(&world)[..], [ScaleReason::High { busy: 900, .. }, _, ScaleReason::Low { busy: 50 }, _]));
}

#[test]
fn connections_that_wait_for_ten_seconds_get_another_worker_though_none_is_busy() {
    let mut world = app(Scaling { fewer_than_cpus: None, min: 1, max: Some(2) }, 1);
    world.play(&[Waits(Some(3)), Sampled(9), Waits(Some(0)), Sampled(1), Waits(Some(2)), Sampled(9)]);
    assert_eq!(wanted(&world), 1, "they were served in between");
    world.play(&[Sampled(3)]);
    assert_eq!(wanted(&world), 2);
    assert_eq!(reasons(&world), [ScaleReason::High { busy: 0, waiting: 2 }]);
    world.play(&[Sampled(90)]);
    assert_eq!(wanted(&world), 2, "as long as any wait, none is taken away");
    world.play(&[Waits(Some(0)), Sampled(70)]);
    assert_eq!(wanted(&world), 1);
}

#[test]
fn samples_that_do_not_know_what_waits_neither_end_nor_continue_a_wait() {
    let mut world = app(Scaling { fewer_than_cpus: None, min: 1, max: Some(2) }, 1);
    for _ in 0..6 {
        world.play(&[Waits(Some(2)), Sampled(1), Waits(None), Sampled(1)]);
    }
    assert_eq!(wanted(&world), 2);
    world.play(&[Waits(None), Sampled(200)]);
    assert_eq!(wanted(&world), 2, "none is taken away while connections may wait");
    world.play(&[Waits(Some(0)), Sampled(90)]);
    assert_eq!(wanted(&world), 1);
    world.play(&[Waits(Some(2)), Sampled(1), Waits(None), Sampled(60)]);
    assert_eq!(wanted(&world), 1, "one sample is not ten seconds");
}

#[test]
fn no_worker_is_added_for_which_there_is_no_memory() {
    let mut world = app(Scaling { fewer_than_cpus: None, min: 1, max: Some(3) }, 1);
    world.play(&[Busy(900)]);
    for _ in 0..60 {
        world.play(&[Pass(1000), Uses(0, 600)]);
    }
    assert_eq!(wanted(&world), 1, "400 MiB are free, a worker uses 600");
    let no_room = |world: &World| world.reports.iter().filter(|report| matches!(report, Report::NoRoom { .. })).count();
    assert_eq!(no_room(&world), 1, "said once");
    world.play(&[Sampled(12)]);
    assert_eq!(wanted(&world), 2);
}
