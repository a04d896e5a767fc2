//! The API's client: a request a connection, HTTP/1.0, blocking, with nothing that takes time to set up.

use super::{Error, Failure};
use crate::cli::{Environment, variable};
use crate::control::{SOCKET_PATHS, check_server};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take that only tells. rinit gives it between two turns of its loop.
const PATIENCE: Duration = Duration::from_secs(10);

/// No head, no line of a stream and no answer is longer.
const MAX_HEAD: u64 = 64 * 1024;
const MAX_LINE: u64 = 4 * 1024 * 1024;
const MAX_BODY: u64 = 256 * 1024 * 1024;

/// Who asks rinit.
#[derive(Debug)]
pub struct Client {
    /// Where it may listen.
    places: Vec<PathBuf>,
    /// Whether somebody said so.
    given: bool,
}

impl Client {
    /// For the socket that was given, or the environment's, or the usual ones.
    pub fn new(given: Option<&str>, environment: &Environment) -> Client {
        let from_environment = || variable(environment, "RINIT_SOCKET").filter(|path| !path.is_empty());
        let given = given.map(PathBuf::from).or_else(|| from_environment().map(PathBuf::from));
        match given {
            Some(path) => Client { places: vec![path], given: true },
            None => Client { places: SOCKET_PATHS.iter().map(PathBuf::from).collect(), given: false },
        }
    }

    /// Asks for something and reads it.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read_json(&self.get_text(path)?)
    }

    /// The same, as the JSON that it is.
    pub fn get_text(&self, path: &str) -> Result<String, Failure> {
        let response = self.send("GET", path, None, Some(PATIENCE))?;
        let status = response.status;
        let text = response.text()?;
        if status < 400 { Ok(text) } else { Err(refusal(status, &text)) }
    }

    /// The status and text of a probe: `/readyz`.
    pub fn probe(&self, path: &str, patience: Duration) -> Result<(u16, String), Failure> {
        let response = self.send("GET", path, None, Some(patience))?;
        Ok((response.status, response.text()?))
    }

    /// Asks for a stream, which may say nothing for any time. What is refused is an error.
    pub fn stream(&self, method: &str, path: &str, body: Option<&str>) -> Result<Response, Failure> {
        let response = self.send(method, path, body, None)?;
        let status = response.status;
        if status < 400 { Ok(response) } else { Err(refusal(status, &response.text()?)) }
    }

    /// Where somebody answers.
    pub fn place(&self) -> Result<&Path, Failure> {
        self.connect().map(|(_, place)| place)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        patience: Option<Duration>,
    ) -> Result<Response, Failure> {
        let (stream, _) = self.connect()?;
        let talk = || {
            stream.set_read_timeout(patience)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let accept = if patience.is_some() { "*/*" } else { "text/event-stream" };
            let body = body.unwrap_or_default();
            let request = format!(
                "{method} {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\nAccept: {accept}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            match (&stream).write_all(request.as_bytes()) {
                // Whoever is turned away before the request is read is still told why.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Ok(()) | Err(_) => {}
            }
            Response::read_head(BufReader::new(stream))
        };
        talk().map_err(|error| broken(&error))
    }

    /// A connection to the first place where somebody answers.
    fn connect(&self) -> Result<(UnixStream, &Path), Failure> {
        let mut looked = String::new();
        for place in &self.places {
            match open(place) {
                Ok(stream) => return Ok((stream, place)),
                Err(error) => looked.push_str(&format!("\n  {}: {}", place.display(), why(&error))),
            }
        }
        if self.given && self.places.iter().any(|place| place.as_os_str() == "off") {
            return Err(Failure::NoAnswer("the control socket is off (RINIT_SOCKET or --socket)".into()));
        }
        Err(Failure::NoAnswer(format!("no rinit answers; looked at:{looked}\n{}", self.advice())))
    }

    /// What to do about it: mostly somebody is in the wrong place, and PID 1 tells.
    fn advice(&self) -> String {
        if std::process::id() == 1 {
            return "This is PID 1 itself, so there is nobody to ask. A program of that name is run by: rinit -- NAME"
                .into();
        }
        let line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        let name = Path::new(program.as_ref()).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "rinit" | "tini" | "docker-init" | "dumb-init" => format!(
                "PID 1 here is {name}. It listens only with workers (-i N), and not with --socket off; if it was started \
                 with --socket PATH, give the same here."
            ),
            "" => "Is this the container? Is rinit its PID 1, with workers (-i N), and not with --socket off?".into(),
            name => format!(
                "PID 1 here is {name:?} and not rinit: is this the container? From outside: docker exec CONTAINER rinit …"
            ),
        }
    }
}

