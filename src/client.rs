//! Sends requests to rinit's control API over its unix socket, for the verbs and for `rinit monit`.
//!
//! The client is asynchronous and knows no runtime: whoever uses it brings a current-thread one.

use crate::control::SOCKET_PATHS;
use crate::control::types::Error;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// The longest time that rinit may take to accept a connection, and to answer a question that changes nothing.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two attempts to connect while the socket's backlog is full.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(20);

const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const MAX_STREAM_LINE_BYTES: usize = 4 * 1024 * 1024;

/// A client of the control API. Every request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    /// The paths that are tried, in this order.
    sockets: Vec<PathBuf>,
    /// Whether `--socket` or `RINIT_SOCKET` named the path.
    is_explicit: bool,
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub enum ClientError {
    /// No process accepts connections on any of the sockets.
    NotListening(String),
    /// The connection was lost, timed out, or speaks something else than HTTP.
    Broken(String),
    /// The API refuses, in its own words.
    Refused(Error),
    /// The answer is not the JSON that this version expects.
    Unreadable(String),
}

impl Client {
    /// A client for the given socket, else for the one in `RINIT_SOCKET`, else for rinit's default sockets.
    pub fn new(socket: Option<&str>, variable: Option<PathBuf>) -> Client {
        match socket.map(PathBuf::from).or(variable) {
            Some(path) => Client { sockets: vec![path], is_explicit: true },
            None => Client { sockets: SOCKET_PATHS.iter().map(PathBuf::from).collect(), is_explicit: false },
        }
    }

    /// Gets a resource.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read_json(&self.get_text(path).await?)
    }

    /// Gets a resource as the text that the API sends.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        match self.probe(path, ANSWER_TIMEOUT).await? {
            (..400, text) => Ok(text),
            (status, text) => Err(refusal(status, &text)),
        }
    }

    /// Gets the status code and the text of a resource, within a time limit.
    ///
    /// # Errors
    /// See [`ClientError`]; every status code is an answer.
    pub async fn probe(&self, path: &str, limit: Duration) -> Result<(u16, String), ClientError> {
        let answer = async {
            let response = self.send(Method::GET, path, None, "*/*").await?;
            let status = response.status().as_u16();
            Ok((status, body_text(response.into_body()).await?))
        };
        timeout(limit, answer).await.map_err(|_| timed_out())?
    }

    /// Asks for a change and waits until it is done, however long that takes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn change<T: DeserializeOwned>(&self, path: &str, body: Option<String>) -> Result<T, ClientError> {
        let response = self.send(Method::POST, path, body, "*/*").await?;
        let status = response.status().as_u16();
        match (status, body_text(response.into_body()).await?) {
            (..400, text) => read_json(&text),
            (status, text) => Err(refusal(status, &text)),
        }
    }

    /// Asks for server-sent events. There may be none for any time.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(&self, method: Method, path: &str, body: Option<String>) -> Result<Stream, ClientError> {
        let response = self.send(method, path, body, "text/event-stream").await?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
        let is_stream = content_type.is_none_or(|value| value.starts_with(b"text/event-stream"));
        let stream = Stream { is_stream, body: response.into_body(), lines: Lines::default() };
        if status < 400 { Ok(stream) } else { Err(refusal(status, &stream.text().await?)) }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        accept: &str,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| ClientError::Broken(format!("{path} cannot be asked for: {error}")))?;
        let stream = TokioIo::new(RequestFirst { stream, has_written: false, reader: None });
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
        // An error of the connection is an error of the answer too.
        tokio::spawn(async { drop(connection.await) });
        sender.send_request(request).await.map_err(|error| broken(&error))
    }

    /// A connection to the first socket that accepts one.
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let mut tried = String::new();
        for path in &self.sockets {
            match connect_to(path).await {
                Ok(stream) => return Ok(stream),
                Err(error) => tried.push_str(&format!("\n  {}: {}", path.display(), connect_error(&error))),
            }
        }
        if self.is_explicit && self.sockets.iter().any(|path| path.as_os_str() == "off") {
            return Err(ClientError::NotListening("the control socket is off (RINIT_SOCKET or --socket)".into()));
        }
        Err(ClientError::NotListening(format!("no rinit answers; tried:{tried}\n{}", advice())))
    }
}

