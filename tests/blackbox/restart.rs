//! Workers that end by themselves: started again at once, later, or never.

use crate::harness::{Flag, Output, Rig, Running, children, eventually, fixture, status_field};
use std::os::unix::fs::symlink;

/// The waits that rinit announced, in milliseconds.
fn waits(out: &Output) -> Vec<f64> {
    let wait = |line: &String| {
        let text = line.split("started again in ").nth(1)?.split_whitespace().next()?;
        let (number, factor) = match text.strip_suffix("ms") {
            Some(number) => (number, 1.0),
            None => (text.strip_suffix('s')?, 1000.0),
        };
        Some(number.parse::<f64>().ok()? * factor)
    };
    out.stderr.iter().filter_map(wait).collect()
}

#[test]
fn a_worker_that_was_stable_is_started_again_at_once() {
    let times = ["--ready", "uptime", "--min-uptime", "50ms", "--stable-after", "50ms", "--backoff", "20ms..1h"];
    let rig = Rig::new(&["-i", "2"]).args(&times).fixture("up wait").start();
    rig.until("both are stable", |out| out.count("is ready after") == 2 && out.count("| up ") == 2);
    for round in 3..6 {
        rig.signal_pid(rig.workers()[0], "KILL");
        rig.until("it is up again and stable", |out| {
            out.count("| up ") == round && out.count("is ready after") == round
        });
        assert_eq!(rig.workers().len(), 2);
    }
    assert_eq!(rig.output().count("ended: SIGKILL after"), 3);
    assert!(!rig.output().has("; started again in"), "without a wait: {:?}", rig.output().stderr);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_life_was_stable_even_when_rinit_hears_of_its_length_and_its_end_at_once() {
    let go = Flag::new();
    let times = ["--ready", "uptime", "--min-uptime", "300ms", "--stable-after", "300ms", "--backoff", "100ms..1h"];
    let rig = Rig::new(&["-i", "1"]).args(&times);
    let rig = rig.fixture(&format!("up file={} exit=1", go.path())).start();
    rig.until("it is up, and rinit knows", |out| out.has("| up ") && out.has(") started"));
    // A machine that is busy elsewhere: rinit does not run while the worker becomes stable, and ends.
    let worker = rig.workers()[0];
    rig.signal("STOP");
    std::thread::sleep(std::time::Duration::from_millis(400));
    go.set();
    eventually("it has ended", || status_field(worker, "State").starts_with('Z').then_some(()));
    go.clear();
    rig.signal("CONT");
    rig.until("its end is told", |out| out.has("; started again"));
    assert!(!rig.output().has("; started again in"), "{:?}", rig.output().stderr);
}

#[test]
fn a_stable_life_gives_the_crash_budget_back() {
    let times = ["--ready", "uptime", "--min-uptime", "20ms", "--stable-after", "20ms", "--backoff", "10ms..1h"];
    let rig = Rig::new(&["-i", "1", "--max-restarts", "1"]).args(&times).fixture("up wait").start();
    for life in 1..6 {
        rig.until("it is stable", |out| out.count("is ready after") == life && out.count("| up ") == life);
        rig.signal_pid(rig.workers()[0], "KILL");
    }
    rig.until("it is up again", |out| out.count("| up ") == 6);
}

#[test]
fn a_clean_exit_is_started_again_too() {
    let rig = Rig::new(&["-i", "1", "--backoff", "1ms..1ms"]).fixture("up exit=0").start();
    rig.until("it was started again", |out| out.count("| up ") >= 4);
}

#[test]
fn each_wait_is_longer_by_half_than_the_one_before_up_to_the_longest() {
    let rig = Rig::new(&["-i", "1", "--backoff", "20ms..60ms", "--min-uptime", "1h", "--max-restarts", "6"]);
    let rig = rig.arg("sh").arg("-c").arg("date +%s%N; exit 1").start();
    assert_eq!(rig.wait(), 1);
    let out = rig.output();
    let waits = waits(&out);
    let expected = [20.0, 30.0, 45.0, 60.0, 60.0, 60.0];
    assert_eq!(waits.len(), expected.len(), "{:?}", out.stderr);
    for (wait, expected) in waits.iter().zip(expected) {
        // 10 % of jitter, and the announcement has no fractions of a millisecond.
        assert!((expected * 0.9 - 1.0..=expected * 1.1).contains(wait), "{waits:?}");
    }
    // And the waits are kept: from one worker's word to the next one's is never less.
    let time = |line: &String| line.split("| ").nth(1)?.parse::<f64>().ok();
    let times: Vec<f64> = out.stdout.iter().filter_map(time).collect();
    assert_eq!(times.len(), 7);
    for (pair, wait) in times.windows(2).zip(&waits) {
        assert!((pair[1] - pair[0]) / 1e6 >= *wait, "{times:?} {waits:?}");
    }
}

#[test]
fn workers_that_crashed_together_do_not_come_back_together() {
    let rig = Rig::new(&["-i", "8", "--backoff", "1000s..1000s", "--min-uptime", "1h"]).fixture("exit=1").start();
    rig.until("all have crashed", |out| out.count("started again in") == 8);
    let out = rig.output();
    let mut announced: Vec<&str> =
        out.stderr.iter().filter_map(|line| line.split("started again in ").nth(1)).collect();
    announced.sort_unstable();
    announced.dedup();
    assert!(announced.len() > 4, "{announced:?}");
}

#[test]
fn a_crash_loop_ends_with_the_apps_own_code_and_says_why() {
    let rig =
        Rig::new(&["-i", "1", "--name", "web", "--max-restarts", "3", "--backoff", "1ms..1ms", "--min-uptime", "1h"]);
    let rig = rig.fixture("err-lines=15 err=the-disk-is-full exit=7").start();
    assert_eq!(rig.wait(), 7);
    let out = rig.output();
    assert_eq!(out.count("| the-disk-is-full"), 4, "the worker's own lines");
    let last = out.stderr.iter().rposition(|line| line.contains("web-0") && line.contains("ended")).unwrap();
    let verdict = &out.stderr[last];
    for part in ["exit code 7", " after ", "4 crashes in a row", "has failed"] {
        assert!(verdict.contains(part), "{part} is not in {verdict}");
    }
    let lines: Vec<&str> =
        out.stderr[last + 1..last + 11].iter().filter_map(|line| line.split("|     ").nth(1)).collect();
    assert_eq!(lines.len(), 10, "{:#?}", out.stderr);
    assert_eq!((lines[0], lines[8], lines[9]), ("line 6", "line 14", "the-disk-is-full"));
    assert!(out.stderr[last + 11].contains("exit code 7"), "{:#?}", out.stderr);
}

#[test]
fn a_crash_by_a_signal_is_told_by_name_and_counts_as_128_and_its_number() {
    for (signal, code) in [("SIGSEGV", 139), ("SIGKILL", 137), ("SIGABRT", 134), ("SIGRTMIN+2", 164)] {
        let rig = Rig::new(&["-i", "1", "--max-restarts", "1", "--backoff", "1ms..1ms", "--min-uptime", "1h"]);
        let rig = rig.fixture(&format!("crash={signal}")).start();
        assert_eq!(rig.wait(), code, "{signal}");
        let out = rig.output();
        assert_eq!(out.count(&format!("ended: {signal}")), 2, "{:?}", out.stderr);
    }
}

#[test]
fn the_code_is_that_of_the_last_crash_when_all_have_failed() {
    let late = Flag::new();
    for first in [0, 1] {
        let script = format!(
            "[ $RINIT_WORKER = {first} ] && exit 6; while [ ! -e {} ]; do sleep 0.01; done; exit 5",
            late.path()
        );
        let rig = Rig::new(&["-i", "2", "--max-restarts", "1", "--backoff", "1ms..1ms", "--min-uptime", "1h"]);
        let rig = rig.arg("sh").arg("-c").arg(&script).start();
        rig.until("one has failed", |out| out.has("it has failed"));
        late.set();
        assert_eq!(rig.wait(), 5);
        late.clear();
    }
}

#[test]
fn one_failed_worker_does_not_end_the_others() {
    let script = "[ $RINIT_WORKER = 1 ] && exit 5; echo up; exec sleep 1000";
    let rig = Rig::new(&["-i", "2", "--max-restarts", "2", "--backoff", "1ms..1ms", "--min-uptime", "1h"]);
    let rig = rig.arg("sh").arg("-c").arg(script).start();
    rig.until("one has failed and one is up", |out| out.has("it has failed") && out.has("| up"));
    assert_eq!(rig.workers().len(), 1);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn zero_max_restarts_means_for_ever() {
    let rig = Rig::new(&["-i", "1", "--max-restarts", "0", "--backoff", "0..0", "--min-uptime", "1h"])
        .fixture("up exit=1")
        .start();
    rig.until("it crashed more often than the default allows", |out| out.count("| up ") > 25);
    assert!(!rig.output().has("it has failed"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn sixteen_restarts_are_the_default() {
    let rig = Rig::new(&["-i", "1", "--backoff", "0..0", "--min-uptime", "1h"]).fixture("up exit=1").start();
    assert_eq!(rig.wait(), 1);
    assert_eq!(rig.output().count("| up "), 17);
}

#[test]
fn on_failure_starts_again_after_a_failure_and_not_after_success() {
    let repaired = Flag::new();
    let words = format!("up unless={} exit=3 exit=0", repaired.path());
    let rig = Rig::new(&["-i", "2", "--restart", "on-failure", "--max-restarts", "0", "--backoff", "20ms..20ms"]);
    let rig = rig.fixture(&words).start();
    rig.until("both were started again", |out| out.count("| up ") >= 4);
    repaired.set();
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("finished: exit code 0"), 2);
}

#[test]
fn on_failure_takes_a_death_by_a_signal_for_a_failure() {
    let rig = Rig::new(&[
        "-i",
        "1",
        "--restart",
        "on-failure",
        "--max-restarts",
        "1",
        "--backoff",
        "1ms..1ms",
        "--min-uptime",
        "1h",
    ]);
    let rig = rig.fixture("up crash=TERM").start();
    assert_eq!(rig.wait(), 143);
    assert_eq!(rig.output().count("| up "), 2);
}

#[test]
fn never_means_that_each_worker_runs_once() {
    let rig = Rig::new(&["-i", "3", "--restart", "never"]).fixture("up exit=9").start();
    assert_eq!(rig.wait(), 9);
    assert_eq!(rig.output().count("| up "), 3);
}

#[test]
fn a_stop_exit_code_is_the_end_of_a_worker_and_others_are_not() {
    let script = "echo up; [ $RINIT_WORKER = 0 ] && exit 3; exit 0";
    let rig = Rig::new(&["-i", "2", "--stop-exit-codes", "0,3", "--", "sh", "-c", script]).start();
    assert_eq!(rig.wait(), 3);
    assert_eq!(rig.output().count("| up"), 2);

    let rig = Rig::new(&[
        "-i",
        "1",
        "--stop-exit-codes",
        "0,3",
        "--max-restarts",
        "2",
        "--backoff",
        "1ms..1ms",
        "--min-uptime",
        "1h",
    ]);
    let rig = rig.fixture("up exit=4").start();
    assert_eq!(rig.wait(), 4);
    assert_eq!(rig.output().count("| up "), 3);
}

#[test]
fn what_a_dead_worker_leaves_behind_in_its_group_is_killed() {
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--min-uptime", "20ms"])
        .fixture("child=deaf=TERM,up,wait up wait")
        .start();
    rig.until("it is stable, and its child is up", |out| out.has("is ready after") && out.count("| up ") == 2);
    let worker = rig.workers()[0];
    let child = children(worker)[0];
    rig.signal_pid(worker, "KILL");
    rig.until("the next is up, with a child of its own", |out| out.count("| up ") == 4);
    let is_gone = || !std::path::Path::new(&format!("/proc/{child}")).exists();
    eventually("the child is gone", || is_gone().then_some(()));
    assert_eq!(rig.workers().len(), 1, "nothing else is left below rinit");
}

#[test]
fn a_program_that_is_missing_for_a_while_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    symlink(fixture(), &program).unwrap();
    let rig = Rig::new(&[
        "-i",
        "1",
        "--ready",
        "uptime",
        "--min-uptime",
        "20ms",
        "--backoff",
        "10ms..10ms",
        "--max-restarts",
        "0",
        "--",
    ]);
    let rig = rig.arg(&program).arg("up").arg("wait").start();
    rig.until("it is stable", |out| out.has("is ready after") && out.has("| up "));
    std::fs::rename(&program, folder.path().join("away")).unwrap();
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("it cannot be started", |out| out.has("cannot run"));
    std::fs::rename(folder.path().join("away"), &program).unwrap();
    rig.until("it is back", |out| out.count("| up ") == 2);
}

/// Kills every worker of the moment, at once.
fn kill_all(rig: &Running) {
    rig.workers().iter().for_each(|pid| rig.signal_pid(*pid, "KILL"));
}

#[test]
fn all_workers_killed_at_once_come_back_at_once() {
    let times = ["--ready", "uptime", "--min-uptime", "20ms", "--stable-after", "20ms", "--backoff", "10ms..1h"];
    let rig = Rig::new(&["-i", "5"]).args(&times).fixture("up wait").start();
    rig.until("all are stable", |out| out.count("is ready after") == 5 && out.count("| up ") == 5);
    kill_all(&rig);
    rig.until("all are back", |out| out.count("| up ") == 10);
}
