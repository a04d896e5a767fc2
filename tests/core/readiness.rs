//! Tests readiness under `--ready auto`: what is expected of a worker, and from whom it is known.

use crate::world::*;
use rinit::core::*;

fn auto(sees_listening: bool) -> Policy {
    Policy { readiness: Readiness::Auto { sees_listening }, ..policy() }
}

fn one(policy: Policy) -> Vec<Policy> {
    vec![Policy { instances: 1, ..policy }]
}

fn by_uptime(report: &Report) -> bool {
    matches!(report, Report::Ready { signal: ReadySignal::Uptime, .. })
}

#[test]
fn where_listening_is_seen_uptime_does_not_make_a_worker_ready_before_the_ready_timeout() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Pass(29_999)]);
    assert_eq!(world.ready(), 0);
    world.play(&[Listens(0, 80)]);
    assert_eq!((world.ready(), world.saw(by_uptime)), (1, 0));
}

#[test]
fn where_listening_is_not_seen_uptime_makes_a_worker_ready() {
    let mut world = World::new(one(auto(false)));
    world.play(&[Pass(1000)]);
    assert_eq!((world.ready(), world.saw(by_uptime)), (1, 1));
}

#[test]
fn a_worker_without_a_signal_counts_as_ready_after_the_timeout_and_the_app_learns_it() {
    let mut world = World::new(vec![auto(true)]);
    world.play(&[Pass(30_000)]);
    assert_eq!(world.ready(), 2);
    assert_eq!(world.saw(|report| matches!(report, Report::Silent { .. })), 1, "it is said once");
    world.play(&[Hup, Pass(2001)]);
    assert_eq!(world.generations(), [2, 2], "later workers are ready after min-uptime");
    world.play(&[Scale(1), Pass(1001)]);
    assert_eq!(world.ready(), 3);
}

#[test]
fn a_reload_before_the_verdict_waits_for_it_once_and_not_once_a_slot() {
    let mut world = World::new(vec![Policy { instances: 4, ..auto(true) }]);
    world.play(&[Pass(10_000), Hup, Pass(20_000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::ReloadFailed { .. })), 0);
    world.play(&[Pass(5000)]);
    assert_eq!(world.generations(), [2, 2, 2, 2]);
}

#[test]
fn a_reload_before_the_old_worker_has_listened_gives_the_new_one_all_of_the_ready_timeout() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Pass(2300), Hup, Pass(200), Listens(0, 80), Pass(2500)]);
    assert_eq!(world.saw(|report| matches!(report, Report::NotReady { .. })), 0);
    world.play(&[Listens(1, 80), Pass(1000)]);
    assert_eq!(world.generations(), [2]);
}

#[test]
fn a_new_worker_of_a_scaled_app_must_listen_as_its_siblings_do() {
    let mut world = World::new(vec![auto(true)]);
    world.play(&[Listens(0, 80), Listens(1, 80), Pass(10_000), Scale(1), Pass(29_000)]);
    assert_eq!(world.ready(), 2);
    world.play(&[Pass(1000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::NotReady { .. })), 1);
}

#[test]
fn a_sibling_that_listens_binds_no_worker_that_started_with_it() {
    let mut world = World::new(vec![auto(true)]);
    world.play(&[Listens(0, 80), Pass(30_000)]);
    assert_eq!((world.ready(), world.saw(|report| matches!(report, Report::NotReady { .. }))), (2, 0));
}

#[test]
fn a_replacement_that_listens_elsewhere_fails_the_reload() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Listens(0, 80), Pass(10_000), Hup, Listens(1, 81), Pass(30_000)]);
    assert_eq!(world.generations(), [1]);
    let names_both = |report: &Report| match report {
        Report::ReloadFailed { error: RolloutError::NotReady { missing, .. }, .. } => {
            let expected = Some(Expectation::Signal(ReadySignal::Listen, Some("80".into())));
            missing.expected == expected && missing.addresses == ["81"]
        }
        _ => false,
    };
    assert_eq!(world.saw(names_both), 1);
}

#[test]
fn an_app_that_starts_slowly_is_reloaded_when_its_successors_give_the_same_late_signal() {
    let mut world = World::new(vec![auto(true)]);
    world.play(&[Pass(44_000), Listens(0, 80), Listens(1, 80), Pass(1000)]);
    assert_eq!(world.saw(|report| matches!(report, Report::LateSignal { .. })), 2);
    world.play(&[Hup, Pass(43_000)]);
    assert_eq!(world.generations(), [1, 1, 2], "uptime is not enough");
    world.play(&[Listens(2, 80), Pass(44_000), Listens(2, 80), Pass(2000)]);
    assert_eq!((world.generations(), world.saw(|report| matches!(report, Report::NotReady { .. }))), (vec![2, 2], 0));
    // The same after a crash: it is not ready before it listens, nor stopped for that.
    world.play(&[Killed(0), Pass(43_000)]);
    assert_eq!(world.ready(), 1);
    world.play(&[Listens(1, 80)]);
    assert_eq!(world.ready(), 2);
}

#[test]
fn a_successor_of_a_late_worker_that_gives_no_signal_counts_as_ready_in_the_end() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Pass(44_000), Listens(0, 80), Pass(1000), Hup, Pass(87_000)]);
    assert_eq!(world.generations(), [1, 2]);
    world.play(&[Pass(1001)]);
    assert_eq!((world.generations(), world.saw(|report| matches!(report, Report::NotReady { .. }))), (vec![2], 0));
    world.play(&[Hup, Pass(1001)]);
    assert_eq!(world.generations(), [3], "it is learnt again that they give none");
}

#[test]
fn a_further_signal_after_the_ready_timeout_binds_no_successor() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Listens(0, 80), Pass(44_000), Says(0), Hup, Listens(1, 80), Pass(1001)]);
    assert_eq!(world.generations(), [2], "it listened in time: nobody must say READY=1 for that");
}

#[test]
fn a_signal_long_after_the_ready_timeout_binds_no_successor() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Pass(30_000), Pass(3_600_000), Listens(0, 9000), Killed(0), Pass(1001)]);
    assert_eq!((world.ready(), world.saw(|report| matches!(report, Report::NotReady { .. }))), (1, 0));
}

#[test]
fn a_failed_replacements_signals_bind_nobody() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Listens(0, 80), Pass(10_000), Hup, Listens(1, 80), Says(1), Exits(1, 1)]);
    assert_eq!(world.saw(|report| matches!(report, Report::ReloadFailed { .. })), 1);
    world.play(&[Killed(0), Pass(10), Listens(0, 80), Pass(10)]);
    assert_eq!(world.ready(), 1, "the old version listens, and never says READY=1");
}

#[test]
fn a_worker_that_has_bound_a_port_is_ready_when_somebody_waits_there_whatever_it_says() {
    let mut world = World::new(one(auto(true)));
    world.play(&[Binds(0), Says(0), Pass(5000)]);
    assert_eq!(world.ready(), 0);
    world.play(&[Listens(0, 80)]);
    assert_eq!(world.ready(), 1);
    // A master of a broken version binds and says READY=1, and no worker of its own ever accepts.
    world.play(&[Pass(10_000), Hup, Binds(1), Says(1), Pass(30_000)]);
    assert_eq!((world.generations(), world.ready()), (vec![1], 1));
}
