//! One stream of one worker, and the lane that it shares with others on its way out.

use super::Stream;
use super::format::{Format, Stamp, Voice};
use super::lines::{Lines, Piece};
use super::sink::Sink;
use super::tail::Tail;
use crate::core::WorkerId;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// One stream of one worker.
pub(super) struct Tap {
    pub(super) worker: WorkerId,
    pub(super) voice: Voice,
    pub(super) stream: Stream,
    pub(super) pipe: OwnedFd,
    pub(super) lines: Lines,
    pub(super) tail: Tail,
    /// The worker is dead: so much of what it wrote is still in the pipe.
    pub(super) left: Option<usize>,
    pub(super) ended: bool,
}

/// A sink, and which worker is in the middle of a line in it.
pub(super) struct Lane {
    pub(super) stream: Stream,
    pub(super) sink: Sink,
    pub(super) midway: Option<(WorkerId, Instant)>,
    pub(super) own: VecDeque<Vec<u8>>,
}

impl Lane {
    pub(super) fn new(stream: Stream) -> Lane {
        Lane { stream, sink: Sink::new(stream), midway: None, own: VecDeque::new() }
    }

    pub(super) fn takes(&self, worker: WorkerId) -> bool {
        self.sink.is_empty() && self.midway.is_none_or(|(holder, _)| holder == worker)
    }
}

impl Tap {
    /// Formats bytes of this stream into its sink's buffer; with `is_last`, an unfinished line is ended.
    pub(super) fn pass_on(&mut self, format: &Format, lane: &mut Lane, bytes: &[u8], is_last: bool, time: &Stamp) {
        let Tap { voice, lines, .. } = self;
        let out = lane.sink.buffer();
        let mut give = |piece: Piece| format.piece(out, voice, time, piece);
        lines.feed(bytes, &mut give);
        if is_last {
            lines.end(&mut give);
        }
        match (lines.is_midway(), lane.midway) {
            (true, Some((holder, _))) if holder == self.worker && bytes.is_empty() => {}
            (true, _) => lane.midway = Some((self.worker, now())),
            (false, Some((holder, _))) if holder == self.worker => lane.midway = None,
            (false, _) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the log's own clock: nothing is decided by it but patience")]
pub(super) fn now() -> Instant {
    Instant::now()
}
