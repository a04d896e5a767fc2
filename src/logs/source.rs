//! One stream of one worker.

use super::format::{Format, Stamp, Voice};
use super::history::Recorder;
use super::last_lines::Tail;
use super::lines::{Lines, Piece};
use super::output::Lane;
use super::{Stream, StreamId};
use crate::sys::bytes_waiting;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// A worker's pipe, and what is known of its writer.
pub(super) struct Tap {
    pub(super) id: StreamId,
    pub(super) pipe: OwnedFd,
    /// There may be something to read.
    pub(super) ready: bool,
    /// Nobody has the other end any more.
    pub(super) ended: bool,
    life: Life,
    voice: Voice,
    lines: Lines,
    tail: Tail,
    recorder: Recorder,
}

/// Whether the worker lives. Its descendants may write for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// It is dead, and so many bytes of what it wrote are still in the pipe.
    Dying {
        left: usize,
    },
    /// All that it wrote is passed on.
    Dead,
}

impl Tap {
    pub(super) fn new(id: StreamId, voice: Voice, recorder: Recorder, pipe: OwnedFd) -> Tap {
        let (lines, tail) = (Lines::default(), Tail::default());
        Tap { id, pipe, ready: false, ended: false, life: Life::Alive, voice, lines, tail, recorder }
    }

    /// From now on only what is in the pipe already is the worker's own.
    pub(super) fn writer_is_gone(&mut self) {
        if !matches!(self.life, Life::Dying { .. }) {
            self.life = Life::Dying { left: bytes_waiting(self.pipe.as_fd()) };
        }
    }

    /// Whether all that the worker wrote is passed on.
    pub(super) fn is_drained(&self) -> bool {
        self.ended || self.life == Life::Dead
    }

    /// Whether there is something to do even if the pipe is not ready.
    pub(super) fn is_due(&self) -> bool {
        !self.ended && (self.ready || matches!(self.life, Life::Dying { .. }))
    }

    /// Whether nobody will ask for it again. A stream that ends before its worker is kept for its tail.
    pub(super) fn is_over(&self, finishing: bool) -> bool {
        match self.life {
            Life::Alive => false,
            Life::Dying { .. } => self.ended,
            Life::Dead => self.ended || finishing,
        }
    }

    /// Whether only descendants of a dead worker can write to it.
    pub(super) fn is_left_over(&self) -> bool {
        self.life == Life::Dead && !self.ended
    }

    /// The last lines of it.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.tail.text()
    }

    /// Reads once, and passes on what came. True if anything did.
    pub(super) fn read(&mut self, chunk: &mut [u8], format: &Format, lane: &mut Lane, time: &Stamp) -> bool {
        self.ready = false;
        let (count, empty) = match nix::unistd::read(&self.pipe, chunk) {
            Ok(0) => {
                self.ended = true;
                (0, true)
            }
            Ok(count) => (count, false),
            Err(Errno::EINTR) => (0, false),
            Err(Errno::EAGAIN) => (0, true),
            Err(_) => {
                self.ended = true;
                (0, true)
            }
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        if self.id.stream == Stream::Stderr {
            self.tail.take(bytes);
        }
        let died = match &mut self.life {
            Life::Dying { left } => {
                *left = if empty { 0 } else { left.saturating_sub(count) };
                *left == 0
            }
            Life::Alive | Life::Dead => false,
        };
        if died {
            self.life = Life::Dead;
        }
        let is_last = died || self.ended;
        if count > 0 || is_last {
            self.recorder.take(bytes, is_last, time.at);
        }
        self.pass_on(bytes, is_last, format, lane, time);
        count > 0
    }

    /// Ends the line in whose middle it stands.
    pub(super) fn end_line(&mut self, format: &Format, lane: &mut Lane, time: &Stamp) {
        self.pass_on(b"", true, format, lane, time);
    }

    fn pass_on(&mut self, bytes: &[u8], is_last: bool, format: &Format, lane: &mut Lane, time: &Stamp) {
        let Tap { voice, lines, .. } = self;
        let out = lane.sink.buffer();
        let mut give = |piece: Piece| format.piece(out, voice, time, piece);
        lines.feed(bytes, &mut give);
        if is_last {
            lines.end(&mut give);
        }
        lane.wrote(self.id, lines.is_midway(), bytes.len());
    }
}
