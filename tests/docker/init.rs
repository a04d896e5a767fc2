//! Init mode: one child, as under tini, dumb-init and Docker's own init.

use crate::engine::{Container, Engine, engine, eventually};
use std::process::Command;

#[test]
fn docker_run_ends_with_the_childs_code_or_the_code_of_the_failure_to_run_it() {
    let Some(engine) = engine() else { return };
    let code = |command: &[&str]| engine.run(&[], &engine.busybox, command).code;
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
    assert_eq!(code(&["--", "/etc"]), 126);
    assert_eq!(code(&["--", "no-such-program"]), 127);
    assert_eq!(code(&["--no-such-flag", "--", "true"]), 64);
}

#[test]
fn signals_of_docker_kill_reach_the_child_real_time_signals_too() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&[], &engine.busybox, &["--", "sh", "-c", TRAPS]);
    passes_signals(&container, &["HUP", "USR1", "WINCH", "RTMIN+3"]);
    container.stop();
    assert_eq!(container.wait(), 5);
}

#[test]
fn orphans_of_docker_exec_are_reaped_in_both_modes() {
    let Some(engine) = engine() else { return };
    for mode in [&[][..], &["-i", "1"]] {
        let command = [mode, &["--", "sh", "-c", "echo up; exec sleep 1000"]].concat();
        let container = Container::start(&[], &engine.busybox, &command);
        container.until("the child is up", |logs| logs.has("up"));
        let exec = container.exec(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]);
        let orphan = exec.stdout.trim();
        eventually("the orphan is PID 1's", || {
            let status = container.exec(&["cat", &format!("/proc/{orphan}/status")]);
            status.stdout.contains("PPid:\t1\n").then_some(())
        });
        assert_eq!(container.exec(&["kill", "-KILL", orphan]).code, 0);
        // A zombie would stay.
        let is_there = || container.exec(&["test", "-e", &format!("/proc/{orphan}")]).code == 0;
        eventually("the orphan is reaped", || (!is_there()).then_some(()));
        assert!(container.is_running());
    }
}

#[test]
fn mounted_over_dockers_own_init_it_does_the_same_for_the_user() {
    let Some(engine) = engine() else { return };
    let mount = mount(engine);
    let run = |command: &[&str]| engine.run(&["--init", "-v", &mount], "busybox:stable", command);
    let ran = run(&["echo", "hello"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "hello\n", ""));
    assert_eq!(run(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(run(&["sh", "-c", "kill -TERM $$"]).code, 143);
    assert_eq!(run(&["/etc"]).code, 126);
    assert_eq!(run(&["no-such-program"]).code, 127);

    let container = Container::start(&["--init", "-v", &mount], "busybox:stable", &["sh", "-c", TRAPS]);
    passes_signals(&container, &["HUP", "USR1", "WINCH", "RTMIN+3"]);
    // It is rinit that runs there, and not the engine's.
    let size = container.exec(&["sh", "-c", "wc -c </proc/1/exe"]).stdout;
    assert_eq!(size.trim(), std::fs::metadata(&engine.binary).unwrap().len().to_string());
    container.stop();
    assert_eq!(container.wait(), 5);
}

#[test]
fn as_docker_init_it_prints_the_version_that_dockerd_reads() {
    let Some(engine) = engine() else { return };
    let ran = engine.run(&["-v", &mount(engine)], "busybox:stable", &["/sbin/docker-init", "--version"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.starts_with("tini version "), "{ran:?}");
}

/// Tells every signal that reaches it; SIGTERM ends it with 5.
const TRAPS: &str = "for signal in HUP USR1 WINCH; do trap \"echo got $signal\" $signal; done; \
                     trap 'echo got RTMIN+3' 37; trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";

fn passes_signals(container: &Container, signals: &[&str]) {
    container.until("the traps are set", |logs| logs.has("up"));
    for signal in signals {
        container.signal(signal);
        container.until(&format!("SIG{signal} has arrived"), |logs| logs.count(&format!("got {signal}")) == 1);
    }
}

fn mount(engine: &Engine) -> String {
    format!("{}:/sbin/docker-init:ro", engine.binary.display())
}

#[test]
fn standard_input_of_docker_run_reaches_the_child() {
    let Some(engine) = engine() else { return };
    let script = format!("echo through | timeout 180 docker run --rm -i {} cat", engine.busybox);
    let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((ran.status.code(), String::from_utf8_lossy(&ran.stdout).as_ref()), (Some(0), "through\n"));
    assert_eq!(engine.run(&[], &engine.busybox, &["cat"]).code, 0, "without -i it ends at once");
}
