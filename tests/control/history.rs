//! Tests the history of usage, which begins with rinit, and the condition of apps and workers.

use crate::client::ask;
use crate::harness::{Rig, eventually, free_port};
use crate::started::{Started, start};
use serde_json::Value;
use std::net::TcpStream;

fn history(rinit: &Started, query: &str) -> Value {
    ask(&rinit.socket, "GET", &format!("/v1/history{query}"), "").json()
}

#[test]
fn usage_is_recorded_every_fifteen_seconds() {
    let rinit = start(&[], "up wait");
    assert_eq!(history(&rinit, "")["interval_ms"], 15_000);
    let history = eventually("there is a sample", || {
        let history = history(&rinit, "?worker=web-1&points=60");
        (!history["time"].is_null()).then_some(history)
    });
    assert_eq!(history["interval_ms"], 60_000);
    let ([app], [worker]) = (&history["apps"].as_array().unwrap()[..], &history["workers"].as_array().unwrap()[..])
    else {
        panic!("{history}");
    };
    assert_eq!((&app["name"], &worker["name"]), (&"web".into(), &"web-1".into()));
    let memory = |series: &Value| series["memory_bytes"][0].as_u64().unwrap();
    assert!(memory(worker) > 100_000 && memory(app) > memory(worker), "{history}");
    assert!(app["cpu_percent"][0].as_f64().unwrap() < 50.0, "{history}");
    assert_eq!((&app["restarts"][0], &worker["connections"]), (&0.into(), &Value::Array(vec![])));
    for query in ["?points=0", "?points=241", "?points=many"] {
        assert_eq!(ask(&rinit.socket, "GET", &format!("/v1/history{query}"), "").status, 400, "{query}");
    }
}

#[test]
fn the_lag_and_the_connections_of_a_node_worker_are_recorded() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        crate::harness::lacking("there is no node");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let (socket, app) = (folder.path().join("rinit.sock"), folder.path().join("app.js"));
    std::fs::write(
        &app,
        "require('http').createServer((request, answer) => answer.end('ok')).listen(PORT);"
            .replace("PORT", &port.to_string()),
    )
    .unwrap();
    let options = ["-i", "1", "--name", "web", "--socket", socket.to_str().unwrap(), "--", "node"];
    let rig = Rig::new(&options).arg(&app).start();
    rig.until("it is ready", |out| out.has("is ready"));
    (0..7).for_each(|_| drop(TcpStream::connect(("127.0.0.1", port)).unwrap()));
    let values = |of: &str| {
        let history = ask(&socket, "GET", "/v1/history", "").json();
        history["workers"][0][of].as_array().map(|values| values.iter().filter_map(Value::as_f64).collect::<Vec<_>>())
    };
    eventually("the history has a lag", || values("event_loop_lag_ms").filter(|values| !values.is_empty()));
    assert_eq!(values("connections").map(|values| values.iter().sum()), Some(7.0));
    assert_eq!(ask(&socket, "GET", "/v1/status", "").json()["workers"][0]["connections"], 7);
}

#[test]
fn a_worker_that_crashes_again_and_again_is_called_crash_looping_until_it_is_stable() {
    let options = ["--backoff", "10ms..20ms", "--max-restarts", "0", "--stable-after", "1s", "--min-uptime", "1ms"];
    let rinit = start(&options, "up unless=DIR/fails wait crash=SEGV");
    // They are ready before they have run.
    rinit.rig.until("both are up", |out| out.count("| up ") == 2);
    let condition = || rinit.status()["apps"][0]["condition"].clone();
    assert_eq!(condition(), "ready");
    std::fs::write(rinit.folder.path().join("fails"), "").unwrap();
    ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    eventually("it is crash-looping", || (condition() == "crash-looping").then_some(()));
    let status = rinit.status();
    assert_eq!([0, 1].map(|slot| status["workers"][slot]["is_crash_looping"].clone()), [true, false]);
    std::fs::remove_file(rinit.folder.path().join("fails")).unwrap();
    eventually("it is stable", || (condition() == "ready").then_some(()));
}

#[test]
fn a_client_is_told_its_permission() {
    let rinit = start(&[], "up wait");
    let access = ask(&rinit.socket, "GET", "/v1/access", "").json();
    assert_eq!((&access["permission"], &access["tokens"]), (&"change".into(), &Value::Array(vec![])));
}

#[test]
fn a_description_has_the_limits_and_the_replacements_that_they_led_to() {
    let words = "unless=DIR/grown grow=60 touch=DIR/grown up wait";
    let rinit = start(&["--max-memory", "50M", "--max-uptime", "1d"], words);
    rinit.rig.until("it is replaced", |out| out.has("worker replaced in"));
    let described = eventually("it is described", || {
        let described = ["web-0", "web-1"].map(|id| ask(&rinit.socket, "GET", &format!("/v1/workers/{id}"), "").json());
        described.into_iter().find(|one| one["replacements"][0].is_object())
    });
    assert_eq!((&described["max_memory"], &described["max_uptime_ms"]), (&"50.0M".into(), &86_400_000.into()));
    let replacements = described["replacements"].as_array().unwrap();
    assert_eq!(replacements.len(), 1, "one that has ended is described once: {described}");
    let message = replacements[0]["message"].as_str().unwrap();
    assert!(message.contains("its limit is 50.0M") && replacements[0]["pid"].is_u64(), "{described}");
}
