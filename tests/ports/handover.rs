//! The hand-over of a connection, step by step: whatever happens to the worker, the connection is answered once or refused.
//!
//! A worker of `apps/calls.c` pauses at one step for its first connection, until SIGUSR1. It says each step and the request's
//! path, so a request that two workers have read is seen.

use crate::apps::{all_listen, pid_from_here, reloaded, workers};
use crate::harness::{Flag, Output, Running, eventually, free_port, status_field};
use crate::load::get;
use crate::setup::c_program;
use std::process::Command;
use std::thread::{JoinHandle, spawn};

/// A step of the hand-over at which a worker pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The connection is in its queue, and it knows.
    Told,
    /// It has accepted the connection.
    Accepted,
    /// It has read the request.
    Read,
}

/// Two workers, of which one pauses. The other one, and those of a reload, do not.
struct Paused {
    rig: Running,
    port: u16,
    worker: i32,
    /// The client whose connection it is.
    client: JoinHandle<std::io::Result<String>>,
    _flag: Flag,
}

fn paused_at(step: Step, way: &str) -> Option<Paused> {
    let (port, flag) = (free_port(), Flag::new());
    let word = format!("{way}:{}", step as u8 + 1);
    let rig = workers(2, &["--stop-timeout", "5s"]).arg(c_program()?);
    let rig = rig.args(&["socket", "reuseaddr", "bind", "listen", "usr1", &word]);
    let rig = rig.env("PORT", &port.to_string()).env("PAUSED", &flag.path()).start();
    all_listen(&rig, 2);
    let client = spawn(move || get(port, "/first"));
    rig.until("a worker pauses", |out| out.has("| paused"));
    let out = rig.output();
    let line = out.stdout.iter().find(|line| line.contains("| paused")).unwrap();
    let worker = pid_from_here(&rig, line.split("paused ").nth(1).unwrap().parse().unwrap());
    Some(Paused { rig, port, worker, client, _flag: flag })
}

const STEPS: [Step; 3] = [Step::Told, Step::Accepted, Step::Read];
/// The ways in which a program waits: it blocks, or it polls.
const WAYS: [&str; 2] = ["stepblock", "steppoll"];

/// Tries every step and every way. `event` happens while the worker pauses; a client whose connection the worker has accepted
/// gets an answer if `survives`, and no answer otherwise.
fn each(survives: bool, event: impl Fn(&Running, i32, Step)) {
    for (step, way) in STEPS.iter().flat_map(|step| WAYS.map(|way| (*step, way))) {
        let Some(Paused { rig, port, worker, client, _flag }) = paused_at(step, way) else { return };
        event(&rig, worker, step);
        let first = client.join().unwrap();
        let is_lost = !survives && step >= Step::Accepted;
        assert_eq!(first.is_err(), is_lost, "{step:?} {way}: {first:?}\n{:#?}", rig.output());
        for number in 0..20 {
            get(port, &format!("/{number}")).unwrap_or_else(|error| panic!("{step:?} {way}, {number}: {error}"));
        }
        let paths = || (0..20).map(|number| number.to_string()).chain(["first".to_owned()]);
        let times = |out: &Output, path: &str| {
            out.stdout.iter().filter(|line| line.ends_with(&format!("| read /{path}"))).count()
        };
        let expected = |path: &str| if is_lost && path == "first" { usize::from(step == Step::Read) } else { 1 };
        rig.until("each request is read", |out| paths().all(|path| times(out, &path) >= expected(&path)));
        let out = rig.output();
        for path in paths() {
            assert_eq!(times(&out, &path), expected(&path), "{step:?} {way}: /{path}: {:#?}", out.stdout);
        }
    }
}

#[test]
fn a_connection_of_a_worker_that_is_killed_is_answered_by_another_unless_it_was_accepted() {
    each(false, |rig, worker, _| rig.signal_pid(worker, "KILL"));
}

#[test]
fn a_connection_of_a_worker_that_is_stopped_is_answered_once() {
    each(true, |rig, worker, step| {
        rig.signal_pid(worker, "STOP");
        eventually("it is stopped", || status_field(worker, "State").starts_with('T').then_some(()));
        if step == Step::Told {
            rig.until("another worker has it", |out| out.has("| read /first"));
        }
        rig.signal_pid(worker, "USR1");
        rig.signal_pid(worker, "CONT");
    });
}

#[test]
fn a_connection_of_a_worker_without_descriptors_is_answered_once() {
    each(true, |rig, worker, _| {
        let limit = |soft: &str| {
            let status =
                Command::new("prlimit").args(["--pid", &worker.to_string(), &format!("--nofile={soft}:")]).status();
            assert!(status.unwrap().success());
        };
        limit("3");
        rig.signal_pid(worker, "USR1");
        limit("1024");
    });
}

#[test]
fn a_connection_of_a_worker_that_is_replaced_is_answered_once() {
    each(true, |rig, worker, _| {
        rig.signal("HUP");
        rig.until("it is being replaced", |out| out.has("started as a replacement"));
        rig.signal_pid(worker, "USR1");
        reloaded(rig, 1);
    });
}
