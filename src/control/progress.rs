//! How far what was asked for has come: by what was before it and what is now, and no I/O.

use super::handle::{Accepted, Action};
use super::types::{Event, Status, WorkerStatus};
use crate::core::SlotId;

/// How far an action has come.
pub(super) enum Progress {
    GoesOn,
    Done(String),
    Failed { why: String, worker: Option<Box<WorkerStatus>> },
}

/// An action that was accepted, and what was before.
pub(super) struct Pending<'a> {
    pub(super) action: &'a Action,
    pub(super) accepted: Accepted,
    pub(super) before: Baseline,
}

/// What an action finds.
#[derive(Default)]
pub(super) struct Baseline {
    /// The worker's name.
    id: String,
    /// Its process.
    process: Option<Process>,
    /// Of a scale: the slots that are there to stay.
    slots: Vec<u32>,
}

impl Baseline {
    pub(super) fn of(action: &Action, status: &Status) -> Baseline {
        match action {
            Action::Start(slot) | Action::Stop(slot) | Action::Restart(slot) | Action::Drop(slot) => {
                let row = row(status, *slot);
                let process = row.and_then(|row| Process::of(row, status));
                Baseline { id: row.map_or_else(String::new, |row| row.id.clone()), process, slots: Vec::new() }
            }
            Action::Scale { .. } => {
                let stay = status.workers.iter().filter(|row| row.role == "worker" && row.state != "draining");
                Baseline { slots: stay.map(|row| row.slot).collect(), ..Baseline::default() }
            }
            Action::Reload | Action::Signal(..) | Action::Shutdown(_) => Baseline::default(),
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

impl Pending<'_> {
    /// How far it has come, by what was before it and what is now. `events`: what has happened since.
    pub(super) fn course(&self, now: &Status, events: impl FnOnce() -> Vec<Event>) -> Progress {
        if now.state == "stopping" {
            return overruled("the container is stopping");
        }
        match self.action {
            // Done when they were accepted.
            Action::Signal(..) | Action::Shutdown(_) => Progress::Done(String::new()),
            Action::Reload => reload(&self.accepted, now),
            Action::Scale { .. } => self.scale(now, &events()),
            Action::Start(slot) => started(*slot, None, now),
            Action::Restart(slot) => started(*slot, self.before.process, now),
            Action::Stop(slot) => match row(now, *slot) {
                Some(row) if matches!(row.state.as_str(), "stopped" | "draining") => {
                    let runs = rows(now, *slot).any(|row| row.pid.is_some());
                    if runs || row.state == "draining" {
                        return Progress::GoesOn;
                    }
                    Progress::Done(format!("{} is stopped", row.id))
                }
                Some(row) => overruled(format!("somebody else has started {} again", row.id)),
                None => Progress::Done("it is gone".into()),
            },
            Action::Drop(slot) => match row(now, *slot) {
                Some(row) if row.state == "draining" => Progress::GoesOn,
                Some(row) => overruled(format!("{} is there again: somebody else has scaled up", row.id)),
                None => Progress::Done(format!("{} is gone", self.before.id)),
            },
        }
    }

    /// Of a scale only the workers count that come or go by it.
    fn scale(&self, now: &Status, events: &[Event]) -> Progress {
        let Some((app, from, to)) = self.accepted.scaled else { return Progress::GoesOn };
        let Some(app) = now.apps.get(app.0 as usize) else { return Progress::GoesOn };
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
                return Progress::GoesOn;
            }
        }
        let was_ready = |row: &WorkerStatus| {
            row.state == "ready"
                || events.iter().any(|event| event.kind == "ready" && event.worker.as_ref() == Some(&row.id))
        };
        for row in own().filter(|row| to > from && !self.before.slots.contains(&row.slot) && !was_ready(row)) {
            match run(row) {
                Progress::Done(_) => {}
                other => return other,
            }
        }
        Progress::Done(format!("{} has {to} workers", app.name))
    }
}

