//! Tests idle wake-ups, messages, missing /proc, and the parent's death.

use super::*;
use crate::harness::status_field;
use std::time::{Duration, Instant};

#[test]
fn it_never_wakes_up_while_nothing_happens() {
    for name in ["rinit", "tini", "dumb-init"] {
        let rig = Rig::new(&[]).called(name).fixture("up wait").start();
        rig.until("it is up", |out| out.has("up "));
        let pid = rig.pid();
        let switches = || {
            let count = |field| status_field(pid, field).parse::<u64>().unwrap();
            (count("voluntary_ctxt_switches"), count("nonvoluntary_ctxt_switches"))
        };
        // Its start may still be under way, and ends; waking up every second, as tini does, would not.
        let calm = Duration::from_millis(1300);
        let mut seen = (switches(), Instant::now());
        eventually("it is calm", || {
            let now = switches();
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            (seen.1.elapsed() > calm).then_some(())
        });
        assert!(seen.0.0 < 20, "{name}: {seen:?}");
    }
}

#[test]
fn without_proc_it_works() {
    if crate::harness::namespace().is_empty() {
        crate::harness::skipped("without a namespace /proc cannot be hidden");
        return;
    }
    // Not unmounted, which would bring the machine's own back.
    let hidden = ["sh", "-c", "mount -t tmpfs none /proc && [ ! -e /proc/self ] && exec \"$0\" \"$@\""];
    for name in ["rinit", "tini", "dumb-init"] {
        let rig = Rig::new(&[]).called(name).fixture("state orphans=3 signals").through(&hidden).start();
        rig.until("it is up", |out| out.has("up "));
        assert_eq!(state(&rig, "mask"), "?");
        rig.signal("USR1");
        until_got(&rig, "SIGUSR1");
        eventually("orphans are collected", || (rig.workers().len() == 1).then_some(()));
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{name}");
    }
}

/// rinit below a shell below another: the middle one is killed, and rinit asked to be told.
fn parent_dies(name: &str, signal: &str) -> Running {
    let middle = "sh -c '\"$0\" \"$@\" & wait' \"$0\" \"$@\"; exec tail -f /dev/null";
    let rig = Rig::new(&["-p", signal, "--"]).called(name).fixture("signals").through(&["sh", "-c", middle]).start();
    rig.until("it is up", |out| out.has("up "));
    rig.signal_pid(first_below(&rig), "KILL");
    rig
}

#[test]
fn p_is_the_signal_at_the_parents_death() {
    for name in ["rinit", "tini"] {
        let rig = parent_dies(name, "SIGUSR1");
        until_got(&rig, "SIGUSR1");
        let rig = parent_dies(name, "SIGTERM");
        until_got(&rig, "SIGTERM");
    }
    until_got(&parent_dies("rinit", "hup"), "SIGHUP");
    until_got(&parent_dies("rinit", "RTMIN+2"), "SIGRTMIN+2");
}

#[test]
fn a_broken_stderr_pipe_is_no_signal_for_the_child() {
    // Its stderr is a pipe that nobody reads: the writing end comes in as stdin.
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let through = ["sh", "-c", "exec 2>&0 </dev/null; exec \"$0\" \"$@\""];
    for name in ["rinit", "tini", "dumb-init"] {
        let loud = if name == "dumb-init" { "-v" } else { "-vvv" };
        let rig = Rig::new(&[loud, "--"]).called(name).fixture("signals").through(&through);
        let rig = rig.stdin(write.try_clone().unwrap()).start();
        rig.until("it is up", |out| out.has("up "));
        for signal in ["USR1", "USR2", "WINCH"] {
            rig.signal(signal);
            until_got(&rig, &format!("SIG{signal}"));
        }
        assert_eq!(said(&rig, "got SIGPIPE"), 0, "{name}");
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{name}");
    }
}

#[test]
fn v_prints_debug_messages_on_stderr_and_leaves_the_childs_output_alone() {
    let rig = Rig::new(&["-v", "-v", "-v", "--"]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert!(out.stderr.len() >= 2 && out.stderr.iter().all(|line| line.starts_with("rinit: ")), "{out:?}");
    assert!(out.stderr.iter().any(|line| line.contains("SIGTERM")), "{out:?}");
    assert_eq!(out.stdout.len(), 2, "{out:?}");
}

#[test]
fn the_variable_counts_for_verbosity_and_above_the_flag() {
    let rig = Rig::new(&[]).env("TINI_VERBOSITY", "3").fixture("exit=0").start();
    assert_eq!((rig.wait(), rig.output().stderr.is_empty()), (0, false));
    let rig = Rig::new(&["-vvv", "--"]).env("TINI_VERBOSITY", "1").fixture("exit=0").start();
    assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0));
}
