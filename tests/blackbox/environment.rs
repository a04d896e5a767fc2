//! Tests restricted environments: hardened containers, and odd settings inherited from the parent.

use crate::harness::{Rig, Running, children, eventually, fixture, namespace, status_field};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

/// What lies below a /proc that is only unmounted may be another.
const NO_PROC: &str = "mount -t tmpfs -o ro none /proc";
const READ_ONLY: &str = "mount --make-rprivate /; mount -o remount,bind,ro /; \
     for place in /run /tmp /dev/shm /var/tmp; do [ ! -d $place ] || mount -t tmpfs -o ro,mode=755 none $place; done";
const NO_NETWORK: &str = "exec unshare --net";
const USER: &str = "exec setpriv --reuid 61234 --regid 61234 --clear-groups";
const NO_CAPABILITIES: &str = "exec setpriv --bounding-set -all --inh-caps -all --clear-groups";
const NO_NEW_PRIVILEGES: &str = "exec setpriv --no-new-privs";
const ALL_OF_A_USER: &str =
    "exec setpriv --reuid 61234 --regid 61234 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all";

/// A script for `sh -c` that does these things, one after the other, and then becomes rinit. rinit and the fixture are
/// copied to /mnt first: the folder in which they are built may not be open to other users. A step that begins with
/// `exec` is a program through which rinit is started.
pub fn elsewhere(steps: &str) -> String {
    let mut script = String::from(
        "set -e; mount -t tmpfs -o mode=755 none /mnt; cp \"$0\" /mnt/rinit; [ ! -f \"$FIXTURE\" ] || cp \"$FIXTURE\" /mnt/fixture; ",
    );
    let mut become_rinit = String::from("exec");
    for step in steps.split("; ") {
        match step.strip_prefix("exec") {
            Some(program) => become_rinit.push_str(program),
            None => script.push_str(&format!("{step}; ")),
        }
    }
    script + &become_rinit + " /mnt/rinit \"$@\""
}

/// rinit in these surroundings, or nothing where they cannot be made.
fn restricted(steps: &[&str], settings: &[&str], words: &str) -> Option<Rig> {
    if !nix::unistd::getuid().is_root() || namespace().is_empty() {
        crate::harness::skipped("only root can make these surroundings");
        return None;
    }
    let rig = Rig::new(settings).args(&["--", "/mnt/fixture"]).args(&words.split(' ').collect::<Vec<_>>());
    let script = elsewhere(&steps.join("; "));
    Some(rig.env("FIXTURE", fixture().to_str().unwrap()).through(&["sh", "-c", &script]))
}

/// All that supervisor mode does: starts, readiness, a restart, a reload, scaling, a stop.
fn assert_works(rig: &Running) {
    rig.until("both are ready", |out| out.count("it said so") == 2 && out.count("| up ") == 2);
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("the killed one is back", |out| out.count("it said so") == 3);
    rig.signal("HUP");
    rig.until("a reload works", |out| out.has("reload to generation 2 done"));
    rig.signal("TTIN");
    rig.until("a third is ready", |out| out.count("it said so") == 6);
    eventually("nothing but the workers is left", || (rig.workers().len() == 3).then_some(()));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("| up "), 6);
}

fn works_when_restricted(steps: &[&str]) {
    if let Some(rig) = restricted(steps, &["-i", "2"], "up notify wait") {
        assert_works(&rig.start());
    }
}

#[test]
fn without_proc_the_supervisor_works() {
    works_when_restricted(&[NO_PROC]);
}

#[test]
fn with_nothing_to_write_to_the_supervisor_works() {
    works_when_restricted(&[READ_ONLY]);
}

#[test]
fn without_network_the_supervisor_works() {
    works_when_restricted(&[NO_NETWORK]);
}

#[test]
fn as_a_user_without_passwd_entry_the_supervisor_works() {
    works_when_restricted(&[USER]);
}

#[test]
fn without_capabilities_the_supervisor_works() {
    works_when_restricted(&[NO_CAPABILITIES]);
}

#[test]
fn without_new_privileges_the_supervisor_works() {
    works_when_restricted(&[NO_NEW_PRIVILEGES]);
}

#[test]
fn with_all_of_these_at_once_the_supervisor_works() {
    let steps = [READ_ONLY, NO_PROC, NO_NETWORK, ALL_OF_A_USER];
    works_when_restricted(&steps);
    // And there is no /proc, and no place to write.
    let Some(rig) = restricted(&steps, &["-i", "1", "--restart", "never"], "state touch=/tmp/x") else { return };
    let rig = rig.start();
    assert_ne!(rig.wait(), 0);
    assert!(rig.output().has("uid 61234 gid 61234 mask ? ignored ?"), "{:?}", rig.output().stdout);
    assert!(
        rig.output().has("ReadOnlyFilesystem") || rig.output().has("PermissionDenied"),
        "{:?}",
        rig.output().stderr
    );
}

