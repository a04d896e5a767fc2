//! The hub: one thread that moves every byte from the workers' pipes to rinit's stdout and stderr.
//!
//! Each turn waits for pipes and sinks, reads each ready pipe once, and writes each sink once, in one large piece. A
//! pipe is read only while its sink is empty, so what is in memory is one read's worth a sink, and one unfinished line
//! a pipe.

use super::Stream;
use super::format::{Format, Stamp};
use super::handle::{Command, Pipes, Shared};
use super::lines::{LONGEST, Lines};
use super::tail::Tail;
use super::tap::{Lane, Tap, now};
use crate::config::LogFormat;
use crate::core::WorkerId;
use crate::sys::bytes_waiting;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// How long a worker may stay in the middle of a line longer than [`LONGEST`] while others wait for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a sink that takes nothing is waited for at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Pipes of dead workers that some descendant holds open: more than this, and the oldest is closed.
const LEFT_OPEN: usize = 64;

struct Draining {
    worker: WorkerId,
    done: oneshot::Sender<Vec<String>>,
}

pub(super) struct Hub {
    format: Format,
    shared: Arc<Shared>,
    taps: Vec<Tap>,
    sinks: [Lane; 2],
    draining: Vec<Draining>,
    finish: Option<oneshot::Sender<()>>,
    chunk: Vec<u8>,
}

impl Hub {
    pub(super) fn new(format: Format, shared: Arc<Shared>) -> Hub {
        // A line of JSON may be many times as long as what it holds, so less is read at once.
        let chunk = if format.format == LogFormat::Json { LONGEST / 4 } else { LONGEST };
        Hub {
            format,
            shared,
            taps: Vec::new(),
            sinks: [Lane::new(Stream::Stdout), Lane::new(Stream::Stderr)],
            draining: Vec::new(),
            finish: None,
            chunk: vec![0; chunk],
        }
    }

