//! Makes answers: whole ones as JSON or text, and streams, which are made no faster than their client reads.

use super::limits::{InProgress, MAX_BATCH, Room, Seat};
use super::types::{Error, Event, Missed};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A stream ends when its client reads nothing for this long.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A stream on which nothing happens sends a comment after this, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TEXT: &[u8] = b": keep-alive\n\n";

pub(super) type Answer = Response<AnswerBody>;

/// An answer's body.
pub(super) enum AnswerBody {
    /// All of it; none once it is handed over.
    Whole(Option<Bytes>),
    /// A stream's batches, as they come.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take()),
            AnswerBody::Stream(batches) => batches.poll_recv(context),
        };
        next.map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            AnswerBody::Stream(_) => SizeHint::default(),
        }
    }
}

/// A call that failed, as its client is told.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: Error,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Failure {
        Failure { status, error: Error { error: error.into(), worker: None, last_lines: Vec::new() } }
    }

    /// A parameter with a value that is not allowed.
    pub(super) fn parameter(name: &str, value: &str, allowed: &str) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, format!("{name}={value}: allowed: {allowed}"))
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = json(self.status, &self.error);
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
            }
            StatusCode::UNAUTHORIZED => {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        answer
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).unwrap_or_default();
    whole(status, "application/json", text)
}

pub(super) fn whole(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(Some(text.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer of server-sent events, and the writer that sends them.
pub(super) fn stream(seat: &Rc<Seat>) -> (Writer, Answer) {
    // One batch is being sent while the next one is made.
    let (batches, receiver) = mpsc::channel(1);
    let mut answer = Response::new(AnswerBody::Stream(receiver));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (Writer { batches, seat: seat.clone(), _in_progress: seat.begin() }, answer)
}

/// Sends a stream's batches. Once it is dropped, the client has as long for the rest as for any other answer.
pub(super) struct Writer {
    batches: mpsc::Sender<Bytes>,
    seat: Rc<Seat>,
    _in_progress: InProgress,
}

/// The client has gone, or does not read.
#[derive(Debug)]
pub(super) struct ClientGone;

impl Writer {
    /// Makes a batch and sends it, as soon as there is room for it. `make` returns the text and what comes after it; it may
    /// be called twice, since nothing is held while a batch that is longer than usual waits for its room.
    pub(super) async fn send<T>(&self, make: impl Fn() -> (Vec<u8>, T)) -> Result<(bool, T), ClientGone> {
        let (slot, mut room) = self.wait(MAX_BATCH).await?;
        let (mut text, mut next) = make();
        if text.len() > MAX_BATCH {
            let length = text.len();
            drop((text, room));
            room = timeout(UNREAD_TIMEOUT, self.seat.room(length)).await.map_err(|_| ClientGone)?;
            (text, next) = make();
        }
        let is_empty = text.is_empty();
        if !is_empty {
            slot.send(room.hold(text.into()));
        }
        Ok((!is_empty, next))
    }

    /// Sends a text that is there already.
    pub(super) async fn send_text(&self, text: &[u8]) -> Result<(), ClientGone> {
        self.send(|| (text.to_vec(), ())).await.map(drop)
    }

    /// Waits until the client has read what was sent before, and there is room.
    async fn wait(&self, bytes: usize) -> Result<(mpsc::Permit<'_, Bytes>, Room), ClientGone> {
        let both = async {
            let slot = self.batches.reserve().await.map_err(|_| ClientGone)?;
            let room = select! {
                room = self.seat.room(bytes) => room,
                () = self.batches.closed() => return Err(ClientGone),
            };
            Ok((slot, room))
        };
        timeout(UNREAD_TIMEOUT, both).await.unwrap_or(Err(ClientGone))
    }

    /// Waits until there is something to tell; meanwhile it keeps the connection open, and notices when its client goes.
    pub(super) async fn idle(&self, news: impl Future<Output = ()>) -> Result<(), ClientGone> {
        let mut news = std::pin::pin!(news);
        loop {
            select! {
                () = &mut news => return Ok(()),
                () = self.batches.closed() => return Err(ClientGone),
                () = tokio::time::sleep(KEEP_ALIVE) => self.send_text(KEEP_ALIVE_TEXT).await?,
            }
        }
    }
}

/// One server-sent event (the WHATWG's HTML standard, 9.2).
pub(super) fn event(id: Option<u64>, kind: &str, data: &impl Serialize) -> Vec<u8> {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("{id}event: {kind}\ndata: {data}\n\n").into_bytes()
}

/// Events up to a batch's size, after the number of those that are lost; and the number of the event that comes then.
pub(super) fn event_batch<'a>(from: u64, missed: u64, events: impl Iterator<Item = &'a Event>) -> (Vec<u8>, u64) {
    let mut text = Vec::new();
    let mut next = from + missed;
    if missed > 0 {
        text.extend(event(None, "missed", &Missed { worker: None, missed }));
    }
    for one in events {
        let one_text = event(Some(one.seq), &one.kind, one);
        if !text.is_empty() && text.len() + one_text.len() > MAX_BATCH {
            break;
        }
        text.extend(one_text);
        next = one.seq + 1;
    }
    (text, next)
}