#[test]
fn the_restricted_environments_of_these_tests_are_restricted() {
    let Some(rig) = restricted(&[READ_ONLY, NO_NETWORK, ALL_OF_A_USER], &["-i", "1"], "up wait") else {
        return;
    };
    let rig = rig.start();
    rig.until("it is up", |out| out.has("| up 0"));
    let pid = rig.pid();
    for (field, value) in [("CapEff", "0000000000000000"), ("CapBnd", "0000000000000000"), ("NoNewPrivs", "1")] {
        assert_eq!(status_field(pid, field), value, "{field}");
    }
    assert!(status_field(pid, "Uid").starts_with("61234\t61234"));
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    // The mount point and its options (proc_pid_mountinfo(5)). What is mounted there may be a folder of a file system.
    let is_read_only_root = |line: &str| line.split([' ', ',']).skip(4).take(2).eq(["/", "ro"]);
    assert!(mounts.lines().any(is_read_only_root), "{mounts}");
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap().lines().count(), 3, "only lo");
}

#[test]
fn with_any_of_the_standard_streams_closed_the_supervisor_works() {
    // The workers tell by files that they run, since there may be no other way.
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        let folder = tempfile::tempdir().unwrap();
        let up = folder.path().join("up");
        let rig = Rig::new(&["-i", "2"])
            .fixture(&format!("say=out err=err touch={} wait", up.display()))
            .through(&["sh", "-c", &format!(r#"exec "$0" "$@" {closed}"#)])
            .start();
        eventually("both run", || (rig.workers().len() == 2 && up.exists()).then_some(()));
        if !closed.contains(" >") && !closed.starts_with('>') {
            rig.until("stdout arrives", |out| out.stdout.iter().any(|line| line.ends_with("| out")));
        }
        if !closed.contains("2>") {
            rig.until("stderr arrives", |out| out.stderr.iter().any(|line| line.ends_with("| err")));
        }
        let worker = rig.workers()[0];
        rig.signal_pid(worker, "KILL");
        eventually("the killed one is back", || {
            (rig.workers().len() == 2 && !rig.workers().contains(&worker)).then_some(())
        });
        // None of rinit's own files may have got a worker's number.
        let link = |fd: i32| std::fs::read_link(format!("/proc/{}/fd/{fd}", rig.workers()[0])).unwrap_or_default();
        eventually("a worker's stdin is empty", || (link(0).as_os_str() == "/dev/null").then_some(()));
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{closed}");
    }
}

#[test]
fn init_mode_survives_closed_streams_too() {
    let rig = Rig::new(&["--"]).fixture("exit=7").through(&["sh", "-c", r#"exec "$0" "$@" <&- >&- 2>&-"#]).start();
    assert_eq!(rig.wait(), 7);
}

#[test]
fn a_huge_environment_reaches_the_workers() {
    let mut rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("env=LAST env=LONG");
    for n in 0..3000 {
        rig = rig.env(&format!("VARIABLE_{n}"), &"v".repeat(300));
    }
    let long = "l".repeat(120_000);
    let rig = rig.env("LONG", &long).env("LAST", "here").start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert_eq!(out.count("| LAST=here"), 2);
    assert_eq!(out.stdout.iter().filter(|line| line.ends_with(&format!("LONG={long}"))).count(), 2);
}

#[test]
fn environment_and_arguments_that_are_not_utf_8_reach_the_workers() {
    let script = r#"printf '%s %s\n' "$ODD" "$1" | od -An -tx1"#;
    for settings in [vec!["-i", "1", "--restart", "never"], vec![]] {
        let rig = Rig::new(&settings)
            .args(&["--", "sh", "-c", script, "sh"])
            .arg(OsStr::from_bytes(b"\xfe\x80"))
            .through(&["sh", "-c", r#"ODD=$(printf '\377\351'); export ODD; exec "$0" "$@""#])
            .start();
        assert_eq!(rig.wait(), 0);
        assert!(rig.output().has("ff e9 20 fe 80 0a"), "{:?}", rig.output().stdout);
    }
}

#[test]
fn a_program_with_a_name_that_is_not_utf_8_runs() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"odd\xff"));
    std::fs::write(&odd, "#!/bin/sh\necho here\n").unwrap();
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--"]).arg(&odd).start();
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("| here"));
}

#[test]
fn a_setting_that_is_not_utf_8_is_a_fault_and_no_crash() {
    let rig = Rig::new(&["-i", "1"])
        .fixture("up")
        .through(&["sh", "-c", r#"RINIT_RESTART=$(printf '\377'); export RINIT_RESTART; exec "$0" "$@""#])
        .start();
    assert_eq!(rig.wait(), 64);
    assert!(rig.output().has("RINIT_RESTART"));
}

#[test]
fn a_very_low_limit_on_open_files_is_enough_for_some_workers() {
    let rig = Rig::new(&["-i", "2"])
        .fixture("up notify wait")
        .through(&["sh", "-c", r#"ulimit -n 36; exec "$0" "$@""#])
        .start();
    assert_works(&rig);
}

#[test]
fn with_sigchld_ignored_at_start_the_supervisor_works() {
    // The kernel itself collects the children of such a parent, and their ends would be lost.
    let rig = Rig::new(&["-i", "2"]).fixture("up notify wait").through(&["env", "--ignore-signal=CHLD"]).start();
    assert_works(&rig);
}

#[test]
fn with_all_signals_blocked_at_start_the_supervisor_works() {
    let rig = Rig::new(&["-i", "2", "--stop-timeout", "300ms"])
        .fixture("up notify wait")
        .through(&["env", "--block-signal"])
        .start();
    rig.until("both are ready", |out| out.count("it said so") == 2);
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("the killed one is back", |out| out.count("it said so") == 3);
    rig.signal("HUP");
    rig.until("a reload works", |out| out.has("reload to generation 2 done"));
    rig.signal("TERM");
    // Workers find the mask that rinit was started with, so the signal that stops them may be blocked.
    assert!([0, 137].contains(&rig.wait()));
    assert!(rig.output().has("asked to stop"));
}

#[test]
fn workers_run_as_the_user_that_was_asked_for() {
    let whoami =
        "echo $(id -u):$(id -g):$(id -G):$HOME; echo opened > /dev/stdout; echo opened > /dev/stderr; exec sleep 600";
    let nobody = nix::unistd::User::from_name("nobody").unwrap();
    let Some(nobody) = nobody.filter(|_| nix::unistd::getuid().is_root() && !namespace().is_empty()) else {
        return crate::harness::skipped("only root can become another user");
    };
    let (uid, gid, home) = (nobody.uid, nobody.gid, nobody.dir.display().to_string());
    let cases = [
        ("61234".to_owned(), "61234:0:0:/before".to_owned()),
        ("61234:777".to_owned(), "61234:777:777:/before".to_owned()),
        ("nobody".to_owned(), format!("{uid}:{gid}:{gid}:{home}")),
        (format!("{uid}"), format!("{uid}:{gid}:{gid}:{home}")),
        ("nobody:777".to_owned(), format!("{uid}:777:777:{home}")),
    ];
    for (user, expected) in cases {
        let rig = Rig::new(&["-i", "2", "--user", &user, "--", "sh", "-c", whoami]).env("HOME", "/before").start();
        rig.until("both have said who they are", |out| out.count(&format!("| {expected}")) == 2);
        rig.until("a worker may open its own streams", |out| {
            let opened = |lines: &[String]| lines.iter().filter(|line| line.ends_with("| opened")).count();
            opened(&out.stdout) == 2 && opened(&out.stderr) == 2
        });
        // rinit keeps its own.
        assert!(status_field(rig.pid(), "Uid").starts_with("0\t0\t0\t0"));
        assert!(children(rig.pid()).iter().all(|pid| status_field(*pid, "CapEff") == "0000000000000000"));
    }
}

#[test]
fn one_worker_with_raw_log_and_another_user_may_open_its_streams_too() {
    if !nix::unistd::getuid().is_root() || namespace().is_empty() {
        return crate::harness::skipped("only root can become another user");
    }
    let rig = Rig::new(&["-i", "1", "--log", "raw", "--user", "61234", "--restart", "never", "--"])
        .args(&["sh", "-c", "echo opened > /dev/stdout && echo opened > /dev/stderr"])
        .start();
    assert_eq!(rig.wait(), 0, "{:?}", rig.output().stderr);
    assert_eq!(rig.output().count("opened"), 2);
}

#[test]
fn an_unknown_user_is_a_fault_of_the_settings() {
    let rig = Rig::new(&["-i", "1", "--user", "no-such-user"]).fixture("up").start();
    assert_eq!(rig.wait(), 64);
    assert!(
        rig.output().has("--user=") && rig.output().has("no user \"no-such-user\" in /etc/passwd"),
        "{:?}",
        rig.output().stderr
    );
}

#[test]
fn a_user_that_rinit_may_not_become_is_refused_with_the_missing_capabilities() {
    let settings = ["-i", "2", "--user", "0", "--max-restarts", "1", "--backoff", "1ms..1ms"];
    let Some(rig) = restricted(&[USER], &settings, "up wait") else { return };
    let rig = rig.start();
    // It is known before the first worker is started, so it is a fault of the settings.
    assert_eq!(rig.wait(), 64);
    let expected =
        "rinit cannot start workers of that user without CAP_KILL, CAP_SETGID, CAP_SETUID: docker run --cap-add KILL";
    assert!(rig.output().has(expected), "{:?}", rig.output().stderr);
    // The user that it is already needs nothing.
    let Some(rig) = restricted(&[USER], &["-i", "2", "--user", "61234:61234"], "up notify wait") else { return };
    assert_works(&rig.start());
}
