//! Keeps the last lines of each slot in a ring of bounded size, which outlives the slot's processes.
//!
//! The log thread writes here and never waits for a reader. A follower keeps the number of its next line and comes back
//! for it. Lines that the ring has lost until then are counted.

use super::Stream;
use super::limits::{
    HISTORY_ENTRY_OVERHEAD, HISTORY_MAX_LINE, HISTORY_MAX_PER_SLOT, HISTORY_MIN_PER_SLOT, HISTORY_TOTAL,
    RETAINED_LINE_BUFFER,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// The last lines of every slot.
pub struct LogHistory {
    slots: Mutex<BTreeMap<Slot, Ring>>,
    /// Wakes followers when there are new lines.
    pub changed: Notify,
}

/// An app's name and the number of its slot.
pub type Slot = (String, u32);

/// The last lines of one slot: their text without gaps, and an entry for all lines that were read at once.
#[derive(Default)]
struct Ring {
    text: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// The number of the next line.
    next: u64,
    /// The bytes that were written, on stdout and on stderr.
    total: [u64; 2],
}

/// Whole lines that were read at once.
struct Entry {
    /// The number of the first line.
    first: u64,
    lines: u64,
    time: SystemTime,
    /// The bytes of its text, newlines included.
    length: usize,
    pid: u32,
    stream: Stream,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its number in its slot.
    pub number: u64,
    /// The time when it was read.
    pub time: SystemTime,
    /// The stream that it was written to.
    pub stream: Stream,
    /// The process of the slot that wrote it.
    pub pid: u32,
    /// Its bytes without the newline.
    pub text: Vec<u8>,
}

/// The lines from a number on.
#[derive(Debug, Default, PartialEq)]
pub struct NewLines {
    /// The number of lines that the ring has lost already.
    pub missed: u64,
    /// The lines.
    pub lines: Vec<Line>,
    /// The number to ask for next.
    pub next: u64,
}

/// The totals of a slot, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTotals {
    /// The slot.
    pub slot: Slot,
    /// Lines of both streams.
    pub lines: u64,
    /// Bytes of stdout and of stderr.
    pub bytes: [u64; 2],
}

/// Records one stream in the history.
pub(super) struct HistoryWriter {
    history: Arc<LogHistory>,
    slot: Slot,
    stream: Stream,
    pid: u32,
    /// The beginning of a line whose end has not come.
    unfinished: Vec<u8>,
    /// Bytes that the ring's total lacks yet.
    uncounted: u64,
}

impl LogHistory {
    pub(super) fn new() -> LogHistory {
        LogHistory { slots: Mutex::default(), changed: Notify::new() }
    }

    /// The slots that have written.
    pub fn slots(&self) -> Vec<Slot> {
        self.lock().keys().cloned().collect()
    }

    /// The lines of a slot from a number on, at most `limit` of them.
    pub fn since(&self, slot: &Slot, from: u64, limit: usize) -> NewLines {
        let slots = self.lock();
        let Some(ring) = slots.get(slot) else { return NewLines { next: from, ..NewLines::default() } };
        let oldest = ring.entries.front().map_or(ring.next, |entry| entry.first);
        let from = from.min(ring.next);
        let mut new = NewLines { missed: oldest.saturating_sub(from), lines: Vec::new(), next: from.max(oldest) };
        let mut start = 0;
        for entry in &ring.entries {
            if new.lines.len() == limit {
                break;
            }
            if entry.first + entry.lines > from {
                let text = ring.text_of(start, entry);
                let numbered = (entry.first..).zip(text.split(|byte| *byte == b'\n'));
                let wanted = numbered.filter(|(number, _)| *number >= from).take(limit - new.lines.len());
                new.lines.extend(wanted.map(|(number, text)| entry.line(number, text)));
                new.next = new.lines.last().map_or(new.next, |line| line.number + 1);
            }
            start += entry.length;
        }
        new
    }

    /// The last lines of a slot that are wanted, at most `limit` of them, oldest first; and the number that its next line
    /// will have. `is_wanted` decides for all lines that were read at once.
    pub fn last(
        &self,
        slot: &Slot,
        limit: usize,
        is_wanted: impl Fn(SystemTime, Stream, u32) -> bool,
    ) -> (Vec<Line>, u64) {
        let slots = self.lock();
        let Some(ring) = slots.get(slot) else { return (Vec::new(), 0) };
        let mut lines = Vec::new();
        let mut start = ring.text.len();
        for entry in ring.entries.iter().rev() {
            start -= entry.length;
            let left = limit - lines.len();
            if left == 0 {
                break;
            }
            if is_wanted(entry.time, entry.stream, entry.pid) {
                let text = ring.text_of(start, entry);
                let newest_first = (entry.first..entry.first + entry.lines).rev();
                let numbered = newest_first.zip(text.rsplit(|byte| *byte == b'\n'));
                lines.extend(numbered.take(left).map(|(number, text)| entry.line(number, text)));
            }
        }
        lines.reverse();
        (lines, ring.next)
    }

