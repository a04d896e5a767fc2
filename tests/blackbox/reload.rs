//! SIGHUP: a new worker beside each old one, and the old one goes when the new one serves.

use crate::harness::{Flag, Output, Rig, Running, eventually, fixture, free_port};
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;

/// rinit's own lines: which worker, and what of it.
fn events(out: &Output) -> impl Iterator<Item = (&str, &str)> {
    out.stderr.iter().filter_map(|line| line.strip_prefix("rinit | ")?.trim_start_matches("warning: ").split_once(' '))
}

/// Reads in rinit's own words that no more than `width` were replaced at a time, each once, and never fewer than
/// `instances` were ready.
fn check_order(out: &Output, instances: usize, width: usize) {
    let (mut ready, mut begun, mut replaced) = (0, false, 0);
    let mut under_way = BTreeSet::new();
    for (worker, what) in events(out) {
        if what.contains("started as a replacement") {
            begun = true;
            assert!(under_way.insert(worker), "{worker} twice: {:#?}", out.stderr);
            assert!(under_way.len() <= width, "{under_way:?}: {:#?}", out.stderr);
        } else if what.contains("is ready after") {
            ready += 1;
        } else if what.contains("gets SIGTERM") {
            ready -= 1;
        } else if what.contains("is gone") {
            assert!(under_way.remove(worker), "{:#?}", out.stderr);
            replaced += 1;
        }
        assert!(!begun || ready >= instances, "{ready} ready: {:#?}", out.stderr);
    }
    assert_eq!((replaced, ready, under_way.len()), (instances, instances, 0), "{:#?}", out.stderr);
}

/// Starts workers that are ready as long as the flag is there, and waits until they are.
fn start(gate: &Flag, instances: usize, arguments: &[&str]) -> Running {
    gate.set();
    let count = instances.to_string();
    let rig = Rig::new(&["-i", &count, "--name", "web", "--ready", "notify", "--min-uptime", "20ms"]);
    let rig = arguments.iter().fold(rig, |rig, argument| rig.arg(argument));
    let rig = rig.fixture(&format!("up file={} notify signals", gate.path())).start();
    // Two lines of each: its own, and the one of the word `signals`.
    rig.until("all are ready", |out| out.count("is ready after") == instances && out.count("| up ") == 2 * instances);
    rig
}

/// A reload that has begun with `width` new workers, which are not ready before the flag is set.
fn reload_up_to_the_gate(rig: &Running, gate: &Flag, width: usize) {
    let before = rig.output().count("started as a replacement");
    gate.clear();
    rig.signal("HUP");
    rig.until("new ones have started", |out| out.count("started as a replacement") == before + width);
}

fn reloaded(rig: &Running, number: u32) {
    rig.until("the reload is done", |out| out.has(&format!("reload to generation {} done", number + 1)));
}

/// A stop that ends every worker that is left in peace.
fn stop(rig: &Running) {
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn one_worker_at_a_time_is_replaced_and_never_fewer_are_ready() {
    let gate = Flag::new();
    let rig = start(&gate, 3, &[]);
    let old = BTreeSet::from_iter(rig.workers());
    rig.signal("HUP");
    reloaded(&rig, 1);
    check_order(&rig.output(), 3, 1);
    let new = BTreeSet::from_iter(rig.workers());
    assert_eq!((new.len(), new.intersection(&old).count()), (3, 0));
    rig.until("the old ones were asked", |out| out.count("got SIGTERM") == 3);
    assert!(!rig.output().has("got SIGHUP"));
    stop(&rig);
}

#[test]
fn the_old_worker_serves_until_the_new_one_is_ready() {
    let gate = Flag::new();
    let rig = start(&gate, 2, &[]);
    reload_up_to_the_gate(&rig, &gate, 1);
    assert_eq!(rig.workers().len(), 3);
    rig.signal("URG"); // The new one ignores it, as everybody does who has no handler for it.
    rig.until("both old ones are well", |out| out.count("got SIGURG") == 2);
    assert!(!rig.output().has("got SIGTERM"));
    gate.set();
    reloaded(&rig, 1);
    check_order(&rig.output(), 2, 1);
    stop(&rig);
}

#[test]
fn a_new_worker_must_stay_for_min_uptime_before_the_old_one_goes() {
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "300ms"]).fixture("notify signals").start();
    rig.until("it is ready", |out| out.has("is ready after") && out.has("| up "));
    let start = std::time::Instant::now();
    rig.signal("HUP");
    rig.until("the old one is asked to go", |out| out.has("got SIGTERM"));
    assert!(start.elapsed().as_millis() >= 300, "after {:?}", start.elapsed());
    reloaded(&rig, 1);
}

