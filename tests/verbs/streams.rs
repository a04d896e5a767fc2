//! Tests `rinit logs` and `rinit events`.

use crate::calls::happened;
use crate::fake::{Fake, begin_stream, event, finish, verb};
use rinit::control::types::{LogLine, LogLines, Missed};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

fn line(seq: u64, worker: &str, stream: &str, line: &str) -> LogLine {
    let time = "2026-01-01T12:00:00.000Z".into();
    let slot = worker.rsplit_once('-').unwrap().1.parse().unwrap();
    let (worker, app) = (worker.into(), "web".into());
    LogLine { seq, time, worker, app, slot, pid: 12, stream: stream.into(), line: line.into() }
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
fn lines_look_as_in_the_containers_log_and_keep_their_stream() {
    let fake = Fake::always(200, serde_json::to_string(&three()).unwrap());
    let ran = fake.run("logs");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "web-0  | one\nweb-0  | three\n", "web-10 | two\n")
    );
    let ran = fake.run("logs --json");
    // The shape is that of `--log json`.
    let first = json!({
        "rinit": {"time": "2026-01-01T12:00:00.000Z", "app": "web", "worker": 0, "pid": 12, "stream": "stdout"},
        "message": "one",
    });
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], first);
    assert_eq!((&lines[1]["rinit"]["worker"], &lines[1]["rinit"]["stream"]), (&json!(10), &json!("stderr")));
}

#[test]
fn the_options_of_logs_become_a_query() {
    let fake = Fake::always(200, r#"{"lines":[]}"#);
    for (verb, path) in [
        ("logs", "/v1/logs"),
        ("logs all", "/v1/logs"),
        ("logs web-0 -n 5 --stderr", "/v1/logs?lines=5&worker=web-0&stream=stderr"),
        ("logs --tail 7", "/v1/logs?lines=7"),
        ("logs -n 5 --grep x", "/v1/logs?lines=1000000"),
        ("logs 0 1", "/v1/logs?worker=0%2C1"),
        ("logs --since 10m --stdout", "/v1/logs?lines=1000000&stream=stdout&since=10m"),
        ("logs --since 2026-01-31T12:00:00Z -n 1", "/v1/logs?lines=1&since=2026-01-31T12%3A00%3A00Z"),
    ] {
        assert_eq!(fake.run(verb).code, 0, "{verb}");
        assert_eq!(fake.lines().last().unwrap(), &format!("GET {path}"), "{verb}");
    }
    for bad in [
        "logs -n many",
        "logs --since yesterday",
        "logs --since 10",
        "events --since x",
        "logs --grep (",
        "logs --level loud",
    ] {
        assert_eq!(finish(verb(bad)).code, 64, "{bad}");
    }
}

#[test]
fn a_follower_prints_each_line_at_once_and_the_number_of_those_left_out() {
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
    assert!(ran.stderr.contains("214 lines of web-0 left out"), "{ran:?}");
}

#[test]
fn a_follower_without_a_reader_ends_with_the_next_keep_alive() {
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

fn at(seq: u64, time: &str, stream: &str, text: &str) -> LogLine {
    LogLine { time: time.into(), ..line(seq, "web-0", stream, text) }
}

#[test]
fn lines_are_filtered_by_text_level_and_time_and_counted_after_that() {
    let lines = vec![
        at(1, "2026-01-01T12:00:01.000Z", "stdout", "GET /a 200"),
        at(2, "2026-01-01T12:00:02.000Z", "stdout", "WARN the cache misses"),
        at(3, "2026-01-01T12:00:03.000Z", "stderr", "Error: no database"),
        at(4, "2026-01-01T12:00:04.000Z", "stdout", "GET /b 500"),
    ];
    let fake = Fake::always(200, serde_json::to_string(&LogLines { lines }).unwrap());
    for (options, expected) in [
        (vec!["--grep", "^GET .* 200$"], vec![1]),
        (vec!["--grep", "GET", "-n", "1"], vec![4]),
        (vec!["--level", "warn"], vec![2, 3]),
        (vec!["--level", "error"], vec![3]),
        (vec!["--until", "2026-01-01T12:00:02.500Z"], vec![1, 2]),
        (vec!["--until", "2026-01-01T12:00:02.500Z", "--grep", "cache", "-f"], vec![2]),
    ] {
        let mut command = fake.command("logs --json");
        let ran = finish(std::mem::replace(command.args(&options), verb("")));
        // Each line's second is its number.
        let number = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["rinit"]["time"].as_str().unwrap()[17..19].parse().unwrap()
        };
        let numbers: Vec<u64> = ran.stdout.lines().map(number).collect();
        assert_eq!(numbers, expected, "{options:?}: {ran:?}");
    }
}

#[test]
fn a_filtered_follower_begins_with_the_last_passing_lines_and_repeats_none() {
    let fake = Fake::new(|request, stream| {
        if request.line == "GET /v1/logs?lines=1000000" {
            let lines = vec![
                line(1, "web-0", "stdout", "a 1"),
                line(2, "web-0", "stdout", "b"),
                line(3, "web-0", "stdout", "a 2"),
            ];
            return crate::fake::reply(stream, 200, &serde_json::to_string(&LogLines { lines }).unwrap());
        }
        assert_eq!(request.line, "GET /v1/logs?follow=true&lines=1000000");
        begin_stream(stream);
        for (seq, text) in [(1, "a 1"), (2, "b"), (3, "a 2"), (4, "a 3"), (5, "b")] {
            event(stream, "line", &line(seq, "web-0", "stdout", text));
        }
    });
    assert_eq!(fake.run("logs -f -n 1 --grep a").stdout, "web-0 | a 2\nweb-0 | a 3\n");
}

#[test]
fn timestamps_stand_in_front_of_the_lines() {
    let fake = Fake::always(200, serde_json::to_string(&three()).unwrap());
    assert!(fake.run("logs -t").stdout.starts_with("2026-01-01T12:00:00.000Z web-0  | one\n"));
}

#[test]
fn events_since_a_time_are_those_after_it_as_far_back_as_rinit_keeps_them() {
    let fake = Fake::new(|request, stream| {
        assert_eq!(request.line, "GET /v1/events?since=0");
        begin_stream(stream);
        event(stream, "missed", &Missed { worker: None, missed: 3 });
        event(stream, "ready", &happened(4, "ready", "long ago"));
        let recent = rinit::control::types::Event {
            time: "2126-01-01T12:00:00.000Z".into(),
            ..happened(5, "ready", "not long ago")
        };
        event(stream, "ready", &recent);
    });
    for since in ["10m", "2027-01-01T00:00:00Z"] {
        let ran = fake.run(&format!("events --since {since}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "2126-01-01T12:00:00.000Z info  not long ago\n"), "{ran:?}");
        assert!(!ran.stderr.contains("left out"), "{ran:?}");
    }
}

#[test]
fn events_that_rinit_no_longer_keeps_are_counted() {
    let fake = Fake::new(|_, stream| {
        begin_stream(stream);
        event(stream, "missed", &Missed { worker: None, missed: 1 });
        event(stream, "ready", &happened(9, "ready", "web-0 is ready"));
    });
    let ran = fake.run("events --since 7");
    assert!(
        ran.code == 0 && ran.stdout.contains("web-0 is ready") && ran.stderr.contains("1 event left out"),
        "{ran:?}"
    );
}
