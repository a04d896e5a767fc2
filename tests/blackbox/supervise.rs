//! Workers: how many, with which environment, how they are stopped, and how the container ends.

use crate::harness::{Flag, Rig, Running, children, eventually, fixture, free_port, status_field};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn workers_know_who_they_are_and_a_stop_ends_them_with_0() {
    let rig = Rig::new(&["-i", "3", "--name", "web"])
        .fixture("env=RINIT_WORKER env=RINIT_WORKERS env=RINIT_APP env=NODE_APP_INSTANCE signals")
        .start();
    rig.until("three workers are up", |out| out.count("up ") == 3);
    let out = rig.output();
    for k in 0..3 {
        assert_eq!(out.count(&format!("web-{k} | RINIT_WORKER={k}")), 1);
        assert_eq!(out.count(&format!("web-{k} | NODE_APP_INSTANCE={k}")), 1);
    }
    assert_eq!((out.count("RINIT_WORKERS=3"), out.count("RINIT_APP=web")), (3, 3));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("got SIGTERM"), 3);
}

/// How many workers rinit runs on the first `cpus` of the CPUs that this process may use.
fn workers_on(cpus: usize, instances: &str) -> usize {
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let is_ours = |cpu: &usize| mask.is_set(*cpu).unwrap();
    let list: Vec<String> =
        (0..nix::sched::CpuSet::count()).filter(is_ours).take(cpus).map(|n| n.to_string()).collect();
    assert_eq!(list.len(), cpus);
    let rig = Rig::new(&["-i", instances]).through(&["taskset", "-c", &list.join(",")]);
    let rig = rig.fixture("env=RINIT_WORKERS up wait").start();
    // Every worker knows how many there are to be; one that came late would have been counted too.
    rig.until("a worker is up", |out| out.has("| up "));
    let out = rig.output();
    let line = out.stdout.iter().find(|line| line.contains("RINIT_WORKERS=")).unwrap();
    let wanted: usize = line.rsplit('=').next().unwrap().parse().unwrap();
    rig.until("all are up", |out| out.count("| up ") == wanted);
    assert_eq!(rig.workers().len(), wanted);
    wanted
}

#[test]
fn zero_and_max_mean_as_many_workers_as_there_are_cpus_to_use() {
    for instances in ["0", "max"] {
        assert_eq!(workers_on(1, instances), 1, "-i {instances}");
    }
    // A CPU quota may leave fewer than the affinity does; the standard library rounds it down where rinit rounds up.
    if std::thread::available_parallelism().unwrap().get() >= 2 {
        assert_eq!(workers_on(2, "0"), 2);
    }
}

#[test]
fn a_negative_count_means_so_many_fewer_than_cpus_and_at_least_one() {
    assert_eq!(workers_on(1, "-1"), 1);
    assert_eq!(workers_on(1, "-7"), 1);
    if std::thread::available_parallelism().unwrap().get() >= 2 {
        assert_eq!(workers_on(2, "-1"), 1);
    }
}

#[test]
fn every_worker_has_a_group_of_its_own_and_none_of_rinits_descriptors() {
    // What rinit itself was started with is handed on.
    let outside = Command::new(fixture()).args(["state"]).stdin(Stdio::null()).output().unwrap().stdout;
    let outside = String::from_utf8(outside).unwrap();
    for share in ["off", "preload"] {
        let rig = Rig::new(&["-i", "2", "--share-ports", share]).fixture("env=LD_PRELOAD state wait").start();
        rig.until("both told", |out| out.count("state pid") == 2);
        let lines = rig.output().stdout;
        // Where no folder is safe from other users, such as in a user namespace without root, the library has no file.
        let in_memory =
            lines.iter().find_map(|line| Some(line.split_once("LD_PRELOAD=/proc/")?.1.split_once("/fd/")?.1));
        let library = in_memory.map(|number| format!(",{number}")).unwrap_or_default();
        for line in lines.iter().filter(|line| line.contains("state pid")) {
            let field = |line: &str, name: &str| {
                line.split(' ').skip_while(|word| *word != name).nth(1).unwrap_or_default().to_owned()
            };
            assert_eq!(field(line, "pid"), field(line, "pgid"), "{line}");
            assert_eq!(field(line, "fds"), field(&outside, "fds") + &library, "{line}");
        }
    }
}

