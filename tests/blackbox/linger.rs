//! Tests `--linger` with workers.

use crate::harness::{Rig, Running, children, eventually, status_field};
use std::time::{Duration, Instant};

/// A worker with a daemon in a session of its own that does these words.
fn start(flags: &[&str], daemon: &str) -> Running {
    let rig = Rig::new(&["-i", "1", "--name", "web"]).args(flags).fixture(&format!("daemon={daemon} up wait")).start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    rig
}

#[test]
fn a_daemon_that_outlives_its_worker_gets_sigterm_and_its_end_is_waited_for_and_no_longer() {
    let rig = start(&["--linger", "10m"], "signals");
    rig.signal("TERM");
    // The harness would not wait for ten minutes.
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("| got SIGTERM"), 1);
    assert!(rig.output().has("1 process (") && rig.output().has("fixture) outlived the workers"));
}

#[test]
fn without_it_a_daemon_is_told_of_and_gets_nothing() {
    let rig = start(&[], "signals");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("| got SIGTERM"), 0);
    assert!(rig.output().has("--linger D gives them SIGTERM"), "{:?}", rig.output().stderr);
}

#[test]
fn workers_that_leave_nothing_behind_cost_no_time_and_no_line() {
    for words in ["up wait", "child=wait up wait"] {
        let rig = Rig::new(&["-i", "2", "--linger", "10m"]).fixture(words).start();
        rig.until("both are up", |out| out.count("| up ") == 2);
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
        assert!(!rig.output().has("outlived"), "{:?}", rig.output().stderr);
    }
}

#[test]
fn a_daemon_that_ignores_sigterm_has_the_time_and_no_more() {
    let rig = start(&["--linger", "300ms"], "deaf=TERM,up,wait");
    let begin = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(rig.output().has("did not end within 300ms: SIGKILL"), "{:?}", rig.output().stderr);
}

#[test]
fn a_second_signal_to_stop_ends_it() {
    let rig = start(&["--linger", "10m"], "deaf=TERM,up,wait");
    rig.signal("TERM");
    rig.until("it waits", |out| out.has("outlived the workers: SIGTERM"));
    assert!(rig.is_running());
    rig.stop_again("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn other_signals_do_not_end_it() {
    let rig = start(&["--linger", "10m"], "deaf=TERM,up,wait");
    let daemon = children(rig.workers()[0])[0];
    rig.signal("TERM");
    rig.until("it waits", |out| out.has("outlived the workers: SIGTERM"));
    ["USR1", "HUP", "TTIN", "CHLD"].iter().for_each(|signal| rig.signal(signal));
    rig.signal_pid(daemon, "KILL");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn elsewhere_than_as_pid_1_what_does_not_end_is_killed() {
    let rig = Rig::new(&["-i", "1", "--linger", "100ms"]).fixture("daemon=deaf=TERM,up,wait up wait");
    let rig = rig.not_pid_1().start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    let daemon = children(rig.workers()[0])[0];
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    eventually("it is killed", || {
        let state = status_field(daemon, "State");
        (state.is_empty() || state.starts_with('Z')).then_some(())
    });
}
