//! Several apps of one file: their order, tasks, the end of the container, and a file that changes.

use crate::config_file::File;
use crate::harness::{Flag, rinit};
use std::process::Command;

/// The position of rinit's line about that worker.
fn at(lines: &[String], worker: &str, what: &str) -> usize {
    let is_it = |line: &String| line.contains(&format!("{worker} (pid ")) && line.contains(what);
    lines.iter().position(is_it).unwrap_or_else(|| panic!("no {worker} {what} in {lines:#?}"))
}

#[test]
fn a_task_runs_before_what_comes_after_it_and_the_last_started_stops_first() {
    let file = File::new(
        "rinit.toml",
        r#"
[[app]]
name = "web"
command = "FIXTURE notify wait"
after = ["cache", "migrate"]

[[app]]
name = "migrate"
kind = "task"
command = "FIXTURE say=migrated"

[[app]]
name = "cache"
command = "FIXTURE notify wait"
"#,
    );
    let rig = file.rig().start();
    rig.until("web is ready", |out| out.told("web-0", "is ready"));
    let lines = rig.output().stderr;
    assert!(at(&lines, "migrate-0", "finished") < at(&lines, "web-0", "started"), "{lines:#?}");
    assert!(at(&lines, "cache-0", "is ready") < at(&lines, "web-0", "started"), "{lines:#?}");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let lines = rig.output().stderr;
    assert!(at(&lines, "web-0", "is gone") < at(&lines, "cache-0", "gets SIGTERM"), "{lines:#?}");
}

#[test]
fn a_task_that_fails_ends_the_container_with_its_code_and_nothing_after_it_is_started() {
    let file = File::new(
        "rinit.toml",
        r#"
[[app]]
name = "web"
command = "FIXTURE say=serves wait"
after = ["migrate"]

[[app]]
name = "migrate"
kind = "task"
command = "FIXTURE exit=7"
"#,
    );
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 7);
    let out = rig.output();
    assert!(out.has("migrate has ended with status 7: the container ends"), "{out:?}");
    assert_eq!(out.count("serves"), 0, "{out:?}");
}

#[test]
fn one_app_that_has_failed_for_good_ends_the_container_unless_its_end_is_ignored() {
    let text = |on_exit: &str| {
        format!(
            "[[app]]\nname = \"web\"\ncommand = \"FIXTURE notify wait\"\n\
             [[app]]\nname = \"side\"\ncommand = \"FIXTURE exit=3\"\nmax_restarts = 1\nbackoff = \"10ms..10ms\"\n{on_exit}"
        )
    };
    let file = File::new("rinit.toml", &text(""));
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 3, "{:?}", rig.output());
    file.write(&text("on_exit = \"ignore\"\n"));
    let rig = file.rig().start();
    rig.until("side has failed", |out| out.told("side-0", "it has failed"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().told("web-0", "is gone: SIGTERM"), "{:?}", rig.output());
}

#[test]
fn a_container_waits_for_no_app_that_has_ended_as_it_may() {
    let file = File::new(
        "rinit.toml",
        r#"
[[app]]
name = "web"
command = "FIXTURE notify wait"

[[app]]
name = "job"
command = "FIXTURE exit=42"
stop_exit_codes = [42]

[[app]]
name = "warm-up"
kind = "task"
command = "FIXTURE exit=3"
on_exit = "ignore"
"#,
    );
    let socket = file.path().with_file_name("socket").display().to_string();
    let _rig = file.rig().args(&["--socket", &socket]).start();
    let waited = Command::new(rinit()).args(["wait", "--timeout", "20s", "--socket", &socket]).output().unwrap();
    assert!(waited.status.success(), "{waited:?}");
}