#[test]
fn the_kernel_prefers_a_worker_to_rinit_when_memory_runs_out() {
    let rig = Rig::new(&["-i", "1"]).fixture("up wait").start();
    rig.until("it is up", |out| out.has("| up "));
    let score = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse::<i32>().unwrap()
    };
    let own = score(rig.pid());
    let worker = score(rig.workers()[0]);
    assert!(worker > own || own == 1000, "worker {worker}, rinit {own}");
}

#[test]
fn a_stop_ends_with_0_when_workers_end_by_themselves_however_they_do() {
    // One has a handler that exits with 0, one another with 3, and one is killed by the signal.
    for words in ["on-term=exit=0 up wait", "on-term=exit=3 up wait", "up wait"] {
        let rig = Rig::new(&["-i", "2"]).fixture(words).start();
        rig.until("both are up", |out| out.count("| up ") == 2);
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0, "{words}");
    }
}

#[test]
fn workers_are_stopped_side_by_side() {
    // No worker ends before all have been asked; one after the other they would have to be killed.
    let go = Flag::new();
    let words = format!("on-term=say=heard,file={},exit=0 up wait", go.path());
    let rig = Rig::new(&["-i", "3", "--stop-timeout", "20s"]).fixture(&words).start();
    rig.until("all are up", |out| out.count("| up ") == 3);
    rig.signal("TERM");
    rig.until("all are asked", |out| out.count("| heard") == 3);
    go.set();
    assert_eq!(rig.wait(), 0);
}

/// Whether a process of that number is there; one that has ended and is not collected yet counts.
fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// The worker's number and that of its only child, once both have said that they are up.
fn worker_and_child(rig: &Running) -> (i32, i32) {
    rig.until("the worker and its child are up", |out| out.count("| up ") == 2);
    let worker = rig.workers()[0];
    (worker, children(worker)[0])
}

#[test]
fn a_worker_that_does_not_end_in_time_is_killed_with_its_group_and_the_code_is_137() {
    // Not as PID 1, whose end the kernel would make the end of all others.
    let rig = Rig::new(&["-i", "1", "--stop-timeout", "100ms"]).not_pid_1();
    let rig = rig.fixture("deaf=TERM child=deaf=TERM,up,wait up wait").start();
    let (worker, child) = worker_and_child(&rig);
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 137);
    assert!(start.elapsed() >= Duration::from_millis(100), "it had {:?}", start.elapsed());
    assert!(rig.output().has("did not end in time"));
    assert!(!exists(worker));
    eventually("the child is gone", || (!exists(child)).then_some(()));
}

#[test]
fn a_worker_that_is_suspended_is_continued_so_that_it_can_stop() {
    let rig = Rig::new(&["-i", "2", "--ready", "spawn", "sh", "-c", r#""$0" up wait; exit 0"#]).fixture("").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    // The app itself, and the shell above it.
    for worker in rig.workers() {
        let app = eventually("the shell has its child", || children(worker).first().copied());
        rig.signal_pid(app, "STOP");
        rig.signal_pid(worker, "STOP");
        eventually("it is suspended", || status_field(worker, "State").starts_with('T').then_some(()));
    }
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(!rig.output().has("SIGKILL"), "{:?}", rig.output().stderr);
}

#[test]
fn a_worker_that_is_suspended_after_its_stop_signal_is_continued_too() {
    let flag = Flag::new();
    let app = "trap 'while [ ! -e $1 ]; do sleep 0.02; done; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let rig = Rig::new(&["-i", "1", "--", "sh", "-c", app, "sh"]).arg(flag.path()).start();
    rig.until("it is up", |out| out.has("| up"));
    rig.signal("TERM");
    rig.until("it is asked to end", |out| out.has("gets SIGTERM"));
    rig.workers().iter().for_each(|worker| rig.signal_pid(*worker, "STOP"));
    flag.set();
    assert_eq!(rig.wait(), 0);
    assert!(!rig.output().has("SIGKILL"), "{:?}", rig.output().stderr);
}

#[test]
fn an_app_below_a_shell_that_ends_first_gets_the_stop_signal_and_time_to_end() {
    let app = "trap 'echo ended in its own time; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let rig = Rig::new(&["-i", "1", "--", "sh", "-c", "sh -c \"$0\"; true", app]).start();
    rig.until("it is up", |out| out.has("| up"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("| ended in its own time"), "{:?}", rig.output());
}

#[test]
fn what_a_worker_leaves_behind_in_its_group_is_killed_when_the_stop_timeout_is_over() {
    let rig = Rig::new(&["-i", "1", "--stop-timeout", "300ms"]).not_pid_1();
    let rig = rig.fixture("child=deaf=TERM,up,wait signals").start();
    let (_, child) = worker_and_child(&rig);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 137);
    eventually("the child is gone", || (!exists(child)).then_some(()));
}

