//! `/v1/logs`: what workers wrote last, and what they write.

use super::body::{Answer, Failure, event, json, send, stream};
use super::book::time_text;
use super::routes::query;
use super::types::{LogLine, LogLines, Missed};
use crate::logs::{Line, Record, Slot, Stream};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// Lines that are given when nothing else is asked for.
const LINES: usize = 100;
/// A follower looks again after this at the soonest; after the longer time when it cannot keep up, so that a flood of lines
/// costs it, and not the log.
const BREATH: Duration = Duration::from_millis(50);
const LONG_BREATH: Duration = Duration::from_millis(500);
/// So many of a slot's lines are sent at once.
const AT_ONCE: usize = 4000;
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

    fn takes(&self, line: &Line) -> bool {
        self.stream.is_none_or(|stream| stream == line.stream) && self.since.is_none_or(|since| line.time >= since)
    }
}

/// So long ago, or then.
fn moment(text: &str) -> Option<SystemTime> {
    match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    }
}

/// Answers. `slots`: whose lines; `None`: everybody's.
pub(super) fn answer(record: Arc<Record>, wanted: Wanted, slots: Option<Vec<Slot>>, alive: Duration) -> Answer {
    let all = || slots.clone().unwrap_or_else(|| record.slots());
    let mut places = BTreeMap::new();
    let mut lines = Vec::new();
    for slot in all() {
        let news = record.since(&slot, 0, usize::MAX);
        places.insert(slot.clone(), news.next);
        lines.extend(news.lines.into_iter().filter(|line| wanted.takes(line)).map(|line| (slot.clone(), line)));
    }
    // Each slot's lines are in order already.
    lines.sort_by_key(|(_, line)| line.time);
    let first = lines.len().saturating_sub(wanted.lines);
    let lines = lines.split_off(first);
    if !wanted.follow {
        return json(StatusCode::OK, &LogLines { lines: lines.iter().map(|(slot, line)| told(slot, line)).collect() });
    }
    let (sender, answer) = stream();
    spawn_local(async move {
        let mut text = Vec::new();
        lines.iter().for_each(|(slot, line)| text.extend(event(None, "line", &told(slot, line))));
        loop {
            if !send(&sender, std::mem::take(&mut text)).await {
                return;
            }
            let mut news = std::pin::pin!(record.news.notified());
            news.as_mut().enable();
            let mut breath = BREATH;
            for slot in slots.clone().unwrap_or_else(|| record.slots()) {
                let place = places.entry(slot.clone()).or_insert(0);
                let new = record.since(&slot, *place, AT_ONCE);
                *place = new.next;
                if new.missed > 0 {
                    breath = LONG_BREATH;
                    text.extend(event(None, "missed", &Missed { worker: Some(id(&slot)), missed: new.missed }));
                }
                let lines = new.lines.iter().filter(|line| wanted.takes(line));
                lines.for_each(|line| text.extend(event(None, "line", &told(&slot, line))));
            }
            if text.is_empty() && timeout(alive, news).await.is_err() {
                text = b": keep-alive\n\n".to_vec();
            }
            sleep(breath).await;
        }
    });
    answer
}

/// The last lines on stderr, of that process if one is given.
pub(super) fn last_stderr(record: &Record, slot: &Slot, pid: Option<u32>) -> Vec<String> {
    let lines = record.since(slot, 0, usize::MAX).lines;
    let is_it = |line: &&Line| line.stream == Stream::Stderr && pid.is_none_or(|pid| pid == line.pid);
    let stderr = lines.iter().rev().filter(is_it).take(EXPLAINING);
    let mut last: Vec<String> = stderr.map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
    last.reverse();
    last
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
