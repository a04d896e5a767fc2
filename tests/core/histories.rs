//! Thousands of random histories. A failing one is made as short as it can be and printed as a test to paste into
//! `examples.rs`.

use crate::world::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use rinit::core::{
    AppId, Backoff, Desired, DrainKind, Kind, MemoryLimit, OnExit, Policy, Readiness, ReadySignal, Reload, Restart,
    Scaling, StopPolicy,
};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..40_000).prop_map(Pass),
        6 => (0u64..300).prop_map(Pass),
        3 => (any::<usize>(), 0u8..4).prop_map(|(n, code)| Exits(n % 8, code)),
        2 => any::<usize>().prop_map(|n| Killed(n % 8)),
        6 => any::<usize>().prop_map(|n| Says(n % 8)),
        2 => (any::<usize>(), signals()).prop_map(|(n, signal)| Signals(n % 8, signal)),
        2 => any::<usize>().prop_map(|n| Binds(n % 8)),
        3 => (any::<usize>(), 80u16..82).prop_map(|(n, port)| Listens(n % 8, port)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(n, passes)| Probes(n % 8, passes)),
        1 => (0u16..1100).prop_map(Busy),
        1 => prop::option::of(0u32..3).prop_map(Waits),
        1 => (1u32..9).prop_map(Cpus),
        2 => (any::<usize>(), 1u64..1200).prop_map(|(n, mib)| Uses(n % 8, mib)),
        1 => any::<bool>().prop_map(Leaves),
        1 => prop_oneof![Just(0u64), 1u64..9000].prop_map(KillTakes),
        1 => any::<bool>().prop_map(Forks),
        1 => any::<bool>().prop_map(Program),
        1 => any::<bool>().prop_map(Heeds),
        1 => any::<bool>().prop_map(Reads),
        3 => Just(Hup),
        2 => (-3i32..4).prop_map(Scale),
        1 => (0usize..3, 1u32..6).prop_map(|(n, count)| ScaleTo(n, count)),
        1 => (0usize..3).prop_map(ReloadApp),
        1 => (0usize..3).prop_map(AddsAfter),
        1 => (0usize..3, 1u32..5).prop_map(|(n, count)| Configures(n, count)),
        1 => (0usize..3).prop_map(RemovesApp),
        3 => (operations(), 0usize..8).prop_map(|(operation, n)| Operates(operation, n)),
        1 => Just(Forward),
        1 => Just(Stop),
    ];
    prop::collection::vec(step, 0..40)
}

fn operations() -> impl Strategy<Value = Operation> {
    let all = [Operation::Start, Operation::Halt, Operation::Restart, Operation::Drop, Operation::Replace];
    prop::sample::select(all.to_vec())
}

fn signals() -> impl Strategy<Value = ReadySignal> {
    prop::sample::select(vec![ReadySignal::Notify, ReadySignal::Message, ReadySignal::Probe])
}

fn policies() -> impl Strategy<Value = Policy> {
    let readiness = prop::sample::select(vec![
        Readiness::Spawn,
        Readiness::Uptime,
        Readiness::Signal(ReadySignal::Notify),
        Readiness::Auto { sees_listening: false },
        Readiness::Auto { sees_listening: true },
    ]);
    let restart = prop_oneof![4 => Just(Restart::Always), 1 => Just(Restart::OnFailure), 1 => Just(Restart::Never)];
    let reload = prop_oneof![
        3 => Just(Reload::Rolling(1)),
        1 => Just(Reload::Rolling(3)),
        1 => Just(Reload::Restart),
    ];
    let delays = prop_oneof![2 => Just(0u32), 1 => Just(5000)];
    let backoff = prop_oneof![15 => Just(100u32), 1 => Just(0)];
    let uptimes = (prop_oneof![Just(0u32), Just(1000)], prop_oneof![1 => Just(0u32), 3 => Just(10_000)]);
    let request = prop::sample::select(vec![
        None,
        None,
        Some(DrainKind::Cluster),
        Some(DrainKind::Message),
        Some(DrainKind::Connections),
    ]);
    (1u32..5, readiness, restart, reload, 0u32..4, delays, uptimes, backoff, request, any::<bool>()).prop_map(
        |(instances, readiness, restart, reload, max_restarts, delay, uptimes, backoff, request, to_group)| Policy {
            backoff: Backoff { min: backoff * MS, max: 15_000 * MS },
            instances,
            readiness,
            restart,
            reload,
            max_restarts,
            drain_delay: delay * MS,
            stop: StopPolicy { request, to_group, ..policy().stop },
            min_uptime: uptimes.0 * MS,
            stable_after: uptimes.1 * MS,
            stop_exit_codes: vec![3],
            scaling: match instances {
                1 => Scaling { fewer_than_cpus: None, min: 1, max: Some(3) },
                3 => Scaling { fewer_than_cpus: Some(1), min: 1, max: Some(5) },
                _ => Scaling::fixed(),
            },
            max_memory: (instances > 2).then_some(MemoryLimit::Bytes(100 << 20)),
            max_uptime: (instances == 2).then_some(60_000 * MS),
            ..policy()
        },
    )
}

