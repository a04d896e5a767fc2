//! Answers the routes that read.

use super::access::{Origin, Permission};
use super::app_metrics::AppMetrics;
use super::endpoints::Endpoints;
use super::handle::{Call, SupervisorHandle};
use super::limits::Seat;
use super::open_connections::OpenConnections;
use super::refusals::Refusals;
use super::response::{Answer, ClientGone, Failure, event_batch, json, stream, whole};
use super::routes::query;
use super::types::{Access, Config, Description, Status, WorkerStatus, Workers};
use super::usage::{Samples, describe_process};
use super::{logs as worker_logs, redact};
use crate::core::{SlotId, Target};
use crate::embedded::{Embedded, embedded};
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// A request's body must have come within this time, and be no longer than that, in bytes.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 64 * 1024;
/// Past events at the beginning of a stream.
const PAST_EVENTS: u64 = 100;
/// One in this many refused tokens is logged.
const LOGGED_REFUSALS: u64 = 100;

const OPENAPI: Embedded = embedded!("openapi.json");

/// The state that all requests share.
pub(super) struct Api {
    pub(super) rinit: SupervisorHandle,
    pub(super) endpoints: Arc<Endpoints>,
    samples: RefCell<Samples>,
    pub(super) open_connections: OpenConnections,
    /// Metrics of the workers' own. Whoever asks for them waits for one that does so already.
    pub(super) app_metrics: Mutex<AppMetrics>,
    /// Requests over the web that were refused for their token.
    pub(super) refusal_count: Cell<u64>,
    pub(super) refusals: Refusals,
}

/// A request that is allowed, and has its seat.
pub(super) struct Request {
    pub(super) origin: Origin,
    /// The client's permission.
    pub(super) permission: Permission,
    /// `{id}` of the route's path.
    pub(super) id: String,
    /// `{path}` of the route's path, as it was sent.
    pub(super) rest: String,
    pub(super) text: Option<String>,
    /// Its `Accept` header.
    pub(super) accept: String,
    /// None once it is read.
    pub(super) body: Option<Incoming>,
    pub(super) seat: Rc<Seat>,
}

impl Request {
    /// Returns a parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        query(self.text.as_deref(), name)
    }

    /// True if it asks for server-sent events.
    pub(super) fn wants_stream(&self) -> bool {
        self.accept.starts_with("text/event-stream")
    }

    /// Reads a body of JSON.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let Some(body) = self.body.take() else {
            return Err(Failure::new(StatusCode::BAD_REQUEST, "the body has been read already"));
        };
        let bytes = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(bytes)) => bytes.to_bytes(),
            Ok(Err(_)) => {
                let error = format!("the body cannot be read, or is longer than {MAX_BODY} bytes");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error));
            }
            Err(_) => return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(StatusCode::BAD_REQUEST, format!("the body is not what this call takes: {error}"))
        })
    }
}

impl Api {
    pub(super) fn new(rinit: SupervisorHandle, endpoints: Arc<Endpoints>) -> Api {
        Api {
            rinit,
            endpoints,
            samples: RefCell::default(),
            open_connections: OpenConnections::default(),
            app_metrics: Mutex::default(),
            refusal_count: Cell::new(0),
            refusals: Refusals::default(),
        }
    }

    /// Counts a token that was refused, and logs the first of every hundred.
    pub(super) fn on_refusal(&self, client: SocketAddr) {
        let refusals = self.refusal_count.get();
        self.refusal_count.set(refusals + 1);
        if refusals.is_multiple_of(LOGGED_REFUSALS) {
            tracing::warn!(
                "a request over the web from {client} was refused: its token is wrong ({refusals} before it)"
            );
        }
    }

    /// The state of everything, with the usage of processes.
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        let mut status = self.rinit.ask(Call::Status).await?;
        self.fill_usage(&mut status.workers).await;
        Ok(status)
    }

    /// Fills in the usage and the open connections of workers.
    async fn fill_usage(&self, workers: &mut [WorkerStatus]) {
        self.samples.borrow_mut().fill(workers, now());
        self.open_connections.fill(workers, now()).await;
    }

    /// The target that a name means, and its slots.
    pub(super) async fn resolve(&self, name: &str) -> Result<(Target, Vec<SlotId>), Failure> {
        let found = self.rinit.ask(|reply| Call::Resolve(name.to_owned(), reply)).await?;
        found.map_err(|why| Failure::new(StatusCode::NOT_FOUND, why))
    }

    /// The workers whose lines are asked for: names, by comma.
    async fn select(&self, names: Option<&str>) -> Result<worker_logs::Selection, Failure> {
        let Some(names) = names else { return Ok(worker_logs::Selection::All) };
        let apps = self.rinit.ask(Call::Status).await?.apps;
        let app_name = |id| apps.iter().find(|app| app.id == id).map(|app| app.name.clone());
        let (mut whole_apps, mut slots) = (Vec::new(), Vec::new());
        for name in names.split(',') {
            match self.resolve(name).await?.0 {
                Target::All => return Ok(worker_logs::Selection::All),
                Target::App(id) => whole_apps.extend(app_name(id.0)),
                Target::Slot(slot) => slots.extend(app_name(slot.app.0).map(|app| (app, slot.index))),
            }
        }
        Ok(worker_logs::Selection::Some { apps: whole_apps, slots })
    }
}

