//! Carries out changes: asks the event loop for each, and watches it until it is done or can no longer be.

use super::access::Origin;
use super::api::{Api, Request};
use super::handle::{Accepted, Action, Call, SupervisorHandle};
use super::logs;
use super::progress::{Baseline, Pending, Progress};
use super::response::{Answer, ClientGone, Failure, Writer, event, event_batch, json, stream};
use super::types::{AppStatus, Done, Event, ScaleRequest, SignalRequest, WorkerStatus};
use crate::core::{AppId, Signal, SlotId, Target};
use hyper::StatusCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// A change that is under way is looked at again after this, even if no event comes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two looks, for each worker that there is to look at.
const PAUSE_PER_WORKER: Duration = Duration::from_micros(50);

/// `POST /v1/reload`
pub(super) async fn reload_all(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    run(&api, &request, "reload all", vec![Action::Reload(Target::All)]).await
}

/// `POST /v1/workers/{id}/reload`
pub(super) async fn reload(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let (target, _) = api.resolve(&request.id).await?;
    run(&api, &request, &format!("reload {}", request.id), vec![Action::Reload(target)]).await
}

/// `POST /v1/scale`
pub(super) async fn scale(api: Rc<Api>, mut request: Request) -> Result<Answer, Failure> {
    let ScaleRequest { app, to } = request.json().await?;
    if to != "max" && to.trim_start_matches(['+', '-']).parse::<u32>().is_err() {
        return Err(Failure::parameter("to", &to, "1 to 1024, +N, -N, 0 or max (as many as CPUs)"));
    }
    let apps = api.rinit.ask(Call::Status).await?.apps;
    let chosen = choose_apps(&apps, app.as_deref())?;
    let names: Vec<&str> = chosen.iter().map(|app| app.name.as_str()).collect();
    let what = format!("scale {} to {to}", names.join(", "));
    let actions = chosen.iter().map(|app| Action::Scale { app: AppId(app.id), to: to.clone() }).collect();
    run(&api, &request, &what, actions).await
}

/// `POST /v1/shutdown`
pub(super) async fn shutdown(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    run(&api, &request, "shutdown", vec![shutdown_action(request.origin)]).await
}

/// `POST /v1/workers/{id}/restart`
pub(super) async fn restart(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    for_each_slot(&api, &request, "restart", Action::Restart).await
}

/// `POST /v1/workers/{id}/stop`
pub(super) async fn stop(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    for_each_slot(&api, &request, "stop", Action::Stop).await
}

/// `POST /v1/workers/{id}/start`
pub(super) async fn start(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    for_each_slot(&api, &request, "start", Action::Start).await
}

/// `POST /v1/workers/{id}/signal`
pub(super) async fn signal(api: Rc<Api>, mut request: Request) -> Result<Answer, Failure> {
    let (_, slots) = api.resolve(&request.id).await?;
    let SignalRequest { signal } = request.json().await?;
    let signal: Signal = signal.parse().map_err(|why: String| Failure::new(StatusCode::BAD_REQUEST, why))?;
    let actions = slots.iter().map(|slot| Action::Signal(*slot, signal)).collect();
    run(&api, &request, &format!("signal {signal} {}", request.id), actions).await
}

/// `DELETE /v1/workers/{id}`
pub(super) async fn delete(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let id = &request.id;
    let (target, slots) = api.resolve(id).await?;
    if target == Target::All {
        return run(&api, &request, "delete all", vec![shutdown_action(request.origin)]).await;
    }
    let apps = api.rinit.ask(Call::Status).await?.apps;
    let leaves_none =
        |app: &AppStatus| slots.iter().filter(|slot| slot.app.0 == app.id).count() >= (app.instances as usize).max(2);
    if apps.iter().any(leaves_none) {
        let why = format!("{id} has no other workers: `delete all` ends the container");
        return Err(Failure::new(StatusCode::CONFLICT, why));
    }
    run(&api, &request, &format!("delete {id}"), slots.into_iter().map(Action::Delete).collect()).await
}

async fn for_each_slot(
    api: &Rc<Api>,
    request: &Request,
    verb: &str,
    action: fn(SlotId) -> Action,
) -> Result<Answer, Failure> {
    let (_, slots) = api.resolve(&request.id).await?;
    run(api, request, &format!("{verb} {}", request.id), slots.into_iter().map(action).collect()).await
}

fn shutdown_action(origin: Origin) -> Action {
    match origin {
        Origin::Socket { pid, .. } => Action::Shutdown(pid),
        Origin::Web(_) => Action::Shutdown(None),
    }
}

/// The apps of that name, or `all`; without a name, the only one.
fn choose_apps<'a>(apps: &'a [AppStatus], name: Option<&str>) -> Result<Vec<&'a AppStatus>, Failure> {
    let names = || apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<&AppStatus> = match (name, apps) {
        (None, [only]) => vec![only],
        (None, _) => {
            let why = format!("which app? there are {}, and all", names());
            return Err(Failure::new(StatusCode::BAD_REQUEST, why));
        }
        (Some(name), _) => match apps.iter().find(|app| app.name == name) {
            Some(app) => vec![app],
            None if name == "all" => apps.iter().collect(),
            None => Vec::new(),
        },
    };
    if chosen.is_empty() {
        let why = format!("there is no app {}; there is {}", name.unwrap_or_default(), names());
        return Err(Failure::new(StatusCode::NOT_FOUND, why));
    }
    Ok(chosen)
}

