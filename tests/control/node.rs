//! Tests what rinit's script reports of a Node worker: the lag of its event loop, its heap and its handles.

use crate::client::ask;
use crate::harness::{Rig, eventually};

/// Blocks its event loop for 300 ms in each second.
const APP: &str = "
require('http').createServer((request, answer) => answer.end('ok')).listen(0);
setInterval(() => { const end = Date.now() + 300; while (Date.now() < end); }, 1000);
";

#[test]
fn a_node_worker_reports_its_lag_heap_and_handles() {
    let has_node = std::process::Command::new("node").arg("--version").output().is_ok();
    if !has_node {
        assert!(std::env::var_os("CI").is_none(), "there is no node");
        eprintln!("skipped: there is no node");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, app) = (folder.path().join("rinit.sock"), folder.path().join("app.js"));
    std::fs::write(&app, APP).unwrap();
    let rig =
        Rig::new(&["-i", "1", "--name", "web", "--socket", socket.to_str().unwrap(), "--", "node"]).arg(&app).start();
    rig.until("it is ready", |out| out.has("is ready"));
    let node = eventually("it has reported", || {
        let node = ask(&socket, "GET", "/v1/status", "").json()["workers"][0]["node"].clone();
        (!node.is_null()).then_some(node)
    });
    let lag = node["event_loop_lag_ms"].as_f64().unwrap();
    assert!((200.0..10_000.0).contains(&lag), "{node}");
    assert!(
        node["heap_used_bytes"].as_u64().unwrap() > 1_000_000 && node["active_handles"].as_u64().unwrap() >= 1,
        "{node}"
    );
    // The history has it with its next sample.
    eventually("the history has a lag", || {
        let history = ask(&socket, "GET", "/v1/history", "").json();
        history["workers"][0]["event_loop_lag_ms"].as_array()?.last()?.as_f64().filter(|lag| *lag > 100.0)
    });
}