/// A connection on which an answer is read only after the request was written.
///
/// A server that is full answers at once and closes: hyper takes an answer before the request, and a request that can no
/// longer be written, for broken connections. Here both are the answer that they are.
#[derive(Debug)]
struct RequestFirst {
    stream: UnixStream,
    has_written: bool,
    reader: Option<Waker>,
}

impl AsyncRead for RequestFirst {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        if !self.has_written {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for RequestFirst {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match ready!(Pin::new(&mut self.stream).poll_write(context, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        };
        self.has_written = true;
        self.reader.take().inspect(Waker::wake_by_ref);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let connected = async {
        loop {
            match UnixStream::connect(path).await {
                // The backlog is full (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(CONNECT_RETRY_INTERVAL).await,
                result => return result,
            }
        }
    };
    timeout(ANSWER_TIMEOUT, connected).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}

fn connect_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::ConnectionRefused => "no process listens: the rinit that made it has ended".into(),
        io::ErrorKind::PermissionDenied => "only root and rinit's own user may connect (docker exec -u)".into(),
        io::ErrorKind::WouldBlock => "too many other clients are waiting".into(),
        _ => error.to_string(),
    }
}

/// Advice for a client that finds no rinit: it may be outside of the container, or PID 1 may be another program.
fn advice() -> String {
    if std::process::id() == 1 {
        return "This process is PID 1 itself, so there is no rinit to ask. \
                A program of that name is run by: rinit -- NAME"
            .into();
    }
    let command_line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let program = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    match Path::new(program.as_ref()).file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        name @ ("rinit" | "tini" | "docker-init" | "dumb-init") => format!(
            "PID 1 here is {name}. It listens only with workers (-i N), and not with --socket off; if it was started \
             with --socket PATH, give the same here."
        ),
        "" => "Is this the container? Is rinit its PID 1, with workers (-i N), and not with --socket off?".into(),
        name => format!(
            "PID 1 here is {name:?} and not rinit: is this the container? From outside: docker exec CONTAINER rinit …"
        ),
    }
}

fn timed_out() -> ClientError {
    ClientError::Broken("rinit has accepted the connection and does not answer; its log may say why".into())
}

fn broken(error: &(dyn std::error::Error + 'static)) -> ClientError {
    let is_parse_error = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    ClientError::Broken(if is_parse_error {
        format!("another program than rinit answers on that socket: {error}")
    } else {
        "the connection to rinit ended in the middle of its answer; the container may be stopping".into()
    })
}

fn refusal(status: u16, text: &str) -> ClientError {
    let sent = serde_json::from_str::<Error>(text).ok().filter(|error| !error.error.is_empty());
    ClientError::Refused(sent.unwrap_or_else(|| Error {
        error: format!("rinit answers {status}: {}", text.trim()),
        worker: None,
        last_lines: vec![],
    }))
}

/// Reads the API's JSON. Always from a `str`: a reader of bytes would be in the binary a second time.
///
/// # Errors
/// [`ClientError::Unreadable`].
pub fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| {
        ClientError::Unreadable(format!(
            "rinit's answer cannot be read ({error}): is this rinit another version than PID 1?"
        ))
    })
}

async fn body_text(body: Incoming) -> Result<String, ClientError> {
    let bytes = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| broken(&*error))?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Server-sent events, or an answer in one piece where the API had nothing to wait for.
#[derive(Debug)]
pub struct Stream {
    /// Whether events follow, and not one answer.
    pub is_stream: bool,
    body: Incoming,
    lines: Lines,
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// One event.
    Event {
        /// Its type.
        name: String,
        /// Its JSON.
        data: String,
    },
    /// A comment, which rinit sends when there is no event for a while.
    KeepAlive,
}

