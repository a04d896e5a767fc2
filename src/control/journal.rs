//! Keeps the last events, each slot's exits and the counters for metrics. The event loop writes; a reader keeps the number of
//! the event that it has come to, and is told how many it missed.

use super::types::{Event, ExitRecord, Reloaded, ReplacementRecord};
use crate::core::{AppId, Exit, ExitKind, Next, ReadySignal, Report, Role, RolloutError, SlotId, WorkerId};
use crate::histogram::Histogram;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Events that are kept, and their text in bytes.
const MAX_EVENTS: usize = 512;
const MAX_EVENT_BYTES: usize = 512 * 1024;
/// Exits that are kept of each slot.
const MAX_EXITS: usize = 10;
const MAX_REPLACEMENTS: usize = 10;
/// The upper bounds of the durations of reloads, in milliseconds.
const RELOAD_BOUNDS_MS: &[u64] = &[1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000];
/// The causes by which exits are counted.
pub(super) const EXIT_CAUSES: [&str; 5] = ["exit", "error", "signal", "oom", "asked"];
/// The results by which reloads are counted.
pub(super) const RELOAD_RESULTS: [&str; 2] = ["done", "failed"];

/// The journal, shared by the event loop and the control plane.
#[derive(Default)]
pub struct Journal {
    state: Mutex<JournalState>,
    /// Wakes followers.
    pub changed: Notify,
}

/// The journal's contents.
#[derive(Default)]
pub struct JournalState {
    events: VecDeque<Event>,
    /// The text of all events, in bytes.
    event_bytes: usize,
    /// The number of the next event.
    next_seq: u64,
    /// Every event before this one is in the log.
    logged_before: u64,
    /// Nothing more will be written, here or by a worker.
    is_closed: bool,
    slots: BTreeMap<SlotId, SlotHistory>,
    ready_by: BTreeMap<WorkerId, &'static str>,
    reloads: BTreeMap<AppId, Reloaded>,
    /// Counters for metrics.
    pub counters: Counters,
}

/// A slot's restarts and exits.
#[derive(Clone, Debug, Default)]
pub struct SlotHistory {
    /// Starts that followed an exit that nobody asked for.
    pub restarts: u64,
    /// Times that a worker failed its liveness probes.
    pub unhealthy: u64,
    /// The status of the last exit, as a shell shows it.
    pub last_status: Option<u8>,
    /// The last exits, newest first.
    pub exits: VecDeque<ExitRecord>,
    /// The last replacements outside of reloads, newest first.
    pub replacements: VecDeque<ReplacementRecord>,
}

impl SlotHistory {
    /// Notes that a worker is to be replaced. Two reports of one worker are one replacement: the first has the figures.
    fn on_replacement(&mut self, time: String, entry: &Entry) {
        if entry.pid.is_some() && self.replacements.front().is_some_and(|last| last.pid == entry.pid) {
            return;
        }
        self.replacements.push_front(ReplacementRecord { time, pid: entry.pid, message: entry.message.into() });
        self.replacements.truncate(MAX_REPLACEMENTS);
    }
}

/// Numbers that only grow. Those of an app end with it.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Exits of workers, by app and cause: `exit`, `error`, `signal`, `oom`, `asked`.
    pub exits: BTreeMap<(AppId, &'static str), u64>,
    /// Reloads and their durations, by app and result (`done`, `failed`).
    pub reloads: BTreeMap<(AppId, &'static str), Histogram>,
    /// Orphaned processes that were reaped.
    pub orphans: u64,
    /// Signals that were forwarded to the workers.
    pub forwarded: u64,
}

impl Counters {
    /// The histogram of an app without reloads.
    pub(super) fn no_reloads() -> Histogram {
        Histogram::new(RELOAD_BOUNDS_MS)
    }
}

/// The part of an event that its report does not hold.
pub struct Entry<'a> {
    /// The time at which it happened.
    pub time: SystemTime,
    /// The app's name.
    pub app: Option<&'a str>,
    /// The worker's process.
    pub pid: Option<u32>,
    /// `error`, `warn`, `info` or `debug`.
    pub level: &'static str,
    /// The log's message.
    pub message: &'a str,
}

impl Journal {
    /// Locks the journal, for as short as possible: the event loop writes in it.
    pub fn lock(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a report.
    pub fn record(&self, report: &Report, entry: &Entry) {
        self.lock().record(report, entry);
        self.wake();
    }

    /// Marks the events before that number as logged: what their workers wrote last has been read.
    pub fn mark_logged(&self, before: u64) {
        self.lock().logged_before = before;
        self.wake();
    }

    /// Removes the history of a slot that is gone: a later slot of the same number is another one.
    pub fn remove_slot(&self, slot: SlotId) {
        self.lock().slots.remove(&slot);
    }

    /// Removes all that is kept of apps that are gone.
    pub fn remove_apps(&self, is_gone: impl Fn(AppId) -> bool) {
        let mut state = self.lock();
        state.slots.retain(|slot, _| !is_gone(slot.app));
        state.reloads.retain(|app, _| !is_gone(*app));
        let Counters { exits, reloads, orphans: _, forwarded: _ } = &mut state.counters;
        exits.retain(|(app, _), _| !is_gone(*app));
        reloads.retain(|(app, _), _| !is_gone(*app));
    }

    /// Closes the journal: followers get the rest, and their streams end.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.wake();
    }

