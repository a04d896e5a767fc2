//! What workers wrote last, kept for those who ask for it: a ring of lines for each slot, which outlives its processes.
//!
//! The hub writes here and never waits for a reader. Who follows keeps a place (a line's number) and comes back; what the
//! ring has lost until then is a number, and costs nothing.

use super::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// All rings together hold about so much; each holds at least and at most this.
const ALL: usize = 2 * 1024 * 1024;
const LEAST: usize = 16 * 1024;
const MOST: usize = 256 * 1024;
/// What an entry costs beside its text.
const ENTRY: usize = 96;
/// Of a line that has not ended, so much is kept.
const UNFINISHED: usize = 64 * 1024;

/// The rings.
pub struct LogHistory {
    slots: Mutex<BTreeMap<Slot, Ring>>,
    /// Wakes those who follow.
    pub news: Notify,
}

/// An app's slot.
pub type Slot = (String, u32);

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    size: usize,
    /// The number of the next line.
    next: u64,
    /// Bytes that went through, of both streams.
    total: [u64; 2],
}

/// Whole lines that were read at once.
struct Entry {
    first: u64,
    lines: u64,
    time: SystemTime,
    stream: Stream,
    pid: u32,
    text: Vec<u8>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number in its slot.
    pub number: u64,
    /// When it was read.
    pub time: SystemTime,
    /// Of which stream.
    pub stream: Stream,
    /// Of which process of the slot.
    pub pid: u32,
    /// Without its newline.
    pub text: Vec<u8>,
}

/// What is new from a place on.
#[derive(Debug, Default, PartialEq)]
pub struct News {
    /// Lines that are gone already.
    pub missed: u64,
    /// The rest.
    pub lines: Vec<Line>,
    /// The place to come back to.
    pub next: u64,
}

/// What passed, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Whose.
    pub slot: Slot,
    /// Lines of both streams.
    pub lines: u64,
    /// Bytes of stdout and of stderr.
    pub bytes: [u64; 2],
}

/// One stream's way into the record.
pub(super) struct Recorder {
    record: Arc<LogHistory>,
    slot: Slot,
    stream: Stream,
    pid: u32,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// Bytes that `total` does not have yet.
    uncounted: u64,
}

impl LogHistory {
    pub(super) fn new() -> LogHistory {
        LogHistory { slots: Mutex::default(), news: Notify::new() }
    }

    /// The slots that have written.
    pub fn slots(&self) -> Vec<Slot> {
        self.lock().keys().cloned().collect()
    }

    /// The lines of a slot from that number on, as many as `most`.
    pub fn since(&self, slot: &Slot, from: u64, most: usize) -> News {
        let slots = self.lock();
        let Some(ring) = slots.get(slot) else { return News { next: from, ..News::default() } };
        let oldest = ring.entries.front().map_or(ring.next, |entry| entry.first);
        let from = from.min(ring.next);
        let mut news = News { missed: oldest.saturating_sub(from), lines: Vec::new(), next: from.max(oldest) };
        for entry in ring.entries.iter().filter(|entry| entry.first + entry.lines > from) {
            for (number, text) in (entry.first..).zip(entry.whole().split(|byte| *byte == b'\n')) {
                if number >= from && news.lines.len() < most {
                    news.lines.push(entry.line(number, text));
                    news.next = number + 1;
                }
            }
        }
        news
    }

    /// The last lines of a slot that are wanted, at most so many, in their order; and the place behind all of its lines.
    /// What is wanted is decided for lines that were read at once.
    pub fn last(&self, slot: &Slot, most: usize, wanted: impl Fn(SystemTime, Stream, u32) -> bool) -> (Vec<Line>, u64) {
        let slots = self.lock();
        let Some(ring) = slots.get(slot) else { return (Vec::new(), 0) };
        let mut lines = Vec::new();
        for entry in ring.entries.iter().rev().filter(|entry| wanted(entry.time, entry.stream, entry.pid)) {
            let left = most - lines.len();
            if left == 0 {
                break;
            }
            let newest_first = (entry.first..entry.first + entry.lines).rev();
            let texts = entry.whole().rsplit(|byte| *byte == b'\n');
            lines.extend(newest_first.zip(texts).take(left).map(|(number, text)| entry.line(number, text)));
        }
        lines.reverse();
        (lines, ring.next)
    }

