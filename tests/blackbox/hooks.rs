//! Hooks: commands at moments of a worker's life.

use crate::config_file::File;
use crate::harness::free_port;
use std::io::{Read, Write};
use std::net::TcpStream;

fn app(words: &str, more: &str) -> File {
    File::new(
        "rinit.toml",
        &format!("[[app]]\nname = \"web\"\ncommand = \"FIXTURE {words}\"\nready = \"notify\"\n{more}"),
    )
}

/// The position of a line on stdout or stderr.
fn at(lines: &[String], text: &str) -> usize {
    lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {lines:#?}"))
}

#[test]
fn each_hook_runs_at_its_moment_with_the_facts_and_its_output_in_the_log() {
    let file = app(
        "notify say=serving wait",
        r#"
[app.hooks]
pre_start = "FIXTURE env=RINIT_HOOK"
post_ready = "FIXTURE env=RINIT_HOOK env=RINIT_PID env=RINIT_WORKER"
pre_stop = "FIXTURE env=RINIT_HOOK"
post_exit = "FIXTURE env=RINIT_HOOK env=RINIT_EXIT_STATUS"
"#,
    );
    let rig = file.rig().start();
    rig.until("the hook has told", |out| out.stdout.iter().any(|line| line.ends_with("RINIT_WORKER=0")));
    let pid = rig.workers()[0];
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    let lines = &out.stdout;
    assert!(at(lines, "RINIT_HOOK=pre_start") < at(lines, "serving"), "{lines:#?}");
    assert!(at(lines, "RINIT_HOOK=post_ready") < at(lines, "RINIT_HOOK=pre_stop"), "{lines:#?}");
    assert!(at(lines, "RINIT_HOOK=pre_stop") < at(lines, "RINIT_HOOK=post_exit"), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("web-0 | ") && line.ends_with("RINIT_EXIT_STATUS=143")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.contains("RINIT_PID=")), "{pid}: {lines:#?}");
}

#[test]
fn a_worker_whose_pre_start_hook_fails_is_not_started_and_tried_again() {
    let file = app(
        "say=started notify wait",
        "backoff = \"10ms..10ms\"\nmax_restarts = 2\n[app.hooks]\npre_start = \"FIXTURE exit=4\"\non_failed = \"FIXTURE say=alarm\"\n",
    );
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 1);
    let out = rig.output();
    assert!(!out.stdout.iter().any(|line| line.ends_with("started")), "{out:?}");
    assert!(out.has("web-0: the pre_start hook failed: exit code 4; started again in"), "{out:?}");
    assert!(out.stdout.iter().any(|line| line.ends_with("alarm")), "{out:?}");
}

#[test]
fn the_stop_signal_waits_for_the_pre_stop_hook_and_no_longer_than_it_may_take() {
    let hook = "stop_timeout = \"8s\"\n[app.hooks]\npre_stop = \"FIXTURE after=300 say=drained\"\n";
    let file = app("on-term=say=stopped,exit=0 notify wait", hook);
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let lines = rig.output().stdout;
    assert!(at(&lines, "drained") < at(&lines, "stopped"), "{lines:#?}");

    let hook = "[app.hooks]\npre_stop = \"FIXTURE wait\"\ntimeout = \"100ms\"\n";
    let file = app("notify wait", hook);
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("web-0: the pre_stop hook did not end within 100ms: killed"), "{:?}", rig.output());
}

#[test]
fn a_program_without_a_handler_answers_its_requests_after_the_pre_stop_hook() {
    for signal in ["HUP", "TERM"] {
        assert_answers("[app.hooks]\npre_stop = \"true\"\n", signal);
    }
}

#[test]
fn a_program_without_a_handler_answers_its_requests_when_the_container_stops() {
    assert_answers("", "TERM");
}

/// A request that is under way when rinit gets the signal is answered.
fn assert_answers(hooks: &str, signal: &str) {
    let port = free_port();
    let script = format!(
        "import socket, time\n\
         server = socket.create_server(('127.0.0.1', {port}))\n\
         while True:\n\
         \x20   client = server.accept()[0]; client.recv(999); print('asked', flush=True); time.sleep(1.5)\n\
         \x20   client.sendall(b'answer'); client.close()"
    );
    let text = format!("[[app]]\nname = \"web\"\ncommand = [\"python3\", \"-c\", \"\"\"{script}\"\"\"]\n{hooks}");
    let file = File::new("f.toml", &text);
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("web-0", "is ready"));
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"question").unwrap();
    rig.until("the worker has the question", |out| out.has("| asked"));
    rig.signal(signal);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer", "{signal}: {:?}", rig.output());
    if signal == "HUP" {
        rig.signal("TERM");
    }
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_stop_during_the_pre_start_hook_ends_it_at_once() {
    let file = app("notify wait", "[app.hooks]\npre_start = \"FIXTURE say=busy wait\"\n");
    let rig = file.rig().start();
    rig.until("the hook runs", |out| out.stdout.iter().any(|line| line.ends_with("busy")));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(!rig.output().has("killed with its group"), "{:?}", rig.output());
}
