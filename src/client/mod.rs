//! Sends requests to rinit's control API over its unix socket, for the verbs and for `rinit monit`.
//!
//! The client is asynchronous and knows no runtime: whoever uses it brings a current-thread one.

mod connection;
mod stream;

pub use stream::{Part, Stream};

use crate::control::types::Error;
use crate::control::{SOCKET_PATHS, WORKER_HEADER};
use connection::RequestFirst;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The longest time that rinit may take to accept a connection, and to answer a question that changes nothing.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client of the control API. Every request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    /// The paths that are tried, in this order.
    sockets: Vec<PathBuf>,
    /// True if `--socket` or `RINIT_SOCKET` named the path.
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

    /// Asks one worker for a page. Returns the status code and the body of its answer.
    ///
    /// # Errors
    /// See [`ClientError`]; an answer of the worker is none, whatever its status code.
    pub async fn ask_worker(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        let answer = async {
            let response = self.send(Method::GET, path, None, "*/*").await?;
            let status = response.status().as_u16();
            if !response.headers().contains_key(WORKER_HEADER) {
                return Err(refusal(status, &body_text(response.into_body()).await?));
            }
            Ok((status, body_bytes(response.into_body()).await?.into()))
        };
        timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| timed_out())?
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

    /// Asks for server-sent events. There may be none for any time, but rinit answers within [`ANSWER_TIMEOUT`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stream(&self, method: Method, path: &str, body: Option<String>) -> Result<Stream, ClientError> {
        let answer = self.send(method, path, body, "text/event-stream");
        let response = timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| timed_out())??;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
        let is_stream = content_type.is_none_or(|value| value.starts_with(b"text/event-stream"));
        let stream = Stream::new(is_stream, response.into_body());
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
        let stream = TokioIo::new(RequestFirst::new(stream));
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
        // An error of the connection is an error of the answer too.
        tokio::spawn(async { drop(connection.await) });
        sender.send_request(request).await.map_err(|error| broken(&error))
    }

    /// A connection to the first socket that accepts one.
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let mut tried = String::new();
        for path in &self.sockets {
            match connection::connect(path).await {
                Ok(stream) => return Ok(stream),
                Err(error) => tried.push_str(&format!("\n  {}: {}", path.display(), connection::explanation(&error))),
            }
        }
        if self.is_explicit && self.sockets.iter().any(|path| path.as_os_str() == "off") {
            return Err(ClientError::NotListening("the control socket is off (RINIT_SOCKET or --socket)".into()));
        }
        Err(ClientError::NotListening(format!("no rinit answers; tried:{tried}\n{}", connection::advice())))
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

async fn body_bytes(body: Incoming) -> Result<Bytes, ClientError> {
    Ok(Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| broken(&*error))?.to_bytes())
}

async fn body_text(body: Incoming) -> Result<String, ClientError> {
    let bytes = body_bytes(body).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
}
