//! Tests requests that are for exactly one worker: `/v1/workers/{id}/http/…`, `rinit curl`, and probes without a host.

use crate::client::{Answer, ask};
use crate::harness::{Rig, Running, eventually, free_port};
use std::path::Path;
use std::process::{Command, Output};

/// Answers with the worker's number. `/healthz` fails in the worker whose number a file has; a request for `/hang` hangs the
/// process for good.
const APP: &str = r#"
const http = require('http');
const fs = require('fs');
const worker = process.env.RINIT_WORKER;
const isSick = () => { try { return fs.readFileSync(process.env.SICK, 'utf8') === worker; } catch { return false; } };
let requests = 0;
const metrics = () => `# HELP hits_total Hits.\n# TYPE hits_total counter\nhits_total{path="/hit"} ${requests}\n` +
  `# TYPE process_open_fds gauge\nprocess_open_fds 7\n`;
http.createServer((request, response) => {
  if (request.url === '/hang') for (;;);
  if (request.url === '/hit') requests += 1;
  if (request.url === '/metrics') return response.end(metrics());
  const isFailing = request.url === '/healthz' && isSick();
  response.writeHead(isFailing ? 503 : 200, { 'content-type': 'text/x-app', 'set-cookie': 'a=b' });
  response.end(`worker ${worker} ${request.method} ${request.url} ${request.headers.accept}\n`);
}).listen(Number(process.env.PORT), () => console.log(`up ${worker}`));
"#;

struct Web {
    rig: Running,
    folder: tempfile::TempDir,
}

impl Web {
    /// Two Node workers; none where there is no Node.
    fn start(options: &[&str], sick: &str) -> Option<Web> {
        if Command::new("node").arg("--version").output().is_err() {
            crate::harness::lacking("there is no Node");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("app.js"), APP).unwrap();
        std::fs::write(path("sick"), sick).unwrap();
        let rig = Rig::new(&["-i", "2", "--name", "web", "--min-uptime", "50ms", "--socket", &path("rinit.sock")])
            .args(options)
            .env("SICK", &path("sick"))
            .env("PORT", &free_port().to_string())
            .args(&["node", &path("app.js")])
            .start();
        Some(Web { rig, folder })
    }

    fn until_ready(&self, count: usize) {
        self.rig.until("they are ready", |out| out.count("is ready") >= count);
    }

    fn ask(&self, worker: &str, path: &str) -> Answer {
        ask(&self.folder.path().join("rinit.sock"), "GET", &format!("/v1/workers/{worker}/http/{path}"), "")
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        curl(&self.folder.path().join("rinit.sock"), arguments)
    }

    fn make_sick(&self, worker: &str) {
        std::fs::write(self.folder.path().join("sick"), worker).unwrap();
    }
}

fn curl(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rinit"));
    command.args(["curl", "--socket", socket.to_str().unwrap()]).args(arguments).output().unwrap()
}

/// Ready is said of both workers of an app that shares a port, whatever the connections do.
const LISTEN: [&str; 2] = ["--ready", "listen"];

#[test]
fn the_worker_that_is_asked_answers_where_all_share_a_port() {
    let Some(web) = Web::start(&LISTEN, "") else { return };
    web.until_ready(2);
    for worker in ["0", "1", "1", "0", "web-1", "web-0", "0"] {
        let answer = web.ask(worker, "a/b?c=%20d");
        let number = worker.trim_start_matches("web-");
        assert_eq!(answer.text(), format!("worker {number} GET /a/b?c=%20d */*\n"));
        assert_eq!(answer.header("x-rinit-worker"), format!("web-{number}"));
        assert_eq!((answer.status, answer.kind(), answer.header("set-cookie")), (200, "text/x-app", ""));
        assert!(answer.header("content-security-policy").starts_with("sandbox"), "{answer:?}");
    }
    let ran = web.curl(&["1", "/x"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "worker 1 GET /x */*\n");
    web.make_sick("1");
    let (well, sick) = (web.curl(&["0", "/healthz"]), web.curl(&["1", "/healthz"]));
    assert_eq!((well.status.code(), sick.status.code()), (Some(0), Some(1)));
    assert_eq!(String::from_utf8_lossy(&sick.stderr), "rinit: 1 answered with status 503\n");
    assert_eq!(String::from_utf8_lossy(&sick.stdout), "worker 1 GET /healthz */*\n");
}

#[test]
fn a_worker_with_a_port_of_its_own_is_found_too() {
    let port = free_port();
    let ports = format!("PORT={port}");
    let options = ["--share-ports", "off", "--increment-env", &ports, "--ready", "http:/healthz"];
    let Some(web) = Web::start(&options, "") else { return };
    web.until_ready(2);
    assert_eq!(web.ask("1", "x").text(), "worker 1 GET /x */*\n");
    assert_eq!(web.ask("0", &format!(":{port}/x")).text(), "worker 0 GET /x */*\n");
    let refused = web.ask("1", &format!(":{port}/x"));
    assert_eq!((refused.status, refused.header("x-rinit-worker")), (502, ""), "{}", refused.text());
}

#[test]
fn a_worker_that_does_not_answer_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock");
    let rig = Rig::new(&["-i", "2", "--name", "web", "--ready", "spawn", "--socket", socket.to_str().unwrap()])
        .fixture("up wait")
        .start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    let answer = ask(&socket, "GET", "/v1/workers/1/http/x", "");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("1 has not answered GET /x: the worker"), "{}", answer.text());
    assert_eq!(ask(&socket, "GET", "/v1/workers/1/http/:0/x", "").status, 400);
    assert_eq!(ask(&socket, "GET", "/v1/workers/7/http/x", "").status, 404);
    assert_eq!(ask(&socket, "GET", "/v1/workers/all/http/x", "").status, 400);
    let ran = curl(&socket, &["1", "x"]);
    assert_eq!(ran.status.code(), Some(64), "{ran:?}");
}