#[test]
fn parallel_replaces_so_many_at_a_time() {
    for (width, at_once) in [("2", 2), ("9", 4)] {
        let gate = Flag::new();
        let rig = start(&gate, 4, &["--reload", &format!("parallel:{width}")]);
        reload_up_to_the_gate(&rig, &gate, at_once);
        assert_eq!(rig.workers().len(), 4 + at_once);
        gate.set();
        reloaded(&rig, 1);
        check_order(&rig.output(), 4, at_once);
        assert_eq!(rig.workers().len(), 4);
    }
}

#[test]
fn restart_stops_each_worker_before_its_successor_starts() {
    let rig = Rig::new(&["-i", "3", "--name", "web", "--reload", "restart", "--ready", "notify"]);
    let rig = rig.arg("--min-uptime").arg("20ms").fixture("notify signals").start();
    rig.until("all are ready", |out| out.count("is ready after") == 3 && out.count("| up ") == 3);
    rig.signal("HUP");
    reloaded(&rig, 1);
    let out = rig.output();
    let steps: Vec<String> = events(&out)
        .filter(|(_, what)| what.contains("started as a replacement") || what.contains("is gone"))
        .map(|(worker, what)| format!("{worker} {}", if what.contains("is gone") { "goes" } else { "comes" }))
        .collect();
    assert_eq!(steps, ["web-0 goes", "web-0 comes", "web-1 goes", "web-1 comes", "web-2 goes", "web-2 comes"]);
    stop(&rig);
}

#[test]
fn restart_is_for_apps_that_need_a_port_of_their_own() {
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--reload", "restart", "--min-uptime", "20ms"]);
    let rig = rig.fixture(&format!("listen={} up wait", free_port())).start();
    for life in 1..=3 {
        rig.until("it has its port", |out| out.count("| up ") == life && out.count("is ready after") == life);
        rig.signal("HUP");
        reloaded(&rig, life as u32);
    }
    assert!(!rig.output().has("panicked"));
}

#[test]
fn a_new_version_that_exits_stops_the_reload_and_the_next_sighup_tries_again() {
    for (end, told) in [("exit=3", "exit code 3"), ("crash=SEGV", "SIGSEGV")] {
        let good = Flag::new();
        good.set();
        let path = good.path();
        let words = format!("unless={path} err=no-such-database unless={path} {end} notify signals");
        let rig = Rig::new(&["-i", "2", "--name", "web", "--ready", "notify", "--min-uptime", "20ms"]);
        let rig = rig.fixture(&words).start();
        rig.until("both are ready", |out| out.count("is ready after") == 2 && out.count("| up ") == 2);
        let old = rig.workers();
        good.clear();
        for reload in 1..=2 {
            rig.signal("HUP");
            rig.until("the reload has stopped", |out| out.has(&format!("reload to generation {} stopped", reload + 1)));
            let out = rig.output();
            let line = out
                .stderr
                .iter()
                .find(|line| line.contains(&format!("reload to generation {} stopped", reload + 1)))
                .unwrap();
            for part in ["the new web-0 ended with", told, "the old workers stay"] {
                assert!(line.contains(part), "{part} is not in {line}");
            }
            assert_eq!(out.count("|     no-such-database"), reload, "its last lines: {:#?}", out.stderr);
            eventually("the old ones alone are there", || (rig.workers() == old).then_some(()));
        }
        assert!(!rig.output().has("got SIGTERM"));
        good.set();
        rig.signal("HUP");
        reloaded(&rig, 3);
        assert!(rig.workers().iter().all(|pid| !old.contains(pid)));
        stop(&rig);
    }
}

