//! Serves prepared answers on a unix socket, and runs verbs against them.

use rinit::control::types::{AppStatus, ExitRecord, WorkerStatus};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST /v1/scale`
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

pub struct Fake {
    folder: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Serves every connection with the function, which answers on the stream.
    pub fn new(answer: impl Fn(&Request, &mut UnixStream) + Send + Sync + 'static) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let requests = Arc::new(Mutex::new(vec![]));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seen, answer) = (stream.unwrap(), seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    seen.lock().unwrap().push(request.clone());
                    answer(&request, &mut stream);
                });
            }
        });
        Fake { folder, requests }
    }

    /// Answers every request the same.
    pub fn always(status: u16, body: impl Into<String>) -> Fake {
        let body = body.into();
        Fake::new(move |_, stream| reply(stream, status, &body))
    }

    /// Answers each request by its line.
    pub fn of(answers: &[(&str, u16, String)]) -> Fake {
        let answers: Vec<(String, u16, String)> =
            answers.iter().map(|(line, status, body)| ((*line).to_owned(), *status, body.clone())).collect();
        Fake::new(move |request, stream| match answers.iter().find(|(line, ..)| *line == request.line) {
            Some((_, status, body)) => reply(stream, *status, body),
            None => reply(stream, 404, &format!("{{\"error\":\"no such route: {}\"}}", request.line)),
        })
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = verb(line);
        command.env("RINIT_SOCKET", self.socket());
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        finish(self.command(line))
    }
}

fn read(stream: &UnixStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = lines.remove(0).strip_suffix(" HTTP/1.1").unwrap().to_owned();
    Some(Request { line, headers: lines, body: String::from_utf8(body).unwrap() })
}

pub fn reply(stream: &mut UnixStream, status: u16, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

pub fn begin_stream(stream: &mut UnixStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").unwrap();
}

pub fn event(stream: &mut UnixStream, name: &str, data: &impl serde::Serialize) {
    let data = serde_json::to_string(data).unwrap();
    let _ = stream.write_all(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

/// A verb with an empty environment: it finds no socket but a given one.
pub fn verb(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rinit"));
    command.args(line.split_whitespace()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A verb's exit code and output.
#[derive(Debug)]
pub struct Ran {
    /// As a shell has it: 128 and more for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn finish(mut command: Command) -> Ran {
    end(command.spawn().unwrap())
}

pub fn end(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A ready worker.
pub fn worker(id: &str) -> WorkerStatus {
    let (app, slot) = id.rsplit_once('-').unwrap();
    WorkerStatus {
        id: id.into(),
        app: app.into(),
        slot: slot.parse().unwrap(),
        role: "worker".into(),
        state: "ready".into(),
        pid: Some(12),
        generation: 1,
        started: None,
        uptime_ms: Some(192_000),
        restarts: 0,
        cpu_percent: Some(1.25),
        memory_bytes: Some(35_757_000),
        ready_by: Some("listen".into()),
        status: None,
        listens: vec!["port 8080".into()],
        connections: None,
        open_connections: None,
        retry_in_ms: None,
        is_crash_looping: false,
        node: None,
        last_exit: None,
    }
}

pub fn app(name: &str, wanted: u32, ready: u32) -> AppStatus {
    AppStatus {
        id: 0,
        name: name.into(),
        command: vec!["node".into(), "app.js".into()],
        instances: wanted,
        wanted,
        ready,
        missing: wanted.saturating_sub(ready),
        kind: "service".into(),
        condition: if ready == wanted { "ready" } else { "degraded" }.into(),
        is_over: false,
        generation: 1,
        reload: None,
        last_reload: None,
        listens: vec![],
    }
}

pub fn exit() -> ExitRecord {
    ExitRecord {
        time: "2026-01-01T12:00:00.000Z".into(),
        pid: Some(9),
        code: Some(3),
        signal: None,
        oom_killed: false,
        cause: "exit code 3".into(),
        lived_ms: 102,
        asked: false,
    }
}
