//! Tests init mode where the kernel or the image refuses what it needs.

use super::*;
use crate::harness::{fixture, namespace};

/// rinit through a shell script that ends with it.
fn after(rig: Rig, script: &str) -> Rig {
    rig.through(&["sh", "-c", &format!("{script}; exec \"$0\" \"$@\"")])
}

/// rinit with system calls that the kernel refuses.
fn refused(rig: Rig, calls: &str) -> Running {
    let fixture = fixture();
    rig.through(&[fixture.to_str().unwrap(), &format!("refuse={calls}"), "exec"]).start()
}

#[test]
fn without_waitid_processes_are_collected_by_wait4() {
    for rig in [Rig::new(&["--"]), Rig::new(&["-i", "1", "--restart", "never", "--"])] {
        assert_eq!(refused(rig.fixture("orphans=3 exit=5"), "waitid").wait(), 5);
    }
}

#[test]
fn when_processes_cannot_be_waited_for_it_ends_with_70_and_names_the_calls() {
    for rig in [Rig::new(&["--"]), Rig::new(&["-i", "1", "--"])] {
        let rig = refused(rig.fixture("exit=5"), "waitid,wait4");
        assert_eq!(rig.wait(), 70);
        assert!(rig.output().has("the kernel refuses waitid(2) and wait4(2)"), "{:?}", rig.output().stderr);
    }
}

#[test]
fn when_signals_cannot_be_waited_for_it_ends_with_70_and_names_the_call() {
    for (name, code) in [("rinit", 70), ("tini", 1)] {
        let rig = refused(Rig::new(&["--"]).called(name).fixture("wait"), "rt_sigtimedwait");
        assert_eq!(rig.wait(), code, "{name}");
        assert!(rig.output().has("the kernel refuses rt_sigtimedwait(2)"), "{:?}", rig.output().stderr);
    }
}

#[test]
fn without_dev_null_a_closed_descriptor_stays_closed() {
    if namespace().is_empty() {
        return crate::harness::skipped("no mount namespace can be had here");
    }
    for (closed, descriptors) in [("<&-", "1 2"), ("2>&-", "0 1"), ("<&- 2>&-", "1")] {
        let script = format!("mount -t tmpfs none /dev && exec \"$0\" \"$@\" {closed}");
        // Not the fixture, whose own runtime would open them again.
        let list = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && list=\"$list $n\"; done; echo \"fds$list\"";
        let rig = Rig::new(&["--", "sh", "-c", list]).through(&["sh", "-c", &script]).start();
        assert_eq!(rig.wait(), 0, "{closed}");
        assert_eq!(said(&rig, &format!("fds {descriptors}")), 1, "{closed}: {:?}", rig.output());
    }
}

#[test]
fn directories_in_path_that_are_too_long_a_name_are_skipped() {
    let long = "a".repeat(5000);
    let longest_name = "b".repeat(300);
    let script = format!("PATH={long}:/{longest_name}:$PATH; export PATH");
    assert_eq!(code(after(Rig::new(&["sh", "-c", "exit 6"]), &script)), 6);
    assert_eq!(code(after(Rig::new(&["no-such-program"]), &script)), 127);
}

#[test]
fn a_small_stack_is_enough() {
    // The loader of a dynamically linked test build wants more than the static binary, which does with 16 KiB.
    let rig = after(Rig::new(&["--"]).fixture("exit=6"), "ulimit -S -s 128");
    assert_eq!(code(rig), 6);
}

#[test]
fn a_signal_that_may_not_be_sent_is_a_warning_that_names_the_capability() {
    if !nix::unistd::getuid().is_root() || namespace().is_empty() {
        return crate::harness::skipped("only root can become another user");
    }
    let child = ["--", "setpriv", "--reuid", "61234", "--clear-groups", "sh", "-c", "echo up; exec sleep 600"];
    let rig = Rig::new(&child).through(&["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill"]).start();
    rig.until("it is up", |out| out.has("up"));
    rig.signal("TERM");
    rig.until("it says so", |out| out.has("cannot forward SIGTERM") && out.has("CAP_KILL"));
    assert!(rig.is_running());
}

#[test]
fn the_child_keeps_the_working_directory_and_rinit_keeps_none() {
    for name in ["rinit", "tini", "dumb-init"] {
        let rig = after(Rig::new(&["--"]).called(name).fixture("cwd up wait"), "cd /proc").start();
        rig.until("it is up", |out| out.has("up "));
        assert_eq!(said(&rig, "cwd /proc"), 1, "{name}");
        let own = format!("/proc/{}/cwd", rig.pid());
        eventually("rinit has left it", || (std::fs::read_link(&own).ok()?.as_os_str() == "/").then_some(()));
    }
}

#[test]
fn entries_of_the_environment_are_passed_on_as_they_are() {
    for name in ["rinit", "tini", "dumb-init"] {
        let fixture = fixture();
        let rig = Rig::new(&["--"]).called(name).fixture("environ");
        let rig = rig.through(&[fixture.to_str().unwrap(), "odd-env"]).start();
        assert_eq!(rig.wait(), 0, "{name}");
        let entries: Vec<String> =
            rig.output().stdout.iter().filter_map(|line| Some(line.strip_prefix("entry ")?.to_owned())).collect();
        assert_eq!(entries, ["NO_EQUALS_SIGN", "TWICE=1", "TWICE=2", ""], "{name}");
    }
}