    /// What went through.
    pub fn passed(&self) -> Vec<Passed> {
        let slots = self.lock();
        slots.iter().map(|(slot, ring)| Passed { slot: slot.clone(), lines: ring.next, bytes: ring.total }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, Ring>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn whole(&self) -> &[u8] {
        self.text.strip_suffix(b"\n").unwrap_or(&self.text)
    }

    fn line(&self, number: u64, text: &[u8]) -> Line {
        Line { number, time: self.time, stream: self.stream, pid: self.pid, text: text.to_vec() }
    }
}

impl Ring {
    fn add(&mut self, room: usize, (stream, pid): (Stream, u32), time: SystemTime, parts: [&[u8]; 2]) {
        let lines = parts.iter().map(|part| memchr::memchr_iter(b'\n', part).count() as u64).sum::<u64>();
        let first = self.next;
        self.next += lines;
        let mut text = parts.concat();
        let mut entry_first = first;
        if text.len() > room {
            // Only the end of it fits: from the first whole line on.
            let cut = text.len() - room;
            let start =
                text.get(cut..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(text.len(), |at| cut + at + 1);
            let lost = text.drain(..start).filter(|byte| *byte == b'\n').count() as u64;
            entry_first += lost;
        }
        let kept = self.next - entry_first;
        if kept > 0 {
            self.size += text.len() + ENTRY;
            self.entries.push_back(Entry { first: entry_first, lines: kept, time, stream, pid, text });
        }
        self.shrink(room);
    }

    fn shrink(&mut self, room: usize) {
        while self.size > room + ENTRY
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.text.len() + ENTRY;
        }
    }
}

/// How much each of so many slots may keep.
fn room(slots: usize) -> usize {
    (ALL / slots.max(1)).clamp(LEAST, MOST)
}

impl Recorder {
    pub(super) fn new(record: Arc<LogHistory>, slot: Slot, stream: Stream, pid: u32) -> Recorder {
        Recorder { record, slot, stream, pid, begun: Vec::new(), uncounted: 0 }
    }

    /// Takes what was read; `is_last`: a line that has not ended ends here.
    pub(super) fn take(&mut self, bytes: &[u8], is_last: bool, time: SystemTime) {
        self.uncounted += bytes.len() as u64;
        let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        if !whole.is_empty() {
            self.give(whole, time);
        }
        self.keep(rest);
        if is_last && !self.begun.is_empty() {
            self.give(b"\n", time);
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        let room = UNFINISHED.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(rest.get(..room).unwrap_or(rest));
    }

    /// What was begun, and its end.
    fn give(&mut self, end: &[u8], time: SystemTime) {
        let begun = std::mem::take(&mut self.begun);
        let mut slots = self.record.lock();
        if !slots.contains_key(&self.slot) {
            slots.insert(self.slot.clone(), Ring::default());
            let room = room(slots.len());
            slots.values_mut().for_each(|ring| ring.shrink(room));
        }
        let room = room(slots.len());
        if let Some(ring) = slots.get_mut(&self.slot) {
            ring.add(room, (self.stream, self.pid), time, [&begun, end]);
            if let Some(total) = ring.total.get_mut(self.stream as usize) {
                *total += std::mem::take(&mut self.uncounted);
            }
        }
        drop(slots);
        self.record.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        ("web".into(), 0)
    }

    fn texts(news: &News) -> Vec<String> {
        news.lines.iter().map(|line| String::from_utf8(line.text.clone()).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_were_read() {
        let record = Arc::new(LogHistory::new());
        let mut recorder = Recorder::new(record.clone(), slot(), Stream::Stdout, 7);
        for piece in ["on", "e\ntw", "o\nthree\n", "last"] {
            recorder.take(piece.as_bytes(), false, SystemTime::UNIX_EPOCH);
        }
        let news = record.since(&slot(), 0, 100);
        assert_eq!(texts(&news), ["one", "two", "three"]);
        recorder.take(b"", true, SystemTime::UNIX_EPOCH);
        assert_eq!(texts(&record.since(&slot(), news.next, 100)), ["last"]);
        recorder.take(b"x\nend", true, SystemTime::UNIX_EPOCH);
        assert_eq!(texts(&record.since(&slot(), 4, 100)), ["x", "end"]);
        assert_eq!(texts(&record.since(&slot(), 1, 2)), ["two", "three"]);
    }

    #[test]
    fn a_ring_is_bounded_and_a_slow_reader_is_told_what_it_missed() {
        let record = Arc::new(LogHistory::new());
        let mut recorder = Recorder::new(record.clone(), slot(), Stream::Stderr, 7);
        for n in 0..100_000 {
            recorder.take(format!("line {n}\n").as_bytes(), false, SystemTime::UNIX_EPOCH);
        }
        let news = record.since(&slot(), 10, usize::MAX);
        assert_eq!(news.next, 100_000);
        assert_eq!(news.missed + news.lines.len() as u64, 100_000 - 10);
        assert!(news.lines.len() < 2 * MOST / "line 99999\n".len(), "{}", news.lines.len());
        let flood: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        recorder.take(flood.as_bytes(), false, SystemTime::UNIX_EPOCH);
        let news = record.since(&slot(), 100_000, usize::MAX);
        assert_eq!(news.missed + news.lines.len() as u64, 100_000);
        assert_eq!(texts(&news).last().unwrap(), "99999");
    }

    #[test]
    fn the_last_lines_are_found_from_the_end_and_all_rings_together_are_bounded() {
        let record = Arc::new(LogHistory::new());
        let mut recorder = Recorder::new(record.clone(), slot(), Stream::Stdout, 7);
        recorder.take(b"1\n2\n3\n", false, SystemTime::UNIX_EPOCH);
        Recorder::new(record.clone(), slot(), Stream::Stderr, 8).take(b"4\n", false, SystemTime::UNIX_EPOCH);
        let last = |most, pid| {
            let (lines, next) = record.last(&slot(), most, |_, _, one| pid == 0 || one == pid);
            (texts(&News { missed: 0, lines, next }), next)
        };
        assert_eq!(last(2, 0), (vec!["3".into(), "4".into()], 4));
        assert_eq!(last(9, 7), (vec!["1".into(), "2".into(), "3".into()], 4));
        let flood = "x".repeat(99) + "\n";
        for index in 0..40 {
            Recorder::new(record.clone(), ("web".into(), index), Stream::Stdout, 7).take(
                flood.repeat(10_000).as_bytes(),
                false,
                SystemTime::UNIX_EPOCH,
            );
        }
        let kept: usize = record.slots().iter().map(|slot| record.last(slot, usize::MAX, |_, _, _| true).0.len()).sum();
        assert!(kept * flood.len() <= ALL + 40 * ENTRY, "{kept} lines");
    }
}