/// Apps that depend on each other, or not.
fn apps() -> impl Strategy<Value = Vec<Policy>> {
    let kinds = prop_oneof![4 => Just(Kind::Service), 1 => Just(Kind::Task)];
    let ends = prop_oneof![3 => Just(OnExit::EndOnFailure), 1 => Just(OnExit::End), 1 => Just(OnExit::Ignore)];
    let app = (policies(), kinds, ends, 0u32..4).prop_map(|(policy, kind, on_exit, before)| {
        // The bits of `before` are the apps that come before.
        let after = (0..2).filter(|id| before & 1 << id != 0).map(AppId).collect();
        let restart = if kind == Kind::Task { Restart::Never } else { policy.restart };
        Policy { kind, on_exit, after, restart, ..policy }
    });
    prop::collection::vec(app, 1..4).prop_map(|mut apps| {
        apps.iter_mut().zip(0..).for_each(|(app, id)| app.after.retain(|before| before.0 < id));
        apps
    })
}

thread_local! {
    /// On the way to the shortest history every try panics: only the last one is worth a message.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The message of a panic.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned()
}

/// Judges that many histories, times `RINIT_HISTORIES` where that is set.
fn check(cases: u32, judge: impl Fn(&[Policy], &[Step])) {
    let factor = std::env::var("RINIT_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let cases = cases * factor;
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info)
            }
        }));
    });
    QUIET.set(true);
    let result = runner.run(&(apps(), steps()), |(policies, steps)| {
        catch_unwind(AssertUnwindSafe(|| judge(&policies, &steps)))
            .map_err(|panic| TestCaseError::fail(text_of(&*panic)))
    });
    QUIET.set(false);
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (policies, steps))) => panic!("{reason}\n\n{}", as_a_test(&policies, &steps)),
        Err(abort) => panic!("{abort}"),
    }
}

/// The history as a test for `examples.rs`.
fn as_a_test(policies: &[Policy], steps: &[Step]) -> String {
    let policies: Vec<String> = policies.iter().map(as_code).collect();
    let policies = policies.join(",\n        ");
    format!(
        "#[test]\nfn pasted_history() {{\n    let policies = vec![\n        {policies},\n    ];\n    World::new(policies).play(&{steps:?});\n}}\n"
    )
}

