//! Tests the child's signals, group, descriptors, environment, arguments and standard input.

use super::*;
use crate::harness::fixture;
use std::os::unix::ffi::OsStrExt;

/// The lines of `/proc/self/status` that tell of signals: as a program finds them without rinit, and below it, when
/// the fixture has done these words before.
fn signal_masks(name: &str, words: &str) -> [Vec<String>; 2] {
    // A shell would begin with nothing blocked, so the fixture comes behind it.
    let script = format!("\"$FIXTURE\" {words} exec \"$@\"; exec \"$FIXTURE\" {words} exec \"$0\" \"$@\"");
    let rig = Rig::new(&["cat", "/proc/self/status"]).called(name).env("FIXTURE", fixture().to_str().unwrap());
    let rig = rig.through(&["sh", "-c", &script]).start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output().stdout;
    let lines = out.iter().filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn"));
    let lines: Vec<String> = lines.cloned().collect();
    let (without, below) = lines.split_at(2);
    [without.to_vec(), below.to_vec()]
}

const ODD: &str = "block=USR2 block=34 block=64 deaf=HUP deaf=CHLD deaf=TTOU deaf=36";

fn bit(line: &str, signal: u32) -> bool {
    let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
    mask & 1 << (signal - 1) != 0
}

#[test]
fn blocked_and_ignored_signals_are_given_to_the_child_as_rinit_got_them() {
    for name in ["rinit", "tini", "docker-init"] {
        let [without, below] = signal_masks(name, ODD);
        assert_eq!(without, below, "{name}");
        assert!([12, 34, 64].iter().all(|signal| bit(&below[0], *signal)), "{below:?}");
        assert!([1, 17, 22, 36].iter().all(|signal| bit(&below[1], *signal)), "{below:?}");
        let [without, below] = signal_masks(name, "");
        assert_eq!(without, below, "{name}");
        // Rust's runtime ignores it for itself.
        assert!(!bit(&below[1], 13), "{below:?}");
    }
}

#[test]
fn a_sigpipe_that_was_ignored_stays_ignored_in_the_child() {
    let ignored = ["sh", "-c", "trap '' PIPE; exec \"$0\" \"$@\""];
    for (name, expected) in [("rinit", true), ("tini", true), ("dumb-init", false)] {
        let rig = Rig::new(&["--", "cat", "/proc/self/status"]).called(name).through(&ignored).start();
        assert_eq!(rig.wait(), 0);
        let out = rig.output().stdout;
        let line = out.iter().find(|line| line.starts_with("SigIgn")).unwrap();
        assert_eq!(bit(line, 13), expected, "{name}");
    }
}

#[test]
fn as_dumb_init_nothing_is_blocked_or_ignored_in_the_child() {
    let [without, below] = signal_masks("dumb-init", ODD);
    assert!(bit(&without[0], 12) && bit(&without[1], 1));
    assert!(below.iter().all(|line| (1..=64).all(|signal| !bit(line, signal))), "{below:?}");
}

#[test]
fn the_child_leads_a_group_of_its_own_in_rinits_session() {
    let rig = below_a_shell(Rig::new(&[]).fixture("state exit=0"));
    rig.until("it has ended", |out| out.has("ended 0"));
    assert_eq!(state(&rig, "pgid"), state(&rig, "pid"));
    assert_ne!(state(&rig, "sid"), state(&rig, "pid"));
    assert_ne!(state(&rig, "pid"), "1");
}

#[test]
fn descriptors_are_kept_and_none_of_rinits_is_added() {
    let script = "exec 7</dev/null 9>/dev/null; \"$@\"; exec \"$0\" \"$@\"";
    let rig = Rig::new(&[]).fixture("state").through(&["sh", "-c", script]).start();
    assert_eq!(rig.wait(), 0);
    let lines = rig.output().stdout;
    let found: Vec<&str> = lines.iter().filter_map(|line| line.split(" fds ").nth(1)?.split(' ').next()).collect();
    assert_eq!(found.len(), 2, "{lines:?}");
    assert_eq!(found[0], found[1]);
    let numbers: Vec<&str> = found[1].split(',').collect();
    assert!(["0", "1", "2", "7", "9"].iter().all(|number| numbers.contains(number)), "{numbers:?}");
}

#[test]
fn a_listen_pid_that_means_rinit_means_the_child() {
    let export = ["sh", "-c", "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\""];
    for rig in [Rig::new(&[]), Rig::new(&[]).not_pid_1()] {
        let rig = rig.fixture("state env=LISTEN_PID env=LISTEN_FDS").through(&export).start();
        assert_eq!(rig.wait(), 0);
        assert_eq!(said(&rig, &format!("LISTEN_PID={}", state(&rig, "pid"))), 1, "{:?}", rig.output());
        assert_eq!(said(&rig, "LISTEN_FDS=1"), 1);
    }
}

#[test]
fn a_listen_pid_that_means_another_process_stays() {
    for value in ["4242", "", "none"] {
        let rig = Rig::new(&[]).fixture("env=LISTEN_PID").env("LISTEN_PID", value).start();
        assert_eq!((rig.wait(), said(&rig, &format!("LISTEN_PID={value}"))), (0, 1));
    }
    let rig = Rig::new(&[]).fixture("env=LISTEN_PID").start();
    assert_eq!((rig.wait(), said(&rig, "LISTEN_PID unset")), (0, 1));
}

#[test]
fn the_environment_is_the_childs_as_it_is() {
    let odd = "export ODD=\"$(printf 'a=b\\nc \\377')\"";
    let script = format!("{odd}; \"$@\" | sort; echo ---; \"$0\" \"$@\" | sort");
    let rig = Rig::new(&["env"]).env("EMPTY", "").env("RINIT_REWRITE", "").through(&["sh", "-c", &script]).start();
    assert_eq!(rig.wait(), 0);
    let lines: Vec<String> = rig.output().stdout.into_iter().filter(|line| !line.starts_with("_=")).collect();
    let (without, below) = lines.split_at(lines.iter().position(|line| line == "---").unwrap());
    assert_eq!(without, &below[1..]);
    assert!(without.contains(&"EMPTY=".to_owned()) && without.contains(&"ODD=a=b".to_owned()));
}

#[test]
fn arguments_are_bytes() {
    let script = "[ \"$1\" = \"$(printf '\\377 x')\" ] && [ -z \"$2\" ] && [ $# = 2 ] && exit 9";
    let rig = Rig::new(&["--", "sh", "-c", script, "sh"]).arg(std::ffi::OsStr::from_bytes(b"\xff x")).arg("");
    assert_eq!(code(rig), 9);
}

#[test]
fn standard_input_is_the_childs() {
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["--", "sh", "-c", "read line; echo \"read $line\"; cat"]).stdin(read).start();
    use std::io::Write;
    (&write).write_all(b"one\ntwo\n").unwrap();
    rig.until("it came through", |out| out.has("read one") && out.has("two"));
    drop(write);
    assert_eq!(rig.wait(), 0);
}

#[test]
fn closed_standard_descriptors_are_survived() {
    for closed in ["<&-", "<&- 2>&-", "2>&-"] {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let rig = Rig::new(&[]).fixture("signals").through(&["sh", "-c", &script]).start();
        rig.until("it is up", |out| out.has("up "));
        rig.signal("USR1");
        until_got(&rig, "SIGUSR1");
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{closed}");
    }
    let rig = Rig::new(&[]).fixture("exit=6").through(&["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
    assert_eq!(code(rig), 6);
}