    /// The totals of every slot.
    pub fn totals(&self) -> Vec<SlotTotals> {
        let slots = self.lock();
        slots
            .iter()
            .map(|(slot, ring)| SlotTotals { slot: slot.clone(), lines: ring.next, bytes: ring.total })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, Ring>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn line(&self, number: u64, text: &[u8]) -> Line {
        Line { number, time: self.time, stream: self.stream, pid: self.pid, text: text.to_vec() }
    }
}

impl Ring {
    /// The text of an entry that begins there, without its last newline.
    fn text_of(&self, start: usize, entry: &Entry) -> Cow<'_, [u8]> {
        let range = start..start + entry.length.saturating_sub(1);
        let (front, back) = self.text.as_slices();
        match (front.get(range.clone()), range.start.checked_sub(front.len())) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, Some(start)) => Cow::Borrowed(back.get(start..range.end - front.len()).unwrap_or_default()),
            (None, None) => Cow::Owned(self.text.range(range).copied().collect()),
        }
    }

    /// Adds that number of lines: the beginning of the first, and the rest, which ends with a newline. `room`: the bytes of
    /// the ring.
    fn add(
        &mut self,
        room: usize,
        (stream, pid): (Stream, u32),
        time: SystemTime,
        lines: u64,
        [begin, rest]: [&[u8]; 2],
    ) {
        let (mut begin, mut rest, mut kept) = (begin, rest, lines);
        if begin.len() + rest.len() > room {
            // Only the end fits: from a line's beginning on.
            let cut = rest.len().saturating_sub(room);
            let newline = rest.get(cut..).and_then(|rest| memchr::memchr(b'\n', rest));
            let (lost, fits) = rest.split_at(newline.map_or(rest.len(), |at| cut + at + 1));
            kept -= memchr::memchr_iter(b'\n', lost).count() as u64;
            (begin, rest) = (b"", fits);
        }
        self.next += lines;
        let length = begin.len() + rest.len();
        self.shrink(room, length);
        if kept > 0 {
            self.reserve(room, length);
            self.text.extend(begin);
            self.text.extend(rest);
            self.entries.push_back(Entry { first: self.next - kept, lines: kept, time, stream, pid, length });
        }
    }

    /// Makes room for more text without more memory than is allowed.
    fn reserve(&mut self, room: usize, more: usize) {
        let needed = self.text.len() + more;
        if needed > self.text.capacity() {
            let capacity = (2 * self.text.capacity()).min(room).max(needed);
            self.text.reserve_exact(capacity - self.text.len());
        }
    }

    /// Removes the oldest lines until so many more bytes fit.
    fn shrink(&mut self, room: usize, more: usize) {
        while self.text.len() + more + self.entries.len() * HISTORY_ENTRY_OVERHEAD > room
            && let Some(oldest) = self.entries.pop_front()
        {
            self.text.drain(..oldest.length);
        }
        self.text.shrink_to(room);
    }
}

/// The bytes that each of so many slots may keep.
fn room(slots: usize) -> usize {
    (HISTORY_TOTAL / slots.max(1)).clamp(HISTORY_MIN_PER_SLOT, HISTORY_MAX_PER_SLOT)
}

impl HistoryWriter {
    pub(super) fn new(history: Arc<LogHistory>, slot: Slot, stream: Stream, pid: u32) -> HistoryWriter {
        HistoryWriter { history, slot, stream, pid, unfinished: Vec::new(), uncounted: 0 }
    }

