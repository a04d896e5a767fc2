//! Decides whether a change is done, has failed or is pending, from the status before it and now. Does no I/O.

use super::handle::{Accepted, Action};
use super::types::{AppStatus, Event, Status, WorkerStatus};
use crate::core::{AppId, SlotId, Target};
use crate::units::count;

/// The progress of an action.
pub(super) enum Progress {
    Pending,
    Done(String),
    Failed { why: String, worker: Option<Box<WorkerStatus>> },
}

/// An action that was accepted, and the state before it.
pub(super) struct Pending<'a> {
    pub(super) action: &'a Action,
    pub(super) accepted: Accepted,
    pub(super) baseline: Baseline,
}

/// The state that an action found.
#[derive(Default)]
pub(super) struct Baseline {
    /// The worker.
    id: String,
    /// Its process.
    process: Option<Process>,
    /// The slots that stay after a scale.
    slots: Vec<u32>,
}

impl Baseline {
    pub(super) fn of(action: &Action, status: &Status) -> Baseline {
        match action {
            Action::Reload(Target::Slot(slot))
            | Action::Start(slot)
            | Action::Stop(slot)
            | Action::Restart(slot)
            | Action::Delete(slot) => {
                let row = row(status, *slot);
                let process = row.and_then(|row| Process::of(row, status));
                Baseline { id: row.map_or_else(String::new, |row| row.id.clone()), process, slots: Vec::new() }
            }
            Action::Scale { app, .. } => {
                let stays = |row: &&WorkerStatus| row.role == "worker" && row.state != "draining";
                let stay = app_rows(status, *app).filter(stays);
                Baseline { slots: stay.map(|row| row.slot).collect(), ..Baseline::default() }
            }
            Action::Reload(Target::All | Target::App(_)) | Action::Signal(..) | Action::Shutdown(_) => {
                Baseline::default()
            }
        }
    }
}

/// A process. Its pid may be used again, so its birth counts too, in milliseconds since rinit's start.
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

impl Pending<'_> {
    /// Returns the progress, by the status now and the events since it was accepted.
    pub(super) fn progress(&self, now: &Status, events: impl FnOnce() -> Vec<Event>) -> Progress {
        if now.state == "stopping" {
            return overruled("the container is stopping");
        }
        match self.action {
            // Done when they were accepted.
            Action::Signal(..) | Action::Shutdown(_) => Progress::Done(String::new()),
            Action::Reload(Target::Slot(slot)) => self.replacement(*slot, now, &events()),
            Action::Reload(Target::All | Target::App(_)) => reload(&self.accepted, now),
            Action::Scale { .. } => self.scale(now, &events()),
            Action::Start(slot) => started(*slot, None, now),
            Action::Restart(slot) => started(*slot, self.baseline.process, now),
            Action::Stop(slot) => match row(now, *slot) {
                Some(row) if matches!(row.state.as_str(), "stopped" | "draining") => {
                    let runs = rows(now, *slot).any(|row| row.pid.is_some());
                    if runs || row.state == "draining" {
                        return Progress::Pending;
                    }
                    Progress::Done(format!("{} is stopped", row.id))
                }
                Some(row) => overruled(format!("{} was started again by another call", row.id)),
                None => Progress::Done("it is gone".into()),
            },
            Action::Delete(slot) => match row(now, *slot) {
                Some(row) if row.state == "draining" => Progress::Pending,
                Some(row) => overruled(format!("{} was kept: another call has scaled up", row.id)),
                None => Progress::Done(format!("{} is gone", self.baseline.id)),
            },
        }
    }

    /// The progress of a slot's reload: another process takes the place of the one before, or the replacement fails.
    fn replacement(&self, slot: SlotId, now: &Status, events: &[Event]) -> Progress {
        let progress = started(slot, self.baseline.process, now);
        if !matches!(progress, Progress::Pending) {
            return progress;
        }
        let id = self.baseline.id.as_str();
        let is_own = |event: &&Event| event.kind == "replacing" && event.worker.as_deref() == Some(id);
        let begun = events.iter().find(is_own).map(|event| event.seq);
        let app = find_app(now, slot.app).map(|app| app.name.as_str());
        // A reload that comes first replaces this worker too.
        let has_failed = |event: &&Event| match event.kind.as_str() {
            "replace_failed" => begun.is_some_and(|begun| event.seq > begun),
            "reload_failed" => begun.is_none(),
            _ => false,
        };
        match events.iter().filter(|event| event.app.as_deref() == app).find(has_failed) {
            Some(event) => {
                let worker = row(now, slot).cloned().map(Box::new);
                Progress::Failed { why: event.message.clone(), worker }
            }
            None => progress,
        }
    }

    /// The progress of a scale: only the workers count that come or go by it.
    fn scale(&self, now: &Status, events: &[Event]) -> Progress {
        let Some((app, from, to)) = self.accepted.scaled else { return Progress::Pending };
        let Some(status) = find_app(now, app) else { return overruled("the app was removed") };
        let undone = if to > from { status.instances < to } else { status.instances > to };
        if undone {
            return overruled(format!("another call has scaled {} to {}", status.name, status.instances));
        }
        if to < from {
            let mut slots: Vec<u32> = app_rows(now, app).map(|row| row.slot).collect();
            slots.dedup();
            if slots.len() > to as usize {
                return Progress::Pending;
            }
        }
        let was_ready = |row: &WorkerStatus| {
            row.state == "ready"
                || events.iter().any(|event| event.kind == "ready" && event.worker.as_ref() == Some(&row.id))
        };
        let is_new = |row: &&WorkerStatus| row.role == "worker" && !self.baseline.slots.contains(&row.slot);
        for row in app_rows(now, app).filter(|row| to > from && is_new(row) && !was_ready(row)) {
            match running(row) {
                Progress::Done(_) => {}
                other => return other,
            }
        }
        Progress::Done(format!("{} has {}", status.name, count(to, "worker")))
    }
}

