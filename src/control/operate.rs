//! Changing calls: each is asked of the loop and then watched until it has come about, or cannot any more.

use super::body::{Answer, Failure, event, events_text, send, stream};
use super::desk::{Accepted, Action, Call, Rinit};
use super::logs;
use super::types::{Done, Event, Status, WorkerStatus};
use crate::core::SlotId;
use hyper::StatusCode;
use std::time::Duration;
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// However still it is, it is looked at again after this.
const LOOK: Duration = Duration::from_secs(1);

/// One call's actions.
pub(super) struct Operation {
    rinit: Rinit,
    actions: Vec<Action>,
}

/// How far an action has come.
enum Course {
    GoesOn,
    Done(String),
    Failed { why: String, worker: Option<Box<WorkerStatus>> },
}

impl Operation {
    pub(super) fn new(rinit: Rinit, actions: Vec<Action>) -> Operation {
        Operation { rinit, actions }
    }

    /// Does it, and answers when it is done. It goes on when the client has gone.
    pub(super) async fn done(self) -> Result<Done, Failure> {
        let done = spawn_local(self.carry_out()).await;
        done.unwrap_or_else(|_| Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the call failed in rinit")))
    }

    async fn carry_out(self) -> Result<Done, Failure> {
        // Restarts go one after the other, so that not all workers are away at once; the rest side by side.
        let in_turn = self.actions.iter().all(|action| matches!(action, Action::Restart(_)));
        let mut messages = Vec::new();
        let mut waiting = Vec::new();
        for action in &self.actions {
            let before = self.rinit.ask(Call::Status).await?;
            let accepted = self.rinit.ask(|reply| Call::Act(action.clone(), reply)).await?;
            let accepted = accepted.map_err(|why| Failure::new(StatusCode::CONFLICT, why))?;
            match accepted.message {
                Some(message) => messages.push(message),
                None => waiting.push((action, accepted, before)),
            }
            if in_turn {
                messages.extend(self.watch(std::mem::take(&mut waiting)).await?);
            }
        }
        messages.extend(self.watch(waiting).await?);
        let workers = self.rinit.ask(Call::Status).await.map(|status| status.workers).unwrap_or_default();
        Ok(Done { ok: true, message: messages.join("; "), workers })
    }

    /// Does it, and tells every event until it is done.
    pub(super) fn streamed(self) -> Answer {
        let (sender, answer) = stream();
        let book = self.rinit.book.clone();
        let mut from = book.open().end();
        spawn_local(async move {
            let mut done = std::pin::pin!(self.done());
            loop {
                let mut news = std::pin::pin!(book.news.notified());
                news.as_mut().enable();
                let (missed, events) = book.open().since(from);
                if !send(&sender, events_text(missed, &events)).await {
                    let _ = done.await;
                    return;
                }
                from = events.last().map_or(from + missed, |event| event.seq + 1);
                let ended = select! {
                    ended = &mut done => ended,
                    () = news => continue,
                };
                let (missed, events) = book.open().since(from);
                let mut text = events_text(missed, &events);
                text.extend(match ended {
                    Ok(done) => event(None, "done", &done),
                    Err(failure) => event(None, "error", &failure.error),
                });
                send(&sender, text).await;
                return;
            }
        });
        answer
    }

    /// Waits until all of these have come about.
    async fn watch(&self, mut waiting: Vec<(&Action, Accepted, Status)>) -> Result<Vec<String>, Failure> {
        let mut messages = Vec::new();
        loop {
            let mut news = std::pin::pin!(self.rinit.book.news.notified());
            news.as_mut().enable();
            if waiting.is_empty() {
                return Ok(messages);
            }
            let status = self.rinit.ask(Call::Status).await?;
            let mut still = Vec::new();
            for (action, accepted, before) in waiting {
                match course(action, &accepted, &before, &status) {
                    Course::GoesOn => still.push((action, accepted, before)),
                    Course::Done(message) => messages.push(message),
                    Course::Failed { why, worker } => return Err(self.failure(why, worker).await),
                }
            }
            waiting = still;
            if !waiting.is_empty() {
                let _ = timeout(LOOK, news).await;
            }
        }
    }

    async fn failure(&self, why: String, worker: Option<Box<WorkerStatus>>) -> Failure {
        let mut failure = Failure::new(StatusCode::CONFLICT, why);
        if let Some(worker) = worker {
            // Of the process that failed, not of another in the same slot.
            let book = &self.rinit.book;
            let (_, events) = book.open().since(0);
            // The loop knows of an end before all is read that led to it.
            let told = async {
                loop {
                    let mut news = std::pin::pin!(book.news.notified());
                    news.as_mut().enable();
                    if events.last().is_none_or(|event| book.open().has_told(event.seq)) {
                        return;
                    }
                    news.await;
                }
            };
            let _ = timeout(LOOK, told).await;
            let is_it = |event: &&Event| event.worker.as_ref() == Some(&worker.id);
            let ended = |event: &&Event| matches!(event.kind.as_str(), "exited" | "not_ready");
            let pid = events.iter().rev().filter(is_it).find(ended).and_then(|event| event.pid);
            failure.error.last_lines = logs::last_stderr(&self.rinit.record, &(worker.app.clone(), worker.slot), pid);
            failure.error.worker = Some(worker.id.clone());
        }
        failure
    }
}

/// How far an action has come, by what was before it and what is now.
fn course(action: &Action, accepted: &Accepted, before: &Status, now: &Status) -> Course {
    if now.state == "stopping" {
        return overruled("the container is stopping");
    }
    match action {
        Action::Reload => reload(accepted, now),
        Action::Scale { .. } => scale(accepted, now),
        // Done when they were accepted.
        Action::Signal(..) | Action::Shutdown(_) => Course::Done(String::new()),
        Action::Start(slot) => started(*slot, None, now),
        Action::Restart(slot) => started(*slot, row(before, *slot).and_then(|row| row.pid), now),
        Action::Stop(slot) => match row(now, *slot) {
            Some(row) if row.state == "stopped" => Course::Done(format!("{} is stopped", row.id)),
            Some(row) if row.state == "draining" => Course::GoesOn,
            Some(row) => overruled(format!("somebody else has started {} again", row.id)),
            None => Course::Done("it is gone".into()),
        },
        Action::Drop(slot) => match row(now, *slot) {
            Some(row) if row.state == "draining" => Course::GoesOn,
            Some(row) => overruled(format!("{} is there again: somebody else has scaled up", row.id)),
            None => Course::Done(row(before, *slot).map_or_else(String::new, |row| format!("{} is gone", row.id))),
        },
    }
}

fn reload(accepted: &Accepted, now: &Status) -> Course {
    let mut took = Vec::new();
    for (app, generation) in &accepted.generations {
        let Some(app) = now.apps.get(*app) else { continue };
        match app.last_reload.as_ref().filter(|last| last.generation >= *generation) {
            Some(last) if last.result == "done" => {
                took.push(format!("{} is reloaded, in {:.1} s", app.name, last.took_ms as f64 / 1000.0));
            }
            Some(last) => {
                let why = last.why.clone().unwrap_or_else(|| "the reload was ended".into());
                let worker = now.workers.iter().find(|worker| why.contains(&worker.id)).cloned().map(Box::new);
                return Course::Failed { why, worker };
            }
            None => return Course::GoesOn,
        }
    }
    Course::Done(took.join(", "))
}

fn scale(accepted: &Accepted, now: &Status) -> Course {
    let Some((app, wanted)) = accepted.wanted.and_then(|(app, wanted)| Some((now.apps.get(app)?, wanted))) else {
        return Course::GoesOn;
    };
    let own = || now.workers.iter().filter(|worker| worker.app == app.name);
    if app.wanted != wanted {
        return overruled(format!("somebody else has scaled {} to {}", app.name, app.wanted));
    }
    if own().any(|worker| matches!(worker.state.as_str(), "starting" | "draining")) || own().count() != wanted as usize
    {
        return Course::GoesOn;
    }
    match own().find(|worker| matches!(worker.state.as_str(), "backoff" | "failed")) {
        Some(worker) => stuck(worker),
        None => Course::Done(format!("{} has {wanted} workers", app.name)),
    }
}

fn started(slot: SlotId, old: Option<u32>, now: &Status) -> Course {
    match row(now, slot) {
        Some(row) if row.pid.is_some() && row.pid == old => Course::GoesOn,
        Some(row) => match row.state.as_str() {
            "ready" => Course::Done(format!("{} is ready", row.id)),
            "backoff" | "failed" => stuck(row),
            "stopped" => match row.last_exit.as_ref().filter(|exit| !exit.asked) {
                Some(exit) if exit.code == Some(0) => Course::Done(format!("{} has run and finished", row.id)),
                Some(_) => stuck(row),
                None => overruled(format!("somebody else has stopped {}", row.id)),
            },
            _ => Course::GoesOn,
        },
        None => overruled("it was removed meanwhile"),
    }
}

/// It will not come about any more, since somebody asked for something else.
fn overruled(why: impl Into<String>) -> Course {
    Course::Failed { why: why.into(), worker: None }
}

fn stuck(worker: &WorkerStatus) -> Course {
    let cause = worker.last_exit.as_ref().map_or("it could not be started", |exit| &exit.cause);
    let why = format!("{} is in state {}: {cause}", worker.id, worker.state);
    Course::Failed { why, worker: Some(Box::new(worker.clone())) }
}

/// The slot's own row; without one, any of its rows.
fn row(status: &Status, slot: SlotId) -> Option<&WorkerStatus> {
    let app = &status.apps.get(slot.app)?.name;
    let rows = || status.workers.iter().filter(|worker| worker.app == *app && worker.slot == slot.index);
    rows().find(|worker| worker.role == "worker").or_else(|| rows().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One app with one slot, whose worker is in that state; it has ended before, by itself or not, with that code.
    fn status(state: &str, pid: Option<u32>, asked: bool, code: i32) -> Status {
        let exit = json!({
            "time": "", "pid": 1, "code": code, "signal": null, "oom_killed": false, "cause": format!("exit code {code}"),
            "lived_ms": 1, "asked": asked,
        });
        let worker = json!({
            "id": "web-0", "app": "web", "slot": 0, "role": "worker", "state": state, "pid": pid, "generation": 1,
            "uptime_ms": null, "restarts": 0, "cpu_percent": null, "memory_bytes": null, "ready_by": null, "listens": [],
            "retry_in_ms": null, "last_exit": exit,
        });
        let app = json!({
            "name": "web", "command": [], "wanted": 1, "ready": 0, "generation": 1, "reload": null, "last_reload": null,
            "listens": [],
        });
        let all = json!({
            "version": "", "pid": 1, "state": "running", "started": "", "uptime_ms": 0, "apps": [app], "workers": [worker],
        });
        serde_json::from_value(all).unwrap()
    }

    /// `…`, or what it says.
    fn told(action: Action, now: &Status) -> String {
        match course(&action, &Accepted::default(), &status("ready", Some(10), true, 0), now) {
            Course::GoesOn => "…".into(),
            Course::Done(message) => message,
            Course::Failed { why, .. } => format!("not: {why}"),
        }
    }

    #[test]
    fn every_call_on_a_worker_ends_whatever_others_ask_of_it_meanwhile() {
        let slot = SlotId { app: 0, index: 0 };
        let gone = Status { workers: vec![], ..status("ready", None, true, 0) };
        let ways = [
            (status("ready", Some(10), true, 0), ["web-0 is ready", "…", "not: started", "not: there"]),
            (status("ready", Some(11), true, 0), ["web-0 is ready", "web-0 is ready", "not: started", "not: there"]),
            (status("starting", Some(11), true, 0), ["…", "…", "not: started", "not: there"]),
            (status("draining", Some(10), true, 0), ["…", "…", "…", "…"]),
            (status("backoff", None, false, 3), ["not: exit code 3", "not: exit code 3", "not: started", "not: there"]),
            (status("failed", None, false, 3), ["not: exit code 3", "not: exit code 3", "not: started", "not: there"]),
            (status("stopped", None, true, 0), ["not: stopped", "not: stopped", "web-0 is stopped", "not: there"]),
            (status("stopped", None, false, 0), ["has run", "has run", "web-0 is stopped", "not: there"]),
            (
                status("stopped", None, false, 3),
                ["not: exit code 3", "not: exit code 3", "web-0 is stopped", "not: there"],
            ),
            (gone, ["not: removed", "not: removed", "it is gone", "web-0 is gone"]),
        ];
        for (now, expected) in ways {
            let actions = [Action::Start(slot), Action::Restart(slot), Action::Stop(slot), Action::Drop(slot)];
            for (action, expected) in actions.into_iter().zip(expected) {
                let said = told(action.clone(), &now);
                let (is_failure, word) = expected.strip_prefix("not: ").map_or((false, expected), |word| (true, word));
                assert!(said.contains(word) && said.starts_with("not: ") == is_failure, "{action:?}: {said}, {now:?}");
            }
        }
    }
}
