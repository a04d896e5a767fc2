//! Supervisor mode, from `docker run` to `docker stop`.

use crate::engine::{Container, docker_ok, engine, eventually};
use std::time::Duration;

/// Says that it is up and waits for its end.
const APP: &str = "echo \"up $RINIT_WORKER of $RINIT_WORKERS\"; exec sleep 1000";

#[test]
fn docker_run_ends_with_the_apps_code_or_the_code_of_the_failure_to_run_it() {
    let Some(engine) = engine() else { return };
    let run = |command: &[&str]| engine.run(&[], &engine.busybox, command);
    let once = ["-i", "2", "--restart", "never", "--"];
    assert_eq!(run(&[&once[..], &["true"]].concat()).code, 0);
    assert_eq!(run(&[&once[..], &["sh", "-c", "exit 7"]].concat()).code, 7);
    assert_eq!(run(&[&once[..], &["sh", "-c", "kill -TERM $$"]].concat()).code, 143);
    assert_eq!(run(&["-i", "2", "--", "/etc"]).code, 126);
    assert_eq!(run(&["-i", "2", "--", "no-such-program"]).code, 127);
    let ran = run(&["-i", "two", "--stop-timeout", "5", "--", "true"]);
    assert_eq!(ran.code, 64);
    assert!(ran.stderr.contains("-i") && ran.stderr.contains("--stop-timeout"), "all faults at once: {}", ran.stderr);
}

#[test]
fn a_crash_loop_ends_the_container_with_the_apps_code_and_a_report_to_act_on() {
    let Some(engine) = engine() else { return };
    let limits = ["-i", "2", "--name", "app", "--max-restarts", "3", "--backoff", "1ms..1ms", "--"];
    let crash = ["sh", "-c", "echo 'no database at db:5432' >&2; exit 3"];
    let container = Container::start(&[], &engine.busybox, &[&limits[..], &crash].concat());
    assert_eq!(container.wait(), 3);
    container.until("the report is there", |logs| {
        let gave_up = |name| logs.has_line(&[name, "ended: exit code 3 after", "crashes in a row: it has failed"]);
        gave_up("app-0")
            && gave_up("app-1")
            && logs.has("rinit |     no database at db:5432")
            && logs.has("rinit | error: no worker is left to run; exit code 3")
    });
}

#[test]
fn docker_stop_ends_the_workers_in_time_and_with_0() {
    let Some(engine) = engine() else { return };
    let app = "trap 'echo \"bye $RINIT_WORKER\"; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", app]);
    container.until("both workers are up", |logs| logs.count("| up") == 2);
    let took = container.stop();
    assert_eq!(container.wait(), 0);
    assert!(took < Duration::from_secs(8), "{took:?}");
    container.until("their last words are there", |logs| logs.has("app-0 | bye 0") && logs.has("app-1 | bye 1"));
}

#[test]
fn workers_that_do_not_end_are_killed_before_docker_stop_loses_patience() {
    let Some(engine) = engine() else { return };
    let app = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", app]);
    container.until("both workers are up", |logs| logs.count("| up") == 2);
    container.stop();
    // 137 is also what the engine's own SIGKILL gives; but then rinit would not have had the time to tell.
    assert_eq!(container.wait(), 137);
    container.until("rinit did it", |logs| logs.count("did not end in time: killed with its group") == 2);
    container.until("rinit collected them", |logs| logs.count("is gone: SIGKILL") == 2);
}

#[test]
fn docker_kill_scales() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["-i", "1", "--name", "app", "--", "sh", "-c", APP]);
    container.until("the worker is up", |logs| logs.has("app-0 | up 0 of 1"));
    container.signal("TTIN");
    container.until("a second one is up", |logs| logs.has("app-1 | up 1 of 2"));
    container.signal("TTOU");
    container.until("it is gone", |logs| logs.has_line(&["app-1 ", "is gone"]));
    assert!(!container.logs().has_line(&["app-0 ", "is gone"]));
}

#[test]
fn a_worker_killed_from_outside_is_back_and_the_other_never_went() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", APP]);
    container.until("both workers are up", |logs| logs.count("| up") == 2);
    let pid = container.logs().words_after("app-0 (pid ").remove(0);
    assert_eq!(container.exec(&["kill", "-KILL", &pid]).code, 0);
    container.until("the report names the signal", |logs| logs.has_line(&["app-0 ", "ended: SIGKILL after"]));
    container.until("it is back", |logs| logs.count("app-0 | up") == 2);
    assert_eq!(container.logs().count("app-1 | up"), 1);
}

#[test]
fn docker_restart_runs_the_workers_anew() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", APP]);
    container.until("both workers are up", |logs| logs.count("| up") == 2);
    docker_ok(&["restart", &container.name]);
    container.until("both are up again", |logs| logs.count("| up") == 4);
    assert!(container.is_running());
}

#[test]
fn a_paused_container_goes_on_where_it_was() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", APP]);
    container.until("both workers are up", |logs| logs.count("| up") == 2);
    docker_ok(&["pause", &container.name]);
    eventually("it is paused", || (container.inspect("{{.State.Paused}}") == "true").then_some(()));
    docker_ok(&["unpause", &container.name]);
    container.signal("HUP");
    container.until("it reloads", |logs| logs.has("reload to generation 2 done"));
    container.stop();
    assert_eq!(container.wait(), 0);
    assert!(!container.logs().has(" ended: "), "nobody crashed");
}

#[test]
fn docker_exec_asks_and_steers() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["-i", "2", "--name", "app", "--", "sh", "-c", APP]);
    assert_eq!(container.exec(&["rinit", "wait", "--timeout", "30s"]).code, 0);
    let rows = |container: &Container| container.exec(&["rinit", "list"]).stdout.lines().count() - 1;
    assert_eq!(rows(&container), 2);
    assert_eq!(container.exec(&["rinit", "scale", "+1"]).code, 0);
    assert_eq!(rows(&container), 3);
    assert_eq!(container.exec(&["rinit", "reload"]).code, 0);
    assert!(container.exec(&["rinit", "logs", "-n", "1", "app-2"]).stdout.starts_with("app-2 | "));
    let refused = container.exec(&["rinit", "stop", "app-7"]);
    assert!(refused.code == 1 && refused.stderr.contains("there is app-0, app-1, app-2"), "{refused:?}");
    assert_eq!(container.exec(&["rinit", "delete", "all"]).code, 0);
    assert_eq!(container.wait(), 0);
}

#[test]
fn a_client_that_asks_for_the_containers_end_gets_an_answer() {
    let Some(engine) = engine() else { return };
    // The end of PID 1 takes with it whoever asked, and each time it is a race.
    for _ in 0..8 {
        let container = Container::start(&[], &engine.busybox, &["-i", "2", "--", "sh", "-c", APP]);
        container.until("it runs", |logs| logs.has("| up"));
        let asked = container.exec(&["rinit", "delete", "all"]);
        assert_eq!((asked.code, asked.stdout.trim()), (0, "the container stops"), "{asked:?}");
        assert_eq!(container.wait(), 0);
    }
}
