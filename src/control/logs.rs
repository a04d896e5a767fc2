//! `/v1/logs`: what workers wrote last, and what they write.

use super::handle::SupervisorHandle;
use super::journal::time_text;
use super::response::{Answer, Failure, Lasts, event, json, stream};
use super::routes::query;
use super::types::{LogLine, LogLines, Missed};
use crate::logs::{Line, LogHistory, Slot, Stream};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// Lines that are given when nothing else is asked for.
const LINES: usize = 100;
/// More lines than this are not given at once, nor more text.
const MOST: usize = 10_000;
const ROOM: usize = 1024 * 1024;
/// A follower looks again after this at the soonest; after the longer time when it cannot keep up, so that a flood of lines
/// costs it, and not the log.
const BREATH: Duration = Duration::from_millis(50);
const LONG_BREATH: Duration = Duration::from_millis(500);
/// So many lines are sent at once, the same number of each slot; and of each at least so many.
const AT_ONCE: usize = 4000;
const AT_LEAST: usize = 16;
/// Lines of a worker's stderr that explain an error.
const EXPLAINING: usize = 10;

/// What is asked for.
pub(super) struct Wanted {
    pub(super) follow: bool,
    pub(super) workers: Option<String>,
    lines: usize,
    stream: Option<Stream>,
    since: Option<SystemTime>,
}

impl Wanted {
    /// Reads a query.
    pub(super) fn read(text: Option<&str>) -> Result<Wanted, Failure> {
        let follow = match query(text, "follow").as_deref() {
            None | Some("false" | "0") => false,
            Some("" | "true" | "1") => true,
            Some(other) => return Err(Failure::of("follow", other, "true, false")),
        };
        let lines = match query(text, "lines") {
            Some(lines) => lines.parse().map_err(|_| Failure::of("lines", &lines, "0 and more"))?,
            None => LINES,
        };
        let stream = match query(text, "stream").as_deref() {
            None | Some("") => None,
            Some("stdout") => Some(Stream::Stdout),
            Some("stderr") => Some(Stream::Stderr),
            Some(other) => return Err(Failure::of("stream", other, "stdout, stderr")),
        };
        let since = match query(text, "since").filter(|since| !since.is_empty()) {
            Some(since) => Some(moment(&since).ok_or_else(|| {
                Failure::of("since", &since, "a duration such as 10m, or a time such as 2026-01-31T12:00:00Z")
            })?),
            None => None,
        };
        let workers = query(text, "worker").filter(|workers| !workers.is_empty());
        Ok(Wanted { follow, workers, lines, stream, since })
    }

    fn takes(&self, time: SystemTime, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream) && self.since.is_none_or(|since| time >= since)
    }
}

/// Whose lines are wanted.
pub(super) enum Whose {
    /// Everybody's, of those to come too.
    All,
    /// These apps', with all of their workers, and these workers'.
    These { apps: Vec<String>, slots: Vec<Slot> },
}

impl Whose {
    fn has(&self, slot: &Slot) -> bool {
        match self {
            Whose::All => true,
            Whose::These { apps, slots } => apps.contains(&slot.0) || slots.contains(slot),
        }
    }
}

/// So long ago, or then.
fn moment(text: &str) -> Option<SystemTime> {
    match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    }
}