fn reload(accepted: &Accepted, now: &Status) -> Progress {
    let mut took = Vec::new();
    for (app, generation) in &accepted.generations {
        let Some(app) = find_app(now, *app) else { continue };
        match app.last_reload.as_ref().filter(|last| last.generation >= *generation) {
            Some(last) if last.result == "done" => {
                let seconds = last.took_ms as f64 / 1000.0;
                took.push(format!("{} is reloaded to generation {} in {seconds:.1} s", app.name, last.generation));
            }
            Some(last) => {
                let why = last.why.clone().unwrap_or_else(|| "the reload was cancelled".into());
                let named = now.workers.iter().filter(|worker| why.contains(&worker.id));
                // The longest: web-1 is a part of web-10.
                let worker = named.max_by_key(|worker| worker.id.len()).cloned().map(Box::new);
                return Progress::Failed { why, worker };
            }
            None => return Progress::Pending,
        }
    }
    Progress::Done(took.join(", "))
}

fn started(slot: SlotId, old: Option<Process>, now: &Status) -> Progress {
    let Some(row) = row(now, slot) else { return overruled("it was removed by another call") };
    let is_old = Process::of(row, now).zip(old).is_some_and(|(process, old)| process.is(old));
    if is_old { Progress::Pending } else { running(row) }
}

/// The progress of a worker that is to run.
fn running(row: &WorkerStatus) -> Progress {
    match row.state.as_str() {
        "ready" => Progress::Done(format!("{} is ready", row.id)),
        "backoff" | "failed" => not_running(row),
        "stopped" => match row.last_exit.as_ref().filter(|exit| !exit.asked) {
            Some(exit) if exit.code == Some(0) => Progress::Done(format!("{} has run and finished", row.id)),
            Some(_) => not_running(row),
            None => overruled(format!("{} was stopped by another call", row.id)),
        },
        _ => Progress::Pending,
    }
}

/// A change that will not be done, because another call has asked for something else.
fn overruled(why: impl Into<String>) -> Progress {
    Progress::Failed { why: why.into(), worker: None }
}

fn not_running(worker: &WorkerStatus) -> Progress {
    let cause = worker.last_exit.as_ref().map_or("it could not be started", |exit| &exit.cause);
    let why = format!("{} is in state {}: {cause}", worker.id, worker.state);
    Progress::Failed { why, worker: Some(Box::new(worker.clone())) }
}

/// The row of the slot's own worker; without one, any row of the slot.
fn row(status: &Status, slot: SlotId) -> Option<&WorkerStatus> {
    rows(status, slot).find(|worker| worker.role == "worker").or_else(|| rows(status, slot).next())
}

fn rows(status: &Status, slot: SlotId) -> impl Iterator<Item = &WorkerStatus> {
    app_rows(status, slot.app).filter(move |worker| worker.slot == slot.index)
}

fn app_rows(status: &Status, app: AppId) -> impl Iterator<Item = &WorkerStatus> {
    let name = find_app(status, app).map(|app| app.name.as_str());
    status.workers.iter().filter(move |worker| Some(worker.app.as_str()) == name)
}

