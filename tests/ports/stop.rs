//! Node's stop: an app that handles its stop signal gets it while its servers are open, and clients lose no request.

use crate::apps::{all_listen, node_app, reloaded, served_by, stop, workers};
use crate::harness::{Flag, Rig, Running, eventually, free_port};
use crate::load::{MIX, answer, connect, request, under_load};
use crate::setup::{app, node, npm, runtime};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const VERSIONS: [&str; 5] = ["node18", "node20", "node22", "node24", "node26"];

/// The app that handles its stop signal in that way.
fn handling(node: &str, kind: &str, port: u16, settings: &[&str]) -> Option<Rig> {
    let rig = node_app(1, settings, node, "handles.js", port).env("KIND", kind);
    Some(rig.env("NODE_PATH", npm()?.to_str().unwrap()))
}

/// A client that has sent a request, and keeps its connection without another.
fn idle_client(port: u16) -> BufReader<TcpStream> {
    let mut client = connect(port).unwrap();
    client.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
    assert!(answer(&mut client).unwrap().1, "it is kept");
    client
}

/// A reload and a stop of that app, with and without something else that keeps it alive: its cleanup runs each time.
fn cleans_up(node: &str, kind: &str) {
    for pool in ["", "1"] {
        let port = free_port();
        let Some(rig) = handling(node, kind, port, &["--stop-timeout", "20s"]) else { return };
        let rig = rig.env("POOL", pool).start();
        all_listen(&rig, 1);
        let _idle = idle_client(port);
        rig.signal("HUP");
        reloaded(&rig, 1);
        let _idle = idle_client(port);
        stop(&rig);
        let out = rig.output();
        assert_eq!(out.count("cleanup"), 2, "{:#?} {:#?}", out.stdout, out.stderr);
        assert!(!out.has("failed"), "{:#?}", out.stdout);
        // terminus ends the process by the signal when it has cleaned up.
        let end = if kind == "terminus" { "SIGTERM" } else { "exit code 0" };
        assert_eq!(out.count(&format!("is gone: {end}")), 2, "{:#?}", out.stderr);
    }
}

fn cleans_up_in_every_version(kind: &str) {
    for version in VERSIONS {
        if let Some(node) = runtime(version) {
            cleans_up(&node, kind);
        }
    }
}

#[test]
fn a_handler_that_closes_its_server_finds_it_open() {
    cleans_up_in_every_version("close");
}

#[test]
fn a_handler_that_exits_runs_first() {
    cleans_up_in_every_version("exit");
}

#[test]
fn a_handler_that_takes_its_time_runs_to_its_end() {
    cleans_up_in_every_version("later");
}

#[test]
fn a_promisified_close_resolves() {
    cleans_up_in_every_version("promisified close");
}

#[test]
fn a_server_can_be_disposed_of() {
    for version in &VERSIONS[1..] {
        if let Some(node) = runtime(version) {
            cleans_up(&node, "asyncDispose");
        }
    }
}

#[test]
fn express_closes_its_server() {
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "express"));
}

#[test]
fn http_terminator_cleans_up() {
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "http-terminator"));
}

#[test]
fn stoppable_cleans_up() {
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "stoppable"));
}

#[test]
fn terminus_cleans_up() {
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "terminus"));
}

#[test]
fn http_graceful_shutdown_cleans_up() {
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "http-graceful-shutdown"));
}

#[test]
fn close_with_grace_cleans_up_and_is_signalled_once() {
    // A second signal makes it exit with 1.
    runtime("node22").into_iter().for_each(|node| cleans_up(&node, "close-with-grace"));
}

#[test]
fn reloads_and_scaling_lose_nothing_where_the_app_handles_the_stop_signal() {
    let Some(node) = node() else { return };
    for balance in ["round-robin", "reuseport", "shared"] {
        for kind in ["close", "exit"] {
            let port = free_port();
            let rig = node_app(2, &["--balance", balance], &node, "handles.js", port).env("KIND", kind).start();
            all_listen(&rig, 2);
            served_by(port, 2);
            let (load, ()) = under_load(port, &MIX, |_| {
                rig.signal("HUP");
                reloaded(&rig, 1);
                rig.signal("TTOU");
                rig.until("one worker fewer is there", |out| out.count("is gone") == 3);
            });
            load.assert_lossless(&rig);
            stop(&rig);
            assert_eq!(rig.output().count("cleanup"), 4, "{:#?}", rig.output().stdout);
        }
    }
}

#[test]
fn a_request_in_flight_is_answered_before_the_handler_runs() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &[], &node, "handles.js", port).env("KIND", "exit").start();
    all_listen(&rig, 1);
    let mut busy = connect(port).unwrap();
    busy.get_mut()
        .write_all(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let mut arrived = [0; 25];
    busy.read_exact(&mut arrived).unwrap();
    assert_eq!(&arrived, b"HTTP/1.1 100 Continue\r\n\r\n");
    rig.signal("TERM");
    eventually("the port is closed", || connect(port).is_err().then_some(()));
    busy.get_mut().write_all(b"body").unwrap();
    assert!(!answer(&mut busy).unwrap().1, "the client is told to go");
    assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
    assert!(rig.output().has("cleanup"));
}

#[test]
fn the_signal_comes_at_half_the_stop_timeout_while_a_connection_is_open() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &["--stop-timeout", "8s"], &node, "handles.js", port).env("KIND", "exit").start();
    all_listen(&rig, 1);
    let mut busy = connect(port).unwrap();
    // A request that never ends.
    busy.get_mut().write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").unwrap();
    assert!(answer(&mut busy).is_ok());
    let mut open = connect(port).unwrap();
    open.get_mut().write_all(b"POST /slow HTTP/1.1\r\nHost: x\r\n").unwrap();
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
    assert!(rig.output().has("cleanup"));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(3900) && took < Duration::from_millis(7900), "{took:?}");
}

