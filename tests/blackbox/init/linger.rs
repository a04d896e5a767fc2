//! Tests `--linger` in init mode.

use super::*;
use std::time::{Duration, Instant};

/// A child that ends with 3 at SIGTERM and leaves a process behind that tells its signals.
const LEAVES_ONE: &str = "child=signals on-term=exit=3 up wait";
/// A child that leaves a process behind that does not end at SIGTERM.
const LEAVES_A_DEAF_ONE: &str = "child=deaf=TERM,up,wait on-term=exit=3 up wait";

fn start(flags: &[&str], words: &str) -> Running {
    let rig = Rig::new(flags).fixture(words).start();
    rig.until("both are up", |out| out.count("up ") == 2);
    rig
}

#[test]
fn without_linger_leftover_processes_get_no_signal() {
    let rig = start(&["--"], LEAVES_ONE);
    rig.signal("TERM");
    assert_eq!((rig.wait(), said(&rig, "got SIGTERM")), (3, 0));
}

#[test]
fn leftover_processes_get_sigterm_and_rinit_ends_when_they_have() {
    let rig = start(&["--linger", "10m", "--"], LEAVES_ONE);
    rig.signal("TERM");
    // The harness would not wait for ten minutes.
    assert_eq!((rig.wait(), said(&rig, "got SIGTERM")), (3, 1));
}

#[test]
fn a_leftover_process_in_a_session_of_its_own_gets_sigterm_too() {
    let rig = start(&["--linger", "10m", "--"], "daemon=signals on-term=exit=3 up wait");
    rig.signal("TERM");
    assert_eq!((rig.wait(), said(&rig, "got SIGTERM")), (3, 1));
}

#[test]
fn without_leftover_processes_rinit_ends_at_once() {
    assert_eq!(code(Rig::new(&["--linger", "10m", "--"]).fixture("exit=4")), 4);
    assert_eq!(code(Rig::new(&["--linger=10m", "-e", "4", "--"]).fixture("exit=4")), 0);
    assert_eq!(code(Rig::new(&["--linger=10m", "--", "no-such-program"])), 127);
}

#[test]
fn the_variable_sets_it_too() {
    let rig = Rig::new(&[]).env("RINIT_LINGER", "10m").fixture(LEAVES_ONE).start();
    rig.until("both are up", |out| out.count("up ") == 2);
    rig.signal("TERM");
    assert_eq!((rig.wait(), said(&rig, "got SIGTERM")), (3, 1));
}

#[test]
fn a_leftover_process_that_ignores_sigterm_has_the_linger_time_and_no_more() {
    let rig = start(&["--linger", "300ms", "--"], LEAVES_A_DEAF_ONE);
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 3);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_second_signal_to_stop_ends_it() {
    for signal in ["TERM", "INT", "QUIT"] {
        let rig = start(&["--linger", "10m", "--"], LEAVES_A_DEAF_ONE);
        let child = rig.workers()[0];
        rig.signal("TERM");
        eventually("the child is gone and the other is rinit's", || {
            let left = rig.workers();
            (left.len() == 1 && left[0] != child).then_some(())
        });
        assert!(rig.is_running());
        rig.signal(signal);
        assert_eq!(rig.wait(), 3, "{signal}");
    }
}

#[test]
fn other_signals_do_not_end_it() {
    let rig = start(&["--linger", "10m", "--"], LEAVES_A_DEAF_ONE);
    let child = rig.workers()[0];
    rig.signal("TERM");
    eventually("the child is gone", || (!rig.workers().contains(&child)).then_some(()));
    let left = rig.workers()[0];
    for signal in ["USR1", "HUP", "64", "CHLD"] {
        rig.signal(signal);
    }
    rig.signal_pid(left, "KILL");
    assert_eq!(rig.wait(), 3);
}

#[test]
fn not_as_pid_1_leftover_processes_get_sigterm_and_then_sigkill() {
    let rig = below_a_shell(Rig::new(&["--linger", "10m", "--"]).fixture(LEAVES_ONE));
    rig.until("both are up", |out| out.count("up ") == 2);
    rig.signal_pid(first_below(&rig), "TERM");
    rig.until("it has ended", |out| out.has("ended 3"));
    assert_eq!(said(&rig, "got SIGTERM"), 1);

    let rig = below_a_shell(Rig::new(&["--linger", "100ms", "--"]).fixture(LEAVES_A_DEAF_ONE));
    rig.until("both are up", |out| out.count("up ") == 2);
    let child = children(first_below(&rig))[0];
    let left = children(child)[0];
    rig.signal_pid(first_below(&rig), "TERM");
    rig.until("it has ended", |out| out.has("ended 3"));
    eventually("what did not end is killed", || {
        let state = crate::harness::status_field(left, "State");
        (state.is_empty() || state.starts_with('Z')).then_some(())
    });
}
