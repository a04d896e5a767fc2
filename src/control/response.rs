//! Answers: whole ones as JSON or text, and streams, which are written as fast as they are read and no faster.

use super::types::{Error, Event, Missed};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A stream that its client does not read for so long is ended.
const DEAF: Duration = Duration::from_secs(60);

pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Whether a call may take its time: it waits for something to come about, or its answer is a stream that goes on. What is
/// left then is for the client to read in time.
#[derive(Clone, Default)]
pub(super) struct Lasts(Arc<AtomicBool>);

impl Lasts {
    pub(super) fn set(&self, lasts: bool) {
        self.0.store(lasts, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A call that failed: what the client is told.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: Error,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Failure {
        Failure { status, error: Error { error: error.into(), worker: None, last_lines: Vec::new() } }
    }

    /// Of a parameter that cannot be taken.
    pub(super) fn of(name: &str, value: &str, allowed: &str) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, format!("{name}={value}: allowed: {allowed}"))
    }

    pub(super) fn answer(&self) -> Answer {
        json(self.status, &self.error)
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).unwrap_or_default();
    whole(status, "application/json", text)
}

pub(super) fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Server-sent events, given one after the other to the writer that comes with it. It waits while the client does not read.
pub(super) fn stream(lasts: &Lasts) -> (Writer, Answer) {
    lasts.set(true);
    // One is being written while the next is made.
    let (sender, receiver) = mpsc::channel(1);
    let mut answer = Response::new(Stream(receiver).boxed());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (Writer { sender, lasts: lasts.clone() }, answer)
}

/// Writes a stream. Once it is gone, the client has as long for the rest as for any other answer.
pub(super) struct Writer {
    sender: mpsc::Sender<Bytes>,
    lasts: Lasts,
}

impl Writer {
    /// Sends a piece; false: nobody reads it.
    pub(super) async fn send(&self, text: Vec<u8>) -> bool {
        text.is_empty() || matches!(timeout(DEAF, self.sender.send(text.into())).await, Ok(Ok(())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lasts.set(false);
    }
}

/// One server-sent event (the WHATWG's HTML standard, 9.2).
pub(super) fn event(id: Option<u64>, kind: &str, data: &impl Serialize) -> Vec<u8> {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("{id}event: {kind}\ndata: {data}\n\n").into_bytes()
}

/// Events of the book, after a word on how many are gone.
pub(super) fn events_text(missed: u64, events: &[Event]) -> Vec<u8> {
    let mut text = Vec::new();
    if missed > 0 {
        text.extend(event(None, "missed", &Missed { worker: None, missed }));
    }
    events.iter().for_each(|one| text.extend(event(Some(one.seq), &one.kind, one)));
    text
}

struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}