#[test]
fn a_new_version_that_is_never_ready_stops_the_reload_and_is_removed() {
    let gate = Flag::new();
    let rig = start(&gate, 2, &["--ready-timeout", "1s"]);
    let old = rig.workers();
    reload_up_to_the_gate(&rig, &gate, 1);
    rig.until("the reload has stopped", |out| {
        out.has("reload to generation 2 stopped: the new web-0 was not ready within")
    });
    eventually("the old ones alone are there", || (rig.workers() == old).then_some(()));
    assert!(!rig.output().has("got SIGTERM"), "the new one has no handler yet, and the old ones get none");
    gate.set();
    rig.signal("HUP");
    reloaded(&rig, 2);
    assert!(rig.workers().iter().all(|pid| !old.contains(pid)));
    stop(&rig);
}

#[test]
fn a_new_version_that_is_ready_and_then_exits_stops_the_reload() {
    let (good, go) = (Flag::new(), Flag::new());
    good.set();
    let (is_good, goes) = (good.path(), go.path());
    let words = format!("notify unless={is_good} file={goes} unless={is_good} exit=3 signals");
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "1h"]).fixture(&words).start();
    rig.until("it is ready", |out| out.has("is ready after") && out.has("| up "));
    let old = rig.workers();
    good.clear();
    rig.signal("HUP");
    rig.until("the new one is ready", |out| out.count("is ready after") == 2);
    go.set();
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped"));
    assert!(rig.output().has("ended with exit code 3"), "{:?}", rig.output().stderr);
    eventually("the old one alone is there", || (rig.workers() == old).then_some(()));
    assert!(!rig.output().has("got SIGTERM"));
}

#[test]
fn a_new_version_that_cannot_be_run_stops_the_reload() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    symlink(fixture(), &program).unwrap();
    let rig = Rig::new(&["-i", "2", "--ready", "notify", "--min-uptime", "20ms", "--"])
        .arg(&program)
        .arg("notify")
        .arg("signals")
        .start();
    rig.until("both are ready", |out| out.count("is ready after") == 2 && out.count("| up ") == 2);
    let old = rig.workers();
    std::fs::remove_file(&program).unwrap();
    rig.signal("HUP");
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped"));
    assert!(rig.output().has("cannot run"), "{:?}", rig.output().stderr);
    eventually("the old ones alone are there", || (rig.workers() == old).then_some(()));
    symlink(fixture(), &program).unwrap();
    rig.signal("HUP");
    reloaded(&rig, 2);
    stop(&rig);
}

#[test]
fn a_failure_half_way_leaves_what_is_new_and_what_is_old() {
    let good = Flag::new();
    good.set();
    let script = format!(
        "[ $RINIT_WORKER = 1 ] && [ ! -e {} ] && exit 3; exec {} notify signals",
        good.path(),
        fixture().display()
    );
    let rig =
        Rig::new(&["-i", "3", "--name", "web", "--ready", "notify", "--min-uptime", "20ms", "--", "sh", "-c", &script])
            .start();
    rig.until("all are ready", |out| out.count("is ready after") == 3 && out.count("| up ") == 3);
    let old = rig.workers();
    good.clear();
    rig.signal("HUP");
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped: the new web-1 ended"));
    eventually("there are three", || (rig.workers().len() == 3).then_some(()));
    let stayed = |worker: &i32| rig.workers().contains(worker);
    assert_eq!(old.iter().map(stayed).collect::<Vec<_>>(), [false, true, true]);
    good.set();
    rig.signal("HUP");
    reloaded(&rig, 2);
    assert!(!old.iter().any(stayed));
}

#[test]
fn a_restart_whose_new_version_fails_goes_on_trying() {
    let good = Flag::new();
    good.set();
    let words = format!("unless={} exit=3 notify signals", good.path());
    let rig = Rig::new(&[
        "-i",
        "2",
        "--reload",
        "restart",
        "--ready",
        "notify",
        "--min-uptime",
        "20ms",
        "--backoff",
        "20ms..20ms",
    ]);
    let rig = rig.arg("--max-restarts").arg("0").fixture(&words).start();
    rig.until("both are ready", |out| out.count("is ready after") == 2 && out.count("| up ") == 2);
    good.clear();
    rig.signal("HUP");
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped"));
    good.set();
    // Nothing of the old is left in that place; what is started there is not given up.
    rig.until("the place is held again", |out| out.count("| up ") == 3);
    rig.until("the first was asked", |out| out.has("got SIGTERM"));
    assert_eq!(rig.output().count("got SIGTERM"), 1, "the second worker was left alone");
    stop(&rig);
}

