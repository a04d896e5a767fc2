//! Shares rinit's stdout and stderr among the workers: whole lines, one stream at a time.

use super::limits::{MAX_PARTIAL_LINE, PARTIAL_LINE_PROGRESS, PARTIAL_LINE_TIMEOUT};
use super::sink::{Sink, is_one_file};
use super::{Stream, StreamId};
use std::collections::VecDeque;
use std::time::Instant;

/// One of rinit's two streams, shared by all workers.
pub(super) struct Output {
    pub(super) sink: Sink,
    partial_line: Option<PartialLine>,
    /// rinit's own lines that wait for the end of a line.
    pub(super) diagnostics: VecDeque<Vec<u8>>,
}

/// A line whose first part is passed on. No other stream may write before its end.
struct PartialLine {
    stream: StreamId,
    since: Instant,
    /// Bytes moved since then.
    recent: usize,
    /// Bytes moved from its beginning.
    total: usize,
}

impl Output {
    fn new(stream: Stream) -> Output {
        Output { sink: Sink::new(stream), partial_line: None, diagnostics: VecDeque::new() }
    }

    /// True when that stream may write now.
    pub(super) fn accepts(&self, stream: StreamId) -> bool {
        self.sink.has_room() && self.partial_line.as_ref().is_none_or(|line| line.stream == stream)
    }

    /// True when rinit's own lines may be written now.
    pub(super) fn accepts_diagnostics(&self) -> bool {
        self.sink.has_room() && self.partial_line.is_none()
    }

    /// True when nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.sink.is_empty() && self.diagnostics.is_empty()
    }

    /// Notes that a stream has written, and if it stands in the middle of a line.
    pub(super) fn note_write(&mut self, stream: StreamId, is_midway: bool, bytes: usize) {
        match &mut self.partial_line {
            Some(line) if line.stream == stream && is_midway => {
                line.recent += bytes;
                line.total += bytes;
            }
            Some(line) if line.stream == stream => self.partial_line = None,
            Some(_) => {}
            None if is_midway => {
                self.partial_line = Some(PartialLine { stream, since: now(), recent: bytes, total: bytes });
            }
            None => {}
        }
    }

    /// True while a stream is in the middle of a line.
    pub(super) fn is_midway(&self) -> bool {
        self.partial_line.is_some()
    }

    /// The stream whose line is to be ended, since others wait and it goes on too slowly, or for ever.
    pub(super) fn overdue(&mut self, has_waiters: impl FnOnce(StreamId) -> bool) -> Option<StreamId> {
        let is_due = |line: &&mut PartialLine| now().saturating_duration_since(line.since) >= PARTIAL_LINE_TIMEOUT;
        let line = self.partial_line.as_mut().filter(is_due)?;
        let has_progress = line.recent >= PARTIAL_LINE_PROGRESS && line.total < MAX_PARTIAL_LINE;
        if has_progress || !self.sink.has_room() || !has_waiters(line.stream) {
            (line.since, line.recent) = (now(), 0);
            return None;
        }
        Some(line.stream)
    }

    /// Lets others write, whatever line is unfinished.
    pub(super) fn release(&mut self) {
        self.partial_line = None;
    }
}

/// rinit's stdout and stderr; one output when they are one file, as in a container with a terminal.
pub(super) struct Outputs {
    stdout: Output,
    stderr: Option<Output>,
}

impl Outputs {
    pub(super) fn new() -> Outputs {
        let stderr = if is_one_file() { None } else { Some(Output::new(Stream::Stderr)) };
        Outputs { stdout: Output::new(Stream::Stdout), stderr }
    }

    pub(super) fn get(&self, stream: Stream) -> &Output {
        match (stream, &self.stderr) {
            (Stream::Stderr, Some(output)) => output,
            (Stream::Stdout | Stream::Stderr, _) => &self.stdout,
        }
    }

    pub(super) fn get_mut(&mut self, stream: Stream) -> &mut Output {
        match (stream, &mut self.stderr) {
            (Stream::Stderr, Some(output)) => output,
            (Stream::Stdout | Stream::Stderr, _) => &mut self.stdout,
        }
    }

    /// True when both streams are written to the same output.
    pub(super) fn are_shared(&self, one: Stream, other: Stream) -> bool {
        one == other || self.stderr.is_none()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Output> {
        std::iter::once(&self.stdout).chain(&self.stderr)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Output> {
        std::iter::once(&mut self.stdout).chain(&mut self.stderr)
    }
}

#[expect(clippy::disallowed_methods, reason = "the log's own clock, for nothing but its timeouts")]
pub(super) fn now() -> Instant {
    Instant::now()
}
