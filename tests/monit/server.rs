//! Serves a control API with prepared answers, and records the requests.

use crate::fixtures::{event, four, history};
use rinit::control::types::{Done, Error, Status};
use serde_json::{json, to_string};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Server {
    pub socket: PathBuf,
    pub asked: Arc<Mutex<Vec<String>>>,
    pub status: Arc<Mutex<Status>>,
    is_gone: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let server = Server {
            socket: folder.path().join("rinit.sock"),
            asked: Arc::default(),
            status: Arc::new(Mutex::new(four())),
            is_gone: Arc::default(),
            connections: Arc::default(),
            _folder: folder,
        };
        let listener = UnixListener::bind(&server.socket).unwrap();
        let (asked, status) = (server.asked.clone(), server.status.clone());
        let (is_gone, connections) = (server.is_gone.clone(), server.connections.clone());
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if is_gone.load(Ordering::SeqCst) {
                    return;
                }
                connections.lock().unwrap().push(connection.try_clone().unwrap());
                let (asked, status) = (asked.clone(), status.clone());
                thread::spawn(move || {
                    let _ = answer(connection.try_clone().unwrap(), &asked, &status);
                    let _ = connection.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    /// As if rinit had ended.
    pub fn end(&self) {
        self.is_gone.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.socket));
        std::fs::remove_file(&self.socket).unwrap();
        self.connections.lock().unwrap().iter().for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
    }

    pub fn was_asked(&self, question: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == question)
    }
}

fn answer(connection: UnixStream, asked: &Mutex<Vec<String>>, status: &Mutex<Status>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let words: Vec<&str> = head.split(' ').collect();
    let question = format!("{} {} {}", words[0], words[1], String::from_utf8_lossy(&body));
    let question = question.trim();
    asked.lock().unwrap().push(question.to_owned());
    let mut out = connection;
    let mut plain = |status: &str, body: String| {
        write!(out, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{body}")
    };
    if question == "GET /v1/status" {
        return plain("200 OK", to_string(&*status.lock().unwrap()).unwrap());
    }
    if question.starts_with("GET /v1/history") {
        return plain("200 OK", to_string(&history()).unwrap());
    }
    if question.starts_with("GET /v1/events") {
        plain("200 OK", String::new())?;
        let event = event(3, "info", "web-1 (pid 13) is ready");
        write!(out, "id: 3\nevent: ready\ndata: {}\n\n", to_string(&event).unwrap())?;
        return reader.read_to_end(&mut body).map(drop);
    }
    if let Some((_, id)) = question.split_once("follow=true").and_then(|(_, rest)| rest.split_once("worker=")) {
        plain("200 OK", String::new())?;
        for seq in 1..=3 {
            let time = format!("2026-08-01T12:00:0{seq}.000Z");
            let line = json!({"seq": seq, "time": time, "worker": id, "app": "web", "slot": 0, "pid": 12, "stream": "stdout", "line": format!("line {seq} of {id}")});
            write!(out, "event: line\ndata: {line}\n\n")?;
        }
        return reader.read_to_end(&mut body).map(drop);
    }
    if question == "POST /v1/workers/web/reload" {
        let error = Error {
            error: "the new web-0 ended with exit code 3".into(),
            worker: Some("web-0".into()),
            last_lines: vec!["Error: no database".into()],
        };
        return plain("409 Conflict", to_string(&error).unwrap());
    }
    plain("200 OK", to_string(&Done { ok: true, message: format!("done: {question}"), workers: vec![] }).unwrap())
}
