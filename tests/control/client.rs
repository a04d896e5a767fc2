//! Implements an HTTP/1.1 client that sends any bytes, well-formed or not, and reads one answer.

use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A test fails without an answer by then.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The time for which an endless stream is read.
const STREAM_READING: Duration = Duration::from_millis(40);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(one, _)| one == name).map_or("", |(_, value)| value)
    }

    /// The content type without its parameters.
    pub fn kind(&self) -> &str {
        self.header("content-type").split(';').next().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The server-sent events that have come whole: names and data.
    pub fn events(&self) -> Vec<(String, Value)> {
        let text = self.text();
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let read = |block: &str| {
            let of = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            // A comment has neither.
            Some((of("event: ")?, serde_json::from_str(&of("data: ")?).unwrap()))
        };
        whole.split("\n\n").filter_map(read).collect()
    }
}

/// Sends a well-formed request.
pub fn ask(socket: &Path, method: &str, target: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}");
    send(socket, text.as_bytes()).unwrap_or_else(|| panic!("no answer to {text}"))
}

/// Sends bytes and reads an answer; `None`: the connection ended without one.
pub fn send(socket: &Path, bytes: &[u8]) -> Option<Answer> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(STREAM_READING)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    std::thread::scope(|scope| {
        // Written beside the reading: an answer may come before all has been sent, and the server then need not read the rest.
        scope.spawn(|| (&stream).write_all(bytes));
        let answer = receive(&stream, bytes);
        let _ = stream.shutdown(Shutdown::Both);
        answer
    })
}

/// Sends half of the bytes, and disconnects.
pub fn cut_off(socket: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_write_timeout(Some(STREAM_READING)).unwrap();
    let _ = stream.write_all(&bytes[..bytes.len() / 2]);
}

fn receive(mut stream: &UnixStream, asked: &[u8]) -> Option<Answer> {
    let is_get = asked.starts_with(b"GET ");
    let (mut read, mut buffer, start) = (Vec::new(), vec![0; 1 << 16], Instant::now());
    let mut began: Option<Instant> = None;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return parse(&read),
            Ok(count) => read.extend(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => return parse(&read),
        }
        let endless = is_get && parse(&read).is_some_and(|answer| answer.kind() == "text/event-stream");
        if endless && began.get_or_insert_with(Instant::now).elapsed() >= STREAM_READING {
            return parse(&read);
        }
        let text = || String::from_utf8_lossy(&asked[..asked.len().min(500)]).into_owned();
        assert!(start.elapsed() < TIMEOUT, "no end of the answer to {}: {:?}", text(), parse(&read));
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let mut answer = Answer { status, headers: lines.filter_map(pair).collect(), body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == "chunked" {
        answer.body = decode_chunks(&answer.body);
    }
    Some(answer)
}

/// Decodes the chunks that have come.
fn decode_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).unwrap();
        let Some(chunk) = rest.get(end + 2..end + 2 + length) else { break };
        body.extend(chunk);
        rest = rest.get(end + 4 + length..).unwrap_or_default();
    }
    body
}