/// Connects, and waits no longer than is right where the queue is full: the time to send counts for that too (socket(7)).
fn open(path: &Path) -> io::Result<UnixStream> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&stream, SendTimeout, &TimeVal::new(PATIENCE.as_secs() as _, 0))?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    check_server(&stream)?;
    Ok(stream.into())
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none".into(),
        io::ErrorKind::ConnectionRefused => "nobody listens: whoever made it has ended".into(),
        io::ErrorKind::PermissionDenied => "only root and rinit's own user may (docker exec -u)".into(),
        io::ErrorKind::WouldBlock => "too many others are waiting".into(),
        _ => error.to_string(),
    }
}

/// A connection that was had and lost.
fn broken(error: &io::Error) -> Failure {
    Failure::NoAnswer(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "rinit has taken the connection and does not answer; its log may say why".into()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection to rinit ended in the middle of its answer; the container may be stopping".into()
        }
        io::ErrorKind::InvalidData => format!("what answers on that socket is no rinit: {error}"),
        _ => format!("the connection to rinit failed: {error}"),
    })
}

/// What the API refuses: its own words.
fn refusal(status: u16, text: &str) -> Failure {
    let said = serde_json::from_str::<Error>(text).ok().filter(|error| !error.error.is_empty());
    said.map_or_else(|| Failure::failed(format!("rinit answers {status}: {}", text.trim())), Failure::Failed)
}

/// Reads JSON of the API's.
pub fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let not_understood =
        |error| format!("rinit's answer cannot be read ({error}): is this rinit another version than PID 1?");
    serde_json::from_str(text).map_err(|error| Failure::failed(not_understood(error)))
}

/// What has been answered, up to its body.
pub struct Response {
    status: u16,
    /// Whether it is a stream of events.
    pub is_stream: bool,
    length: Option<u64>,
    reader: BufReader<UnixStream>,
}

impl Response {
    fn read_head(mut reader: BufReader<UnixStream>) -> io::Result<Response> {
        let mut head = reader.by_ref().take(MAX_HEAD);
        let mut line = || {
            let mut line = Vec::new();
            head.read_until(b'\n', &mut line)?;
            match line.strip_suffix(b"\n") {
                Some(line) => Ok(String::from_utf8_lossy(line).trim_end().to_owned()),
                None if line.is_empty() => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end")),
            }
        };
        let first = line()?;
        let mut words = first.split(' ');
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))?;
        let (mut is_stream, mut length) = (false, None);
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else {
                if line.is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-type" => is_stream = value.trim().starts_with("text/event-stream"),
                "content-length" => length = value.trim().parse().ok(),
                _ => {}
            }
        }
        Ok(Response { status, is_stream, length, reader })
    }

    /// The whole body.
    pub fn text(self) -> Result<String, Failure> {
        let mut body = Vec::new();
        let expected = self.length;
        self.reader.take(expected.unwrap_or(MAX_BODY)).read_to_end(&mut body).map_err(|error| broken(&error))?;
        if expected.is_some_and(|expected| expected != body.len() as u64) {
            return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The next part of a stream; `None` at its end.
    pub fn next(&mut self) -> Result<Option<Part>, Failure> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let mut line = Vec::new();
            self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(|error| broken(&error))?;
            let Some(line) = line.strip_suffix(b"\n") else { return Ok(None) };
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches('\r');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.starts_with(':') => return Ok(Some(Part::Beat)),
                "" if !data.is_empty() => return Ok(Some(Part::Event { name, data })),
                "event" => name = value.to_owned(),
                "data" if data.is_empty() => data = value.to_owned(),
                "data" => data = format!("{data}\n{value}"),
                _ => {}
            }
        }
    }

    /// Whether the next part is here already, so that nothing is waited for.
    pub fn has_more(&self) -> bool {
        self.reader.buffer().windows(2).any(|pair| pair == b"\n\n")
    }
}

/// A part of a stream.
#[derive(Debug)]
pub enum Part {
    /// One event.
    Event {
        /// What kind.
        name: String,
        /// Its JSON.
        data: String,
    },
    /// Nothing but a sign of life.
    Beat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_given_one_else_the_environments_else_where_rinit_puts_it() {
        let environment = |path: &str| [("RINIT_SOCKET".into(), path.into())];
        assert_eq!(Client::new(Some("/a"), &environment("/b")).places, [PathBuf::from("/a")]);
        assert_eq!(Client::new(None, &environment("/b")).places, [PathBuf::from("/b")]);
        for usual in [&environment("")[..], &[]] {
            assert_eq!(Client::new(None, usual).places, SOCKET_PATHS.map(PathBuf::from));
        }
    }

    #[test]
    fn the_first_place_where_somebody_answers_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [none, stale, live] = ["none", "stale", "live"].map(|name| folder.path().join(name));
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(&live).unwrap();
        let client = Client { places: vec![none, stale, live], given: false };
        client.connect().unwrap();
        drop(listener);
        match client.connect() {
            Err(Failure::NoAnswer(why)) => assert_eq!(why.lines().count(), 5, "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
