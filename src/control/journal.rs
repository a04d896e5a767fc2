//! What has happened, for those who ask: the last events, each slot's history, and what is counted for metrics. The loop
//! writes; whoever reads keeps a place and is told what it missed.

use super::types::{Event, ExitRecord, Reloaded};
use crate::core::{AppId, Exit, ExitKind, Next, ReadySignal, Report, Role, RolloutError, SlotId, WorkerId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Events that are kept.
const EVENTS: usize = 512;
/// Exits that are kept of each slot.
const EXITS: usize = 10;

/// The book.
#[derive(Default)]
pub struct Journal {
    pages: Mutex<JournalState>,
    /// Wakes those who follow.
    pub news: Notify,
}

/// What stands in it.
#[derive(Default)]
pub struct JournalState {
    events: VecDeque<Event>,
    /// The number of the next event.
    next: u64,
    /// The log has told of all before this one.
    told: u64,
    /// Nothing more will be written, here or by a worker.
    ended: bool,
    slots: BTreeMap<SlotId, History>,
    ready_by: BTreeMap<WorkerId, &'static str>,
    reloads: BTreeMap<AppId, Reloaded>,
    /// What is counted.
    pub counts: Counters,
}

/// What has become of a slot's workers.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// How often one was started because the one before it ended by itself.
    pub restarts: u64,
    /// The last exits, newest first.
    pub exits: VecDeque<ExitRecord>,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Ends of workers, by app and cause: `exit`, `error`, `signal`, `oom`, `asked`.
    pub exits: BTreeMap<(AppId, &'static str), u64>,
    /// Starts after an end that nobody asked for, by app.
    pub restarts: BTreeMap<AppId, u64>,
    /// Reloads, by app and result (`done`, `failed`): how many, and how long they took together.
    pub reloads: BTreeMap<(AppId, &'static str), (u64, Duration)>,
    /// Processes that were nobody's and were collected.
    pub orphans: u64,
    /// Signals that were passed on to the workers.
    pub forwarded: u64,
}

/// What a report says beyond itself.
pub struct Entry<'a> {
    /// When.
    pub time: SystemTime,
    /// The app's name.
    pub app: Option<&'a str>,
    /// The worker's process.
    pub pid: Option<u32>,
    /// `info` and the like.
    pub level: &'static str,
    /// In words.
    pub message: &'a str,
}

impl Journal {
    /// Reads in it.
    pub fn open(&self) -> MutexGuard<'_, JournalState> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a report down.
    pub fn note(&self, report: &Report, note: &Entry) {
        self.open().note(report, note);
        self.news.notify_waiters();
    }

    /// The log has told of all events before that one; what their workers wrote last has been read.
    pub fn told(&self, before: u64) {
        self.open().told = before;
        self.news.notify_waiters();
    }

    /// Forgets a slot that is there no more: a later one of that number is another.
    pub fn forget(&self, slot: SlotId) {
        self.open().slots.remove(&slot);
    }

    /// Nothing more will happen: who follows hears the rest.
    pub fn end(&self) {
        self.open().ended = true;
        self.news.notify_waiters();
    }

    /// Wakes those who wait for something that is no report to come about.
    pub fn stir(&self) {
        self.news.notify_waiters();
    }
}

impl JournalState {
    /// The events from that number on, and how many before them are gone.
    pub fn since(&self, from: u64) -> (u64, Vec<Event>) {
        let oldest = self.events.front().map_or(self.next, |event| event.seq);
        let events = self.events.iter().filter(|event| event.seq >= from).cloned().collect();
        (oldest.saturating_sub(from), events)
    }

    /// The number of the next event.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Whether the log has told of that event.
    pub fn has_told(&self, event: u64) -> bool {
        event < self.told
    }

    /// Whether nothing more will happen.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A slot's history.
    pub fn history(&self, slot: SlotId) -> Option<&History> {
        self.slots.get(&slot)
    }

    /// How a worker showed that it is ready.
    pub fn ready_by(&self, worker: WorkerId) -> Option<&'static str> {
        self.ready_by.get(&worker).copied()
    }

    /// How the app's last reload went.
    pub fn last_reload(&self, app: AppId) -> Option<&Reloaded> {
        self.reloads.get(&app)
    }

    fn note(&mut self, report: &Report, note: &Entry) {
        let time = time_text(note.time);
        let (kind, slot) = kind_of(report);
        match report {
            Report::Ready { worker, signal, .. } => {
                self.ready_by.insert(*worker, signal_text(*signal));
            }
            Report::Exited { slot, worker, role, exit, lived, next, .. } => {
                self.ready_by.remove(worker);
                let asked = *role == Role::Leaving;
                *self.counts.exits.entry((slot.app, cause(*exit, asked))).or_default() += 1;
                let record = exit_record(*exit, asked, *lived, note.pid, time.clone());
                let history = self.slots.entry(*slot).or_default();
                history.exits.push_front(record);
                history.exits.truncate(EXITS);
                if matches!(next, Next::Restart | Next::Backoff { .. }) {
                    history.restarts += 1;
                    *self.counts.restarts.entry(slot.app).or_default() += 1;
                }
            }
            Report::StartFailed { worker, .. } => drop(self.ready_by.remove(worker)),
            Report::Reloaded { app, generation, took } => {
                self.reloaded(*app, "done", *took, *generation, None, time.clone());
            }
            Report::ReloadFailed { app, generation, error, took } => {
                let why = if *error == RolloutError::Stopped { None } else { Some(note.message.to_owned()) };
                self.reloaded(*app, "failed", *took, *generation, why, time.clone());
            }
            _ => {}
        }
        let worker = slot.and_then(|slot| Some(format!("{}-{}", note.app?, slot.index)));
        self.events.push_back(Event {
            seq: self.next,
            time,
            kind: kind.into(),
            app: note.app.map(str::to_owned),
            worker,
            pid: note.pid,
            level: note.level.into(),
            message: note.message.into(),
        });
        self.next += 1;
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    fn reloaded(
        &mut self,
        app: AppId,
        result: &'static str,
        took: Duration,
        generation: u32,
        why: Option<String>,
        time: String,
    ) {
        let (count, sum) = self.counts.reloads.entry((app, result)).or_default();
        *count += 1;
        *sum += took;
        let took_ms = took.as_millis() as u64;
        self.reloads.insert(app, Reloaded { generation, result: result.into(), took_ms, time, why });
    }
}

/// RFC 3339 in UTC with milliseconds.
pub fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn kind_of(report: &Report) -> (&'static str, Option<SlotId>) {
    match report {
        Report::Started { slot, .. } => ("started", Some(*slot)),
        Report::Ready { slot, .. } => ("ready", Some(*slot)),
        Report::StartFailed { slot, .. } => ("start_failed", Some(*slot)),
        Report::Silent { slot, .. } => ("silent", Some(*slot)),
        Report::NotReady { slot, .. } => ("not_ready", Some(*slot)),
        Report::Unhealthy { slot, .. } => ("unhealthy", Some(*slot)),
        Report::Stopping { slot, .. } => ("stopping", Some(*slot)),
        Report::Killed { slot, .. } => ("killed", Some(*slot)),
        Report::SignalRefused { slot, .. } => ("signal_refused", Some(*slot)),
        Report::GivenUp { slot, .. } => ("given_up", Some(*slot)),
        Report::Exited { slot, .. } => ("exited", Some(*slot)),
        Report::Reloading { .. } => ("reloading", None),
        Report::ReloadQueued { .. } => ("reload_queued", None),
        Report::Reloaded { .. } => ("reloaded", None),
        Report::ReloadFailed { .. } => ("reload_failed", None),
        Report::Replacing { slot, .. } => ("replacing", Some(*slot)),
        Report::Replaced { .. } => ("replaced", None),
        Report::ReplaceFailed { .. } => ("replace_failed", None),
        Report::Scaled { .. } => ("scaled", None),
        Report::Stop { .. } => ("stop", None),
    }
}

fn signal_text(signal: ReadySignal) -> &'static str {
    match signal {
        ReadySignal::Spawned => "spawn",
        ReadySignal::Uptime => "uptime",
        ReadySignal::Notify => "notify",
        ReadySignal::Probe => "probe",
        ReadySignal::Listen => "listen",
        ReadySignal::Message => "message",
    }
}