#[test]
fn only_some_workers_had_to_be_killed_and_the_code_is_137_all_the_same() {
    let script = "if [ $RINIT_WORKER = 1 ]; then trap '' TERM; fi; echo up; while :; do sleep 1000; done";
    let rig = Rig::new(&["-i", "2", "--stop-timeout", "1s", "--", "sh", "-c", script]).start();
    rig.until("both are up", |out| out.count("| up") == 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 137);
    assert_eq!(rig.output().count("did not end in time"), 1);
}

#[test]
fn a_second_stop_kills_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "QUIT")] {
        let rig = Rig::new(&["-i", "2", "--stop-timeout", "1h"]).fixture("deaf=TERM up wait").start();
        rig.until("both are up", |out| out.count("| up ") == 2);
        rig.signal(first);
        rig.until("they are asked to stop", |out| out.count("gets SIGTERM") == 2);
        rig.stop_again(second);
        assert_eq!(rig.wait(), 137, "{first}, {second}");
    }
}

#[test]
fn two_stop_signals_of_one_moment_are_one_request_as_timeout_sends_them() {
    let worker = "on-term=after=300,say=finished,exit=0 up wait";
    // On a busy machine there may be more than a moment between the two.
    let ended = (0..20).find_map(|_| {
        let rig = Rig::new(&["-i", "1", "--stop-timeout", "1h"]).fixture(worker).start();
        rig.until("it is up", |out| out.has("| up "));
        let (pid, start) = (Pid::from_raw(rig.pid()), Instant::now());
        (0..2).for_each(|_| kill(pid, Signal::SIGTERM).unwrap());
        let is_one_moment = start.elapsed() < Duration::from_millis(50);
        let code = rig.wait();
        is_one_moment.then(|| (code, rig.output().has("finished")))
    });
    assert_eq!(ended, Some((0, true)));
}

#[test]
fn while_the_drain_delay_lasts_workers_serve_and_hear_nothing() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let rig = Rig::new(&["-i", "1", "--drain-delay", "1h", "--listen", &listen]).fixture("accept signals").start();
    rig.until("it is up", |out| out.has("| up "));
    rig.signal("TERM");
    rig.until("the stop is known", |out| out.has("asked to stop"));
    let mut answer = String::new();
    std::net::TcpStream::connect(listen).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "worker 0\n");
    assert!(!rig.output().has("got SIGTERM"));
    // Whoever is in a hurry says it twice.
    rig.stop_again("TERM");
    assert_eq!(rig.wait(), 137);
}

#[test]
fn after_the_drain_delay_workers_are_stopped() {
    let rig = Rig::new(&["-i", "2", "--drain-delay", "200ms"]).fixture("signals").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(start.elapsed() >= Duration::from_millis(200), "it took {:?}", start.elapsed());
    assert_eq!(rig.output().count("got SIGTERM"), 2);
}

#[test]
fn a_worker_that_crashes_during_the_drain_delay_is_replaced() {
    let rig = Rig::new(&["-i", "2", "--ready", "uptime", "--drain-delay", "1h", "--min-uptime", "10ms"])
        .fixture("up wait")
        .start();
    rig.until("both are ready", |out| out.count("is ready") == 2 && out.count("| up ") == 2);
    rig.signal("TERM");
    rig.until("the stop is known", |out| out.has("asked to stop"));
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("another is up", |out| out.count("| up ") == 3);
    rig.stop_again("TERM");
    assert_eq!(rig.wait(), 137);
}