#[test]
fn a_readiness_probe_without_a_host_is_answered_by_the_worker_that_it_is_about() {
    let Some(web) = Web::start(&["--ready", "http:/healthz"], "1") else { return };
    web.rig.until("both listen", |out| out.count("| up ") == 2);
    let states = || {
        let status = ask(&web.folder.path().join("rinit.sock"), "GET", "/v1/workers", "").json();
        [0, 1].map(|at| status["workers"][at]["state"].as_str().unwrap().to_owned())
    };
    eventually("web-0 is ready", || (states()[0] == "ready").then_some(()));
    // The port is shared: another worker would have said yes.
    for _ in 0..10 {
        assert_eq!(web.ask("0", "healthz").status, 200);
    }
    assert_eq!(states(), ["ready", "starting"]);
    web.make_sick("");
    web.until_ready(2);
}

#[test]
fn a_tcp_probe_without_a_host_waits_for_the_worker_itself() {
    let Some(web) = Web::start(&["--ready", "tcp:"], "") else { return };
    web.until_ready(2);
    assert_eq!(web.ask("1", "").text(), "worker 1 GET / */*\n");
}

#[test]
fn a_liveness_probe_without_a_host_finds_the_worker_that_hangs() {
    let options = ["--ready", "listen", "--live", "http:/healthz", "--live-interval", "100ms", "--live-timeout", "4s"];
    let Some(web) = Web::start(&options, "") else { return };
    web.until_ready(2);
    // Its time limit is over, or the worker has been replaced.
    assert!([502, 504].contains(&web.ask("1", "hang").status), "it has no answer");
    web.rig.until("web-1 is replaced", |out| out.has("web-1 (pid") && out.has("does not answer its liveness probes"));
    assert_eq!(web.rig.output().count("does not answer its liveness probes"), 1, "web-0 answers");
    eventually("the new one answers", || (web.ask("1", "x").status == 200).then_some(()));
}

#[test]
fn node_workers_report_the_lag_of_their_event_loop_their_heap_and_their_handles() {
    let Some(web) = Web::start(&LISTEN, "") else { return };
    web.until_ready(2);
    let socket = web.folder.path().join("rinit.sock");
    let node = |worker: usize| ask(&socket, "GET", "/v1/workers", "").json()["workers"][worker]["node"].clone();
    let health = eventually("it has reported", || Some(node(1)).filter(|node| node.is_object()));
    assert!(health["heap_used_bytes"].as_u64().unwrap() > 1_000_000, "{health}");
    // Its channel at least.
    assert!(health["active_handles"].as_u64().unwrap() >= 1, "{health}");
    // One that is blocked cannot report, which shows too.
    assert_eq!(web.ask("1", "hang").status, 504);
    let lag = |worker| node(worker)["event_loop_lag_ms"].as_u64().unwrap();
    eventually("the lag of the blocked one grows", || (lag(1) > 3_000).then_some(()));
    eventually("the other one's does not", || (lag(0) < 1_000).then_some(()));
    let text = ask(&socket, "GET", "/metrics", "").text();
    for name in
        ["connections_total", "connections_waiting", "event_loop_lag_seconds", "heap_used_bytes", "active_handles"]
    {
        assert!(text.contains(&format!("rinit_worker_{name}{{app=\"web\",worker=\"0\"}} ")), "{text}");
    }
}

#[test]
fn the_workers_own_metrics_are_merged_and_their_counts_outlive_them() {
    let Some(web) = Web::start(&["--ready", "listen", "--app-metrics", "/metrics"], "") else { return };
    web.until_ready(2);
    let socket = web.folder.path().join("rinit.sock");
    let page = || ask(&socket, "GET", "/metrics", "").text();
    let hits = |text: &str, worker: u32| {
        let start = format!("hits_total{{app=\"web\",worker=\"{worker}\",path=\"/hit\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u32>().ok())
    };
    (0..3).for_each(|_| assert_eq!(web.ask("0", "hit").status, 200));
    assert_eq!(web.ask("1", "hit").status, 200);
    let has = |zero, one| {
        let text = page();
        ((hits(&text, 0), hits(&text, 1)) == (Some(zero), Some(one))).then_some(text)
    };
    let text = eventually("both pages are there", || has(3, 1));
    assert_eq!(text.matches("# TYPE hits_total counter\n").count(), 1, "{text}");
    assert_eq!(text.matches("# TYPE process_open_fds gauge\n").count(), 1, "rinit has one of its own: {text}");
    assert!(text.contains("process_open_fds{app=\"web\",worker=\"1\"} 7\n"), "{text}");
    assert!(text.contains("rinit_app_metrics_up{app=\"web\",worker=\"0\"} 1\n"), "{text}");

    assert_eq!(ask(&socket, "POST", "/v1/reload", "").status, 200);
    eventually("the new workers' pages are there, with the old ones' counts", || has(3, 1));
    assert_eq!(web.ask("0", "hit").status, 200);
    eventually("it goes on from there", || has(4, 1));
    // A worker that does not answer keeps its counts, and costs no more than its own.
    assert_eq!(web.ask("1", "hang").status, 504);
    let text = eventually("the page comes without it", || has(4, 1));
    assert!(text.contains("rinit_app_metrics_up{app=\"web\",worker=\"1\"} 0\n"), "{text}");
}
