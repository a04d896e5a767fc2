//! Sends HTTP requests to exactly one worker, also where all workers share a port, and answers `/v1/workers/{id}/http/…`.

use super::api::{Api, Request};
use super::handle::{Call, Holder};
use super::limits::MAX_ANSWER;
use super::response::{Answer, AnswerBody, Failure};
use crate::ports::Ports;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// A worker's answer must have come whole within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The header that says which worker an answer is from. An error of rinit's own has none.
pub const WORKER_HEADER: &str = "x-rinit-worker";

/// A request to a worker.
pub(super) struct WorkerRequest<'a> {
    /// The port; none: the first at which the worker listens.
    pub(super) port: Option<u16>,
    /// Path and query.
    pub(super) path: &'a str,
    /// The `Accept` header.
    pub(super) accept: &'a str,
    /// The maximum size of the answer's body, in bytes.
    pub(super) max_bytes: usize,
}

/// The reason why a worker has not answered.
pub(super) enum NoAnswer {
    /// It has not been reached, has closed the connection, or has sent something else.
    Failed(String),
    /// It took longer than [`ANSWER_TIMEOUT`].
    Late,
}

impl WorkerRequest<'_> {
    /// Sends it as `GET`, and waits for the whole answer.
    pub(super) async fn send(&self, ports: &Ports, to: &Holder) -> Result<Response<Bytes>, NoAnswer> {
        let answer = timeout(ANSWER_TIMEOUT, self.exchange(ports, to)).await;
        answer.map_err(|_| NoAnswer::Late)?.map_err(NoAnswer::Failed)
    }

    async fn exchange(&self, ports: &Ports, to: &Holder) -> Result<Response<Bytes>, String> {
        let request = hyper::Request::get(self.path)
            .header(HOST, "localhost")
            .header(USER_AGENT, "rinit")
            .header(ACCEPT, self.accept)
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("no path: {error}"))?;
        let stream = ports.connect_to_process(to.worker, to.pid, self.port).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let _connection = AbortOnDrop(spawn_local(async move { drop(connection.await) }).abort_handle());
        let (head, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, self.max_bytes).collect().await.map_err(|error| error.to_string())?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `GET /v1/workers/{id}/http/{path}`: the answer of one worker.
pub(super) async fn get(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let id = &request.id;
    let (_, slots) = api.resolve(id).await?;
    let [slot] = slots[..] else {
        let error = format!("{id} is more than one worker: /v1/workers lists all");
        return Err(Failure::new(StatusCode::BAD_REQUEST, error));
    };
    let holders = api.rinit.ask(Call::Holders).await?;
    let Some(holder) = holders.into_iter().find(|holder| holder.slot == slot) else {
        return Err(Failure::new(StatusCode::CONFLICT, format!("{id} has no process now")));
    };
    let (port, path) = split_port(&request.rest)?;
    let query = request.text.as_ref().map_or(String::new(), |text| format!("?{text}"));
    let path = format!("/{path}{query}");
    let accept = if request.accept.is_empty() { "*/*" } else { &request.accept };
    let request = WorkerRequest { port, path: &path, accept, max_bytes: MAX_ANSWER };
    let answer = request.send(&api.rinit.ports, &holder).await.map_err(|why| match why {
        NoAnswer::Failed(why) => {
            Failure::new(StatusCode::BAD_GATEWAY, format!("{id} has not answered GET {path}: {why}"))
        }
        NoAnswer::Late => Failure::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("{id} has not answered GET {path} within {ANSWER_TIMEOUT:?}"),
        ),
    })?;
    let (mut head, body) = answer.into_parts();
    let kind = head.headers.remove(CONTENT_TYPE);
    head.headers.clear();
    head.headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    // No page of the app may use the dashboard's token.
    head.headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    head.headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(name) = HeaderValue::from_str(&holder.name) {
        head.headers.insert(WORKER_HEADER, name);
    }
    head.version = hyper::Version::HTTP_11;
    Ok(Answer::from_parts(head, AnswerBody::Whole(Some(body))))
}

/// Splits `:PORT/PATH` and `PATH`.
fn split_port(rest: &str) -> Result<(Option<u16>, &str), Failure> {
    let Some(with_port) = rest.strip_prefix(':') else { return Ok((None, rest)) };
    let (port, path) = with_port.split_once('/').unwrap_or((with_port, ""));
    match port.parse().ok().filter(|port| *port > 0) {
        Some(port) => Ok((Some(port), path)),
        None => Err(Failure::parameter("port", port, "1 to 65535, as in /v1/workers/0/http/:8080/path")),
    }
}