    /// Until it is asked to finish and has.
    pub(super) fn run(&mut self) {
        let mut last_progress = now();
        loop {
            self.wait();
            self.take_commands();
            let moved = self.move_bytes();
            self.answer();
            if moved || self.finish.is_none() {
                last_progress = now();
            }
            let idle =
                self.taps.is_empty() && self.sinks.iter().all(|lane| lane.sink.is_empty() && lane.own.is_empty());
            let stuck = now().saturating_duration_since(last_progress) >= LAST_PATIENCE;
            if self.finish.is_some() && (idle || stuck) {
                if let Some(done) = self.finish.take() {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    /// After a panic: what was half written is given up, what was asked for stays.
    pub(super) fn recover(&mut self) {
        self.sinks.iter_mut().for_each(|lane| {
            lane.sink.buffer().clear();
            lane.midway = None;
        });
        let line = self.format.own(
            tracing::Level::ERROR,
            "the log failed on a line, which is lost; it goes on",
            SystemTime::now(),
        );
        self.shared.own.fetch_add(line.len(), Ordering::Relaxed);
        let [_, stderr] = &mut self.sinks;
        stderr.own.push_back(line);
    }

    /// Sleeps until something can be moved, or somebody calls.
    fn wait(&self) {
        let mut ready = Vec::with_capacity(self.taps.len() + 3);
        ready.push(PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN));
        for lane in self.sinks.iter().filter(|lane| !lane.sink.is_empty()) {
            ready.push(PollFd::new(lane.sink.as_fd(), PollFlags::POLLOUT));
        }
        for tap in self.taps.iter().filter(|tap| !tap.ended) {
            if self.lane(tap.stream).takes(tap.worker) {
                ready.push(PollFd::new(tap.pipe.as_fd(), PollFlags::POLLIN));
            }
        }
        let holds = self.sinks.iter().any(|lane| lane.midway.is_some());
        let timeout = match (&self.finish, holds) {
            (Some(_), _) => Duration::from_millis(20),
            (None, true) => PATIENCE,
            (None, false) => Duration::MAX,
        };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE);
        let _ = poll(&mut ready, timeout);
    }

    fn lane(&self, stream: Stream) -> &Lane {
        let [stdout, stderr] = &self.sinks;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    fn take_commands(&mut self) {
        let _ = self.shared.bell.read();
        let (commands, dropped) = {
            let mut queue = self.shared.queue();
            (std::mem::take(&mut queue.commands), std::mem::take(&mut queue.dropped))
        };
        for command in commands {
            match command {
                Command::Add(worker, source, Pipes { stdout, stderr }) => {
                    let tap = |stream, pipe| Tap {
                        worker,
                        voice: self.format.voice(&source, stream),
                        stream,
                        pipe,
                        lines: Lines::default(),
                        tail: Tail::default(),
                        left: None,
                        ended: false,
                    };
                    self.taps.extend([tap(Stream::Stdout, stdout), tap(Stream::Stderr, stderr)]);
                }
                Command::Drain(worker, done) => {
                    for tap in self.taps.iter_mut().filter(|tap| tap.worker == worker) {
                        tap.left = Some(bytes_waiting(tap.pipe.as_fd()));
                    }
                    self.draining.push(Draining { worker, done });
                }
                Command::Own(line) => {
                    let [_, stderr] = &mut self.sinks;
                    stderr.own.push_back(line);
                }
                Command::Finish(done) => {
                    for tap in &mut self.taps {
                        tap.left = Some(bytes_waiting(tap.pipe.as_fd()));
                    }
                    self.finish = Some(done);
                }
            }
        }
        if dropped > 0 {
            let text = format!("{dropped} lines of rinit's own were lost: stderr was not read");
            let line = self.format.own(tracing::Level::WARN, &text, SystemTime::now());
            self.shared.own.fetch_add(line.len(), Ordering::Relaxed);
            let [_, stderr] = &mut self.sinks;
            stderr.own.push_back(line);
        }
    }

    /// Moves what can be moved now. True if anything was.
    fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        for lane in &mut self.sinks {
            moved |= lane.sink.flush();
        }
        let time = Stamp::new(SystemTime::now());
        for index in 0..self.taps.len() {
            moved |= self.read(index, &time);
        }
        self.release_holders();
        for lane in &mut self.sinks {
            // rinit's own lines stand between workers' lines, never inside one, and behind what came before them.
            if lane.sink.is_empty() && lane.midway.is_none() {
                while let Some(line) = lane.own.pop_front() {
                    self.shared.own.fetch_sub(line.len(), Ordering::Relaxed);
                    lane.sink.buffer().extend_from_slice(&line);
                }
                lane.own.shrink_to(16);
                moved |= lane.sink.flush();
            }
        }
        self.close_ended();
        moved
    }

    /// Reads one pipe once, if its sink has room. True if anything came.
    fn read(&mut self, index: usize, time: &Stamp) -> bool {
        let Hub { format, taps, sinks: [stdout, stderr], chunk, .. } = self;
        let Some(tap) = taps.get_mut(index) else { return false };
        let lane = match tap.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        if tap.ended || !lane.takes(tap.worker) {
            return false;
        }
        let count = match nix::unistd::read(&tap.pipe, chunk) {
            Ok(0) => {
                tap.ended = true;
                0
            }
            Ok(count) => count,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {
                tap.left = tap.left.map(|_| 0);
                0
            }
            Err(_) => {
                tap.ended = true;
                0
            }
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        tap.left = tap.left.map(|left| left.saturating_sub(count));
        if tap.stream == Stream::Stderr {
            tap.tail.take(bytes);
        }
        let is_last = tap.ended || tap.left == Some(0);
        tap.pass_on(format, lane, bytes, is_last, time);
        lane.sink.flush();
        count > 0
    }

    /// Whoever stands in the middle of a line for too long has its line ended.
    fn release_holders(&mut self) {
        let Hub { format, taps, sinks, .. } = self;
        for lane in sinks {
            let Some((holder, since)) = lane.midway else { continue };
            if lane.sink.is_empty() && now().saturating_duration_since(since) >= PATIENCE {
                let midway = taps.iter_mut().find(|tap| (tap.worker, tap.stream) == (holder, lane.stream));
                lane.midway = None;
                if let Some(tap) = midway {
                    tap.pass_on(format, lane, b"", true, &Stamp::new(SystemTime::now()));
                }
                lane.sink.flush();
            }
        }
    }

    /// Closes what has ended and what nobody will ask about: a stream that ends before its worker is kept for its tail.
    fn close_ended(&mut self) {
        let finishing = self.finish.is_some();
        let Hub { taps, draining, .. } = self;
        taps.retain(|tap| {
            let asked_for = draining.iter().any(|draining| draining.worker == tap.worker);
            let over = tap.left.is_some() && tap.ended || finishing && tap.left == Some(0);
            asked_for || !over
        });
        let dead = self.taps.iter().filter(|tap| tap.left.is_some()).count();
        if dead > LEFT_OPEN
            && let Some(oldest) = self.taps.iter().position(|tap| tap.left == Some(0))
        {
            self.taps.remove(oldest);
        }
    }

    /// Tells who waits for a dead worker's output that all of it is out.
    fn answer(&mut self) {
        let Hub { taps, draining, .. } = self;
        let is_drained = |worker| {
            let mut its = taps.iter().filter(|tap: &&Tap| tap.worker == worker);
            its.all(|tap| tap.ended || tap.left == Some(0))
        };
        for at in (0..draining.len()).rev() {
            if draining.get(at).is_some_and(|draining| is_drained(draining.worker)) {
                let Draining { worker, done } = draining.swap_remove(at);
                let stderr = taps.iter().find(|tap| tap.worker == worker && tap.stream == Stream::Stderr);
                let _ = done.send(stderr.map_or(Vec::new(), |tap| tap.tail.text()));
            }
        }
        self.close_ended();
    }
}
