//! Changing calls: each is asked of the loop and then watched until it has come about, or cannot any more.

use super::handle::{Accepted, Action, Call, SupervisorHandle};
use super::logs;
use super::progress::{Baseline, Pending, Progress};
use super::response::{Answer, Failure, Lasts, event, events_text, stream};
use super::types::{Done, Event, WorkerStatus};
use hyper::StatusCode;
use std::time::Duration;
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// However still it is, it is looked at again after this.
const LOOK: Duration = Duration::from_secs(1);

/// One call's actions.
pub(super) struct Operation {
    rinit: SupervisorHandle,
    actions: Vec<Action>,
}

impl Operation {
    pub(super) fn new(rinit: SupervisorHandle, actions: Vec<Action>) -> Operation {
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
            let before = Baseline::of(action, &status);
            match self.rinit.ask(|reply| Call::Act(action.clone(), reply)).await? {
                Ok(Accepted { message: Some(message), .. }) => messages.push(message),
                Ok(accepted) => waiting.push(Pending { action, accepted, before }),
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
        let (writer, answer) = stream(lasts);
        let book = self.rinit.book.clone();
        let mut from = book.open().end();
        spawn_local(async move {
            let mut done = std::pin::pin!(self.done());
            loop {
                let mut news = std::pin::pin!(book.news.notified());
                news.as_mut().enable();
                let (missed, events) = book.open().since(from);
                if !writer.send(events_text(missed, &events)).await {
                    drop(writer);
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
                writer.send(text).await;
                return;
            }
        });
        answer
    }

    /// Waits until all of these have come about.
    async fn watch(&self, mut waiting: Vec<Pending<'_>>) -> Result<Vec<String>, Failure> {
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
                    Progress::GoesOn => still.push(awaited),
                    Progress::Done(message) => messages.push(message),
                    Progress::Failed { why, worker } => return Err(self.failure(why, worker).await),
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
