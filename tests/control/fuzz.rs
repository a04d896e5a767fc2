//! Fuzzes the API with requests made from `openapi.json`, well-formed and malformed, from several clients at once. Every answer
//! must be declared, its body must have the declared type, and rinit and its workers must run at the end.
//! `PROPTEST_CASES` is the number of requests of each client.

use crate::client::{Answer, ask, cut_off, send};
use crate::harness::{Rig, Running, eventually};
use crate::schema::{Operation, check, follow, operations, schema, text, values};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CLIENTS: usize = 3;
/// As an id: all workers, where that does not end the container.
const ALL: &str = "ALL";

/// A request, and the answers that it may get.
#[derive(Clone)]
struct FuzzedRequest {
    operation: Operation,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// The head is not valid HTTP: the answer may be the HTTP server's own, or none.
    is_broken: bool,
    /// The connection ends in the middle.
    is_cut: bool,
}

impl std::fmt::Debug for FuzzedRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let bytes = self.bytes();
        write!(formatter, "{}, of {} bytes", bytes[..bytes.len().min(1000)].escape_ascii(), bytes.len())
    }
}

impl FuzzedRequest {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

/// A mutation of a well-formed request.
#[derive(Clone, Debug)]
enum Mutation {
    Nothing,
    Method(String),
    Id(String),
    Query(String),
    Body(Vec<u8>),
    Stream,
    Header(String, Vec<u8>),
    Broken(String, Vec<u8>),
    Cut,
}

/// Names of workers, existing and not.
fn ids() -> impl Strategy<Value = String> {
    let there = select(vec!["web-0", "web-1", "0", "1", "%30", "web%2D0", ALL]).prop_map(str::to_owned);
    let not = select(vec!["web-9", "9", "-1", "4294967296", "%", "%ff", "%00", "..", "+", "web-", "*", "nobody"]);
    let long = (1..3000usize).prop_map(|length| "x".repeat(length));
    let odd = text().prop_map(|text| {
        text.bytes().filter(|byte| !b"al".contains(byte)).fold("~".into(), |all, byte| format!("{all}%{byte:02x}"))
    });
    prop_oneof![12 => there, 2 => not.prop_map(str::to_owned), 1 => long, 1 => odd]
}

fn queries(operation: &Operation) -> BoxedStrategy<String> {
    let names = [operation.query(), vec!["nothing"]].concat();
    let valid = select(vec![
        "true",
        "false",
        "1",
        "5",
        "0",
        "stdout",
        "stderr",
        "web-0",
        "0,1",
        "all",
        "10m",
        "50%",
        "2026-01-02T03:04:05Z",
    ]);
    let invalid = select(vec![
        "",
        "-1",
        "99999999999999999999",
        "x",
        "%",
        "%ff",
        "web-9",
        "9h9h",
        "yes",
        "1e3",
        "2026-13-01T00:00:00Z",
        ",",
        "'",
    ]);
    let value = prop_oneof![valid, invalid];
    let pair = (select(names), value).prop_map(|(name, value)| format!("{name}={value}"));
    vec(pair, 0..4).prop_map(|pairs| pairs.join("&")).boxed()
}

/// Bodies by the schema, with the few values that have an effect.
fn bodies(operation: &Operation) -> BoxedStrategy<Vec<u8>> {
    let Some(body) = operation.described.get("requestBody") else { return Just(vec![]).boxed() };
    let schema = &body["content"]["application/json"]["schema"];
    let to = select(vec!["1", "2", "3", "+1", "-1", "0", "max", "4294967296", "+0", "1025", "x", ""]);
    let signal = select(vec![
        "SIGUSR1", "usr2", "WINCH", "10", "HUP", "TERM", "KILL", "STOP", "CONT", "SIGNOPE", "0", "65", "-1",
    ]);
    let app = select(vec![json!("web"), json!("web"), Value::Null, json!("other")]);
    let fill = |(mut value, to, signal, app): (Value, &str, &str, Value)| {
        let fields = value.as_object_mut().unwrap();
        for (name, known) in [("to", json!(to)), ("signal", json!(signal)), ("app", app)] {
            fields.entry(name).and_modify(|value| *value = known);
        }
        value.to_string().into_bytes()
    };
    (values(schema), to, signal, app).prop_map(fill).boxed()
}

fn mutations(operation: &Operation) -> BoxedStrategy<Mutation> {
    let methods = select(vec!["PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "get", "HEAD", "GET", "POST"]);
    let bodies = prop_oneof![
        select(vec![
            "",
            "{",
            "[]",
            "null",
            "7",
            "{}",
            r#"{"to":4}"#,
            r#"{"to":"1","to":"2"}"#,
            r#"{"signal":null}"#,
            "\u{feff}{}"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..64),
        (1..100_000usize).prop_map(|depth| "[".repeat(depth).into_bytes()),
        (60_000..300_000usize).prop_map(|length| format!("{{\"to\":\"{}\"}}", "1".repeat(length)).into_bytes()),
    ];
    let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let headers = select(vec![
        header("accept", b"*/*;q=x, \xff"),
        header("accept-encoding", b"gzip"),
        header("authorization", b"Bearer \xff"),
        header("content-type", b"text/xml"),
        header("connection", b"keep-alive, upgrade"),
        header("upgrade", b"websocket"),
        header("host", b"[evil"),
        header("last-event-id", b"-5"),
        header("range", b"bytes=5-1"),
        header("x-http-method-override", b"DELETE"),
    ]);
    let broken = select(vec![
        header("content-length", b"99999999999999999999"),
        header("content-length", b"-1"),
        header("transfer-encoding", b"gzip"),
        header("transfer-encoding", b"chunked, chunked"),
        header("no name", b"x"),
        header("", b"x"),
        header("x\0y", b"x"),
        header("x", b"a\x01b"),
        header("x", &[b'y'; 40_000]),
        header("a: 1\r\nb", &b"c\r\nd: e\r\n".repeat(300)),
    ]);
    prop_oneof![
        6 => Just(Mutation::Nothing),
        4 => Just(Mutation::Stream),
        2 => methods.prop_map(|method| Mutation::Method(method.into())),
        2 => ids().prop_map(Mutation::Id),
        2 => queries(operation).prop_map(Mutation::Query),
        2 => bodies.prop_map(Mutation::Body),
        3 => headers.prop_map(|(name, value)| Mutation::Header(name, value)),
        1 => broken.prop_map(|(name, value)| Mutation::Broken(name, value)),
        1 => Just(Mutation::Cut),
    ]
    .boxed()
}

fn requests() -> impl Strategy<Value = FuzzedRequest> {
    // Changes and calls with parameters come more often.
    let weight = |one: &Operation| if one.method == "GET" && one.described.get("parameters").is_none() { 1 } else { 4 };
    let operations = operations().into_iter().map(|one| (weight(&one), Just(one).boxed())).collect();
    prop::strategy::Union::new_weighted(operations).prop_flat_map(|operation| {
        let parts = (ids(), queries(&operation), bodies(&operation), vec(mutations(&operation), 0..3));
        parts.prop_map(move |(id, query, body, mutations)| {
            let at = |id: &str, query: &str| {
                let all = if operation.method == "DELETE" { "0" } else { "all" };
                let path = operation.path.replace("{id}", if id == ALL { all } else { id });
                let path = path.replace("{path}", if query.len().is_multiple_of(3) { "a/b" } else { ":1/%2f" });
                if query.is_empty() { path } else { path + "?" + query }
            };
            let mut request = FuzzedRequest {
                operation: operation.clone(),
                method: operation.method.clone(),
                target: at(&id, &query),
                headers: vec![("host".into(), b"localhost".to_vec())],
                body,
                is_broken: false,
                is_cut: false,
            };
            for mutation in mutations {
                match mutation {
                    Mutation::Nothing => {}
                    Mutation::Method(method) => request.method = method,
                    Mutation::Id(id) => request.target = at(&id, &query),
                    Mutation::Query(query) => request.target = at(&id, &query),
                    Mutation::Body(body) => request.body = body,
                    Mutation::Stream => request.headers.push(("accept".into(), b"text/event-stream".to_vec())),
                    Mutation::Header(name, value) => request.headers.push((name, value)),
                    Mutation::Broken(name, value) => {
                        request.headers.push((name, value));
                        request.is_broken = true;
                    }
                    Mutation::Cut => request.is_cut = true,
                }
            }
            if !request.is_broken {
                request.headers.push(("content-length".into(), request.body.len().to_string().into_bytes()));
            }
            // The one call that would end the test is sent with a method that it does not take.
            if request.method == "POST" && request.operation.path == "/v1/shutdown" {
                request.method = "PATCH".into();
            }
            request
        })
    })
}

/// Checks that an answer is declared for its request.
fn judge(request: &FuzzedRequest, answer: &Answer) -> Result<(), String> {
    let status = answer.status;
    if request.is_broken && matches!(status, 400 | 414 | 431) {
        return Ok(());
    }
    let path = |one: &&Operation| one.path == request.operation.path;
    let all = operations();
    let method = if request.method == "HEAD" { "GET" } else { &request.method };
    let Some(operation) = all.iter().filter(path).find(|one| one.method == method) else {
        let allowed: BTreeSet<_> = all.iter().filter(path).map(|one| one.method.as_str()).collect();
        let is_refused = status == 405 && answer.header("allow").split(", ").collect::<BTreeSet<_>>() == allowed;
        return if is_refused {
            check_error(request, answer)
        } else {
            Err(format!("not refused as what takes {allowed:?}"))
        };
    };
    let declared = operation.answer(status).ok_or("not a declared status")?;
    if request.method == "HEAD" {
        return if answer.body.is_empty() { Ok(()) } else { Err("a body".into()) };
    }
    let kind = answer.kind();
    let content = declared["content"].get(kind).ok_or("not of a declared type")?;
    if kind == "application/json" {
        let value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
        check(&content["schema"], &value, "it")?;
    }
    for (name, data) in answer.events() {
        let events = &content["x-events"];
        let schema = events.get(&name).or(events.get("*")).ok_or_else(|| format!("event {name} is not declared"))?;
        check(follow(schema), &data, &name)?;
    }
    if status < 400 || kind != "application/json" { Ok(()) } else { check_error(request, answer) }
}

/// Checks that an error is a sentence.
fn check_error(request: &FuzzedRequest, answer: &Answer) -> Result<(), String> {
    if request.method == "HEAD" {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    check(schema("Error"), &value, "error")?;
    if value["error"].as_str().unwrap().len() < 8 { Err("that is no sentence".into()) } else { Ok(()) }
}

fn start(socket: &Path) -> Running {
    let arguments = [
        "-i",
        "2",
        "--name",
        "web",
        "--ready",
        "spawn",
        "--min-uptime",
        "5ms",
        "--backoff",
        "1ms..5ms",
        "--max-restarts",
        "0",
        "--stop-timeout",
        "200ms",
        "--socket",
    ];
    let rig = Rig::new(&arguments).arg(socket).arg("--").fixture("err=here signals").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    eventually("the socket is there", || socket.exists().then_some(()));
    rig
}

fn client(socket: PathBuf) {
    // A shrunk request goes to a rinit that has been through the others: few tries are enough.
    let config = Config { max_shrink_iters: 30, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&requests(), |request| {
        let bytes = request.bytes();
        if request.is_cut {
            cut_off(&socket, &bytes);
            return Ok(());
        }
        match send(&socket, &bytes) {
            Some(answer) => judge(&request, &answer)
                .map_err(|why| TestCaseError::fail(format!("{why}: {} {:?}", answer.status, answer.text()))),
            None if request.is_broken => Ok(()),
            None => Err(TestCaseError::fail("no answer")),
        }
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_is_asked_is_answered_as_it_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock");
    let rig = start(&socket);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(socket.clone()))).collect();
        for client in clients {
            if let Err(why) = client.join() {
                std::panic::resume_unwind(why);
            }
        }
    });
    assert!(rig.is_running());
    assert!(!rig.output().has("please report"), "{:#?}", rig.output().stderr);
    // Calls still work.
    for (target, body) in [("/v1/workers/all/start", ""), ("/v1/scale", r#"{"to":"2"}"#), ("/v1/reload", "")] {
        let answer = ask(&socket, "POST", target, body);
        assert!(answer.status == 200, "{target}: {answer:?}");
    }
    let status = ask(&socket, "GET", "/v1/status", "").json();
    assert_eq!((&status["apps"][0]["ready"], &status["apps"][0]["wanted"]), (&json!(2), &json!(2)), "{status:#}");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}
