//! Node's workers accept from queues that rinit fills: a connection that one does not accept goes to another.

use crate::apps::{all_listen, descriptors, node_app, pid_from_here, served_by, stop, workers};
use crate::harness::{eventually, free_port};
use crate::load::{MIX, answer, connect, get, pid_in, request, under_load};
use crate::setup::{app, node, program, runtime};
use std::io::Write;

/// The process that answers, by the number that it sees itself.
fn pid_that_answers(port: u16, path: &str) -> u32 {
    pid_in(&get(port, path).unwrap()).unwrap()
}

/// Ten clients in turn are answered, each by another worker than that one.
fn others_answer(port: u16, than: u32) {
    for _ in 0..10 {
        assert_ne!(pid_that_answers(port, "/"), than);
    }
}

/// Waits until as many connections wait in the kernel's queue of a port (`tcp6` of proc_net(5): the receive queue of a listening
/// socket).
fn waiting(port: u16, count: u64) {
    eventually("the connections are made", || {
        let table = std::fs::read_to_string("/proc/net/tcp6").unwrap();
        let line = table.lines().find(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "))?;
        let queues = line.split_whitespace().nth(4)?;
        let backlog = u64::from_str_radix(queues.split(':').nth(1)?, 16).ok()?;
        (backlog == count).then_some(())
    });
}

#[test]
fn connections_of_a_stopped_process_are_answered_by_others() {
    for version in ["node18", "node20", "node22", "node24", "node26"] {
        let Some(node) = runtime(version) else { return };
        let port = free_port();
        let rig = node_app(3, &[], &node, "app.js", port).start();
        all_listen(&rig, 3);
        served_by(port, 3);
        let still = pid_that_answers(port, "/");
        rig.signal_pid(pid_from_here(&rig, still), "STOP");
        others_answer(port, still);
        rig.signal_pid(pid_from_here(&rig, still), "CONT");
        served_by(port, 3);
        stop(&rig);
    }
}

#[test]
fn connections_of_the_only_worker_wait_until_it_runs() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &[], &node, "app.js", port).start();
    all_listen(&rig, 1);
    let worker = rig.workers()[0];
    rig.signal_pid(worker, "STOP");
    // More than its queue holds, and more than 128: the rest waits in the kernel's.
    let mut clients = [(); 200].map(|()| connect(port).unwrap());
    rig.signal_pid(worker, "CONT");
    for client in &mut clients {
        client.get_mut().write_all(request("/", "close").as_bytes()).unwrap();
        assert!(pid_in(&answer(client).unwrap().0).is_some());
    }
    stop(&rig);
}

#[test]
fn connections_of_a_worker_without_descriptors_are_answered_by_others() {
    let (Some(node), Some(_)) = (node(), program("prlimit")) else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "full.js", port).start();
    all_listen(&rig, 2);
    let full = pid_that_answers(port, "/full");
    rig.until("it has no descriptor left", |out| out.has("full: EMFILE"));
    others_answer(port, full);
    rig.signal_pid(pid_from_here(&rig, full), "USR2");
    served_by(port, 2);
    stop(&rig);
}

#[test]
fn connections_that_a_worker_with_a_limit_refuses_are_answered_by_others() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "limited.js", port).start();
    all_listen(&rig, 2);
    let mut kept = connect(port).unwrap();
    kept.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
    let busy = pid_in(&answer(&mut kept).unwrap().0).unwrap();
    others_answer(port, busy);
    stop(&rig);
}

#[test]
fn connections_of_a_killed_worker_are_answered_by_the_next() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &["--backoff", "10ms..10ms"], &node, "app.js", port).start();
    all_listen(&rig, 1);
    let first = pid_that_answers(port, "/");
    let worker = pid_from_here(&rig, first);
    rig.signal_pid(worker, "STOP");
    let mut clients = [(); 8].map(|()| connect(port).unwrap());
    waiting(port, 8);
    rig.signal_pid(worker, "KILL");
    for client in &mut clients {
        client.get_mut().write_all(request("/", "close").as_bytes()).unwrap();
        assert_ne!(pid_in(&answer(client).unwrap().0), Some(first));
    }
    stop(&rig);
}

/// Workers that are suspended are asked to finish while clients wait for them: rinit lets them run, and they answer.
fn answers_waiting_connections(count: usize, settings: &[&str], signal: &str) {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(count, settings, &node, "app.js", port).start();
    all_listen(&rig, count);
    served_by(port, count);
    rig.workers().iter().for_each(|worker| rig.signal_pid(*worker, "STOP"));
    let mut clients = Vec::from_iter((0..10 * count).map(|_| connect(port).unwrap()));
    for client in &mut clients {
        client.get_mut().write_all(request("/", "close").as_bytes()).unwrap();
    }
    waiting(port, clients.len() as u64);
    rig.signal(signal);
    rig.until("all are asked", |out| out.count("is asked to finish") == count);
    for client in &mut clients {
        assert!(pid_in(&answer(client).unwrap().0).is_some());
    }
    if signal != "TERM" {
        return stop(&rig);
    }
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_stop_answers_the_connections_in_queues() {
    answers_waiting_connections(2, &[], "TERM");
    answers_waiting_connections(1, &[], "TERM");
}

#[test]
fn a_restart_answers_the_connections_in_queues() {
    answers_waiting_connections(1, &["--reload", "restart"], "HUP");
}

#[test]
fn a_server_knows_its_address_to_the_end() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &[], &node, "told.js", port).start();
    all_listen(&rig, 1);
    stop(&rig);
    let address = format!(r#"{{"address":"127.0.0.1","family":"IPv4","port":{port}}}"#);
    for when in ["listens", "closes"] {
        let line = format!("{when} {address}");
        assert!(rig.output().has(&line), "{line} is not in {:#?}", rig.output().stdout);
    }
}

#[test]
fn servers_that_take_each_others_place_leave_nothing_behind() {
    let Some(node) = node() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.sock");
    let rig = workers(2, &["--ready", "spawn"]).arg(node).arg(app("node/again.js"));
    let rig = rig.env("SOCKET", path.to_str().unwrap()).start();
    rig.until("both have done it", |out| out.count("done") == 2);
    eventually("all is closed", || (descriptors(&rig) < 50).then_some(()));
    stop(&rig);
}

/// The worker waits more than it computes, so that by its CPU time nobody would see the load. It serves one client at a time:
/// with more than two that are slow, one always waits for long.
#[test]
fn an_app_gets_another_worker_when_connections_wait_for_ten_seconds() {
    let Some(_) = program("python3") else { return };
    let port = free_port();
    let rig = workers(1, &["--instances-max", "2"]).arg("python3").arg(app("python/plain.py"));
    let rig = rig.env("PORT", &port.to_string()).env("PYTHONUNBUFFERED", "1").start();
    all_listen(&rig, 1);
    let clients = [&MIX[4..], &MIX[6..]].concat();
    let (load, ()) = under_load(port, &clients, |_| {
        rig.until("there is another one", |out| {
            out.has(" wait: 2 workers instead of 1") && out.told("web-1", "is ready")
        });
        served_by(port, 2);
    });
    load.assert_lossless(&rig);
    stop(&rig);
}
