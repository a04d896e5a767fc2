//! Answers `/v1/logs`: the last lines of workers, and those to come.

use super::handle::SupervisorHandle;
use super::journal::time_text;
use super::limits::{MAX_ANSWER, MAX_BATCH, Seat};
use super::response::{Answer, ClientGone, Failure, event, stream, whole};
use super::routes::query;
use super::types::{LogLine, Missed};
use crate::logs::{Line, LogHistory, Slot, Stream};
use hyper::StatusCode;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::select;
use tokio::task::spawn_local;
use tokio::time::sleep;

/// Lines of an answer, if the client names no number.
const DEFAULT_LINES: usize = 100;
/// Lines of an answer; its bytes are bounded by [`MAX_ANSWER`].
const MAX_LINES: usize = 10_000;
/// Lines that are read of a slot at once, and of all slots for one batch.
const LINES_PER_READ: usize = 16;
const MAX_LINES_PER_BATCH: usize = 4096;
/// A follower pauses between two batches: for long when it has caught up or cannot keep up, so that a flood of lines costs
/// the follower, and not the log.
const PAUSE_IN_BACKLOG: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_AFTER_LOSS: Duration = Duration::from_millis(500);
/// Lines of a worker's stderr that explain an error.
const EXPLAINING_LINES: usize = 10;

/// The query of `/v1/logs`.
pub(super) struct LogQuery {
    follow: bool,
    /// Names of workers and apps, by comma.
    pub(super) workers: Option<String>,
    lines: usize,
    stream: Option<Stream>,
    since: Option<SystemTime>,
}

impl LogQuery {
    pub(super) fn parse(text: Option<&str>) -> Result<LogQuery, Failure> {
        let follow = match query(text, "follow").as_deref() {
            None | Some("false" | "0") => false,
            Some("" | "true" | "1") => true,
            Some(other) => return Err(Failure::parameter("follow", other, "true, false")),
        };
        let lines = match query(text, "lines") {
            Some(lines) => lines.parse().map_err(|_| Failure::parameter("lines", &lines, "0 and more"))?,
            None => DEFAULT_LINES,
        };
        let stream = match query(text, "stream").as_deref() {
            None | Some("") => None,
            Some("stdout") => Some(Stream::Stdout),
            Some("stderr") => Some(Stream::Stderr),
            Some(other) => return Err(Failure::parameter("stream", other, "stdout, stderr")),
        };
        let since = match query(text, "since").filter(|since| !since.is_empty()) {
            Some(since) => Some(parse_moment(&since).ok_or_else(|| {
                Failure::parameter("since", &since, "a duration such as 10m, or a time such as 2026-01-31T12:00:00Z")
            })?),
            None => None,
        };
        let workers = query(text, "worker").filter(|workers| !workers.is_empty());
        Ok(LogQuery { follow, workers, lines: lines.min(MAX_LINES), stream, since })
    }

    fn matches(&self, time: SystemTime, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream) && self.since.is_none_or(|since| time >= since)
    }
}

/// Reads a duration before now, or a time.
fn parse_moment(text: &str) -> Option<SystemTime> {
    match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    }
}

/// The workers whose lines are asked for.
pub(super) enum Selection {
    /// All, and those to come.
    All,
    /// All workers of these apps, and these slots.
    Some { apps: Vec<String>, slots: Vec<Slot> },
}

impl Selection {
    fn has(&self, slot: &Slot) -> bool {
        match self {
            Selection::All => true,
            Selection::Some { apps, slots } => apps.contains(&slot.0) || slots.contains(slot),
        }
    }
}

/// Answers with the last lines; a follower then gets those to come.
pub(super) fn answer(rinit: &SupervisorHandle, query: LogQuery, selection: Selection, seat: &Rc<Seat>) -> Answer {
    let (history, journal) = (rinit.log_history.clone(), rinit.journal.clone());
    let (lines, ends) = last_lines(&history, &query, &selection);
    if !query.follow {
        return whole(StatusCode::OK, "application/json", lines_json(lines));
    }
    let mut follower = Follower { query, selection, next: first_numbers(&lines, ends) };
    drop(lines);
    let (writer, answer) = stream(seat);
    let follow = async move {
        loop {
            let mut written = std::pin::pin!(history.changed.notified());
            let mut closed = std::pin::pin!(journal.changed.notified());
            written.as_mut().enable();
            closed.as_mut().enable();
            // Looked at before the lines: after the end there are no more.
            let has_ended = journal.lock().is_closed();
            let (has_sent, Batch { next, has_more, has_lost, .. }) = writer
                .send(|| {
                    let mut batch = follower.batch(&history);
                    (std::mem::take(&mut batch.text), batch)
                })
                .await?;
            follower.next = next;
            if has_ended {
                match has_sent || has_more {
                    true => continue,
                    false => return Ok(()),
                }
            }
            if !has_sent && !has_more {
                let news = async {
                    select! {
                        () = written => {}
                        () = closed => {}
                    }
                };
                writer.idle(news).await?;
            }
            sleep(match (has_lost, has_more) {
                (true, _) => PAUSE_AFTER_LOSS,
                (false, true) => PAUSE_IN_BACKLOG,
                (false, false) => PAUSE,
            })
            .await;
        }
    };
    spawn_local(async move {
        let _: Result<(), ClientGone> = follow.await;
    });
    answer
}

/// The place of a client that follows.
struct Follower {
    query: LogQuery,
    selection: Selection,
    /// The number of the next line of each slot; of a slot that is not here, its first.
    next: BTreeMap<Slot, u64>,
}