    /// Records what was read, with the number of its newlines. With `is_last` the line that it begins ends with it.
    pub(super) fn push(&mut self, bytes: &[u8], newlines: usize, is_last: bool, time: SystemTime) {
        self.uncounted += bytes.len() as u64;
        let (whole, rest) = bytes.split_at(memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1));
        if !whole.is_empty() {
            self.record(whole, newlines, time);
        }
        let room = HISTORY_MAX_LINE.saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(rest.get(..room).unwrap_or(rest));
        if is_last && !self.unfinished.is_empty() {
            self.record(b"\n", 1, time);
        }
    }

    /// Records the unfinished line and what follows it.
    fn record(&mut self, rest: &[u8], newlines: usize, time: SystemTime) {
        let mut slots = self.history.lock();
        if !slots.contains_key(&self.slot) {
            slots.insert(self.slot.clone(), Ring::default());
            let room = room(slots.len());
            slots.values_mut().for_each(|ring| ring.shrink(room, 0));
        }
        let room = room(slots.len());
        if let Some(ring) = slots.get_mut(&self.slot) {
            ring.add(room, (self.stream, self.pid), time, newlines as u64, [&self.unfinished, rest]);
            let [stdout, stderr] = &mut ring.total;
            let total = match self.stream {
                Stream::Stdout => stdout,
                Stream::Stderr => stderr,
            };
            *total += std::mem::take(&mut self.uncounted);
        }
        drop(slots);
        self.unfinished.clear();
        self.unfinished.shrink_to(RETAINED_LINE_BUFFER);
        self.history.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl HistoryWriter {
        /// Records text as the log does.
        fn write(&mut self, text: impl AsRef<str>, is_last: bool) {
            let bytes = text.as_ref().as_bytes();
            let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.push(bytes, newlines, is_last, SystemTime::UNIX_EPOCH);
        }
    }

    fn slot() -> Slot {
        ("web".into(), 0)
    }

    fn texts(new: &NewLines) -> Vec<String> {
        new.lines.iter().map(|line| String::from_utf8(line.text.clone()).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_were_read() {
        let history = Arc::new(LogHistory::new());
        let mut writer = HistoryWriter::new(history.clone(), slot(), Stream::Stdout, 7);
        for piece in ["on", "e\ntw", "o\nthree\n", "last"] {
            writer.write(piece, false);
        }
        let new = history.since(&slot(), 0, 100);
        assert_eq!(texts(&new), ["one", "two", "three"]);
        writer.write("", true);
        assert_eq!(texts(&history.since(&slot(), new.next, 100)), ["last"]);
        writer.write("x\nend", true);
        assert_eq!(texts(&history.since(&slot(), 4, 100)), ["x", "end"]);
        assert_eq!(texts(&history.since(&slot(), 1, 2)), ["two", "three"]);
    }

    #[test]
    fn a_ring_is_bounded_and_a_slow_reader_is_told_what_it_missed() {
        let history = Arc::new(LogHistory::new());
        let mut writer = HistoryWriter::new(history.clone(), slot(), Stream::Stderr, 7);
        for n in 0..100_000 {
            writer.write(format!("line {n}\n"), false);
        }
        let new = history.since(&slot(), 10, usize::MAX);
        assert_eq!(new.next, 100_000);
        assert_eq!(new.missed + new.lines.len() as u64, 100_000 - 10);
        assert!(new.lines.len() < 2 * HISTORY_MAX_PER_SLOT / "line 99999\n".len(), "{}", new.lines.len());
        let flood: String = (0..100_000).map(|n| format!("{n}\n")).collect();
        writer.write(&flood, false);
        let new = history.since(&slot(), 100_000, usize::MAX);
        assert_eq!(new.missed + new.lines.len() as u64, 100_000);
        assert_eq!(texts(&new).last().unwrap(), "99999");
    }

    #[test]
    fn the_last_lines_are_found_from_the_end_and_all_rings_together_are_bounded() {
        let history = Arc::new(LogHistory::new());
        let mut writer = HistoryWriter::new(history.clone(), slot(), Stream::Stdout, 7);
        writer.write("1\n2\n3\n", false);
        HistoryWriter::new(history.clone(), slot(), Stream::Stderr, 8).write("4\n", false);
        let last = |most, pid| {
            let (lines, next) = history.last(&slot(), most, |_, _, one| pid == 0 || one == pid);
            (texts(&NewLines { missed: 0, lines, next }), next)
        };
        assert_eq!(last(2, 0), (vec!["3".into(), "4".into()], 4));
        assert_eq!(last(9, 7), (vec!["1".into(), "2".into(), "3".into()], 4));
        let flood = "x".repeat(99) + "\n";
        for index in 0..40 {
            HistoryWriter::new(history.clone(), ("web".into(), index), Stream::Stdout, 7)
                .write(flood.repeat(10_000), false);
        }
        let kept: usize =
            history.slots().iter().map(|slot| history.last(slot, usize::MAX, |_, _, _| true).0.len()).sum();
        assert!(kept * flood.len() <= HISTORY_TOTAL, "{kept} lines");
    }

    #[test]
    fn the_memory_of_all_rings_is_bounded_too() {
        let history = Arc::new(LogHistory::new());
        let flood = ("x".repeat(99) + "\n").repeat(655);
        for _ in 0..3 {
            for index in 0..1000 {
                let slot = ("web".into(), index);
                HistoryWriter::new(history.clone(), slot, Stream::Stdout, 7).write(&flood, false);
            }
        }
        let slots = history.lock();
        let memory = |ring: &Ring| ring.text.capacity() + ring.entries.capacity() * size_of::<Entry>();
        for ring in slots.values() {
            assert!(memory(ring) <= HISTORY_MIN_PER_SLOT + 4 * HISTORY_ENTRY_OVERHEAD, "{} bytes", memory(ring));
            assert!(ring.text.len() > HISTORY_MIN_PER_SLOT / 2, "{} bytes of text", ring.text.len());
        }
    }

    #[test]
    fn lines_that_lie_across_the_end_of_the_memory_are_whole() {
        let history = Arc::new(LogHistory::new());
        let mut writer = HistoryWriter::new(history.clone(), slot(), Stream::Stdout, 7);
        for n in 0..5000u64 {
            let text = format!("{n} {}\n", "x".repeat(n as usize % 1999));
            writer.write(&text, false);
            if n % 7 == 0 {
                let (lines, next) = history.last(&slot(), usize::MAX, |_, _, _| true);
                assert_eq!(history.since(&slot(), 0, usize::MAX).lines, lines);
                assert_eq!(next, n + 1);
                for line in &lines {
                    let whole = format!("{} {}", line.number, "x".repeat(line.number as usize % 1999));
                    assert_eq!(String::from_utf8_lossy(&line.text), whole);
                }
            }
        }
    }
}
