//! Connects to rinit's control socket.

use super::ANSWER_TIMEOUT;
use crate::control::check_server;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// The pause between two attempts to connect while the socket's backlog is full.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Connects to a socket. While its backlog is full that is tried again.
///
/// # Errors
/// The last error, after [`ANSWER_TIMEOUT`] at the latest.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let connected = async {
        loop {
            match UnixStream::connect(path).await {
                // The backlog is full (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(CONNECT_RETRY_INTERVAL).await,
                Err(error) => return Err(error),
                Ok(stream) => return check_server(&stream).map(|()| stream),
            }
        }
    };
    timeout(ANSWER_TIMEOUT, connected).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}

/// Explains why no connection was made.
pub(super) fn explanation(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::ConnectionRefused => "no process listens: the rinit that made it has ended".into(),
        io::ErrorKind::PermissionDenied => "only root and rinit's own user may connect (docker exec -u)".into(),
        io::ErrorKind::WouldBlock => "too many other clients are waiting".into(),
        _ => error.to_string(),
    }
}

/// Advice for a client that finds no rinit: it may be outside of the container, or PID 1 may be another program.
pub(super) fn advice() -> String {
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

/// A connection on which an answer is read only after the request was written.
///
/// A server that is full answers at once and closes: hyper takes an answer before the request, and a request that can no
/// longer be written, for broken connections. Here both are the answer that they are.
#[derive(Debug)]
pub(super) struct RequestFirst {
    stream: UnixStream,
    has_written: bool,
    reader: Option<Waker>,
}

impl RequestFirst {
    pub(super) fn new(stream: UnixStream) -> RequestFirst {
        RequestFirst { stream, has_written: false, reader: None }
    }
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