#[test]
fn a_file_that_has_changed_is_read_at_sighup_and_only_what_has_changed_is_reloaded() {
    let app = |name: &str, more: &str| {
        format!("[[app]]\nname = \"{name}\"\ncommand = \"FIXTURE env=MOOD notify wait\"\n{more}")
    };
    let first = [app("same", ""), app("changes", "env = { MOOD = \"calm\" }\n"), app("goes", "")].concat();
    let second =
        [app("changes", "env = { MOOD = \"merry\" }\n"), app("same", ""), app("comes", "instances = 2\n")].concat();
    let file = File::new("rinit.toml", &first);
    let rig = file.rig().start();
    rig.until("all are ready", |out| out.count("is ready") == 3);
    file.write(&second);
    rig.signal("HUP");
    rig.until("the new app is ready", |out| out.told("comes-0", "is ready") && out.told("comes-1", "is ready"));
    rig.until("the changed app is reloaded", |out| out.has("changes: reload to generation 2 done"));
    rig.until("the old app is gone", |out| out.has("goes: gone"));
    rig.until("it has its new settings", |out| out.stdout.iter().any(|line| line.ends_with("MOOD=merry")));
    let out = rig.output();
    assert!(!out.has("same: reload"), "{out:?}");
    assert_eq!(rig.workers().len(), 4);

    // Nothing has changed since: all are reloaded.
    rig.signal("HUP");
    rig.until("all are reloaded", |out| {
        out.has("same: reload to generation 2 done") && out.has("changes: reload to generation 3 done")
    });
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn the_answer_to_a_name_that_only_the_changed_file_has_says_when_it_is_read() {
    let app = |name: &str| format!("[[app]]\nname = \"{name}\"\ncommand = \"FIXTURE notify wait\"\n");
    let file = File::new("rinit.toml", &app("old"));
    let socket = file.path().with_file_name("socket").display().to_string();
    let rig = file.rig().args(&["--socket", &socket]).start();
    rig.until("it is ready", |out| out.told("old-0", "is ready"));
    file.write(&[app("old"), app("new")].concat());
    let reload = |name: &str| Command::new(rinit()).args(["reload", name, "--socket", &socket]).output().unwrap();
    let answer = String::from_utf8(reload("new").stderr).unwrap();
    let parts = ["there is no worker new", "rinit.toml starts at SIGHUP, or at `rinit reload` without a name"];
    assert!(parts.iter().all(|part| answer.contains(part)), "{answer}");
    assert!(reload("all").status.success());
    rig.until("it is there", |out| out.told("new-0", "is ready"));
}

#[test]
fn settings_by_which_nothing_is_started_are_in_force_at_once() {
    let text = |more: &str| format!("[[app]]\nname = \"web\"\ncommand = \"FIXTURE notify wait\"\n{more}");
    let file = File::new("rinit.toml", &text(""));
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    file.write(&text("instances = 3\nstop_timeout = \"3s\"\nstop_signal = \"USR1\"\n"));
    rig.signal("HUP");
    rig.until("three are ready", |out| out.told("web-2", "is ready") && out.told("web-1", "is ready"));
    // A request to stop, since it is an app's stop signal now.
    rig.signal("USR1");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert!(out.told("web-0", "gets SIGUSR1 and 3s to end"), "{out:?}");
    assert!(!out.has("web: reload"), "{out:?}");
}

#[test]
fn a_file_with_a_fault_changes_nothing_and_says_why() {
    let text = "[[app]]\nname = \"web\"\ncommand = \"FIXTURE notify wait\"\n";
    let file = File::new("rinit.toml", text);
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    file.write(&format!("{text}instances = 0.5\nstop_tiemout = \"3s\"\n"));
    rig.signal("HUP");
    rig.until("the faults are told", |out| out.has("nothing is reloaded: "));
    let out = rig.output();
    assert!(out.has(":4:") && out.has("did you mean stop_timeout?"), "all faults at once, with their lines: {out:?}");
    assert_eq!(rig.workers().len(), 1);
    file.write(text);
    rig.signal("HUP");
    rig.until("it is reloaded again", |out| out.has("web: reload to generation 2 done"));
}

#[test]
fn new_settings_that_do_not_work_leave_the_old_workers_and_are_tried_again() {
    let flag = Flag::new();
    let text = |words: &str| format!("[[app]]\nname = \"web\"\ncommand = \"FIXTURE {words} notify wait\"\n");
    let file = File::new("rinit.toml", &text("say=old"));
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    file.write(&text(&format!("unless={} exit=1 say=new", flag.path())));
    rig.signal("HUP");
    rig.until("the reload fails", |out| out.has("web: reload to generation 2 stopped"));
    assert_eq!(rig.workers().len(), 1);
    flag.set();
    rig.signal("HUP");
    rig.until("the new settings work", |out| out.has("web: reload to generation 3 done"));
    rig.until("they are the new ones", |out| out.stdout.iter().any(|line| line.ends_with("new")));
}
