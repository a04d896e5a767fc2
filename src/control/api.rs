//! What each route answers.

use super::access::Origin;
use super::handle::{Action, Call, SupervisorHandle, Target};
use super::operations::Operation;
use super::response::{Answer, Failure, Lasts, events_text, json, stream, whole};
use super::routes::{Found, find, query};
use super::types::{AppStatus, Description, ScaleRequest, SignalRequest, Status, Workers};
use super::usage::{Samples, describe};
use super::{Endpoints, logs, metrics};
use crate::core::SlotId;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;
use tokio::time::timeout;

/// A request's body must be there within this, and be no longer than that.
const BODY: Duration = Duration::from_secs(10);
const LONGEST_BODY: usize = 64 * 1024;
/// A stream on which nothing happens says so, so that those in between keep it open.
const ALIVE: Duration = Duration::from_secs(15);
/// Events that a stream begins with.
const PAST: u64 = 100;

const PAGE: &str = include_str!("page.html");
const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// The API.
pub(super) struct Api {
    pub(super) rinit: SupervisorHandle,
    gate: Arc<Endpoints>,
    samples: RefCell<Samples>,
}

impl Api {
    pub(super) fn new(rinit: SupervisorHandle, gate: Arc<Endpoints>) -> Api {
        Api { rinit, gate, samples: RefCell::default() }
    }

