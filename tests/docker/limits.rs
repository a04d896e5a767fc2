//! The container's limits: CPUs, memory, processes, and everything forbidden that can be.

use crate::engine::{Container, docker_ok, engine, eventually};
use std::time::{Duration, Instant};

/// How many workers `-i 0` makes under these options.
fn workers(options: &[&str]) -> usize {
    let Some(engine) = engine() else { return 0 };
    let command = ["-i", "0", "--name", "app", "--restart", "never", "--", "sh", "-c", "echo here"];
    let ran = engine.run(options, &engine.busybox, &command);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout.lines().filter(|line| line.ends_with("| here")).count()
}

#[test]
fn instances_0_counts_the_cpus_of_the_quota_rounded_up_and_of_the_affinity() {
    let Some(engine) = engine() else { return };
    let asked = |words: &[&str]| engine.run(&["--entrypoint", words[0]], &engine.busybox, &words[1..]).stdout;
    let affinity: usize = asked(&["nproc"]).trim().parse().unwrap();
    assert_eq!(workers(&[]), affinity);
    assert_eq!(workers(&["--cpus", "1"]), 1);
    assert_eq!(workers(&["--cpus", "0.25"]), 1);
    if affinity > 1 {
        assert_eq!(workers(&["--cpus", "1.5"]), 2);
    }
    let list = asked(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let first = list.split_once(':').unwrap().1.trim().split([',', '-']).next().unwrap().to_owned();
    assert_eq!(workers(&["--cpuset-cpus", &first]), 1);
}

#[test]
fn only_the_worker_that_uses_up_the_memory_is_killed_named_and_replaced() {
    let Some(engine) = engine() else { return };
    // Without a newline to end it, the one line of /dev/zero is kept whole. Only the first time: then it is an app again.
    let app = "if [ $RINIT_WORKER = 0 ] && mkdir /once 2>/dev/null; then exec tail /dev/zero; fi; \
               echo up; exec sleep 1000";
    let options = ["--memory", "64m", "--memory-swap", "64m"];
    let container = Container::start(&options, &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", app]);
    container.until("the report names the killer and the way out", |logs| {
        logs.has_line(&["app-0 ", "ended: SIGKILL", "out of memory", "memory limit"])
    });
    container.until("it is back", |logs| logs.has("app-0 | up"));
    assert_eq!(container.logs().count("app-1 | up"), 1, "the other worker never went");
    container.stop();
    assert_eq!(container.wait(), 0);
}

#[test]
fn at_the_limit_of_processes_rinit_lives_and_the_worker_is_back_soon_after_it() {
    let Some(engine) = engine() else { return };
    // The worker is killed before its life counts as stable, and waits once. A second wait of the backoff's would be seen, by its
    // length of 16 s: a refused fork is not the app's crash.
    let settings = ["-i", "2", "--name", "app", "--backoff", "8s..60s", "--"];
    let app = ["sh", "-c", "echo up; exec sleep 1000"];
    let command = [&settings[..], &app].concat();
    let container = Container::start(&["--pids-limit", "50"], &engine.busybox, &command);
    container.until("both workers are stable", |logs| logs.count("is ready") == 2);
    docker_ok(&["update", "--pids-limit", "1", &container.name]);
    let pid = container.logs().words_after("app-0 (pid ").remove(0);
    // From a container beside it, since nothing can be started in this one.
    let beside = format!("container:{}", container.name);
    let killed = engine.run(&["--pid", &beside], "busybox:stable", &["kill", "-KILL", &pid]);
    assert_eq!(killed.code, 0, "{killed:?}");
    container.until("the log names the limit", |logs| logs.count("limit on processes is reached") >= 2);
    assert!(container.is_running());
    docker_ok(&["update", "--pids-limit", "50", &container.name]);
    let start = Instant::now();
    container.until("the worker is back", |logs| logs.count("app-0 | up") == 2);
    // Within a second, and what a busy machine adds.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(container.logs().count("app-1 | up"), 1, "the other worker never went");
    container.stop();
    assert_eq!(container.wait(), 0);
}

#[test]
fn in_as_little_room_as_two_small_workers_need_they_start_reload_and_stop() {
    let Some(engine) = engine() else { return };
    let options = ["--memory", "8m", "--memory-swap", "8m", "--pids-limit", "6", "--ulimit", "nofile=32:32"];
    let settings = ["-i", "2", "--name", "app", "--ready", "uptime", "--min-uptime", "200ms", "--"];
    let command = [&settings[..], &["sh", "-c", "exec sleep 1000"]].concat();
    let container = Container::start(&options, &engine.busybox, &command);
    container.until("both workers are ready", |logs| logs.count("is ready") == 2);
    container.signal("HUP");
    container.until("it reloads", |logs| logs.has("reload to generation 2 done"));
    container.stop();
    assert_eq!(container.wait(), 0);
}

/// The loader writes a line on stderr for each library that it does not find.
#[test]
fn programs_of_another_user_find_the_library_in_a_read_only_container() {
    let Some(engine) = engine() else { return };
    let options = ["--read-only", "--user", "0", "--entrypoint", "rinit"];
    let script = "su nobody -s /bin/sh -c 'exec id -un'";
    let ran = engine.run(&options, &engine.python, &["-i", "1", "--restart", "never", "--", "sh", "-c", script]);
    assert!(ran.stdout.contains("| nobody"), "{ran:#?}");
    assert!(!ran.stderr.contains("cannot be preloaded") && !ran.stdout.contains("cannot be preloaded"), "{ran:#?}");
}

#[test]
fn with_everything_forbidden_at_once_workers_run_serve_reload_and_stop() {
    let Some(engine) = engine() else { return };
    let options = [
        ["--user", "61234:61234"],
        ["--cap-drop", "ALL"],
        ["--security-opt", "no-new-privileges"],
        ["--network", "none"],
        ["--ipc", "none"],
    ];
    let options = [&options.concat()[..], &["--read-only"]].concat();
    let container = Container::start(&options, &engine.node, &[]);
    let beside = format!("container:{}", container.name);
    let page =
        || engine.run(&["--network", &beside], "busybox:stable", &["wget", "-qO-", "http://127.0.0.1:8080/"]).stdout;
    eventually("a worker answers", || page().starts_with("worker ").then_some(()));
    container.until("every worker is ready", |logs| logs.count("is ready") == logs.count(" started"));
    let old = container.logs().words_after("process ");
    container.signal("HUP");
    container.until("it reloads", |logs| logs.has("reload to generation 2 done"));
    let new = page();
    let is_old = |new: &str| old.iter().any(|pid| new.trim().ends_with(&format!("process {pid}")));
    assert!(new.starts_with("worker ") && !is_old(&new), "{new} by one of the old {old:?}");
    assert!(container.stop() < Duration::from_secs(8));
    assert_eq!(container.wait(), 0);
    assert!(container.logs().has("app-0 | worker 0"));
    // Without a place for a file, Node's workers go without the script, and the log says so.
    let logs = container.logs();
    assert!(logs.has("cannot write the script for its workers"));
    let complaints = logs.stderr.into_iter().filter(|line| line.contains("cannot") && !line.contains("the script"));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
}