#[test]
fn the_stop_signal_is_the_one_that_was_asked_for() {
    for (signal, name) in [("INT", "SIGINT"), ("SIGUSR2", "SIGUSR2"), ("RTMIN+3", "SIGRTMIN+3")] {
        let rig = Rig::new(&["-i", "1", "--stop-signal", signal, "--stop-timeout", "1h"]).fixture("signals").start();
        rig.until("it is up", |out| out.has("| up "));
        rig.signal("TERM");
        rig.until("it is asked", |out| out.has(&format!("| got {name}")));
        // The fixture ends at SIGTERM only.
        rig.stop_again("TERM");
        assert_eq!(rig.wait(), 137, "{signal}");
        assert!(!rig.output().has("| got SIGTERM"), "{signal}");
    }
    // A worker that the signal kills has ended by it.
    let rig = Rig::new(&["-i", "1", "--stop-signal", "USR1"]).fixture("up wait").start();
    rig.until("it is up", |out| out.has("| up "));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_stop_while_workers_wait_for_their_next_start_ends_at_once() {
    let rig = Rig::new(&["-i", "2", "--backoff", "1h..1h"]).fixture("exit=9").start();
    rig.until("both wait", |out| out.count("started again in") == 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_stop_while_workers_are_starting_stops_them() {
    let rig = Rig::new(&["-i", "2", "--ready", "notify"]).fixture("signals").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("got SIGTERM"), 2);
}

#[test]
fn a_stop_in_the_first_moment_of_a_workers_life_reaches_it() {
    for _ in 0..10 {
        let rig = Rig::new(&["-i", "1", "--stop-timeout", "20s"]).fixture("wait").start();
        eventually("the worker is forked", || rig.workers().first().copied());
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
    }
}

#[test]
fn a_program_that_does_not_exist_ends_the_container_with_127() {
    for program in ["no-such-program-anywhere", "/no/such/program"] {
        let rig = Rig::new(&["-i", "2", "--", program]).start();
        assert_eq!(rig.wait(), 127);
        assert!(rig.output().has(&format!("cannot run {program}")), "{:?}", rig.output().stderr);
    }
}

#[test]
fn a_script_in_path_whose_interpreter_is_missing_is_not_said_to_be_missing_itself() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("serve");
    std::fs::write(&script, "#!/no/such/python\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let rig = Rig::new(&["-i", "2", "--", "serve"]).env("PATH", &path).start();
    assert_eq!(rig.wait(), 127);
    assert!(rig.output().has("cannot run serve: not found in PATH, or the interpreter"), "{:?}", rig.output().stderr);
}

#[test]
fn a_program_that_cannot_be_executed_ends_the_container_with_126() {
    let flag = Flag::new();
    flag.set();
    let rig = Rig::new(&["-i", "2", "--"]).arg(flag.path()).start();
    assert_eq!(rig.wait(), 126);
    assert!(rig.output().has("not executable"), "{:?}", rig.output().stderr);
    assert_eq!(Rig::new(&["-i", "1", "--", "/tmp"]).start().wait(), 126, "a folder");
}

#[test]
fn workers_that_all_finish_by_themselves_end_the_container_with_the_highest_code() {
    let finished = |script: &str| {
        let rig = Rig::new(&["-i", "3", "--restart", "never", "--", "sh", "-c", script]).start();
        let code = rig.wait();
        assert_eq!(rig.output().count("finished:"), 3, "{:?}", rig.output().stderr);
        code
    };
    assert_eq!(finished("exit 0"), 0);
    assert_eq!(finished("exit $RINIT_WORKER"), 2);
    assert_eq!(finished("kill -s SEGV $$"), 139);
}

#[test]
fn the_container_runs_until_the_last_worker_has_finished() {
    let go = Flag::new();
    let script = format!("[ $RINIT_WORKER = 0 ] && exit 4; while [ ! -e {} ]; do sleep 0.01; done", go.path());
    let rig = Rig::new(&["-i", "2", "--restart", "never", "--", "sh", "-c", &script]).start();
    rig.until("one has finished", |out| out.has("finished: exit code 4"));
    assert!(rig.is_running());
    go.set();
    assert_eq!(rig.wait(), 4);
}

#[test]
fn of_very_many_workers_rinit_tells_of_each() {
    const MANY: usize = 600;
    let count = MANY.to_string();
    let rig = Rig::new(&["-i", &count, "--stop-timeout", "60s", "--ready", "spawn", "--", "sleep", "1000"]).start();
    for started in (100..=MANY).step_by(100) {
        rig.until(&format!("{started} are started"), |out| out.count(") started") >= started);
    }
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count(" is gone: SIGTERM"), MANY);
    assert!(!rig.output().has("left out"), "{:#?}", rig.output().stderr);
}