/// Logs the change with its client, carries it out, and answers when it is done; or at once, with a stream of its events.
async fn run(api: &Rc<Api>, request: &Request, what: &str, actions: Vec<Action>) -> Result<Answer, Failure> {
    tracing::info!("{what} (asked for by {})", request.origin);
    let operation = Operation { rinit: api.rinit.clone(), actions };
    if request.wants_stream() {
        let (writer, answer) = stream(&request.seat);
        spawn_local(async move {
            let _ = operation.stream_to(writer).await;
        });
        return Ok(answer);
    }
    let _in_progress = request.seat.begin();
    Ok(json(StatusCode::OK, &operation.start().await?))
}

/// The actions of one call.
struct Operation {
    rinit: SupervisorHandle,
    actions: Vec<Action>,
}

impl Operation {
    /// Carries it out in a task of its own: it goes on when the client has gone.
    fn start(self) -> impl Future<Output = Result<Done, Failure>> {
        let task = spawn_local(self.carry_out());
        let failed = || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the call failed in rinit");
        async move { task.await.unwrap_or_else(|_| Err(failed())) }
    }

    async fn carry_out(self) -> Result<Done, Failure> {
        // Restarts go one after the other, so that not all workers are away at once; other actions go side by side.
        let one_by_one = self.actions.iter().all(|action| matches!(action, Action::Restart(_)));
        let mut messages = Vec::new();
        let mut refused = Vec::new();
        let mut pending = Vec::new();
        let mut status = self.rinit.ask(Call::Status).await?;
        for action in &self.actions {
            let baseline = Baseline::of(action, &status);
            match self.rinit.ask(|reply| Call::Act(action.clone(), reply)).await? {
                Ok(Accepted { message: Some(message), .. }) => messages.push(message),
                Ok(accepted) => pending.push(Pending { action, accepted, baseline }),
                // A worker that cannot get a signal does not keep it from the others.
                Err(why) if matches!(action, Action::Signal(..)) => refused.push(why),
                Err(why) => return Err(Failure::new(StatusCode::CONFLICT, why)),
            }
            if one_by_one {
                messages.extend(self.wait_for(std::mem::take(&mut pending)).await?);
                status = self.rinit.ask(Call::Status).await?;
            }
        }
        if messages.is_empty() && !refused.is_empty() {
            return Err(Failure::new(StatusCode::CONFLICT, refused.join("; ")));
        }
        messages.extend(self.wait_for(pending).await?);
        messages.extend(refused);
        let workers = self.rinit.ask(Call::Status).await.map(|status| status.workers).unwrap_or_default();
        Ok(Done { ok: true, message: messages.join("; "), workers })
    }

    /// Carries it out, and sends every event until it is done.
    async fn stream_to(self, writer: Writer) -> Result<(), ClientGone> {
        let journal = self.rinit.journal.clone();
        let mut from = journal.lock().next_seq();
        let mut done = std::pin::pin!(self.start());
        let mut result = None;
        loop {
            let mut changed = std::pin::pin!(journal.changed.notified());
            changed.as_mut().enable();
            let make = || {
                let state = journal.lock();
                let (missed, events) = state.since(from);
                event_batch(from, missed, events)
            };
            if let (true, next) = writer.send(make).await? {
                from = next;
                continue;
            }
            match &result {
                Some(Ok(done)) => return writer.send_text(&event(None, "done", done)).await,
                Some(Err(Failure { error, .. })) => return writer.send_text(&event(None, "error", error)).await,
                None => {}
            }
            select! {
                ended = &mut done => result = Some(ended),
                idle = writer.idle(changed) => idle?,
            }
        }
    }

    /// Waits until all of these are done.
    async fn wait_for(&self, mut pending: Vec<Pending<'_>>) -> Result<Vec<String>, Failure> {
        let journal = &self.rinit.journal;
        let mut messages = Vec::new();
        loop {
            let mut changed = std::pin::pin!(journal.changed.notified());
            changed.as_mut().enable();
            if pending.is_empty() {
                return Ok(messages);
            }
            let status = self.rinit.ask(Call::Status).await?;
            let mut remaining = Vec::new();
            for one in pending {
                let events = || journal.lock().since(one.accepted.events_from).1.cloned().collect();
                match one.progress(&status, events) {
                    Progress::Pending => remaining.push(one),
                    Progress::Done(message) => messages.push(message),
                    Progress::Failed { why, worker } => return Err(self.failure(why, worker).await),
                }
            }
            pending = remaining;
            if !pending.is_empty() {
                let _ = timeout(POLL_INTERVAL, changed).await;
                sleep(PAUSE_PER_WORKER * u32::try_from(status.workers.len()).unwrap_or(u32::MAX)).await;
            }
        }
    }

    /// The failure of a worker, with the last lines of its process.
    async fn failure(&self, why: String, worker: Option<Box<WorkerStatus>>) -> Failure {
        let mut failure = Failure::new(StatusCode::CONFLICT, why);
        let Some(worker) = worker else { return failure };
        let journal = &self.rinit.journal;
        // The process that failed, not another one in the same slot.
        let (pid, last) = {
            let state = journal.lock();
            let is_end = |event: &&Event| {
                event.worker.as_ref() == Some(&worker.id) && matches!(event.kind.as_str(), "exited" | "not_ready")
            };
            (state.since(0).1.rev().find(is_end).and_then(|event| event.pid), state.next_seq().checked_sub(1))
        };
        // The loop learns of an exit before all of the worker's output is read.
        let logged = async {
            loop {
                let mut changed = std::pin::pin!(journal.changed.notified());
                changed.as_mut().enable();
                if last.is_none_or(|last| journal.lock().is_logged(last)) {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(POLL_INTERVAL, logged).await;
        let slot = (worker.app.clone(), worker.slot);
        failure.error.last_lines = logs::last_stderr(&self.rinit.log_history, &slot, pid);
        failure.error.worker = Some(worker.id);
        failure
    }
}
