//! A lane: one of rinit's two streams, and whose turn it is in it.

use super::sink::{Sink, are_one_file};
use super::{Stream, StreamId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long others wait for a stream in the middle of a line longer than it is passed on in one piece.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// A stream that moves so many bytes within that time keeps its turn…
const BRISK: usize = 64 * 1024;
/// …up to so many in all: a line that never ends is no line.
const LONGEST_TURN: usize = 16 * 1024 * 1024;

/// One way out, shared by all workers.
pub(super) struct Lane {
    pub(super) sink: Sink,
    held: Option<Hold>,
    /// rinit's own lines that wait for the end of a hold.
    pub(super) own: VecDeque<Vec<u8>>,
}

/// A stream stands in the middle of a line: nobody else may write.
struct Hold {
    of: StreamId,
    since: Instant,
    /// Bytes moved since then.
    moved: usize,
    /// And from the beginning.
    total: usize,
}

impl Lane {
    fn new(stream: Stream) -> Lane {
        Lane { sink: Sink::new(stream), held: None, own: VecDeque::new() }
    }

    /// Whether that stream may write now.
    pub(super) fn takes(&self, tap: StreamId) -> bool {
        self.sink.is_empty() && self.held.as_ref().is_none_or(|hold| hold.of == tap)
    }

    /// Whether rinit's own lines may be written now.
    pub(super) fn takes_own(&self) -> bool {
        self.sink.is_empty() && self.held.is_none()
    }

    /// Notes that a stream has written, and whether it stands in the middle of a line.
    pub(super) fn wrote(&mut self, tap: StreamId, midway: bool, bytes: usize) {
        match &mut self.held {
            Some(hold) if hold.of == tap && midway => {
                hold.moved += bytes;
                hold.total += bytes;
            }
            Some(hold) if hold.of == tap => self.held = None,
            _ if midway => self.held = Some(Hold { of: tap, since: now(), moved: bytes, total: bytes }),
            _ => {}
        }
    }

    /// Whether a stream is in the middle of a line.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The stream whose line is to be ended, since others wait and it goes on too slowly, or for ever.
    pub(super) fn overdue(&mut self, others_wait: impl FnOnce(StreamId) -> bool) -> Option<StreamId> {
        let hold = self.held.as_mut().filter(|hold| now().saturating_duration_since(hold.since) >= PATIENCE)?;
        let keeps_it =
            hold.moved >= BRISK && hold.total < LONGEST_TURN || !self.sink.is_empty() || !others_wait(hold.of);
        if keeps_it {
            (hold.since, hold.moved) = (now(), 0);
            return None;
        }
        Some(hold.of)
    }

    /// Ends the turn, whoever's it is.
    pub(super) fn free(&mut self) {
        self.held = None;
    }
}

/// rinit's stdout and stderr; one lane when they are one file, as in a container with a terminal.
pub(super) struct Lanes {
    stdout: Lane,
    stderr: Option<Lane>,
}

impl Lanes {
    pub(super) fn new() -> Lanes {
        let stderr = if are_one_file() { None } else { Some(Lane::new(Stream::Stderr)) };
        Lanes { stdout: Lane::new(Stream::Stdout), stderr }
    }

    pub(super) fn of(&mut self, stream: Stream) -> &mut Lane {
        match (stream, &mut self.stderr) {
            (Stream::Stderr, Some(lane)) => lane,
            (Stream::Stdout | Stream::Stderr, _) => &mut self.stdout,
        }
    }

    pub(super) fn look(&self, stream: Stream) -> &Lane {
        match (stream, &self.stderr) {
            (Stream::Stderr, Some(lane)) => lane,
            (Stream::Stdout | Stream::Stderr, _) => &self.stdout,
        }
    }

    /// Whether both streams go the same way.
    pub(super) fn are_shared(&self, one: Stream, other: Stream) -> bool {
        one == other || self.stderr.is_none()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.stdout).chain(&self.stderr)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.stdout).chain(&mut self.stderr)
    }
}

#[expect(clippy::disallowed_methods, reason = "the log's own clock: nothing is decided by it but patience")]
pub(super) fn now() -> Instant {
    Instant::now()
}