#[test]
fn a_storm_of_sighups_is_two_reloads() {
    let gate = Flag::new();
    let rig = start(&gate, 2, &[]);
    reload_up_to_the_gate(&rig, &gate, 1);
    let pid = nix::unistd::Pid::from_raw(rig.pid());
    for _ in 0..500 {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    }
    rig.until("one more is remembered", |out| out.has("another reload will follow"));
    // When the last of the storm has been heard, so has this.
    rig.signal("URG");
    rig.until("both old ones are well", |out| out.count("got SIGURG") == 2);
    gate.set();
    reloaded(&rig, 2);
    rig.until("all six have lived", |out| out.count("| up ") == 12);
    rig.signal("WINCH");
    rig.until("both new ones are well", |out| out.count("got SIGWINCH") == 2);
    let out = rig.output();
    assert_eq!((out.count(" begins"), out.count("another reload will follow")), (2, 1), "{:?}", out.stderr);
    stop(&rig);
}

#[test]
fn a_storm_of_sighups_at_workers_that_are_ready_at_once_leaves_as_many_as_before() {
    let rig = Rig::new(&["-i", "2", "--name", "web", "--ready", "spawn", "--min-uptime", "1ms"]);
    let rig = rig.fixture("signals").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    for _ in 0..100 {
        rig.signal("HUP");
    }
    let is_calm = |out: &Output| {
        let done = out.stderr.iter().filter(|line| line.contains("reload") && line.contains(" done in ")).count();
        (1..=100).contains(&done) && done == out.count(" begins")
    };
    eventually("every reload is done, and two are left", || {
        (is_calm(&rig.output()) && rig.workers().len() == 2).then_some(())
    });
    stop(&rig);
}

#[test]
fn a_stop_in_the_middle_of_a_reload_ends_it_and_every_worker() {
    let gate = Flag::new();
    let rig = start(&gate, 2, &[]);
    reload_up_to_the_gate(&rig, &gate, 1);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert!(out.has("reload to generation 2 stopped: the container stops"), "{:?}", out.stderr);
    assert_eq!(out.count("got SIGTERM"), 2);
    assert_eq!(out.count("started as a replacement"), 1);
}

#[test]
fn a_stop_while_the_old_worker_drains_waits_for_it_too() {
    let gate = Flag::new();
    let words = format!("on-term=say=heard,file={},exit=0 notify up wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "1ms", "--stop-timeout", "20s"]);
    let rig = rig.fixture(&words).start();
    rig.until("it is ready", |out| out.has("is ready after") && out.has("| up "));
    rig.signal("HUP");
    rig.until("the old one drains", |out| out.count("| heard") == 1);
    rig.signal("TERM");
    rig.until("the new one is asked to stop too", |out| out.count("| heard") == 2);
    gate.set();
    assert_eq!(rig.wait(), 0);
}

/// Which VERSION each worker of the moment was started with.
fn versions(rig: &Running) -> Vec<String> {
    let version = |pid: i32| {
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
        environment.split('\0').find_map(|pair| pair.strip_prefix("VERSION=")).map(str::to_owned)
    };
    rig.workers().into_iter().filter_map(version).collect()
}

/// A reload from VERSION 1 to 2 that waits at the gate.
fn begin_second_version(gate: &Flag, instances: usize) -> (Running, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "VERSION=1\n").unwrap();
    let rig = start(gate, instances, &["--env-file", file.path().to_str().unwrap()]);
    std::fs::write(file.path(), "VERSION=2\n").unwrap();
    reload_up_to_the_gate(&rig, gate, 1);
    (rig, file)
}

/// Opens the gate, and waits for the end of the reload with so many workers, all of them new.
fn finish_second_version(rig: &Running, gate: &Flag, instances: usize) {
    gate.set();
    reloaded(rig, 1);
    eventually("all are new", || (versions(rig) == vec!["2"; instances]).then_some(()));
}