impl Stream {
    /// Reads the next part. `None` at the end of the stream.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Part>, ClientError> {
        loop {
            if let Some(part) = self.lines.next_part() {
                return Ok(Some(part));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.lines.push(&frame.into_data().unwrap_or_default())?,
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(None),
            }
        }
    }

    /// Whether the next part has already been received.
    pub fn has_next(&self) -> bool {
        self.lines.has_part()
    }

    /// Reads all of an answer in one piece.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(self) -> Result<String, ClientError> {
        body_text(self.body).await
    }
}

/// Received text that is not yet a part, and the fields of the event that it belongs to.
#[derive(Debug, Default)]
struct Lines {
    received: Vec<u8>,
    /// The number of bytes of `received` that are taken already.
    taken: usize,
    name: String,
    data: Option<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.received.drain(..self.taken);
        self.taken = 0;
        self.received.extend_from_slice(bytes);
        if self.received.len() > MAX_STREAM_LINE_BYTES {
            return Err(ClientError::Broken(format!(
                "rinit sent a line of more than {MAX_STREAM_LINE_BYTES} bytes, which no version does"
            )));
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.received.get(self.taken..).unwrap_or_default()
    }

    fn has_part(&self) -> bool {
        self.rest().windows(2).any(|pair| pair == b"\n\n")
    }

    /// Takes the next part (HTML, 9.2.6). A last event without an empty line after it is none.
    fn next_part(&mut self) -> Option<Part> {
        while let Some(length) = self.rest().iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(self.rest().get(..length).unwrap_or_default()).into_owned();
            self.taken += length + 1;
            let line = line.trim_end_matches('\r');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.starts_with(':') => return Some(Part::KeepAlive),
                "" => {
                    let name = std::mem::take(&mut self.name);
                    if let Some(data) = self.data.take() {
                        return Some(Part::Event { name, data });
                    }
                }
                "event" => self.name = value.to_owned(),
                "data" => match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    none => *none = Some(value.to_owned()),
                },
                // `id`, and fields of later versions.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn the_socket_comes_from_the_option_else_the_variable_else_the_defaults() {
        let variable = Some(PathBuf::from("/b"));
        assert_eq!(Client::new(Some("/a"), variable.clone()).sockets, [PathBuf::from("/a")]);
        assert_eq!(Client::new(None, variable).sockets, [PathBuf::from("/b")]);
        assert_eq!(Client::new(None, None).sockets, SOCKET_PATHS.map(PathBuf::from));
    }

    #[test]
    fn the_first_socket_that_accepts_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let [none, stale, live] = ["none", "stale", "live"].map(|name| folder.path().join(name));
        drop(UnixListener::bind(&stale).unwrap());
        let listener = UnixListener::bind(&live).unwrap();
        let client = Client { sockets: vec![none, stale, live], is_explicit: false };
        block_on(client.connect()).unwrap();
        drop(listener);
        match block_on(client.connect()) {
            Err(ClientError::NotListening(why)) => assert_eq!(why.lines().count(), 5, "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_that_is_sent_before_the_request_is_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let text =
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 30\r\n\r\n{\"error\":\"too many requests\"}\n";
                connection.unwrap().write_all(text.as_bytes()).unwrap();
            }
        });
        let client = Client { sockets: vec![path], is_explicit: true };
        for _ in 0..200 {
            match block_on(client.get_text("/v1/status")) {
                Err(ClientError::Refused(error)) => assert_eq!(error.error, "too many requests"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": keep-alive\n\nid: 7\r\nevent: line\r\ndata: {\"a\":1}\r\n\r\nevent: empty\n\ndata: x\ndata:y\n\nevent: cut";
        let event = |name: &str, data: &str| Part::Event { name: name.into(), data: data.into() };
        let expected = [Part::KeepAlive, event("line", "{\"a\":1}"), event("", "x\ny")];
        for size in [1, 7, text.len()] {
            let mut lines = Lines::default();
            let mut parts = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk).unwrap();
                parts.extend(std::iter::from_fn(|| lines.next_part()));
            }
            assert_eq!(parts, expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_a_limit() {
        let mut lines = Lines::default();
        let chunk = [b'x'; 64 * 1024];
        assert!((0..100).any(|_| lines.push(&chunk).is_err()));
    }
}