/// Lines for a follower, and its place after them.
struct Batch {
    text: Vec<u8>,
    next: BTreeMap<Slot, u64>,
    /// There may be more lines now.
    has_more: bool,
    /// Lines were lost before they were read.
    has_lost: bool,
}

impl Follower {
    /// The next lines of all slots, in the order of their times, up to a batch's size as sent.
    fn batch(&self, history: &LogHistory) -> Batch {
        let mut batch = Batch { text: Vec::new(), next: self.next.clone(), has_more: false, has_lost: false };
        let mut sources: Vec<Source> =
            history.slots().into_iter().filter(|slot| self.selection.has(slot)).map(Source::new).collect();
        for source in &mut sources {
            source.fill(history, &mut batch);
        }
        for _ in 0..MAX_LINES_PER_BATCH {
            let oldest = sources.iter_mut().filter_map(|source| Some((source.lines.front()?.time, source)));
            let Some((_, source)) = oldest.min_by_key(|(time, _)| *time) else { return batch };
            let Some(line) = source.lines.front() else { return batch };
            if self.query.matches(line.time, line.stream) {
                let text = event(None, "line", &log_line(&source.slot, line));
                if !batch.text.is_empty() && batch.text.len() + text.len() > MAX_BATCH {
                    break;
                }
                batch.text.extend(text);
            }
            batch.next.insert(source.slot.clone(), line.number + 1);
            source.lines.pop_front();
            if source.lines.is_empty() {
                source.fill(history, &mut batch);
            }
        }
        batch.has_more = true;
        batch
    }
}

/// The lines of one slot that are read but not in the batch.
struct Source {
    slot: Slot,
    lines: VecDeque<Line>,
}

impl Source {
    fn new(slot: Slot) -> Source {
        Source { slot, lines: VecDeque::new() }
    }

    /// Reads the slot's next lines. Those that were lost before are told in the batch.
    fn fill(&mut self, history: &LogHistory, batch: &mut Batch) {
        let next = batch.next.get(&self.slot).copied().unwrap_or(0);
        let read = history.since(&self.slot, next, LINES_PER_READ);
        if read.missed > 0 {
            let missed = Missed { worker: Some(worker_id(&self.slot)), missed: read.missed };
            batch.text.extend(event(None, "missed", &missed));
            batch.next.insert(self.slot.clone(), next + read.missed);
            batch.has_lost = true;
        }
        self.lines = read.lines.into();
    }
}

/// The last lines of the selection, oldest first, and the number after the last line of each slot.
fn last_lines(
    history: &LogHistory,
    query: &LogQuery,
    selection: &Selection,
) -> (Vec<(Slot, Line)>, BTreeMap<Slot, u64>) {
    let mut lines: Vec<(SystemTime, Slot, Line)> = Vec::new();
    let mut ends = BTreeMap::new();
    for slot in history.slots().into_iter().filter(|slot| selection.has(slot)) {
        let (last, end) = history.last(&slot, query.lines, |time, stream, _| query.matches(time, stream));
        // Each slot's lines stay in their order, wherever the clock was set meanwhile.
        let mut time = SystemTime::UNIX_EPOCH;
        lines.extend(last.into_iter().map(|line| {
            time = time.max(line.time);
            (time, slot.clone(), line)
        }));
        ends.insert(slot, end);
        lines.sort_by_key(|(time, _, _)| *time);
        lines.drain(..lines.len().saturating_sub(query.lines));
    }
    (lines.into_iter().map(|(_, slot, line)| (slot, line)).collect(), ends)
}

/// The number of each slot's first line; of a slot without lines, of its next one.
fn first_numbers(lines: &[(Slot, Line)], ends: BTreeMap<Slot, u64>) -> BTreeMap<Slot, u64> {
    let mut next = ends;
    next.extend(lines.iter().rev().map(|(slot, line)| (slot.clone(), line.number)));
    next
}

/// `LogLines` as JSON: the newest lines that fit into an answer.
fn lines_json(lines: Vec<(Slot, Line)>) -> Vec<u8> {
    let (mut texts, mut length) = (Vec::new(), 0);
    for (slot, line) in lines.into_iter().rev() {
        let text = serde_json::to_vec(&log_line(&slot, &line)).unwrap_or_default();
        length += text.len() + 1;
        if length > MAX_ANSWER - LINES_FRAME {
            break;
        }
        texts.push(text);
    }
    texts.reverse();
    [&b"{\"lines\":["[..], &texts.join(&b','), &b"]}"[..]].concat()
}

/// The bytes of `LogLines` around its lines.
const LINES_FRAME: usize = 16;

/// The last lines on stderr, of that process if one is given.
pub(super) fn last_stderr(history: &LogHistory, slot: &Slot, pid: Option<u32>) -> Vec<String> {
    let is_wanted = |_, stream, one| stream == Stream::Stderr && pid.is_none_or(|pid| pid == one);
    let (lines, _) = history.last(slot, EXPLAINING_LINES, is_wanted);
    lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
}

fn worker_id((app, index): &Slot) -> String {
    format!("{app}-{index}")
}

fn log_line(slot: &Slot, line: &Line) -> LogLine {
    LogLine {
        seq: line.number,
        time: time_text(line.time),
        worker: worker_id(slot),
        app: slot.0.clone(),
        slot: slot.1,
        pid: line.pid,
        stream: line.stream.name().into(),
        line: String::from_utf8_lossy(&line.text).into_owned(),
    }
}
