//! Signals to a supervisor: those that are for rinit, and all others, which are for every worker.

use crate::harness::{Rig, Running};
use rinit::core::Signal;

/// Signals that mean something to rinit itself, and SIGCHLD, which says that a child ended.
const FOR_RINIT: [&str; 7] = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGCHLD", "SIGTTIN", "SIGTTOU"];

/// A rinit whose workers print what they get, and that tells what it gets itself.
fn start(instances: &str) -> Running {
    let rig = Rig::new(&["-i", instances, "--name", "web", "--log-level", "debug"]).fixture("signals").start();
    let count: usize = instances.parse().unwrap();
    rig.until("all are up", |out| out.count("| up ") == count);
    rig
}

/// Whether any worker got that signal.
fn reached_a_worker(rig: &Running, signal: &str) -> bool {
    let out = rig.output();
    out.stdout.iter().any(|line| line.ends_with(&format!("| got {signal}")))
}

#[test]
fn every_other_signal_is_forwarded_to_every_worker() {
    let rig = start("2");
    let forwarded: Vec<Signal> =
        Signal::catchable().filter(|signal| !FOR_RINIT.contains(&signal.to_string().as_str())).collect();
    assert_eq!(forwarded.len(), 53);
    for signal in forwarded {
        rig.signal(&signal.number().to_string());
        rig.until(&format!("both got {signal}"), |out| {
            (0..2).all(|k| out.stdout.contains(&format!("web-{k} | got {signal}")))
        });
    }
    assert!(FOR_RINIT.iter().all(|signal| !reached_a_worker(&rig, signal)));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn several_signals_in_a_row_all_arrive() {
    let rig = start("2");
    let pid = nix::unistd::Pid::from_raw(rig.pid());
    for signal in [10, 12, 28, 35, 35, 35, 64, 40, 40] {
        rinit::sys::process::kill(pid, Signal::new(signal).unwrap()).unwrap();
    }
    // The kernel keeps one of each standard signal, and every one of the real-time ones.
    let expected = [("SIGUSR1", 1), ("SIGUSR2", 1), ("SIGWINCH", 1), ("SIGRTMIN+1", 3), ("SIGRTMIN+30", 1)];
    for k in 0..2 {
        for (signal, times) in expected.into_iter().chain([("SIGRTMIN+6", 2)]) {
            let line = format!("web-{k} | got {signal}");
            rig.until(&format!("{line} {times}×"), |out| {
                out.stdout.iter().filter(|one| **one == line).count() == times
            });
        }
    }
}

#[test]
fn a_hundred_real_time_signals_are_a_hundred() {
    let rig = start("1");
    let pid = nix::unistd::Pid::from_raw(rig.pid());
    for _ in 0..100 {
        rinit::sys::process::kill(pid, Signal::RTMIN).unwrap();
    }
    rig.until("all arrived", |out| out.count("web-0 | got SIGRTMIN+0") == 100);
}

#[test]
fn sigchld_from_outside_changes_nothing() {
    let rig = start("1");
    for _ in 0..10 {
        rig.signal("CHLD");
    }
    rig.signal("USR1");
    rig.until("the next signal is forwarded", |out| out.has("| got SIGUSR1"));
    assert!(!reached_a_worker(&rig, "SIGCHLD"));
    assert_eq!(rig.workers().len(), 1);
}

#[test]
fn term_int_and_quit_stop_the_workers_with_their_own_stop_signal() {
    for signal in ["TERM", "INT", "QUIT"] {
        let rig = start("2");
        rig.signal(signal);
        assert_eq!(rig.wait(), 0, "{signal}");
        let got = rig.output().stdout.into_iter().filter(|line| line.contains("| got ")).collect::<Vec<_>>();
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(got.iter().all(|line| line.ends_with("got SIGTERM")), "{got:?}");
    }
}

#[test]
fn ttin_adds_a_worker_and_ttou_takes_the_last_one_away() {
    let rig = start("1");
    for k in 1..=2 {
        rig.signal("TTIN");
        rig.until("there is one more", |out| out.has(&format!("web-{k} | up {k} ")));
    }
    assert_eq!(rig.workers().len(), 3);
    for k in [2, 1] {
        rig.signal("TTOU");
        rig.until("the last one is gone", |out| {
            out.told(&format!("web-{k}"), "is gone") && out.has(&format!("web-{k} | got SIGTERM"))
        });
    }
    assert_eq!(rig.workers().len(), 1);
    // The number that became free is taken again.
    rig.signal("TTIN");
    rig.until("the second is back", |out| out.count("web-1 | up 1 ") == 2);
    assert!(!reached_a_worker(&rig, "SIGTTIN") && !reached_a_worker(&rig, "SIGTTOU"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn ttou_never_takes_the_only_worker() {
    let rig = start("2");
    for times in 1..=4 {
        rig.signal("TTOU");
        rig.until("it is heard", |out| out.count("got SIGTTOU") == times);
    }
    rig.until("one has gone", |out| out.told("web-1", "is gone"));
    rig.signal("USR1");
    rig.until("the other one serves", |out| out.has("web-0 | got SIGUSR1"));
    assert!(!rig.output().has("web-0 | got SIGTERM"));
    // It has not been counted below one: a single SIGTTIN is a second worker.
    rig.signal("TTIN");
    rig.until("there are two", |out| out.count("web-1 | up 1 ") == 2);
}

#[test]
fn a_worker_that_ttou_takes_is_killed_with_its_group_when_it_is_deaf() {
    let rig = Rig::new(&["-i", "2", "--stop-timeout", "50ms"]).fixture("deaf=TERM child=deaf=TERM,wait up wait");
    let rig = rig.start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    rig.signal("TTOU");
    rig.until("it is gone", |out| out.told("fixture-1", "is gone"));
    crate::harness::eventually("its child too", || (rig.workers().len() == 1).then_some(()));
    assert!(rig.is_running());
}

#[test]
fn a_failed_worker_is_the_first_to_go() {
    let script = "[ $RINIT_WORKER = 0 ] && exit 5; echo up; exec sleep 1000";
    let rig = Rig::new(&["-i", "2", "--name", "web", "--max-restarts", "1", "--backoff", "1ms..1ms"]);
    let rig = rig.arg("sh").arg("-c").arg(script).start();
    rig.until("one has failed, the other is up", |out| out.has("it has failed") && out.has("web-1 | up"));
    rig.signal("TTOU");
    rig.until("it is heard", |out| out.has("scaled from 2 to 1"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().told("web-1", "is gone"));
}

#[test]
fn the_stop_signal_sent_to_rinit_stops_the_container_and_its_workers_get_it() {
    for signal in ["WINCH", "QUIT", "USR1", "HUP", "35"] {
        let script = format!("trap 'echo graceful; exit 0' {signal}; echo up; while :; do sleep 0.02; done");
        let rig = Rig::new(&["-i", "2", "--stop-signal", signal, "--", "sh", "-c", &script]).start();
        rig.until("both are up", |out| out.count("| up") == 2);
        rig.signal(signal);
        assert_eq!(rig.wait(), 0, "{signal}");
        assert_eq!(rig.output().count("| graceful"), 2, "{signal}");
        assert!(!rig.output().has("--stop-signal"), "{:?}", rig.output().stderr);
    }
}

#[test]
fn a_forwarded_signal_that_ends_workers_is_told_of_once_with_the_setting_that_is_missing() {
    let rig = Rig::new(&["-i", "2", "--name", "web", "--backoff", "1ms..1ms"]).fixture("up wait").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    rig.signal("USR1");
    rig.until("both are up again", |out| out.count("| up ") == 4);
    rig.signal("USR1");
    rig.until("and again", |out| out.count("| up ") == 6);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("set --stop-signal SIGUSR1"), 1, "{:?}", rig.output().stderr);
}

#[test]
fn a_limit_on_file_sizes_that_rinit_itself_hits_is_no_signal_for_its_workers() {
    let through = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];
    let rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("after=100 exit=0").through(&through).start();
    assert_eq!(rig.wait(), 0);
    assert!(!rig.output().has("SIGXFSZ"), "{:?}", rig.output().stderr);
}