/// `GET /v1/status`
pub(super) async fn status(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let mut status = api.status().await?;
    if request.permission < Permission::Read {
        redact::remove_private(&mut status);
    }
    Ok(json(StatusCode::OK, &status))
}

/// `GET /v1/access`
pub(super) async fn access(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let tokens = api.endpoints.access.permissions_with_token().map(|permission| permission.name().into()).collect();
    Ok(json(StatusCode::OK, &Access { permission: request.permission.name().into(), tokens }))
}

/// `GET /v1/workers`
pub(super) async fn workers(api: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    let Status { workers, .. } = api.status().await?;
    Ok(json(StatusCode::OK, &Workers { workers }))
}

/// `GET /v1/workers/{id}`
pub(super) async fn describe(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let id = &request.id;
    let (_, slots) = api.resolve(id).await?;
    let [slot] = slots[..] else {
        let error = format!("{id} is more than one worker: /v1/workers lists all");
        return Err(Failure::new(StatusCode::BAD_REQUEST, error));
    };
    let described = api.rinit.ask(|reply| Call::Describe(slot, reply)).await?;
    let gone = || Failure::new(StatusCode::NOT_FOUND, format!("there is no worker {id} any more"));
    let mut description: Description = described.ok_or_else(gone)?;
    api.fill_usage(&mut description.workers).await;
    describe_process(
        &mut description,
        request.permission < Permission::Change || matches!(request.origin, Origin::Web(_)),
        &api.endpoints.shown_variables,
    );
    if let Some(worker) = description.workers.first() {
        let slot = (worker.app.clone(), worker.slot);
        description.last_lines = worker_logs::last_stderr(&api.rinit.log_history, &slot, None);
    }
    Ok(json(StatusCode::OK, &description))
}

/// `GET /v1/config`
pub(super) async fn config(api: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    let config: &Config = &api.rinit.config.get();
    Ok(json(StatusCode::OK, &redact::redacted_config(config)))
}

/// `GET /v1/logs`
pub(super) async fn logs(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let wanted = worker_logs::LogQuery::parse(request.text.as_deref())?;
    let selection = api.select(wanted.workers.as_deref()).await?;
    Ok(worker_logs::answer(&api.rinit, wanted, selection, &request.seat))
}

/// `GET /v1/events`
pub(super) async fn events(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let since = match request.query("since") {
        Some(since) => Some(since.parse().map_err(|_| Failure::parameter("since", &since, "the number of an event"))?),
        None => None,
    };
    let (writer, answer) = stream(&request.seat);
    let journal = api.rinit.journal.clone();
    let follow = async move {
        let oldest = |state: &super::JournalState| state.next_seq().saturating_sub(PAST_EVENTS);
        let mut from = since.unwrap_or_else(|| oldest(&journal.lock()));
        // Events before the first one are missed only by a client that said where it is.
        let mut counts_missed = since.is_some();
        loop {
            let mut changed = std::pin::pin!(journal.changed.notified());
            changed.as_mut().enable();
            let make = || {
                let state = journal.lock();
                let (missed, events) = state.since(from);
                let (text, next) = event_batch(from, if counts_missed { missed } else { 0 }, events);
                (text, (next.max(from), state.is_closed() && next >= state.next_seq()))
            };
            let (has_sent, (next, is_over)) = writer.send(make).await?;
            (from, counts_missed) = (next, true);
            if is_over {
                return Ok(());
            }
            if !has_sent {
                writer.idle(changed).await?;
            }
        }
    };
    spawn_local(async move {
        let _: Result<(), ClientGone> = follow.await;
    });
    Ok(answer)
}

/// `GET /openapi.json`
pub(super) async fn openapi(_: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    Ok(whole(StatusCode::OK, "application/json", OPENAPI.text()))
}

#[expect(clippy::disallowed_methods, reason = "usage is the difference between two moments")]
pub(super) fn now() -> Instant {
    Instant::now()
}