    /// Answers a request. `lasts` is set when it may take long.
    pub(super) async fn answer(
        &self,
        way: Origin,
        request: Request<Incoming>,
        lasts: &Lasts,
    ) -> Result<Answer, Failure> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let (route, id) = match find(head.method.as_str(), path) {
            Found::Route(route, id) => (route, id),
            Found::WrongMethod(methods) => {
                let failure =
                    Failure::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {}", methods.join(", ")));
                let mut answer = failure.answer();
                if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
                    answer.headers_mut().insert(ALLOW, methods);
                }
                return Ok(answer);
            }
            Found::Nothing => {
                let error = format!("there is no {path}; /openapi.json lists what there is");
                return Err(Failure::new(StatusCode::NOT_FOUND, error));
            }
        };
        let writes = !matches!(head.method.as_str(), "GET" | "HEAD");
        if way == Origin::Web {
            let header = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
            // Probes and Prometheus come by names of their own, and learn nothing of the app.
            if !matches!(route, "/healthz" | "/readyz" | "/metrics") {
                self.gate.check_host(header(HOST))?;
            }
            if writes {
                self.gate.check_token(header(AUTHORIZATION))?;
            }
        }
        let wants_stream =
            head.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
        let text = head.uri.query();
        match (head.method.as_str(), route) {
            (_, "/v1/status") => Ok(json(StatusCode::OK, &self.status().await?)),
            ("GET" | "HEAD", "/v1/workers") => {
                let Status { workers, .. } = self.status().await?;
                Ok(json(StatusCode::OK, &Workers { workers }))
            }
            ("GET" | "HEAD", "/v1/workers/{id}") => Ok(json(StatusCode::OK, &self.describe(id).await?)),
            (_, "/v1/config") => Ok(json(StatusCode::OK, &*self.rinit.config)),
            (_, "/v1/events") => {
                let since = match query(text, "since") {
                    Some(since) => {
                        Some(since.parse().map_err(|_| Failure::of("since", &since, "the number of an event"))?)
                    }
                    None => None,
                };
                Ok(self.events(since, lasts))
            }
            (_, "/v1/logs") => {
                let wanted = logs::Wanted::read(text)?;
                let whose = self.whose(wanted.workers.as_deref()).await?;
                Ok(logs::answer(&self.rinit, wanted, whose, ALIVE, lasts))
            }
            (_, "/metrics") => {
                let status = self.status().await?;
                // Not with the book open: /proc is read in there, and the loop writes in the book.
                let counts = self.rinit.book.open().counts.clone();
                let text = metrics::text(&status, &counts, &self.rinit.record.totals());
                Ok(whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
            }
            (_, "/healthz") => Ok(whole(StatusCode::OK, "text/plain", "ok\n")),
            (_, "/readyz") => {
                let status = self.rinit.ask(Call::Status).await;
                let ready = status.is_ok_and(|status| {
                    status.state == "running" && status.apps.iter().all(|app| app.ready >= app.wanted)
                });
                let (code, text) =
                    if ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") };
                Ok(whole(code, "text/plain", text))
            }
            (_, "/openapi.json") => Ok(whole(StatusCode::OK, "application/json", OPENAPI)),
            (_, "/") => Ok(page()),
            (_, route) => {
                let operation = self.operation(route, id, body, way).await?;
                if wants_stream {
                    return Ok(operation.streamed(lasts));
                }
                lasts.set(true);
                let done = operation.done().await;
                lasts.set(false);
                Ok(json(StatusCode::OK, &done?))
            }
        }
    }

    /// What a changing call wants.
    async fn operation(&self, route: &str, id: String, body: Incoming, way: Origin) -> Result<Operation, Failure> {
        let slots = match route {
            "/v1/reload" | "/v1/scale" | "/v1/shutdown" => Vec::new(),
            _ => self.find(id.clone()).await?,
        };
        let shutdown = || match way {
            Origin::Socket(client) => vec![Action::Shutdown(client)],
            Origin::Web => vec![Action::Shutdown(None)],
        };
        let each = |action: fn(SlotId) -> Action| slots.iter().map(|slot| action(*slot)).collect::<Vec<_>>();
        let actions = match route {
            "/v1/reload" => vec![Action::Reload],
            "/v1/scale" => {
                let ScaleRequest { app, to } = read(body).await?;
                if to != "max" && to.trim_start_matches(['+', '-']).parse::<u32>().is_err() {
                    return Err(Failure::of("to", &to, "1 to 1024, +N, -N, 0 or max (as many as CPUs)"));
                }
                vec![Action::Scale { app, to }]
            }
            "/v1/shutdown" => shutdown(),
            "/v1/workers/{id}/restart" => each(Action::Restart),
            "/v1/workers/{id}/stop" => each(Action::Stop),
            "/v1/workers/{id}/start" => each(Action::Start),
            "/v1/workers/{id}/signal" => {
                let SignalRequest { signal } = read(body).await?;
                let signal = signal.parse().map_err(|why: String| Failure::new(StatusCode::BAD_REQUEST, why))?;
                slots.iter().map(|slot| Action::Signal(*slot, signal)).collect()
            }
            "/v1/workers/{id}" if id == "all" => shutdown(),
            "/v1/workers/{id}" => {
                self.leaves_some(&id, &slots).await?;
                each(Action::Drop)
            }
            route => return Err(Failure::new(StatusCode::NOT_FOUND, format!("there is no {route}"))),
        };
        tracing::info!(
            "control: {}{}",
            route.trim_start_matches("/v1/"),
            if id.is_empty() { String::new() } else { format!(" ({id})") }
        );
        Ok(Operation::new(self.rinit.clone(), actions))
    }

    /// Of several slots, none is to be dropped when an app would have none then.
    async fn leaves_some(&self, id: &str, slots: &[SlotId]) -> Result<(), Failure> {
        let apps = self.rinit.ask(Call::Status).await?.apps;
        let takes_all = |(at, app): (usize, &AppStatus)| {
            slots.iter().filter(|slot| slot.app.0 as usize == at).count() >= (app.wanted as usize).max(2)
        };
        if apps.iter().enumerate().any(takes_all) {
            let why = format!("{id} is all that there is: `delete all` ends the container");
            return Err(Failure::new(StatusCode::CONFLICT, why));
        }
        Ok(())
    }

    /// How everything is, with what it uses.
    async fn status(&self) -> Result<Status, Failure> {
        let mut status = self.rinit.ask(Call::Status).await?;
        self.samples.borrow_mut().fill(&mut status.workers, now());
        Ok(status)
    }

    async fn describe(&self, id: String) -> Result<Description, Failure> {
        let slots = self.find(id.clone()).await?;
        let [slot] = slots[..] else {
            let error = format!("{id} is more than one worker: /v1/workers lists all");
            return Err(Failure::new(StatusCode::BAD_REQUEST, error));
        };
        let found = self.rinit.ask(|reply| Call::Describe(slot, reply)).await?;
        let mut description =
            found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("there is no worker {id} any more")))?;
        self.samples.borrow_mut().fill(&mut description.workers, now());
        describe(&mut description);
        if let Some(worker) = description.workers.first() {
            description.last_lines = logs::last_stderr(&self.rinit.record, &(worker.app.clone(), worker.slot), None);
        }
        Ok(description)
    }

    async fn find(&self, id: String) -> Result<Vec<SlotId>, Failure> {
        let found = self.rinit.ask(|reply| Call::Find(Target(id), reply)).await?;
        found.map_err(|why| Failure::new(StatusCode::NOT_FOUND, why))
    }

    /// Whose lines are wanted.
    async fn whose(&self, workers: Option<&str>) -> Result<logs::Whose, Failure> {
        let Some(workers) = workers.filter(|workers| *workers != "all") else { return Ok(logs::Whose::All) };
        let apps = self.rinit.ask(Call::Status).await?.apps;
        let (mut whole, mut slots) = (Vec::new(), Vec::new());
        for worker in workers.split(',') {
            if apps.iter().any(|app| app.name == worker) {
                whole.push(worker.to_owned());
                continue;
            }
            for slot in self.find(worker.to_owned()).await? {
                let described = self.rinit.ask(|reply| Call::Describe(slot, reply)).await?;
                let worker = described.and_then(|described| described.workers.into_iter().next());
                slots.extend(worker.map(|worker| (worker.app, worker.slot)));
            }
        }
        Ok(logs::Whose::These { apps: whole, slots })
    }

    fn events(&self, since: Option<u64>, lasts: &Lasts) -> Answer {
        let (writer, answer) = stream(lasts);
        let book = self.rinit.book.clone();
        let mut from = since.unwrap_or_else(|| book.open().end().saturating_sub(PAST));
        let told = since.is_some();
        spawn_local(async move {
            let mut is_first = !told;
            loop {
                let mut news = std::pin::pin!(book.news.notified());
                news.as_mut().enable();
                let (missed, events, ended) = {
                    let pages = book.open();
                    let (missed, events) = pages.since(from);
                    (missed, events, pages.has_ended())
                };
                let missed = if std::mem::take(&mut is_first) { 0 } else { missed };
                if !writer.send(events_text(missed, &events)).await || ended {
                    return;
                }
                from = events.last().map_or(from + missed, |event| event.seq + 1);
                if timeout(ALIVE, news).await.is_err() && !writer.send(b": keep-alive\n\n".to_vec()).await {
                    return;
                }
            }
        });
        answer
    }
}

/// A body of JSON.
async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Failure> {
    let bytes = match timeout(BODY, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(bytes)) => bytes.to_bytes(),
        Ok(Err(_)) => {
            let error = format!("the body cannot be read, or is longer than {LONGEST_BODY} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        Err(_) => return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, format!("the body is not what this call takes: {error}"))
    })
}

/// The dashboard. Nothing in it comes from elsewhere, and nothing but its own script runs.
fn page() -> Answer {
    let random = RandomState::new();
    let nonce = format!("{:016x}{:016x}", random.hash_one(1), random.hash_one(2));
    let text = PAGE.replacen("<style>", &format!("<style nonce=\"{nonce}\">"), 1).replacen(
        "<script>",
        &format!("<script nonce=\"{nonce}\">"),
        1,
    );
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", text);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    answer
}

#[expect(clippy::disallowed_methods, reason = "what processes use is told from two moments")]
fn now() -> Instant {
    Instant::now()
}
