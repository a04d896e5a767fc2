//! Tests the limits on processes and open files: rinit goes on, tries again soon, and reports it.

use crate::harness::{Flag, Rig, Running, eventually};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A control group with a limit on processes, where this machine lets a test have one.
struct PidsGroup {
    folder: PathBuf,
}

impl PidsGroup {
    fn new(name: &str) -> Option<PidsGroup> {
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let folder = PathBuf::from(root).join(format!("rinit-test-{}-{name}", std::process::id()));
            if std::fs::create_dir(&folder).is_ok() {
                let group = PidsGroup { folder };
                if group.folder.join("pids.max").exists() {
                    return Some(group);
                }
            }
        }
        crate::harness::skipped("no control group with a limit on processes can be had here");
        None
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn limit(&self, max: &str) {
        std::fs::write(self.file("pids.max"), max).unwrap();
    }

    fn set_limit_to_what_runs(&self) {
        let count = std::fs::read_to_string(self.file("pids.current")).unwrap();
        self.limit(count.trim());
    }

    /// A wrapper that takes rinit into the group: first the shell that will be rinit.
    fn enter(&self) -> Vec<String> {
        let script = format!(r#"echo 0 > {} && exec "$0" "$@""#, self.file("cgroup.procs"));
        vec!["sh".into(), "-c".into(), script]
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        // It is empty only when the last process is gone; what is left over for longer is no test's fault.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn through(wrapper: &[String]) -> Vec<&str> {
    wrapper.iter().map(String::as_str).collect()
}

fn prlimit(rig: &Running, limit: &str) {
    let status = Command::new("prlimit").args(["--pid", &rig.pid().to_string(), limit]).status().unwrap();
    assert!(status.success(), "prlimit {limit}");
}

/// What the log says of the next try.
fn waits(rig: &Running) -> Vec<Duration> {
    let wait = |line: &String| line.rsplit_once(" again in ").map(|(_, wait)| wait.parse::<humantime::Duration>());
    let failed = |line: &&String| line.contains("limit on");
    rig.output().stderr.iter().filter(failed).filter_map(wait).map(|wait| wait.unwrap().into()).collect()
}

fn kill_a_worker(rig: &Running) {
    rig.signal_pid(rig.workers()[0], "KILL");
}

/// Waits until the start has failed so often that a wait that doubles would be long, and checks that it is not.
fn assert_tried_often(rig: &Running, what: &str) {
    rig.until("it is tried again and again", |out| out.count(what) >= 7);
    assert!(rig.is_running());
    let waits = waits(rig);
    assert!(waits.len() >= 7 && waits.iter().all(|wait| *wait <= Duration::from_secs(1)), "{waits:?}");
}

#[test]
fn at_the_pids_limit_rinit_lives_and_the_worker_comes_back_when_it_is_lifted() {
    let Some(group) = PidsGroup::new("running") else { return };
    let rig = Rig::new(&["-i", "2"]).fixture("up wait").through(&through(&group.enter())).start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    group.limit("1");
    kill_a_worker(&rig);
    assert_tried_often(&rig, "the limit on processes is reached");
    assert_eq!(rig.output().count("| up "), 2);
    group.limit("max");
    rig.until("the worker is back", |out| out.count("| up ") == 3);
    assert_eq!(rig.workers().len(), 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn at_the_pids_limit_from_the_start_rinit_waits_for_room() {
    let Some(group) = PidsGroup::new("start") else { return };
    // Room for rinit and the thread of its log, not for a worker.
    group.limit("2");
    let rig =
        Rig::new(&["-i", "2", "--max-restarts", "1"]).fixture("up wait").through(&through(&group.enter())).start();
    assert_tried_often(&rig, "the limit on processes is reached");
    group.limit("max");
    rig.until("both are up", |out| out.count("| up ") == 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_reload_at_the_pids_limit_stops_and_a_later_one_is_not_held_up_by_it() {
    // A generation's files are read by a thread, for which there is no room either.
    let Some(group) = PidsGroup::new("reload") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    for settings in [vec!["-i", "2", "--"], vec!["-i", "2", "--env-file", file.path().to_str().unwrap(), "--"]] {
        let rig = Rig::new(&settings).fixture("up notify wait").through(&through(&group.enter())).start();
        rig.until("both are ready", |out| out.count("is ready") == 2 && out.count("| up ") == 2);
        group.set_limit_to_what_runs();
        rig.signal("HUP");
        rig.until("the reload has failed, for that reason", |out| {
            out.stderr.iter().any(|line| line.contains("reload to generation 2 stopped") && line.contains("again"))
        });
        assert_eq!(rig.output().count("| up "), 2);
        group.limit("max");
        rig.signal("HUP");
        rig.until("the next one works", |out| {
            out.stderr.iter().any(|line| line.contains("reload to generation 3 done"))
        });
        assert!(!rig.output().has("panicked"), "rinit has no fault of its own");
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
    }
}

#[test]
fn at_the_users_limit_on_processes_rinit_lives_and_the_worker_comes_back_when_it_is_lifted() {
    if !nix::unistd::getuid().is_root() || crate::harness::namespace().is_empty() {
        return crate::harness::skipped("only root can become the user whose limit it is");
    }
    // A number that nobody else has, for the kernel counts all processes of a user.
    let uid = (1_000_000 + std::process::id()).to_string();
    let rig = Rig::new(&["-i", "2", "--", "sh", "-c", "echo up $RINIT_WORKER; exec sleep 600"])
        .through(&[
            "sh",
            "-c",
            &super::environment::elsewhere(&format!("exec setpriv --reuid {uid} --regid {uid} --clear-groups")),
        ])
        .start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    // By the user itself: it needs no privilege then.
    let limit = |processes: &str| {
        let status = Command::new("setpriv")
            .args([
                "--reuid",
                &uid,
                "--regid",
                &uid,
                "--clear-groups",
                "prlimit",
                "--pid",
                &rig.pid().to_string(),
                processes,
            ])
            .status();
        assert!(status.unwrap().success(), "{processes}");
    };
    limit("--nproc=1:");
    kill_a_worker(&rig);
    assert_tried_often(&rig, "the limit on processes is reached");
    limit("--nproc=1000:");
    rig.until("the worker is back", |out| out.count("| up ") == 3);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_workers_user_with_too_many_processes_is_no_fault_of_the_program() {
    if !nix::unistd::getuid().is_root() || crate::harness::namespace().is_empty() {
        return crate::harness::skipped("only root can have workers of another user");
    }
    // rinit's own fork works, and the kernel refuses the new user's exec (`execve(2)`, EAGAIN).
    let uid = (2_000_000 + std::process::id()).to_string();
    let rig = Rig::new(&["-i", "3", "--user", &uid, "--max-restarts", "3", "--", "sh", "-c"])
        .arg("echo up $RINIT_WORKER; exec sleep 600")
        .start();
    rig.until("all are up", |out| out.count("| up ") == 3);
    prlimit(&rig, "--nproc=1:");
    kill_a_worker(&rig);
    rig.until("it is tried again and again", |out| out.count("the limit on processes is reached") >= 7);
    prlimit(&rig, "--nproc=1000:");
    rig.until("the worker is back", |out| out.count("| up ") == 4);
}

#[test]
fn without_descriptors_rinit_lives_and_the_worker_comes_back_when_there_are_some() {
    let rig = Rig::new(&["-i", "2"]).fixture("up wait").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    // No number below the limit is free then, whatever rinit closes.
    prlimit(&rig, "--nofile=3:");
    kill_a_worker(&rig);
    assert_tried_often(&rig, "the limit on open files is reached");
    prlimit(&rig, "--nofile=1000:");
    rig.until("the worker is back", |out| out.count("| up ") == 3);
    assert_eq!(rig.workers().len(), 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn without_descriptors_from_the_start_rinit_waits_for_some() {
    // So many as rinit itself has, which another one tells, and two more.
    let rig = Rig::new(&["-i", "1"]).fixture("up wait").start();
    rig.until("it is up", |out| out.count("| up ") == 1);
    let pipes_of_a_worker = 3;
    let own = std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap().count() - pipes_of_a_worker;
    let rig = Rig::new(&["-i", "2", "--max-restarts", "1"])
        .fixture("up wait")
        .through(&["sh", "-c", &format!(r#"ulimit -n {}; exec "$0" "$@""#, own + 2)])
        .start();
    assert_tried_often(&rig, "the limit on open files is reached");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn rinit_raises_its_limit_on_open_files_and_its_workers_keep_theirs() {
    let rig = Rig::new(&["-i", "1", "--", "sh", "-c", "echo up $(ulimit -S -n) $(ulimit -H -n); sleep 1000"])
        .through(&["sh", "-c", r#"ulimit -S -n 600; ulimit -H -n 900; exec "$0" "$@""#])
        .start();
    rig.until("the worker tells its limits", |out| out.has("up 600 900"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", rig.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(Vec::from_iter(files.split_whitespace().take(2)), ["900", "900"]);
}

#[test]
fn descriptors_that_run_out_in_the_middle_of_a_start_are_given_back() {
    // For every number of free descriptors that is too low, the start fails at another place; none of them may leak.
    // A start that counted as a crash of the app would soon end it all.
    let rig = Rig::new(&["-i", "1", "--ready", "spawn", "--log-level", "debug"])
        .args(&["--stable-after", "0", "--backoff", "1ms..1ms", "--max-restarts", "3"])
        .fixture("up wait")
        .start();
    rig.until("it is up", |out| out.count("| up ") == 1);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap().count();
    rig.until("it is ready", |out| out.has("is ready"));
    // The pipe that told of its exec is closed a moment later.
    let before = (0..50).map(|_| descriptors()).min().unwrap();
    for free in 0..12 {
        let (ups, lines) = (rig.output().count("| up "), rig.output().stderr.len());
        prlimit(&rig, &format!("--nofile={}:", before - 3 + free));
        kill_a_worker(&rig);
        rig.until("the start works, or fails again and again", |out| {
            out.count("| up ") > ups || out.stderr.len() > lines + 6
        });
        prlimit(&rig, "--nofile=1000:");
        rig.until("the worker is back", |out| out.count("| up ") > ups);
    }
    eventually("nothing has leaked", || (descriptors() <= before).then_some(()));
    assert_eq!(rig.workers().len(), 1);
}

#[test]
fn a_stop_works_while_there_is_no_room() {
    let Some(group) = PidsGroup::new("stop") else { return };
    let rig = Rig::new(&["-i", "2"]).fixture("up wait").through(&through(&group.enter())).start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    group.limit("1");
    prlimit(&rig, "--nofile=3:");
    kill_a_worker(&rig);
    rig.until("there is no room", |out| out.has("limit on"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_failing_fork_is_no_crash_of_the_app() {
    let Some(group) = PidsGroup::new("budget") else { return };
    let flag = Flag::new();
    let rig = Rig::new(&["-i", "1", "--max-restarts", "2", "--backoff", "10ms..10ms"])
        .fixture(&format!("up file={} exit=5", flag.path()))
        .through(&through(&group.enter()))
        .start();
    rig.until("it is up", |out| out.count("| up ") == 1);
    group.limit("1");
    kill_a_worker(&rig);
    // More often than --max-restarts, which counts crashes of the app and not the machine's shortage.
    rig.until("it is tried again and again", |out| out.count("the limit on processes is reached") > 20);
    group.limit("max");
    rig.until("the worker is back", |out| out.count("| up ") == 2);
    flag.set();
    assert_eq!(rig.wait(), 5);
}
