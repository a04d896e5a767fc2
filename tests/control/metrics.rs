//! Tests `/metrics`, and the alert rules and the dashboard that are made for it.

use crate::client::{Answer, ask, send};
use crate::harness::{Rig, eventually, free_port};
use crate::started::{Started, start};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

fn metrics(rinit: &Started) -> String {
    ask(&rinit.socket, "GET", "/metrics", "").text()
}

/// The value of a sample, by the beginning of its line.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// The names of the table rows of `docs/metrics.md`; with `¹` such as may be absent.
fn documented() -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(format!("{DOCS}/metrics.md")).unwrap();
    let name = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        Some((name.to_owned(), rest.starts_with(" ¹")))
    };
    text.lines().filter_map(name).collect()
}

/// The families of an answer.
fn families(text: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
    text.lines().filter_map(name).collect()
}

/// Runs a program with that input, if it is installed.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let command = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = command else {
        crate::harness::lacking(&format!("{program} is not installed"));
        return None;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn every_metric_is_documented_and_no_series_has_a_pid() {
    let rinit = start(&[], "up wait");
    ask(&rinit.socket, "POST", "/v1/reload", "");
    let text = metrics(&rinit);
    let documented = documented();
    let names = documented.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
    let served = families(&text);
    assert_eq!(served.difference(&names).collect::<Vec<_>>(), Vec::<&String>::new(), "not in docs/metrics.md");
    let missing = documented.iter().filter(|(name, may_be_absent)| !may_be_absent && !served.contains(name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&(String, bool)>::new(), "not served");
    assert!(!text.contains("pid="), "{text}");
    if let Some((is_fine, why)) = run("promtool", &["check", "metrics"], &text) {
        assert!(is_fine && why.is_empty(), "{why}");
    }
}

#[test]
fn a_workers_series_are_its_slots_and_end_with_it() {
    let rinit = start(&["--max-restarts", "1", "--backoff", "1ms..1ms"], "unless=DIR/fails wait crash=SEGV");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let of = |name: &str, worker: u32| format!("{name}{{app=\"web\",worker=\"{worker}\"}}");
    let text = metrics(&rinit);
    let started = value(&text, &of("rinit_worker_start_time_seconds", 1)).unwrap();
    assert!((now - 60.0..=now + 1.0).contains(&started), "{started}, now {now}");
    assert_eq!(value(&metrics(&rinit), &of("rinit_worker_start_time_seconds", 1)), Some(started), "it does not drift");
    assert_eq!(value(&text, &of("rinit_worker_restarts_total", 0)), Some(0.0), "counters begin before their events");
    assert!(value(&text, &of("rinit_worker_open_fds", 0)).unwrap() >= 3.0, "{text}");
    assert_eq!(value(&text, &of("rinit_worker_last_exit_code", 0)), None);

    std::fs::write(rinit.folder.path().join("fails"), "").unwrap();
    ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    let state = |text: &str, state: &str| {
        value(text, &format!("rinit_worker_state{{app=\"web\",worker=\"0\",state=\"{state}\"}}"))
    };
    let text = eventually("it has failed for good", || {
        Some(metrics(&rinit)).filter(|text| state(text, "failed") == Some(1.0))
    });
    assert_eq!(state(&text, "ready"), Some(0.0));
    assert_eq!(value(&text, &of("rinit_worker_last_exit_code", 0)), Some(f64::from(128 + 11)));
    // On a slow machine it was ready once more in between.
    let crashes = value(&text, "rinit_worker_exits_total{app=\"web\",cause=\"signal\"}").unwrap();
    assert!(crashes >= 2.0, "{text}");
    assert_eq!(value(&text, &of("rinit_worker_restarts_total", 0)), Some(crashes - 1.0), "{text}");

    let scaled = ask(&rinit.socket, "POST", "/v1/scale", r#"{"to":"1"}"#);
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    // The one that has failed goes.
    eventually("its series have ended", || (!metrics(&rinit).contains("worker=\"0\"")).then_some(()));
}

#[test]
fn open_connections_are_counted_and_the_wait_for_a_blocked_worker_is_measured() {
    if Command::new("node").arg("--version").output().is_err() {
        crate::harness::lacking("there is no node");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (port, app) = (free_port(), folder.path().join("app.js"));
    let blocks = "require('http').createServer((request, answer) => {
        console.log('at work');
        for (const end = Date.now() + Number(request.url.slice(1)); Date.now() < end;);
        answer.end('ok');
    }).listen(PORT);";
    std::fs::write(&app, blocks.replace("PORT", &port.to_string())).unwrap();
    let socket = folder.path().join("rinit.sock");
    let options = ["-i", "1", "--name", "web", "--socket", socket.to_str().unwrap(), "--", "node"];
    let rig = Rig::new(&options).arg(&app).start();
    rig.until("it is ready", |out| out.has("is ready"));
    let text = || ask(&socket, "GET", "/metrics", "").text();
    let of = |name: &str, more: &str| format!("rinit_worker_{name}{{app=\"web\",worker=\"0\"{more}}}");
    let open = |count: f64| {
        eventually("the connections are counted", || {
            (value(&text(), &of("connections_open", "")) == Some(count)).then_some(())
        });
    };
    open(0.0);
    let ask_for = |milliseconds: u32| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(format!("GET /{milliseconds} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
        client
    };
    // The second one waits while the worker is at work for the first: longer than the first may wait on a busy machine.
    let first = ask_for(3000);
    rig.until("the worker is at work", |out| out.has("at work"));
    let mut clients = [first, ask_for(0)];
    clients.iter_mut().for_each(|client| assert!(client.read(&mut [0; 1024]).unwrap() > 0));
    // On a busy machine a page comes without what was not counted in time.
    let bucket = |bound: &str| {
        let name = of("connection_wait_seconds_bucket", &format!(",le=\"{bound}\""));
        eventually("the waits are told", || value(&text(), &name))
    };
    assert_eq!((bucket("+Inf"), bucket("1")), (2.0, 1.0), "{}", text());
    open(2.0);
    assert_eq!(ask(&socket, "GET", "/v1/workers/web-0", "").json()["workers"][0]["open_connections"], 2);
    drop(clients);
    open(0.0);
}

#[test]
fn reloads_are_counted_by_result_with_their_durations() {
    let rinit = start(&[], "up wait");
    let of =
        |name: &str, more: &str| format!("rinit_reload_duration_seconds_{name}{{app=\"web\",result=\"done\"{more}}}");
    assert_eq!(value(&metrics(&rinit), &of("count", "")), Some(0.0));
    assert_eq!(ask(&rinit.socket, "POST", "/v1/reload", "").status, 200);
    let text = metrics(&rinit);
    assert_eq!(value(&text, &of("count", "")), Some(1.0));
    assert_eq!(value(&text, &of("bucket", ",le=\"600\"")), Some(1.0));
    assert!(value(&text, &of("sum", "")).unwrap() > 0.1, "{text}");
    assert_eq!(value(&text, "rinit_generation{app=\"web\"}"), Some(2.0));
}

#[test]
fn openmetrics_is_served_to_a_client_that_prefers_it() {
    let rinit = start(&[], "up wait");
    let request = |accept: &str| -> Answer {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
        send(&rinit.socket, head.as_bytes()).unwrap()
    };
    let text = request("text/plain");
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let open = request("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let open = open.text();
    assert!(open.ends_with("\n# EOF\n") && open.contains("# TYPE rinit_build info\n"), "{open}");
    assert!(open.contains("# TYPE rinit_worker_restarts counter\nrinit_worker_restarts_total{"), "{open}");
    let names = |text: &str| {
        let name = |line: &str| (!line.starts_with('#')).then(|| line.split(['{', ' ']).next().unwrap().to_owned());
        text.lines().filter_map(name).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&open), names(&text.text()), "the samples have the same names in both");
}

#[test]
fn the_alert_rules_are_valid_and_pass_their_tests() {
    let folder = format!("{DOCS}/prometheus");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let [what, kind, file] = arguments;
        let path = format!("{folder}/{file}");
        if let Some((is_fine, why)) = run("promtool", &[what, kind, &path], "") {
            assert!(is_fine, "{arguments:?}: {why}");
        }
    }
    let (rules, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    for rule in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {rule}")), "{rule} has no test");
    }
    check_names(&rules);
}

#[test]
fn the_dashboard_is_whole_and_its_queries_are_valid() {
    let text = read("dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let mut taken = BTreeSet::new();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for panel in panels {
        assert!(taken.insert((u64::MAX, number(&panel["id"]))), "two panels have the id {}", panel["id"]);
        let at = &panel["gridPos"];
        for x in number(&at["x"])..number(&at["x"]) + number(&at["w"]) {
            for y in number(&at["y"])..number(&at["y"]) + number(&at["h"]) {
                assert!(x < 24 && taken.insert((x, y)), "{} lies on another panel, or outside", panel["title"]);
            }
        }
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(panel["type"] == "row" || !targets.is_empty(), "{} shows nothing", panel["title"]);
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            let expression =
                target["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$__range", "1h");
            rules += &format!("  - record: x\n    expr: {}\n", serde_json::to_string(&expression).unwrap());
            check_names(&expression);
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, rules).unwrap();
    if let Some((is_fine, why)) = run("promtool", &["check", "rules", file.path().to_str().unwrap()], "") {
        assert!(is_fine, "{why}");
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(DOCS).join("prometheus").join(name)).unwrap()
}

/// Checks that the metrics in a text are those of `docs/metrics.md`.
fn check_names(text: &str) {
    let documented = documented().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    for word in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        if word.starts_with("rinit_") || word.starts_with("process_") {
            assert!(documented.contains(base), "{word} is no metric of docs/metrics.md");
        }
    }
}