#[test]
fn the_new_workers_have_the_new_environment() {
    let gate = Flag::new();
    let (rig, _file) = begin_second_version(&gate, 2);
    eventually("one is new", || (versions(&rig) == ["1", "1", "2"]).then_some(()));
    finish_second_version(&rig, &gate, 2);
    // A crash afterwards brings back the new version, and not the first one.
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("it is back", |out| out.count("is ready after") == 5);
    assert_eq!(versions(&rig), ["2", "2"]);
}

#[test]
fn an_old_worker_that_crashes_in_the_middle_comes_back_and_the_reload_goes_on() {
    // The one that is being replaced, and the one that has its turn later.
    for crashes in [0, 1] {
        let gate = Flag::new();
        let (rig, _file) = begin_second_version(&gate, 2);
        rig.signal_pid(rig.workers()[crashes], "KILL");
        rig.until("it has come back", |out| out.stderr.iter().filter(|line| line.ends_with(") started")).count() == 3);
        eventually("what came back is as old as what crashed", || {
            let mut versions = versions(&rig);
            versions.sort();
            (versions == ["1", "1", "2"]).then_some(())
        });
        finish_second_version(&rig, &gate, 2);
        stop(&rig);
    }
}

#[test]
fn scaling_in_the_middle_is_obeyed_and_the_reload_goes_on() {
    let gate = Flag::new();
    let (rig, _file) = begin_second_version(&gate, 2);
    rig.signal("TTIN");
    rig.until("one more is up", |out| out.has("| up 2 "));
    finish_second_version(&rig, &gate, 3);
    stop(&rig);

    let (rig, _file) = begin_second_version(&gate, 3);
    rig.signal("TTOU");
    rig.until("one is gone", |out| out.has("is gone"));
    finish_second_version(&rig, &gate, 2);
    stop(&rig);
}

#[test]
fn a_second_sighup_in_the_middle_brings_what_was_written_since() {
    let gate = Flag::new();
    let (rig, file) = begin_second_version(&gate, 2);
    std::fs::write(file.path(), "VERSION=3\n").unwrap();
    rig.signal("HUP");
    rig.until("it is remembered", |out| out.has("another reload will follow"));
    gate.set();
    reloaded(&rig, 2);
    assert_eq!(versions(&rig), ["3", "3"]);
}

#[test]
fn a_reload_starts_failed_workers_again() {
    let good = Flag::new();
    let script = format!(
        "[ $RINIT_WORKER = 1 ] && [ ! -e {} ] && exit 3; exec {} notify signals",
        good.path(),
        fixture().display()
    );
    let rig = Rig::new(&[
        "-i",
        "2",
        "--ready",
        "notify",
        "--min-uptime",
        "20ms",
        "--max-restarts",
        "1",
        "--backoff",
        "1ms..1ms",
    ]);
    let rig = rig.arg("sh").arg("-c").arg(&script).start();
    rig.until("one has failed, one is ready", |out| out.has("it has failed") && out.has("is ready after"));
    good.set();
    rig.signal("HUP");
    reloaded(&rig, 1);
    assert_eq!(rig.workers().len(), 2);
    rig.until("the new ones are up", |out| out.count("| up ") == 3);
    stop(&rig);
}

#[test]
fn a_reload_does_not_wait_for_a_backoff() {
    let good = Flag::new();
    let words = format!("unless={} exit=3 notify signals", good.path());
    let rig = Rig::new(&["-i", "2", "--ready", "notify", "--min-uptime", "20ms", "--backoff", "1h..1h"])
        .fixture(&words)
        .start();
    rig.until("both wait for an hour", |out| out.count("started again in") == 2);
    good.set();
    rig.signal("HUP");
    reloaded(&rig, 1);
    rig.until("both are up", |out| out.count("| up ") == 2);
    stop(&rig);
}

#[test]
fn an_old_worker_that_is_deaf_is_killed_with_its_group_and_the_reload_goes_on() {
    let rig = Rig::new(&["-i", "2", "--ready", "uptime", "--min-uptime", "20ms", "--stop-timeout", "50ms"]);
    let rig = rig.fixture("deaf=TERM child=deaf=TERM,wait up wait").start();
    rig.until("both are ready", |out| out.count("is ready after") == 2 && out.count("| up ") == 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    rig.until("both new ones are up", |out| out.count("| up ") == 4);
    eventually("nothing of the old is left", || (rig.workers().len() == 2).then_some(()));
}