/// Answers with the last lines, and if it is to follow with those to come.
pub(super) fn answer(rinit: &SupervisorHandle, wanted: Wanted, whose: Whose, alive: Duration, lasts: &Lasts) -> Answer {
    let (record, book) = (rinit.record.clone(), rinit.book.clone());
    let mut places = BTreeMap::new();
    let mut last = Last::of(wanted.lines);
    for slot in record.slots().into_iter().filter(|slot| whose.has(slot)) {
        let (lines, next) = record.last(&slot, last.most, |time, stream, _| wanted.takes(time, stream));
        last.add(&slot, lines);
        places.insert(slot, next);
    }
    let lines = last.lines();
    if !wanted.follow {
        return json(StatusCode::OK, &LogLines { lines });
    }
    let (writer, answer) = stream(lasts);
    spawn_local(async move {
        let mut text = Vec::new();
        lines.iter().for_each(|line| text.extend(event(None, "line", line)));
        drop(lines);
        loop {
            if !writer.send(std::mem::take(&mut text)).await {
                return;
            }
            let mut news = std::pin::pin!(record.changed.notified());
            let mut end = std::pin::pin!(book.news.notified());
            news.as_mut().enable();
            end.as_mut().enable();
            // Looked at first: what is read then is all.
            let ended = book.open().has_ended();
            let mut breath = BREATH;
            let slots = record.slots();
            let share = (AT_ONCE / slots.len().max(1)).max(AT_LEAST);
            for slot in slots.into_iter().filter(|slot| whose.has(slot)) {
                let place = places.entry(slot.clone()).or_insert(0);
                let new = record.since(&slot, *place, share);
                *place = new.next;
                if new.missed > 0 {
                    breath = LONG_BREATH;
                    text.extend(event(None, "missed", &Missed { worker: Some(id(&slot)), missed: new.missed }));
                }
                let lines = new.lines.iter().filter(|line| wanted.takes(line.time, line.stream));
                lines.for_each(|line| text.extend(event(None, "line", &told(&slot, line))));
            }
            if text.is_empty() && ended {
                return;
            }
            if text.is_empty() {
                let quiet = async {
                    select! {
                        () = news => {}
                        () = end => {}
                    }
                };
                if timeout(alive, quiet).await.is_err() {
                    text = b": keep-alive\n\n".to_vec();
                }
            }
            if !book.open().has_ended() {
                sleep(breath).await;
            }
        }
    });
    answer
}

/// The last lines of several slots: not more than somebody reads, since a line costs many times what is kept of it.
struct Last {
    most: usize,
    /// With the time by which they are ordered.
    lines: Vec<(SystemTime, LogLine)>,
}

impl Last {
    fn of(most: usize) -> Last {
        Last { most: most.min(MOST), lines: Vec::new() }
    }

    fn add(&mut self, slot: &Slot, lines: Vec<Line>) {
        // Each slot's lines stay in their order, wherever the clock was set meanwhile.
        let mut time = lines.last().map_or(SystemTime::UNIX_EPOCH, |line| line.time);
        let start = self.lines.len();
        self.lines.extend(lines.iter().rev().map(|line| {
            time = time.min(line.time);
            (time, told(slot, line))
        }));
        if let Some(new) = self.lines.get_mut(start..) {
            new.reverse();
        }
        if self.lines.len() > 2 * self.most {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.lines.sort_by_key(|(time, _)| *time);
        let mut room = ROOM;
        let fits = |(_, line): &&(SystemTime, LogLine)| {
            let fits = room.checked_sub(line.line.len());
            room = fits.unwrap_or(0);
            fits.is_some()
        };
        let kept = self.lines.iter().rev().take(self.most).take_while(fits).count();
        self.lines.drain(..self.lines.len() - kept);
    }

    fn lines(mut self) -> Vec<LogLine> {
        self.cut();
        self.lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// The last lines on stderr, of that process if one is given.
pub(super) fn last_stderr(record: &LogHistory, slot: &Slot, pid: Option<u32>) -> Vec<String> {
    let is_it = |_, stream, one| stream == Stream::Stderr && pid.is_none_or(|pid| pid == one);
    let (lines, _) = record.last(slot, EXPLAINING, is_it);
    lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
}

fn id((app, index): &Slot) -> String {
    format!("{app}-{index}")
}

fn told(slot: &Slot, line: &Line) -> LogLine {
    LogLine {
        seq: line.number,
        time: time_text(line.time),
        worker: id(slot),
        stream: line.stream.name().into(),
        line: String::from_utf8_lossy(&line.text).into_owned(),
    }
}
