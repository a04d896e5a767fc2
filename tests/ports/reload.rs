//! Under load: reloads, kills and versions that are broken, with a client that counts every failure.

use crate::apps::{Deployed, all_listen, node_app, reloaded, served_by, stop, times_ready, workers};
use crate::harness::{Rig, Running, eventually, free_port};
use crate::load::{Client, Load, MIX, get, under_load};
use crate::setup::{app, node, program};
use std::time::{Duration, Instant};

/// A Node app with these settings, and its port.
fn node_cluster(count: usize, settings: &[&str]) -> Option<(Rig, u16)> {
    let port = free_port();
    Some((node_app(count, settings, &node()?, "app.js", port), port))
}

fn python(count: usize, settings: &[&str]) -> Option<(Rig, u16)> {
    let port = free_port();
    program("python3")?;
    let rig = workers(count, settings).args(&["python3", &app("python/graceful.py")]);
    Some((rig.env("PORT", &port.to_string()), port))
}

/// Reloads several times in a row under load: no request fails.
fn loses_nothing(start: Option<(Rig, u16)>, count: usize, reloads: u32) {
    let Some((rig, port)) = start else { return };
    let rig = rig.start();
    all_listen(&rig, count);
    served_by(port, count);
    let started = |reloads: u32| count * (reloads as usize + 1);
    let (load, ()) = under_load(port, &MIX, |meter| {
        let each_answers = |reloads: u32| {
            let have_answered = || (meter.load().pids.len() >= started(reloads)).then_some(());
            eventually(&format!("each worker has answered, also those of reload {reloads}"), have_answered);
        };
        each_answers(0);
        for reload in 1..=reloads {
            rig.signal("HUP");
            reloaded(&rig, reload);
            each_answers(reload);
        }
    });
    load.assert_lossless(&rig);
    let out = rig.output();
    assert!(!out.has("killed with its group"), "every old worker has ended by itself: {:#?}", out.stderr);
    assert_eq!(times_ready(&out), started(reloads));
    stop(&rig);
}

#[test]
fn ten_reloads_of_two_node_workers_lose_nothing() {
    loses_nothing(node_cluster(2, &[]), 2, 10);
}

#[test]
fn ten_reloads_of_four_node_workers_lose_nothing() {
    loses_nothing(node_cluster(4, &["--reload", "parallel:2"]), 4, 10);
}

#[test]
fn ten_reloads_of_two_python_workers_lose_nothing() {
    loses_nothing(python(2, &[]), 2, 10);
}

#[test]
fn ten_reloads_of_four_python_workers_lose_nothing() {
    loses_nothing(python(4, &["--reload", "parallel:2"]), 4, 10);
}

#[test]
fn reloads_lose_nothing_whichever_way_the_connections_go() {
    for balance in ["round-robin", "reuseport", "shared"] {
        loses_nothing(node_cluster(2, &["--balance", balance]), 2, 2);
        // Where several processes poll one socket that blocks, `accept` may wait for the next connection, deaf to a stop.
        let nonblocking = if balance == "shared" { "1" } else { "" };
        let python = python(2, &["--balance", balance]).map(|(rig, port)| (rig.env("NONBLOCKING", nonblocking), port));
        loses_nothing(python, 2, 2);
    }
}

#[test]
fn reloads_lose_nothing_when_node_itself_is_not_asked() {
    // Not by protocol: Node ends at SIGTERM with what it has. Only the requests in flight may be lost.
    let Some((rig, port)) = node_cluster(2, &["--share-ports", "preload"]) else { return };
    let rig = rig.start();
    all_listen(&rig, 2);
    let (load, ()) = under_load(port, &[MIX[4], MIX[5]], |meter| {
        rig.signal("HUP");
        reloaded(&rig, 1);
        meter.wait_for_answers(20);
    });
    assert!(!load.failures.iter().any(|why| why.contains("refused") || why.contains("timed out")), "{load:#?}");
}

#[test]
fn an_app_that_listens_after_the_ready_timeout_is_reloaded_without_a_lost_request() {
    let Some(node) = node() else { return };
    let port = free_port();
    let settings = ["--ready", "auto", "--ready-timeout", "4s"];
    let rig = node_app(2, &settings, &node, "starts-slowly.js", port).start();
    rig.until("both were late", |out| out.count("its first signal of being ready") == 2);
    let (load, ()) = under_load(port, &MIX, |meter| {
        rig.signal("HUP");
        reloaded(&rig, 1);
        meter.wait_for_answers(20);
    });
    load.assert_lossless(&rig);
    assert_eq!(rig.output().count("(it listens)"), 4, "two late ones, and their successors: {:#?}", rig.output());
    stop(&rig);
}

