//! Changing calls: each is asked of the loop and then watched until it has come about, or cannot any more.

use super::body::{Answer, Failure, Lasts, event, events_text, send, stream};
use super::desk::{Accepted, Action, Call, Rinit};
use super::logs;
use super::types::{Done, Event, Status, WorkerStatus};
use crate::core::SlotId;
use hyper::StatusCode;
use std::time::Duration;
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

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
        let mut refused = Vec::new();
        let mut waiting = Vec::new();
        let mut status = self.rinit.ask(Call::Status).await?;
        for action in &self.actions {
            let before = Before::of(action, &status);
            match self.rinit.ask(|reply| Call::Act(action.clone(), reply)).await? {
                Ok(Accepted { message: Some(message), .. }) => messages.push(message),
                Ok(accepted) => waiting.push(Awaited { action, accepted, before }),
                // Who cannot hear a signal does not keep it from the others.
                Err(why) if matches!(action, Action::Signal(..)) => refused.push(why),
                Err(why) => return Err(Failure::new(StatusCode::CONFLICT, why)),
            }
            if in_turn {
                messages.extend(self.watch(std::mem::take(&mut waiting)).await?);
                status = self.rinit.ask(Call::Status).await?;
            }
        }
        if messages.is_empty() && !refused.is_empty() {
            return Err(Failure::new(StatusCode::CONFLICT, refused.join("; ")));
        }
        messages.extend(self.watch(waiting).await?);
        messages.extend(refused);
        let workers = self.rinit.ask(Call::Status).await.map(|status| status.workers).unwrap_or_default();
        Ok(Done { ok: true, message: messages.join("; "), workers })
    }

    /// Does it, and tells every event until it is done.
    pub(super) fn streamed(self, lasts: &Lasts) -> Answer {
        let (sender, answer) = stream(lasts);
        let book = self.rinit.book.clone();
        let mut from = book.open().end();
        spawn_local(async move {
            let mut done = std::pin::pin!(self.done());
            loop {
                let mut news = std::pin::pin!(book.news.notified());
                news.as_mut().enable();
                let (missed, events) = book.open().since(from);
                if !send(&sender, events_text(missed, &events)).await {
                    drop(sender);
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
    async fn watch(&self, mut waiting: Vec<Awaited<'_>>) -> Result<Vec<String>, Failure> {
        let book = &self.rinit.book;
        let mut messages = Vec::new();
        loop {
            let mut news = std::pin::pin!(book.news.notified());
            news.as_mut().enable();
            if waiting.is_empty() {
                return Ok(messages);
            }
            let status = self.rinit.ask(Call::Status).await?;
            let mut still = Vec::new();
            for awaited in waiting {
                match awaited.course(&status, || book.open().since(awaited.accepted.events_from).1) {
                    Course::GoesOn => still.push(awaited),
                    Course::Done(message) => messages.push(message),
                    Course::Failed { why, worker } => return Err(self.failure(why, worker).await),
                }
            }
            waiting = still;
            if !waiting.is_empty() {
                let _ = timeout(LOOK, news).await;
                // The more there is to look at, the less often.
                sleep(Duration::from_micros(50 * status.workers.len() as u64)).await;
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

/// An action that was accepted, and what was before.
struct Awaited<'a> {
    action: &'a Action,
    accepted: Accepted,
    before: Before,
}

/// What an action finds.
#[derive(Default)]
struct Before {
    /// The worker's name.
    id: String,
    /// Its process.
    process: Option<Process>,
    /// Of a scale: the slots that are there to stay.
    slots: Vec<u32>,
}

impl Before {
    fn of(action: &Action, status: &Status) -> Before {
        match action {
            Action::Start(slot) | Action::Stop(slot) | Action::Restart(slot) | Action::Drop(slot) => {
                let row = row(status, *slot);
                let process = row.and_then(|row| Process::of(row, status));
                Before { id: row.map_or_else(String::new, |row| row.id.clone()), process, slots: Vec::new() }
            }
            Action::Scale { .. } => {
                let stay = status.workers.iter().filter(|row| row.role == "worker" && row.state != "draining");
                Before { slots: stay.map(|row| row.slot).collect(), ..Before::default() }
            }
            Action::Reload | Action::Signal(..) | Action::Shutdown(_) => Before::default(),
        }
    }
}

/// A process: numbers are used again, so when it was born tells too, in milliseconds of rinit's time.
#[derive(Clone, Copy)]
struct Process {
    pid: u32,
    born: u64,
}

impl Process {
    fn of(row: &WorkerStatus, status: &Status) -> Option<Process> {
        Some(Process { pid: row.pid?, born: status.uptime_ms.saturating_sub(row.uptime_ms.unwrap_or_default()) })
    }

    fn is(self, other: Process) -> bool {
        // Both are rounded.
        self.pid == other.pid && self.born.abs_diff(other.born) <= 2
    }
}

impl Awaited<'_> {
    /// How far it has come, by what was before it and what is now. `events`: what has happened since.
    fn course(&self, now: &Status, events: impl FnOnce() -> Vec<Event>) -> Course {
        if now.state == "stopping" {
            return overruled("the container is stopping");
        }
        match self.action {
            // Done when they were accepted.
            Action::Signal(..) | Action::Shutdown(_) => Course::Done(String::new()),
            Action::Reload => reload(&self.accepted, now),
            Action::Scale { .. } => self.scale(now, &events()),
            Action::Start(slot) => started(*slot, None, now),
            Action::Restart(slot) => started(*slot, self.before.process, now),
            Action::Stop(slot) => match row(now, *slot) {
                Some(row) if matches!(row.state.as_str(), "stopped" | "draining") => {
                    let runs = rows(now, *slot).any(|row| row.pid.is_some());
                    if runs || row.state == "draining" {
                        return Course::GoesOn;
                    }
                    Course::Done(format!("{} is stopped", row.id))
                }
                Some(row) => overruled(format!("somebody else has started {} again", row.id)),
                None => Course::Done("it is gone".into()),
            },
            Action::Drop(slot) => match row(now, *slot) {
                Some(row) if row.state == "draining" => Course::GoesOn,
                Some(row) => overruled(format!("{} is there again: somebody else has scaled up", row.id)),
                None => Course::Done(format!("{} is gone", self.before.id)),
            },
        }
    }

    /// Of a scale only the workers count that come or go by it.
    fn scale(&self, now: &Status, events: &[Event]) -> Course {
        let Some((app, from, to)) = self.accepted.scaled else { return Course::GoesOn };
        let Some(app) = now.apps.get(app) else { return Course::GoesOn };
        let own = || now.workers.iter().filter(|row| row.app == app.name && row.role == "worker");
        let undone = if to > from { app.wanted < to } else { app.wanted > to };
        if undone {
            return overruled(format!("somebody else has scaled {} to {}", app.name, app.wanted));
        }
        if to < from {
            let mut slots: Vec<u32> =
                now.workers.iter().filter(|row| row.app == app.name).map(|row| row.slot).collect();
            slots.dedup();
            if slots.len() > to as usize {
                return Course::GoesOn;
            }
        }
        let was_ready = |row: &WorkerStatus| {
            row.state == "ready"
                || events.iter().any(|event| event.kind == "ready" && event.worker.as_ref() == Some(&row.id))
        };
        for row in own().filter(|row| to > from && !self.before.slots.contains(&row.slot) && !was_ready(row)) {
            match run(row) {
                Course::Done(_) => {}
                other => return other,
            }
        }
        Course::Done(format!("{} has {to} workers", app.name))
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
                let named = now.workers.iter().filter(|worker| why.contains(&worker.id));
                // web-1 is in web-10 too.
                let worker = named.max_by_key(|worker| worker.id.len()).cloned().map(Box::new);
                return Course::Failed { why, worker };
            }
            None => return Course::GoesOn,
        }
    }
    Course::Done(took.join(", "))
}

fn started(slot: SlotId, old: Option<Process>, now: &Status) -> Course {
    let Some(row) = row(now, slot) else { return overruled("it was removed meanwhile") };
    let is_old = Process::of(row, now).zip(old).is_some_and(|(process, old)| process.is(old));
    if is_old { Course::GoesOn } else { run(row) }
}

/// Whether a worker that is to run is ready.
fn run(row: &WorkerStatus) -> Course {
    match row.state.as_str() {
        "ready" => Course::Done(format!("{} is ready", row.id)),
        "backoff" | "failed" => stuck(row),
        "stopped" => match row.last_exit.as_ref().filter(|exit| !exit.asked) {
            Some(exit) if exit.code == Some(0) => Course::Done(format!("{} has run and finished", row.id)),
            Some(_) => stuck(row),
            None => overruled(format!("somebody else has stopped {}", row.id)),
        },
        _ => Course::GoesOn,
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
    rows(status, slot).find(|worker| worker.role == "worker").or_else(|| rows(status, slot).next())
}

fn rows(status: &Status, slot: SlotId) -> impl Iterator<Item = &WorkerStatus> {
    let app = status.apps.get(slot.app).map_or("", |app| app.name.as_str());
    status.workers.iter().filter(move |worker| worker.app == app && worker.slot == slot.index)
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
        let before = Before::of(&action, &status("ready", Some(10), true, 0));
        match (Awaited { action: &action, accepted: Accepted::default(), before }).course(now, Vec::new) {
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