#[test]
fn a_handler_that_takes_long_gets_no_second_signal() {
    let Some(node) = node() else { return };
    let (port, settings) = (free_port(), ["--stop-timeout", "8s"]);
    let rig = node_app(1, &settings, &node, "handles.js", port).env("KIND", "slowly").start();
    all_listen(&rig, 1);
    stop(&rig);
    let out = rig.output();
    assert_eq!((out.count("got SIGTERM"), out.count("cleanup")), (1, 1), "{:#?} {:#?}", out.stdout, out.stderr);
}

#[test]
fn an_app_that_handles_another_signal_is_told_of_once_with_the_setting_for_it() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "handles.js", port).env("KIND", "exit").env("SIGNAL", "SIGINT").start();
    all_listen(&rig, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    stop(&rig);
    let out = rig.output();
    let told: Vec<&String> = out.stderr.iter().filter(|line| line.contains("--stop-signal SIGINT")).collect();
    assert!(told.len() == 1 && told[0].contains("handles SIGINT and not SIGTERM"), "{:#?}", out.stderr);
    assert!(!out.stdout.iter().any(|line| line.contains("cleanup")), "it never gets that signal");
}

#[test]
fn an_app_that_handles_sigint_gets_it_as_the_stop_signal() {
    let Some(node) = node() else { return };
    let (port, settings) = (free_port(), ["--stop-signal", "SIGINT"]);
    let rig = node_app(1, &settings, &node, "handles.js", port).env("SIGNAL", "SIGINT").start();
    all_listen(&rig, 1);
    stop(&rig);
    assert_eq!(rig.output().count("cleanup"), 1, "{:#?}", rig.output().stdout);
}

#[test]
fn a_worker_that_listens_after_it_was_asked_to_stop_ends_in_order() {
    for version in VERSIONS {
        for handles in ["", "1"] {
            let Some(node) = runtime(version) else { return };
            let gate = Flag::new();
            let rig = workers(2, &["--ready", "spawn"]).arg(&node).arg(app("node/late-server.js"));
            let rig =
                rig.env("PORT", &free_port().to_string()).env("GATE", &gate.path()).env("HANDLES", handles).start();
            rig.until("both load", |out| out.count("loading") == 2);
            rig.signal("TERM");
            rig.until("both are asked to stop", |out| out.count("is asked to finish") == 2);
            gate.set();
            assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
            let out = rig.output();
            assert!(!out.has("ERR_"), "{:#?}", out.stderr);
            let closed = if handles.is_empty() { 0 } else { 2 };
            assert_eq!(out.count("closed well"), closed, "{:#?} {:#?}", out.stdout, out.stderr);
        }
    }
}

/// HTTP/2 clients that send requests, until this is dropped.
struct Http2Load {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Http2Load {
    fn start(node: &str, url: &str) -> Http2Load {
        let mut command = Command::new(node);
        command.arg(app("node/http2-load.js")).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Http2Load { process, output }
    }

    /// Ends the load. What it has printed.
    fn end(mut self) -> String {
        drop(self.process.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        self.process.wait().unwrap();
        text
    }
}

fn http2_loses_nothing(version: &str) {
    let Some(node) = runtime(version) else { return };
    for (scheme, plain) in [("http", "1"), ("https", "")] {
        let port = free_port();
        let rig = node_app(2, &[], &node, "http2.js", port).env("PLAIN", plain).start();
        all_listen(&rig, 2);
        let load = Http2Load::start(&node, &format!("{scheme}://127.0.0.1:{port}"));
        for reload in 1..=3 {
            rig.signal("HUP");
            reloaded(&rig, reload);
        }
        let told = load.end();
        assert!(told.contains(" lost 0") && !told.contains("answered 0 "), "{scheme}: {told}");
        stop(&rig);
    }
}

#[test]
fn http2_streams_are_not_lost_in_node_18() {
    http2_loses_nothing("node18");
}

#[test]
fn http2_streams_are_not_lost_in_node_20() {
    http2_loses_nothing("node20");
}

#[test]
fn http2_streams_are_not_lost_in_node_22() {
    http2_loses_nothing("node22");
}

#[test]
fn http2_streams_are_not_lost_in_node_24() {
    http2_loses_nothing("node24");
}

#[test]
fn http2_streams_are_not_lost_in_node_26() {
    http2_loses_nothing("node26");
}

/// The time in which an idle session's worker has ended.
fn idle_session_is_closed(rig: &Running, node: &str, port: u16) {
    let mut command = Command::new(node);
    command.arg(app("node/http2-idle.js")).arg(format!("http://127.0.0.1:{port}")).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "idle");
    rig.signal("HUP");
    reloaded(rig, 1);
    let closed = lines.next().unwrap().unwrap();
    let took: u64 = closed.strip_prefix("closed ").unwrap().parse().unwrap_or_else(|_| panic!("{closed}"));
    assert!(took < 1000, "{took} ms");
    client.wait().unwrap();
}

#[test]
fn an_idle_http2_session_is_told_to_go_and_is_closed_within_a_second() {
    for version in VERSIONS {
        let Some(node) = runtime(version) else { return };
        let port = free_port();
        let rig = node_app(1, &[], &node, "http2.js", port).env("PLAIN", "1").start();
        all_listen(&rig, 1);
        idle_session_is_closed(&rig, &node, port);
        stop(&rig);
    }
}
