//! Logs and events.

use crate::calls::happened;
use crate::fake::{Fake, begin_stream, event, finish, verb};
use rinit::control::types::{LogLine, LogLines, Missed};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

fn line(seq: u64, worker: &str, stream: &str, line: &str) -> LogLine {
    let time = "2026-01-01T12:00:00.000Z".into();
    LogLine { seq, time, worker: worker.into(), stream: stream.into(), line: line.into() }
}

fn three() -> LogLines {
    LogLines {
        lines: vec![
            line(1, "web-0", "stdout", "one"),
            line(1, "web-10", "stderr", "two"),
            line(2, "web-0", "stdout", "three"),
        ],
    }
}

#[test]
fn lines_look_as_in_the_containers_log_and_go_where_they_were_written() {
    let fake = Fake::always(200, serde_json::to_string(&three()).unwrap());
    let ran = fake.run("logs");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "web-0  | one\nweb-0  | three\n", "web-10 | two\n")
    );
    let ran = fake.run("logs --json");
    let lines: Vec<LogLine> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, three().lines);
}

#[test]
fn what_is_asked_for_is_asked_of_rinit() {
    let fake = Fake::always(200, r#"{"lines":[]}"#);
    for (verb, path) in [
        ("logs", "/v1/logs"),
        ("logs all", "/v1/logs"),
        ("logs web-0 -n 5 --stderr", "/v1/logs?lines=5&worker=web-0&stream=stderr"),
        ("logs 0 1", "/v1/logs?worker=0%2C1"),
        ("logs --since 10m --stdout", "/v1/logs?lines=1000000&stream=stdout&since=10m"),
        ("logs --since 2026-01-31T12:00:00Z -n 1", "/v1/logs?lines=1&since=2026-01-31T12%3A00%3A00Z"),
    ] {
        assert_eq!(fake.run(verb).code, 0, "{verb}");
        assert_eq!(fake.lines().last().unwrap(), &format!("GET {path}"), "{verb}");
    }
    for bad in ["logs -n many", "logs --since yesterday", "logs --since 10", "events --since x"] {
        assert_eq!(finish(verb(bad)).code, 64, "{bad}");
    }
}

#[test]
fn a_follower_sees_each_line_when_it_comes_and_what_was_left_out() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let fake = Fake::new(move |request, stream| {
        assert_eq!(request.line, "GET /v1/logs?follow=true");
        begin_stream(stream);
        event(stream, "line", &line(1, "web-0", "stdout", "first"));
        stream.write_all(b": keep-alive\n\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        event(stream, "missed", &Missed { worker: Some("web-0".into()), missed: 214 });
        event(stream, "line", &line(216, "web-0", "stdout", "second"));
    });
    let mut child = fake.command("logs -f").spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    assert_eq!(text, "web-0 | first\n", "it is not held back");
    go.send(()).unwrap();
    reader.read_line(&mut text).unwrap();
    assert_eq!(text, "web-0 | first\nweb-0 | second\n");
    let ran = crate::fake::end(child);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("214 lines of web-0 are left out"), "{ran:?}");
}

#[test]
fn a_follower_that_nobody_reads_goes_with_the_next_sign_of_life() {
    let fake = Fake::new(|_, stream| {
        begin_stream(stream);
        while stream.write_all(b": keep-alive\n\n").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for line in ["logs -f", "events"] {
        let mut child = fake.command(line).spawn().unwrap();
        drop(child.stdout.take());
        let ran = crate::fake::end(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
    }
}

#[test]
fn events_are_a_line_each() {
    let fake = Fake::new(|request, stream| {
        assert_eq!(request.line, "GET /v1/events?since=7");
        begin_stream(stream);
        stream.write_all(b"id: 7\r\n").unwrap();
        event(stream, "exited", &happened(7, "exited", "web-0 ended: exit code 3; its last lines on stderr:\n    no"));
    });
    let ran = fake.run("events --since 6");
    let text = "2026-01-01T12:00:00.000Z info  web-0 ended: exit code 3; its last lines on stderr:\n        no\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, text));
    let ran = fake.run("events --since 6 --json");
    assert!(ran.stdout.starts_with("{\"seq\":7,") && ran.stdout.lines().count() == 1, "{ran:?}");
}