fn find_app(status: &Status, id: AppId) -> Option<&AppStatus> {
    status.apps.iter().find(|app| app.id == id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::AppId;
    use serde_json::json;

    /// One app with one slot. Its worker is in that state, and has exited before with that code, asked to or not.
    fn status(state: &str, pid: Option<u32>, asked: bool, code: i32) -> Status {
        let exit = json!({
            "time": "", "pid": 1, "code": code, "signal": null, "oom_killed": false, "cause": format!("exit code {code}"),
            "lived_ms": 1, "asked": asked,
        });
        let worker = json!({
            "id": "web-0", "app": "web", "slot": 0, "role": "worker", "state": state, "pid": pid, "generation": 1,
            "uptime_ms": null, "restarts": 0, "cpu_percent": null, "memory_bytes": null, "ready_by": null, "status": null, "listens": [],
            "connections": null, "open_connections": null, "retry_in_ms": null, "is_crash_looping": false, "last_exit": exit,
        });
        let app = json!({
            "id": 7, "name": "web", "command": [], "instances": 1, "wanted": 1, "missing": 0, "ready": 0, "kind": "service", "condition": "ready", "is_over": false, "generation": 1, "reload": null, "last_reload": null,
            "listens": [],
        });
        let all = json!({
            "version": "", "pid": 1, "state": "running", "started": "", "uptime_ms": 0, "apps": [app], "workers": [worker],
        });
        serde_json::from_value(all).unwrap()
    }

    /// `…`, the message, or `not: ` and the reason.
    fn outcome(action: Action, now: &Status) -> String {
        let baseline = Baseline::of(&action, &status("ready", Some(10), true, 0));
        match (Pending { action: &action, accepted: Accepted::default(), baseline }).progress(now, Vec::new) {
            Progress::Pending => "…".into(),
            Progress::Done(message) => message,
            Progress::Failed { why, .. } => format!("not: {why}"),
        }
    }

    #[test]
    fn a_process_that_reuses_a_pid_is_another_one() {
        let mut now = Status { uptime_ms: 500, ..status("ready", Some(10), true, 0) };
        now.workers.iter_mut().for_each(|row| row.uptime_ms = Some(500));
        assert_eq!(outcome(Action::Restart(SlotId { app: AppId(7), index: 0 }), &now), "…");
        now.workers.iter_mut().for_each(|row| row.uptime_ms = Some(20));
        assert_eq!(outcome(Action::Restart(SlotId { app: AppId(7), index: 0 }), &now), "web-0 is ready");
    }

    #[test]
    fn every_call_on_a_worker_ends_whatever_other_calls_ask_meanwhile() {
        let slot = SlotId { app: AppId(7), index: 0 };
        let gone = Status { workers: vec![], ..status("ready", None, true, 0) };
        let cases = [
            (status("ready", Some(10), true, 0), ["web-0 is ready", "…", "not: started", "not: kept"]),
            (status("ready", Some(11), true, 0), ["web-0 is ready", "web-0 is ready", "not: started", "not: kept"]),
            (status("starting", Some(11), true, 0), ["…", "…", "not: started", "not: kept"]),
            (status("draining", Some(10), true, 0), ["…", "…", "…", "…"]),
            (status("backoff", None, false, 3), ["not: exit code 3", "not: exit code 3", "not: started", "not: kept"]),
            (status("failed", None, false, 3), ["not: exit code 3", "not: exit code 3", "not: started", "not: kept"]),
            (status("stopped", None, true, 0), ["not: stopped", "not: stopped", "web-0 is stopped", "not: kept"]),
            (status("stopped", None, false, 0), ["has run", "has run", "web-0 is stopped", "not: kept"]),
            (
                status("stopped", None, false, 3),
                ["not: exit code 3", "not: exit code 3", "web-0 is stopped", "not: kept"],
            ),
            (gone, ["not: removed", "not: removed", "it is gone", "web-0 is gone"]),
        ];
        for (now, expected) in cases {
            let actions = [Action::Start(slot), Action::Restart(slot), Action::Stop(slot), Action::Delete(slot)];
            for (action, expected) in actions.into_iter().zip(expected) {
                let said = outcome(action.clone(), &now);
                let (is_failure, word) = expected.strip_prefix("not: ").map_or((false, expected), |word| (true, word));
                assert!(said.contains(word) && said.starts_with("not: ") == is_failure, "{action:?}: {said}, {now:?}");
            }
        }
    }
}