fn cause(exit: Exit, asked: bool) -> &'static str {
    match exit.kind {
        _ if asked => "asked",
        _ if exit.oom_killed => "oom",
        ExitKind::Code(0) => "exit",
        ExitKind::Code(_) => "error",
        ExitKind::Signal(_) => "signal",
    }
}

fn exit_record(exit: Exit, asked: bool, lived: Duration, pid: Option<u32>, time: String) -> ExitRecord {
    let (code, signal) = match exit.kind {
        ExitKind::Code(code) => (Some(i32::from(code)), None),
        ExitKind::Signal(signal) => (None, Some(signal.to_string())),
    };
    ExitRecord {
        time,
        pid,
        code,
        signal,
        oom_killed: exit.oom_killed,
        cause: exit.to_string(),
        lived_ms: lived.as_millis() as u64,
        asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note<'a>() -> Entry<'a> {
        Entry { time: SystemTime::UNIX_EPOCH, app: Some("web"), pid: Some(7), level: "info", message: "told" }
    }

    const SLOT: SlotId = SlotId { app: AppId(0), index: 2 };

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let book = Journal::default();
        (0..EVENTS as u64 + 10).for_each(|_| book.note(&Report::ReloadQueued { app: AppId(0) }, &note()));
        let (missed, events) = book.open().since(3);
        assert_eq!((missed, events.len(), events[0].seq), (7, EVENTS, 10));
        let end = book.open().end();
        assert_eq!(book.open().since(end).1.len(), 0);
    }

    #[test]
    fn exits_are_kept_and_counted_by_cause() {
        let book = Journal::default();
        let exited = |role, exit, next| Report::Exited {
            slot: SLOT,
            worker: WorkerId(1),
            role,
            exit,
            lived: Duration::from_secs(2),
            stop_took: None,
            next,
        };
        book.note(&exited(Role::Holder, Exit::code(3), Next::Restart), &note());
        book.note(&exited(Role::Leaving, Exit::code(0), Next::Gone), &note());
        let pages = book.open();
        assert_eq!(pages.counts.exits, BTreeMap::from([((AppId(0), "asked"), 1), ((AppId(0), "error"), 1)]));
        let history = pages.history(SLOT).unwrap();
        assert_eq!((history.restarts, history.exits.len()), (1, 2));
        assert_eq!((history.exits[1].code, history.exits[1].lived_ms, history.exits[0].asked), (Some(3), 2000, true));
        assert_eq!(pages.since(0).1[0].worker.as_deref(), Some("web-2"));
    }
}