/// The fields in which a policy of these histories differs from the one of `world.rs`.
fn as_code(policy: &Policy) -> String {
    let Policy {
        kind,
        on_exit,
        after,
        instances,
        restart,
        stop_exit_codes,
        max_restarts,
        readiness,
        reload,
        backoff,
        stop,
        ..
    } = policy;
    let [uptime, stable, delay, min, max] =
        [policy.min_uptime, policy.stable_after, policy.drain_delay, backoff.min, backoff.max]
            .map(|time| time.as_millis());
    let max_memory = format!("{:?}", policy.max_memory).replace("Bytes", "MemoryLimit::Bytes");
    let max_uptime = policy.max_uptime.map_or("None".into(), |life| format!("Some({} * MS)", life.as_millis()));
    let readiness = format!("{readiness:?}").replace("Signal(", "Signal(ReadySignal::");
    let request = format!("{:?}", stop.request).replace("Some(", "Some(DrainKind::");
    format!(
        "Policy {{ kind: Kind::{kind:?}, on_exit: OnExit::{on_exit:?}, after: vec!{after:?}, instances: {instances}, restart: Restart::{restart:?}, stop_exit_codes: vec!{stop_exit_codes:?}, \
         min_uptime: {uptime} * MS, stable_after: {stable} * MS, max_restarts: {max_restarts}, \
         readiness: Readiness::{readiness}, backoff: Backoff {{ min: {min} * MS, max: {max} * MS }}, \
         scaling: {:?}, max_memory: {max_memory}, max_uptime: {max_uptime}, drain_delay: {delay} * MS, reload: Reload::{reload:?}, \
         stop: StopPolicy {{ request: {request}, to_group: {}, ..policy().stop }}, ..policy() }}",
        policy.scaling, stop.to_group
    )
}

#[test]
fn every_promise_holds_after_every_event() {
    check(4000, |policies, steps| {
        World::new(policies.to_vec()).play(steps);
    });
}

#[test]
fn a_stop_always_ends_in_time_whatever_came_before() {
    check(2000, |policies, steps| {
        let mut world = World::new(policies.to_vec());
        world.play(steps);
        if world.fleet.finished().is_none() {
            // Apps that depend on each other stop one after the other.
            world.play(&[Stop, Pass(200_000)]);
        }
        assert!(world.fleet.finished().is_some());
        assert_eq!(world.running(), 0);
    });
}

#[test]
fn a_second_stop_kills_at_once_and_ends_with_the_last_process() {
    check(1000, |policies, steps| {
        let mut world = World::new(policies.to_vec());
        world.play(steps).play(&[Stop, Stop]);
        assert_eq!(world.running_and_not_killed(), 0);
        world.play(&[Pass(9000)]);
        assert_eq!((world.running(), world.fleet.finished().is_some()), (0, true));
    });
}

#[test]
fn when_trouble_ends_a_reload_makes_every_worker_new_and_ready() {
    check(2000, |policies, steps| {
        let policies: Vec<Policy> = policies
            .iter()
            .map(|policy| Policy {
                kind: Kind::Service,
                restart: Restart::Always,
                stop_exit_codes: vec![],
                max_uptime: None,
                ..policy.clone()
            })
            .collect();
        let mut world = World::new(policies);
        // Successors listen where their predecessors have, or the reload fails.
        let on_one_port = |step: &Step| match *step {
            Listens(n, _) => Listens(n, EAGER_PORT),
            step => step,
        };
        let steps: Vec<Step> = steps.iter().map(on_one_port).filter(|step| *step != Stop).collect();
        world.play(&steps);
        world.eager = true;
        world.play(&[Forks(true), Program(true), Heeds(true), Reads(true), Leaves(false), KillTakes(0)]);
        // What is under way may still have to fail, and a slot may wait at the end of its backoff.
        world.play(&[Pass(60_000)]);
        if world.fleet.finished().is_some() {
            return; // every worker had failed for good
        }
        world.play(&[Hup, Pass(600_000)]);
        // One that comes after an app which an operator has stopped waits.
        for app in world.fleet.apps().iter().filter(|app| !app.is_held() && !app.is_removed()) {
            assert!(app.rollout.is_none(), "{:?}", app.rollout);
            assert_eq!(app.slots.len() as u32, app.wanted());
            // Who was stopped by the operator waits for the operator.
            for slot in app.slots.iter().filter(|slot| slot.desired == Desired::Up) {
                assert!(slot.is_ready(), "{slot:?}");
                assert_eq!(slot.generation, app.slots[0].generation, "{slot:?}");
            }
        }
        assert_eq!(world.running(), world.ready());
    });
}
