//! Tests the adoption and collection of orphans.

use super::*;

/// Waits until rinit has one child, and no other, ended or not.
fn until_the_child_is_alone(rinit: i32) {
    eventually("all orphans are collected", || (children(rinit).len() == 1).then_some(()));
}

#[test]
fn as_pid_1_it_collects_orphans() {
    let rig = Rig::new(&[]).fixture("orphans=300 up wait").start();
    rig.until("they are left behind", |out| out.has("up "));
    until_the_child_is_alone(rig.pid());
    assert_eq!(rig.output().stderr, [""; 0]);
}

#[test]
fn not_as_pid_1_it_adopts_orphans_and_collects_them() {
    let rig = below_a_shell(Rig::new(&["-w", "--"]).fixture("orphans=20 up wait"));
    rig.until("all are collected", |out| out.count("Reaped zombie process with pid=") == 20);
    until_the_child_is_alone(first_below(&rig));
}

#[test]
fn s_adopts_orphans_as_pid_1_too() {
    for rig in [Rig::new(&["-s", "-w", "--"]), Rig::new(&["-w", "--"]).env("TINI_SUBREAPER", "")] {
        let rig = rig.fixture("orphans=3 up wait").start();
        rig.until("all are collected", |out| out.count("Reaped zombie process with pid=") == 3);
        assert_eq!(rig.output().stderr.len(), 3);
    }
}

#[test]
fn w_warns_of_every_orphan_that_is_collected_and_not_of_the_child() {
    for name in ["rinit", "tini", "docker-init"] {
        let rig = Rig::new(&["-w", "--"]).called(name).fixture("orphans=5 signals").start();
        let is_over =
            |out: &crate::harness::Output| out.count("Reaped zombie process with pid=") == 5 && out.has("up ");
        rig.until("all are collected, and the child handles signals", is_over);
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
        let warnings = rig.output().stderr;
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        assert!(warnings.iter().all(|line| {
            let number = line.rsplit("Reaped zombie process with pid=").next().unwrap();
            number.parse::<u32>().is_ok()
        }));
    }
}

#[test]
fn without_w_nothing_is_printed() {
    let rig = Rig::new(&[]).fixture("orphans=5 up signals").start();
    rig.until("they are left behind", |out| out.count("up ") == 2);
    until_the_child_is_alone(rig.pid());
    rig.signal("TERM");
    assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0));
}

#[test]
fn the_childs_code_is_found_among_many_orphans() {
    for _ in 0..5 {
        assert_eq!(code(Rig::new(&[]).fixture("orphans=400 exit=3")), 3);
    }
}

#[test]
fn as_tini_it_warns_when_it_is_neither_pid_1_nor_a_subreaper_and_adopts_no_orphans() {
    let rig = below_a_shell(Rig::new(&["-w", "--"]).called("tini").fixture("daemon=up,wait orphans=3 signals"));
    rig.until("both are up", |out| out.count("up ") == 2);
    let warned = |line: &String| line.to_lowercase().contains("not running as pid 1") && line.contains("subreaper");
    assert!(rig.output().stderr.iter().any(warned), "{:?}", rig.output());
    rig.signal_pid(first_below(&rig), "TERM");
    rig.until("rinit has ended", |out| out.has("ended 0"));
    assert!(!rig.output().has("Reaped zombie"), "{:?}", rig.output());
}

#[test]
fn as_tini_s_or_its_variable_make_it_a_subreaper_without_a_warning() {
    for (flags, variable) in [(&["-s", "-w", "--"][..], None), (&["-w", "--"], Some("TINI_SUBREAPER"))] {
        let mut rig = Rig::new(flags).called("tini").fixture("orphans=3 up wait");
        if let Some(name) = variable {
            rig = rig.env(name, "");
        }
        let rig = below_a_shell(rig);
        rig.until("all are collected", |out| out.count("Reaped zombie process with pid=") == 3);
        assert_eq!(rig.output().stderr.len(), 3, "{:?}", rig.output());
    }
}

#[test]
fn as_tini_it_does_not_warn_where_it_was_a_subreaper_before_its_start() {
    // The attribute is kept over exec.
    let become_subreaper =
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])";
    let rig = Rig::new(&["-w", "--"]).called("tini").fixture("orphans=3 up wait").not_pid_1();
    let rig = rig.through(&["python3", "-c", become_subreaper]).start();
    rig.until("all are collected", |out| out.count("Reaped zombie process with pid=") == 3);
    assert_eq!(rig.output().stderr.len(), 3, "{:?}", rig.output());
}

#[test]
fn as_tini_and_pid_1_it_does_not_warn() {
    let rig = Rig::new(&["--"]).called("tini").fixture("orphans=3 exit=0").start();
    assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0));
}

#[test]
fn sigchld_ignored_or_blocked_at_start_is_survived() {
    let fixture = crate::harness::fixture();
    // Not by a shell's trap: shells keep this one for themselves.
    let ignored = [fixture.to_str().unwrap(), "deaf=CHLD", "exec"];
    let blocked = [fixture.to_str().unwrap(), "block=CHLD", "exec"];
    for wrapper in [&ignored, &blocked] {
        let rig = Rig::new(&["--"]).fixture("child=exit=0 orphans=3 signals").through(wrapper).start();
        rig.until("it is up", |out| out.has("up "));
        // Not by what -w tells: an orphan whose first parent still ran, and ignores SIGCHLD too, is nobody's.
        until_the_child_is_alone(rig.pid());
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{wrapper:?}");
        assert_eq!(code(Rig::new(&[]).fixture("exit=7").through(wrapper)), 7, "{wrapper:?}");
        let rig = Rig::new(&["--", "sh", "-c", "(sleep 0.05 &); sleep 0.1; exit 8"]).through(wrapper);
        assert_eq!(code(rig), 8, "{wrapper:?}");
    }
}

#[test]
fn as_dumb_init_sigchld_ignored_at_start_is_survived() {
    let fixture = crate::harness::fixture();
    let ignored = [fixture.to_str().unwrap(), "deaf=CHLD", "exec"];
    assert_eq!(code(Rig::new(&[]).called("dumb-init").fixture("exit=7").through(&ignored)), 7);
}