    /// Wakes followers for a change that no report tells.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }
}

impl JournalState {
    /// The events from that number on, and how many before them are lost.
    pub fn since(&self, from: u64) -> (u64, impl DoubleEndedIterator<Item = &Event>) {
        let oldest = self.events.front().map_or(self.next_seq, |event| event.seq);
        (oldest.saturating_sub(from), self.events.iter().filter(move |event| event.seq >= from))
    }

    /// The number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// True if that event is in the log.
    pub fn is_logged(&self, event: u64) -> bool {
        event < self.logged_before
    }

    /// True if nothing more will happen.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A slot's history, if anything has happened in it.
    pub fn history(&self, slot: SlotId) -> Option<&SlotHistory> {
        self.slots.get(&slot)
    }

    /// The histories of all slots in which something has happened.
    pub fn histories(&self) -> impl Iterator<Item = (SlotId, &SlotHistory)> {
        self.slots.iter().map(|(slot, history)| (*slot, history))
    }

    /// The signal by which a worker became ready.
    pub fn ready_by(&self, worker: WorkerId) -> Option<&'static str> {
        self.ready_by.get(&worker).copied()
    }

    /// The app's last reload that has ended.
    pub fn last_reload(&self, app: AppId) -> Option<&Reloaded> {
        self.reloads.get(&app)
    }

    fn record(&mut self, report: &Report, entry: &Entry) {
        let time = time_text(entry.time);
        let (kind, slot) = kind_of(report);
        match report {
            Report::Ready { worker, signal, .. } => {
                self.ready_by.insert(*worker, signal_name(*signal));
            }
            Report::Exited { slot, worker, role, exit, lived, next, stop_took: _ } => {
                self.ready_by.remove(worker);
                let asked = *role == Role::Leaving;
                *self.counters.exits.entry((slot.app, exit_cause(*exit, asked))).or_default() += 1;
                let record = exit_record(*exit, asked, *lived, entry.pid, time.clone());
                let history = self.slots.entry(*slot).or_default();
                history.exits.push_front(record);
                history.exits.truncate(MAX_EXITS);
                history.last_status = Some(exit.status());
                if matches!(next, Next::Restart | Next::Backoff { .. }) {
                    history.restarts += 1;
                }
            }
            Report::Unhealthy { slot, .. } => {
                let history = self.slots.entry(*slot).or_default();
                history.unhealthy += 1;
                history.on_replacement(time.clone(), entry);
            }
            Report::Oversized { slot, .. } | Report::MemoryShort { slot, .. } | Report::Replacing { slot, .. } => {
                self.slots.entry(*slot).or_default().on_replacement(time.clone(), entry);
            }
            Report::StartFailed { worker, .. } | Report::GivenUp { worker, .. } => {
                self.ready_by.remove(worker);
            }
            Report::Reloaded { app, generation, took } => {
                self.on_reload_end(*app, "done", *took, *generation, None, time.clone());
            }
            Report::ReloadFailed { app, generation, error, took } => {
                let why = if matches!(error, RolloutError::Stopped | RolloutError::Removed) {
                    None
                } else {
                    Some(entry.message.to_owned())
                };
                self.on_reload_end(*app, "failed", *took, *generation, why, time.clone());
            }
            Report::Started { .. }
            | Report::Silent { .. }
            | Report::LateSignal { .. }
            | Report::OversizedAgain { .. }
            | Report::NotReady { .. }
            | Report::Stopping { .. }
            | Report::Killed { .. }
            | Report::SignalRefused { .. }
            | Report::Reloading { .. }
            | Report::ReloadQueued { .. }
            | Report::Replaced { .. }
            | Report::ReplaceFailed { .. }
            | Report::Held { .. }
            | Report::Added { .. }
            | Report::Removing { .. }
            | Report::Removed { .. }
            | Report::Ending { .. }
            | Report::Autoscaled { .. }
            | Report::NoRoom { .. }
            | Report::Scaled { .. }
            | Report::Stop { .. } => {}
        }
        let worker = slot.and_then(|slot| Some(format!("{}-{}", entry.app?, slot.index)));
        self.push(Event {
            seq: self.next_seq,
            time,
            kind: kind.into(),
            app: entry.app.map(str::to_owned),
            worker,
            pid: entry.pid,
            level: entry.level.into(),
            message: entry.message.into(),
        });
    }

    /// Adds an event, and removes the oldest ones beyond the bounds.
    fn push(&mut self, event: Event) {
        self.next_seq += 1;
        self.event_bytes += event.message.len();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || (self.event_bytes > MAX_EVENT_BYTES && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { return };
            self.event_bytes -= oldest.message.len();
        }
    }

    fn on_reload_end(
        &mut self,
        app: AppId,
        result: &'static str,
        took: Duration,
        generation: u32,
        why: Option<String>,
        time: String,
    ) {
        self.counters.reloads.entry((app, result)).or_insert_with(Counters::no_reloads).record(took);
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
        Report::LateSignal { slot, .. } => ("late_signal", Some(*slot)),
        Report::NotReady { slot, .. } => ("not_ready", Some(*slot)),
        Report::Unhealthy { slot, .. } => ("unhealthy", Some(*slot)),
        Report::Oversized { slot, .. } => ("oversized", Some(*slot)),
        Report::OversizedAgain { slot, .. } => ("oversized_again", Some(*slot)),
        Report::MemoryShort { slot, .. } => ("memory_short", Some(*slot)),
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
        Report::Held { .. } => ("held", None),
        Report::Added { .. } => ("added", None),
        Report::Removing { .. } => ("removing", None),
        Report::Removed { .. } => ("removed", None),
        Report::Ending { .. } => ("ending", None),
        Report::Autoscaled { .. } => ("autoscaled", None),
        Report::NoRoom { .. } => ("no_room", None),
        Report::Scaled { .. } => ("scaled", None),
        Report::Stop { .. } => ("stop", None),
    }
}