/// A new version that is broken: the reload fails, and not one request does.
fn a_broken_version(name: &str, settings: &[&str], why: &str) {
    let Some(node) = node() else { return };
    let (deployed, port) = (Deployed::new("app.js"), free_port());
    let settings = [&["--ready-timeout", "6s", "--min-uptime", "300ms"], settings].concat();
    let rig = workers(2, &settings).arg(&node).arg(deployed.path()).env("PORT", &port.to_string()).start();
    all_listen(&rig, 2);
    let old = served_by(port, 2);
    deployed.put(name);
    let (load, ()) = under_load(port, &MIX, |meter| {
        for reload in 1..=2 {
            rig.signal("HUP");
            rig.until("the reload has stopped", |out| out.has(&format!("reload to generation {} stopped", reload + 1)));
            meter.wait_for_answers(50);
        }
    });
    load.assert_lossless(&rig);
    let out = rig.output();
    let line = out.stderr.iter().find(|line| line.contains("reload to generation 2 stopped")).unwrap();
    assert!(line.contains(why) && line.contains("the old workers stay"), "{line}");
    assert_eq!(served_by(port, 2), old, "the old ones serve");
    deployed.put("app.js");
    let (load, ()) = under_load(port, &MIX, |_| {
        rig.signal("HUP");
        reloaded(&rig, 3);
    });
    load.assert_lossless(&rig);
    assert!(old.is_disjoint(&served_by(port, 2)));
    stop(&rig);
}

#[test]
fn a_new_version_that_throws_at_start_costs_no_request() {
    a_broken_version("broken-throws.js", &[], "exit code 1");
}

#[test]
fn a_new_version_that_never_listens_costs_no_request() {
    a_broken_version("broken-deaf.js", &[], "was not ready within 6s");
}

#[test]
fn a_new_version_that_listens_and_then_exits_costs_no_request() {
    // Longer than its start, on a busy machine, and what it lives after it.
    a_broken_version("broken-exits.js", &["--min-uptime", "3s"], "exit code 3");
}

/// Kills one of two workers under load. The clients' counts.
fn one_is_killed(settings: &[&str], until_it_is_over: impl Fn(&Running)) -> Option<(Running, u16, Load)> {
    let (rig, port) = node_cluster(2, settings)?;
    let rig = rig.start();
    all_listen(&rig, 2);
    served_by(port, 2);
    let (load, ()) = under_load(port, &MIX, |meter| {
        rig.signal_pid(rig.workers()[0], "KILL");
        until_it_is_over(&rig);
        meter.wait_for_answers(100);
    });
    // Each client has one request at a time: no more can have been with the one that was killed.
    assert!(load.failures.len() <= MIX.len(), "{:#?}", load.failures);
    let not_its_fault = ["refused", "timed out", "unavailable"];
    assert!(!load.failures.iter().any(|why| not_its_fault.iter().any(|part| why.contains(part))), "{load:#?}");
    assert!(load.slowest < Duration::from_secs(5), "{:?}", load.slowest);
    Some((rig, port, load))
}

#[test]
fn a_killed_worker_loses_only_the_requests_that_it_held() {
    for balance in ["round-robin", "reuseport", "shared"] {
        let over = |rig: &Running| rig.until("another follows", |out| times_ready(out) == 3);
        let Some((rig, port, _)) = one_is_killed(&["--balance", balance], over) else { return };
        served_by(port, 2);
        stop(&rig);
    }
}

#[test]
fn a_worker_that_waits_to_be_started_again_holds_no_connection() {
    for balance in ["round-robin", "reuseport", "shared"] {
        // It lived for less than that: it waits for 2 s.
        let settings = ["--balance", balance, "--min-uptime", "1h", "--backoff", "2s..2s"];
        let gone = |rig: &Running| rig.until("it is gone", |out| out.has("ended: "));
        let Some((_rig, port, load)) = one_is_killed(&settings, gone) else { return };
        assert!(load.slowest < Duration::from_millis(1500), "{:?} with {balance}", load.slowest);
        let start = Instant::now();
        (0..40).for_each(|_| drop(get(port, "/").unwrap()));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?} with {balance}", start.elapsed());
    }
}

#[test]
fn a_blocked_worker_delays_no_other_workers_connections() {
    let Some((rig, port)) = node_cluster(2, &[]) else { return };
    let rig = rig.start();
    all_listen(&rig, 2);
    served_by(port, 2);
    let stuck = rig.workers()[0];
    let quick = Client { keeps: false, path: "/", pause: Duration::from_millis(5) };
    let (load, ()) = under_load(port, &[quick; 4], |meter| {
        rig.signal_pid(stuck, "STOP");
        // Its accepted connections wait for it; the other worker serves all others.
        meter.wait_for_answers(200);
        rig.signal_pid(stuck, "CONT");
        meter.wait_for_answers(20);
    });
    assert_eq!(load.failures, [""; 0]);
    stop(&rig);
}

#[test]
fn a_scale_under_load_loses_nothing() {
    let Some((rig, port)) = node_cluster(2, &[]) else { return };
    let rig = rig.start();
    all_listen(&rig, 2);
    let (load, ()) = under_load(port, &MIX, |_| {
        rig.signal("TTIN");
        rig.until("one more listens", |out| times_ready(out) == 3);
        for gone in 1..=2 {
            rig.signal("TTOU");
            rig.until("one fewer is there", |out| out.count("is gone") == gone);
        }
    });
    load.assert_lossless(&rig);
    served_by(port, 1);
    stop(&rig);
}