fn reload(accepted: &Accepted, now: &Status) -> Progress {
    let mut took = Vec::new();
    for (app, generation) in &accepted.generations {
        let Some(app) = now.apps.get(app.0 as usize) else { continue };
        match app.last_reload.as_ref().filter(|last| last.generation >= *generation) {
            Some(last) if last.result == "done" => {
                took.push(format!("{} is reloaded, in {:.1} s", app.name, last.took_ms as f64 / 1000.0));
            }
            Some(last) => {
                let why = last.why.clone().unwrap_or_else(|| "the reload was ended".into());
                let named = now.workers.iter().filter(|worker| why.contains(&worker.id));
                // web-1 is in web-10 too.
                let worker = named.max_by_key(|worker| worker.id.len()).cloned().map(Box::new);
                return Progress::Failed { why, worker };
            }
            None => return Progress::GoesOn,
        }
    }
    Progress::Done(took.join(", "))
}

fn started(slot: SlotId, old: Option<Process>, now: &Status) -> Progress {
    let Some(row) = row(now, slot) else { return overruled("it was removed meanwhile") };
    let is_old = Process::of(row, now).zip(old).is_some_and(|(process, old)| process.is(old));
    if is_old { Progress::GoesOn } else { run(row) }
}

/// Whether a worker that is to run is ready.
fn run(row: &WorkerStatus) -> Progress {
    match row.state.as_str() {
        "ready" => Progress::Done(format!("{} is ready", row.id)),
        "backoff" | "failed" => stuck(row),
        "stopped" => match row.last_exit.as_ref().filter(|exit| !exit.asked) {
            Some(exit) if exit.code == Some(0) => Progress::Done(format!("{} has run and finished", row.id)),
            Some(_) => stuck(row),
            None => overruled(format!("somebody else has stopped {}", row.id)),
        },
        _ => Progress::GoesOn,
    }
}

/// It will not come about any more, since somebody asked for something else.
fn overruled(why: impl Into<String>) -> Progress {
    Progress::Failed { why: why.into(), worker: None }
}

fn stuck(worker: &WorkerStatus) -> Progress {
    let cause = worker.last_exit.as_ref().map_or("it could not be started", |exit| &exit.cause);
    let why = format!("{} is in state {}: {cause}", worker.id, worker.state);
    Progress::Failed { why, worker: Some(Box::new(worker.clone())) }
}

/// The slot's own row; without one, any of its rows.
fn row(status: &Status, slot: SlotId) -> Option<&WorkerStatus> {
    rows(status, slot).find(|worker| worker.role == "worker").or_else(|| rows(status, slot).next())
}

fn rows(status: &Status, slot: SlotId) -> impl Iterator<Item = &WorkerStatus> {
    let app = status.apps.get(slot.app.0 as usize).map_or("", |app| app.name.as_str());
    status.workers.iter().filter(move |worker| worker.app == app && worker.slot == slot.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::AppId;
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
        let before = Baseline::of(&action, &status("ready", Some(10), true, 0));
        match (Pending { action: &action, accepted: Accepted::default(), before }).course(now, Vec::new) {
            Progress::GoesOn => "…".into(),
            Progress::Done(message) => message,
            Progress::Failed { why, .. } => format!("not: {why}"),
        }
    }

    #[test]
    fn a_process_with_the_number_of_the_one_before_is_another() {
        let mut now = Status { uptime_ms: 500, ..status("ready", Some(10), true, 0) };
        now.workers.iter_mut().for_each(|row| row.uptime_ms = Some(500));
        assert_eq!(told(Action::Restart(SlotId { app: AppId(0), index: 0 }), &now), "…");
        now.workers.iter_mut().for_each(|row| row.uptime_ms = Some(20));
        assert_eq!(told(Action::Restart(SlotId { app: AppId(0), index: 0 }), &now), "web-0 is ready");
    }

    #[test]
    fn every_call_on_a_worker_ends_whatever_others_ask_of_it_meanwhile() {
        let slot = SlotId { app: AppId(0), index: 0 };
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
