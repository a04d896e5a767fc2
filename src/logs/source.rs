//! Reads one stream of one worker and passes its lines on.

use super::format::{Format, LineStart, Timestamp};
use super::history::HistoryWriter;
use super::last_lines::LastLines;
use super::lines::{Fragment, LineSplitter};
use super::output::Output;
use super::{Stream, StreamId};
use crate::sys::bytes_waiting;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// A worker's pipe, and the state of its writer.
pub(super) struct Source {
    pub(super) id: StreamId,
    pub(super) pipe: OwnedFd,
    /// The kernel said that there is something to read.
    pub(super) is_readable: bool,
    /// No process has the other end any more.
    pub(super) has_ended: bool,
    writer: Writer,
    start: LineStart,
    lines: LineSplitter,
    last_lines: LastLines,
    history: Option<HistoryWriter>,
}

/// The state of the worker. Its descendants may write for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Alive,
    /// It is dead, and some of what it wrote is still in the pipe.
    Dead {
        /// The bytes of that.
        unread: usize,
    },
    /// It is dead, and all that it wrote is passed on.
    Drained,
}

impl Source {
    pub(super) fn new(
        id: StreamId,
        format: &Format,
        start: LineStart,
        history: Option<HistoryWriter>,
        pipe: OwnedFd,
    ) -> Source {
        Source {
            id,
            pipe,
            is_readable: false,
            has_ended: false,
            writer: Writer::Alive,
            start,
            lines: LineSplitter::new(format.format.is_json()),
            last_lines: LastLines::default(),
            history,
        }
    }

    /// Notes the death of the worker: only what is in the pipe now is its own.
    pub(super) fn on_writer_death(&mut self) {
        if !matches!(self.writer, Writer::Dead { .. }) {
            self.writer = Writer::Dead { unread: bytes_waiting(self.pipe.as_fd()) };
        }
    }

    /// True when all that the worker wrote is passed on.
    pub(super) fn is_drained(&self) -> bool {
        self.has_ended || self.writer == Writer::Drained
    }

    /// True when it is to be read now: it is readable, or its worker's last bytes are not passed on yet.
    pub(super) fn is_due(&self) -> bool {
        !self.has_ended && (self.is_readable || self.is_draining())
    }

    /// True while a dead worker's last bytes are not passed on.
    pub(super) fn is_draining(&self) -> bool {
        !self.has_ended && matches!(self.writer, Writer::Dead { .. })
    }

    /// True when it can be forgotten. A stream that ends before its worker is kept for its last lines.
    pub(super) fn is_over(&self, is_finishing: bool) -> bool {
        match self.writer {
            Writer::Alive => false,
            Writer::Dead { .. } => self.has_ended,
            Writer::Drained => self.has_ended || is_finishing,
        }
    }

    /// True when only descendants of a dead worker can write to it.
    pub(super) fn is_orphaned(&self) -> bool {
        self.writer == Writer::Drained && !self.has_ended
    }

    /// Its last lines.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last_lines.text()
    }

    /// Reads once, passes on what came, and returns its length.
    pub(super) fn read(&mut self, buffer: &mut [u8], format: &Format, output: &mut Output, time: &Timestamp) -> usize {
        self.is_readable = false;
        let (count, is_empty) = match nix::unistd::read(&self.pipe, buffer) {
            Ok(0) => {
                self.has_ended = true;
                (0, true)
            }
            Ok(count) => (count, false),
            Err(Errno::EINTR) => (0, false),
            Err(Errno::EAGAIN) => (0, true),
            Err(_) => {
                self.has_ended = true;
                (0, true)
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if self.id.stream == Stream::Stderr {
            self.last_lines.push(bytes);
        }
        if let Writer::Dead { unread } = &mut self.writer {
            *unread = if is_empty { 0 } else { unread.saturating_sub(count) };
            if *unread == 0 {
                self.writer = Writer::Drained;
                self.pass_on(bytes, true, format, output, time);
                return count;
            }
        }
        self.pass_on(bytes, self.has_ended, format, output, time);
        count
    }

    /// Ends the line in whose middle it stands.
    pub(super) fn end_line(&mut self, format: &Format, output: &mut Output, time: &Timestamp) {
        self.write_lines(output, format, time, |lines, emit| lines.end(emit));
        output.note_write(self.id, self.lines.is_midway(), 0);
    }

    /// Passes bytes on; with `is_last` the line that they begin ends with them.
    fn pass_on(&mut self, bytes: &[u8], is_last: bool, format: &Format, output: &mut Output, time: &Timestamp) {
        let newlines = self.write_lines(output, format, time, |lines, emit| lines.feed(bytes, emit));
        if let Some(history) = &mut self.history
            && (!bytes.is_empty() || is_last)
        {
            history.push(bytes, newlines, is_last, time.at);
        }
        if is_last {
            self.write_lines(output, format, time, |lines, emit| lines.end(emit));
        }
        output.note_write(self.id, self.lines.is_midway(), bytes.len());
    }

    /// Writes what the splitter emits, and returns the number of lines that have ended.
    fn write_lines(
        &mut self,
        output: &mut Output,
        format: &Format,
        time: &Timestamp,
        split: impl FnOnce(&mut LineSplitter, &mut dyn FnMut(Fragment)),
    ) -> usize {
        let Source { start, lines, .. } = self;
        format.refresh(start, time);
        let out = output.sink.buffer();
        let mut count = 0;
        split(lines, &mut |fragment| count += format.write(out, start, time, fragment));
        count
    }
}
