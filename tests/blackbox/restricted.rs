//! Tests the supervisor where the kernel refuses single system calls, as a container engine's seccomp profile may, or where the
//! container has hardly any room: it goes on without what it cannot have and says so, or ends at once with the reason.

use crate::harness::{Rig, Running, fixture};

/// Calls without which rinit does everything that a plain program needs.
const SPARED: [&str; 25] = [
    "accept4",
    "bind",
    "close_range",
    "copy_file_range",
    "getrandom",
    "getsockname",
    "getsockopt",
    "inotify_init1",
    "listen",
    "madvise",
    "memfd_create",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "sched_getaffinity",
    "sendmsg",
    "setsockopt",
    "signalfd4",
    "socket",
    "socketpair",
    "splice",
    "statx",
    "timerfd_create",
    "umask",
];

/// rinit with system calls that the kernel refuses, to it and to its workers.
fn refused(rig: Rig, calls: &str) -> Running {
    let fixture = fixture();
    rig.through(&[fixture.to_str().unwrap(), &format!("refuse={calls}"), "exec"]).start()
}

fn workers(options: &[&str]) -> Rig {
    Rig::new(&["-i", "2", "--min-uptime", "100ms"]).args(options).arg("--").fixture("up wait")
}

/// Waits until both workers are ready, reloads and stops them.
fn serves(rig: &Running, calls: &str) {
    rig.until(&format!("both are ready without {calls}"), |out| out.count("is ready") == 2);
    rig.signal("HUP");
    rig.until(&format!("they are reloaded without {calls}"), |out| out.has("reload to generation 2 done"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0, "{calls}: {:?}", rig.output().stderr);
}

#[test]
fn without_any_one_of_many_calls_workers_start_reload_and_stop() {
    let all = SPARED.map(|calls| (refused(workers(&["--ready", "uptime"]), calls), calls));
    all.iter().for_each(|(rig, calls)| serves(rig, calls));
}

#[test]
fn without_all_of_them_together_workers_start_reload_and_stop() {
    let calls = SPARED.join(",");
    serves(&refused(workers(&["--ready", "uptime"]), &calls), &calls);
}

#[test]
fn without_unix_sockets_workers_run_and_the_log_says_what_is_missing() {
    for calls in ["socket", "bind", "getsockname"] {
        let rig = refused(workers(&["--ready-timeout", "1s"]), calls);
        serves(&rig, calls);
        let said = rig.output();
        assert_eq!(said.count("workers cannot report by sd_notify: the kernel refuses a unix socket"), 1, "{said:?}");
        assert!(said.has("bind() of its workers is not shared: the kernel refuses a unix socket"), "{said:?}");
    }
    let rig = refused(workers(&["--ready", "notify"]), "socket");
    rig.until("it says what a worker lacks", |out| {
        out.has("rinit cannot open its readiness channel: Operation not permitted; the container's seccomp profile may")
    });
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn without_a_call_that_it_needs_it_ends_with_70_and_says_what_it_cannot_have() {
    for (calls, what) in [("epoll_create1", "no event loop"), ("eventfd2", "no thread for the log")] {
        let rig = refused(workers(&[]), calls);
        assert_eq!(rig.wait(), 70, "{calls}");
        assert!(rig.output().has(&format!("rinit: cannot start: {what}")), "{calls}: {:?}", rig.output().stderr);
    }
}

#[test]
fn a_socket_that_was_asked_for_and_cannot_be_had_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock");
    let rig = refused(workers(&["--socket", socket.to_str().unwrap()]), "socket");
    assert_eq!(rig.wait(), 64);
    assert!(rig.output().has("--socket: "), "{:?}", rig.output().stderr);
}