fn signal_name(signal: ReadySignal) -> &'static str {
    match signal {
        ReadySignal::Spawned => "spawn",
        ReadySignal::Uptime => "uptime",
        ReadySignal::Notify => "notify",
        ReadySignal::Probe => "probe",
        ReadySignal::Newline => "fd",
        ReadySignal::Listen => "listen",
        ReadySignal::Message => "message",
    }
}

fn exit_cause(exit: Exit, asked: bool) -> &'static str {
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

    const ENTRY: Entry =
        Entry { time: SystemTime::UNIX_EPOCH, app: Some("web"), pid: Some(7), level: "info", message: "happened" };
    const SLOT: SlotId = SlotId { app: AppId(0), index: 2 };

    fn exited(slot: SlotId, role: Role, exit: Exit, next: Next) -> Report {
        Report::Exited { slot, worker: WorkerId(1), role, exit, lived: Duration::from_secs(2), stop_took: None, next }
    }

    #[test]
    fn a_slow_reader_is_told_how_many_events_it_missed() {
        let journal = Journal::default();
        (0..MAX_EVENTS as u64 + 10).for_each(|_| journal.record(&Report::ReloadQueued { app: AppId(0) }, &ENTRY));
        let state = journal.lock();
        let (missed, mut events) = state.since(3);
        assert_eq!((missed, events.next().unwrap().seq, events.count()), (7, 10, MAX_EVENTS - 1));
        assert_eq!(state.since(state.next_seq()).1.count(), 0);
    }

    #[test]
    fn long_messages_push_out_older_events() {
        let journal = Journal::default();
        let message = "x".repeat(MAX_EVENT_BYTES / 4);
        let entry = Entry { message: &message, ..ENTRY };
        (0..9).for_each(|_| journal.record(&Report::ReloadQueued { app: AppId(0) }, &entry));
        assert_eq!(journal.lock().since(0).1.map(|event| event.seq).collect::<Vec<_>>(), [5, 6, 7, 8]);
    }

    #[test]
    fn exits_are_kept_and_counted_by_cause() {
        let journal = Journal::default();
        journal.record(&exited(SLOT, Role::Holder, Exit::code(3), Next::Restart), &ENTRY);
        journal.record(&exited(SLOT, Role::Leaving, Exit::code(0), Next::Gone), &ENTRY);
        let state = journal.lock();
        assert_eq!(state.counters.exits, BTreeMap::from([((AppId(0), "asked"), 1), ((AppId(0), "error"), 1)]));
        let history = state.history(SLOT).unwrap();
        assert_eq!((history.restarts, history.exits.len()), (1, 2));
        assert_eq!((history.exits[1].code, history.exits[1].lived_ms, history.exits[0].asked), (Some(3), 2000, true));
        assert_eq!(state.since(0).1.next().unwrap().worker.as_deref(), Some("web-2"));
    }

    #[test]
    fn nothing_is_kept_of_slots_and_apps_that_are_gone() {
        let journal = Journal::default();
        for app in 0..100 {
            let slot = SlotId { app: AppId(app), index: 0 };
            journal.record(&exited(slot, Role::Holder, Exit::code(3), Next::Restart), &ENTRY);
            let reloaded = Report::Reloaded { app: slot.app, generation: 2, took: Duration::ZERO };
            journal.record(&reloaded, &ENTRY);
            journal.remove_slot(slot);
            assert!(journal.lock().history(slot).is_none());
            journal.remove_apps(|one| one != AppId(app));
        }
        let state = journal.lock();
        assert_eq!((state.slots.len(), state.reloads.len(), state.counters.exits.len()), (0, 1, 1));
        assert_eq!(state.counters.reloads.len(), 1);
    }
}
