//! The hub: one thread that moves every byte from the workers' pipes to rinit's stdout and stderr.
//!
//! Each turn waits for pipes and sinks, reads each ready pipe once, and writes in large pieces. A pipe is read only while
//! its lane is free, so what is in memory is one read's worth a lane, and one unfinished line a pipe.

use super::format::{Format, Stamp};
use super::handle::{Command, Logs, Pipes, Shared};
use super::history::Recorder;
use super::lines::LONGEST;
use super::output::{Lanes, PATIENCE, now};
use super::source::Tap;
use super::{Stream, StreamId};
use crate::config::LogFormat;
use crate::core::WorkerId;
use crate::sys::{bytes_waiting, spawn_thread};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// How long a sink that takes nothing is waited for at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often the end looks whether that time is over.
const LAST_LOOKS: Duration = Duration::from_millis(20);
/// Pipes of dead workers that some descendant holds open: more than this, and the oldest is closed.
const LEFT_OPEN: usize = 64;

/// Starts the hub's thread.
///
/// # Errors
/// When the kernel has no descriptor or no thread left.
pub fn start(format: Format) -> io::Result<Logs> {
    let shared = Arc::new(Shared::new()?);
    let mut hub = Hub::new(format, shared.clone());
    spawn_thread("logs", move || {
        // A fault in here loses what was being written, not the log.
        while catch_unwind(AssertUnwindSafe(|| hub.run())).is_err() {
            hub.recover();
        }
    })?;
    Ok(Logs { shared })
}

struct Hub {
    format: Format,
    shared: Arc<Shared>,
    taps: Vec<Tap>,
    lanes: Lanes,
    draining: Vec<Draining>,
    finishing: Option<Finishing>,
    /// Own lines that found no room, and are not told of yet.
    dropped: u64,
    chunk: Vec<u8>,
}

/// Somebody waits for a dead worker's last lines.
struct Draining {
    worker: WorkerId,
    done: oneshot::Sender<Vec<String>>,
}

/// Somebody waits for the end.
struct Finishing {
    last_progress: Instant,
    done: oneshot::Sender<()>,
}

impl Hub {
    fn new(format: Format, shared: Arc<Shared>) -> Hub {
        // A line of JSON may be many times as long as what it holds, so less is read at once.
        let chunk = if format.format == LogFormat::Json { LONGEST / 4 } else { LONGEST };
        Hub {
            format,
            shared,
            taps: Vec::new(),
            lanes: Lanes::new(),
            draining: Vec::new(),
            finishing: None,
            dropped: 0,
            chunk: vec![0; chunk],
        }
    }

    /// Until it is asked to finish and has.
    fn run(&mut self) {
        loop {
            self.wait();
            self.take_commands();
            let moved = self.move_bytes();
            self.answer();
            self.close();
            let is_idle =
                self.taps.is_empty() && self.lanes.all().all(|lane| lane.sink.is_empty() && lane.own.is_empty());
            if let Some(finishing) = &mut self.finishing {
                if moved {
                    finishing.last_progress = now();
                }
                if is_idle || now().saturating_duration_since(finishing.last_progress) >= LAST_PATIENCE {
                    break;
                }
            }
        }
        if let Some(Finishing { done, .. }) = self.finishing.take() {
            let _ = done.send(());
        }
    }

    /// After a panic: what was half written is given up, what was asked for stays.
    fn recover(&mut self) {
        for lane in self.lanes.all_mut() {
            lane.sink.reset();
            lane.free();
        }
        self.own(tracing::Level::ERROR, "the log failed on a line, which is lost; it goes on");
    }

    /// A line of the log's own.
    fn own(&mut self, level: tracing::Level, message: &str) {
        let line = self.format.own(level, message, SystemTime::now());
        self.shared.own.fetch_add(line.len(), Ordering::Relaxed);
        self.lanes.of(Stream::Stderr).own.push_back(line);
    }

    /// Sleeps until something can be moved, or somebody calls.
    fn wait(&mut self) {
        let is_readable = |tap: &&Tap| !tap.ended && self.lanes.look(tap.id.stream).takes(tap.id);
        let full = self.lanes.all().filter(|lane| !lane.sink.is_empty());
        let mut ready = vec![PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN)];
        ready.extend(self.taps.iter().filter(is_readable).map(|tap| PollFd::new(tap.pipe.as_fd(), PollFlags::POLLIN)));
        ready.extend(full.map(|lane| PollFd::new(lane.sink.as_fd(), PollFlags::POLLOUT)));
        let timeout = match &self.finishing {
            Some(_) => PollTimeout::try_from(LAST_LOOKS),
            None if self.lanes.all().any(|lane| lane.is_held()) => PollTimeout::try_from(PATIENCE),
            None => Ok(PollTimeout::NONE),
        };
        let _ = poll(&mut ready, timeout.unwrap_or(PollTimeout::NONE));
        let news: Vec<bool> = ready.iter().skip(1).map(|one| one.any() == Some(true)).collect();
        let lanes = &self.lanes;
        let polled = self.taps.iter_mut().filter(|tap| !tap.ended && lanes.look(tap.id.stream).takes(tap.id));
        polled.zip(news).for_each(|(tap, news)| tap.ready = news);
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
                    for (stream, pipe) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                        let voice = self.format.voice(&source, stream);
                        let slot = (source.app.clone(), source.index);
                        let recorder =
                            Recorder::new(self.shared.record.clone(), slot, stream, source.pid.unsigned_abs());
                        self.taps.push(Tap::new(StreamId { worker, stream }, voice, recorder, pipe));
                    }
                }
                Command::Drain(worker, done) => {
                    self.taps.iter_mut().filter(|tap| tap.id.worker == worker).for_each(Tap::writer_is_gone);
                    self.draining.push(Draining { worker, done });
                }
                Command::Own(line) => self.lanes.of(Stream::Stderr).own.push_back(line),
                Command::Finish(done) => {
                    self.taps.iter_mut().for_each(Tap::writer_is_gone);
                    self.finishing = Some(Finishing { last_progress: now(), done });
                }
            }
        }
        self.dropped += dropped;
    }

    /// Moves what can be moved now. True if anything was.
    fn move_bytes(&mut self) -> bool {
        let time = Stamp::new(SystemTime::now());
        let mut moved = false;
        for lane in self.lanes.all_mut() {
            moved |= lane.sink.flush();
        }
        let Hub { format, shared, taps, lanes, chunk, .. } = self;
        for tap in taps.iter_mut().filter(|tap| tap.is_due()) {
            let lane = lanes.of(tap.id.stream);
            if lane.takes(tap.id) {
                moved |= tap.read(chunk, format, lane, &time);
                lane.sink.flush();
            }
        }
        self::end_overdue_lines(lanes, taps, format, &time);
        for lane in lanes.all_mut().filter(|lane| lane.takes_own() && !lane.own.is_empty()) {
            // Between workers' lines, never inside one, and behind what came before them.
            for line in lane.own.drain(..) {
                shared.own.fetch_sub(line.len(), Ordering::Relaxed);
                lane.sink.buffer().extend_from_slice(&line);
            }
            lane.own.shrink_to(16);
            moved |= lane.sink.flush();
        }
        if self.dropped > 0 && self.lanes.look(Stream::Stderr).takes_own() {
            let dropped = std::mem::take(&mut self.dropped);
            self.own(tracing::Level::WARN, &format!("{dropped} lines of rinit's own were lost: stderr was not read"));
        }
        if moved {
            self.shared.moves.fetch_add(1, Ordering::Relaxed);
        }
        moved
    }

    /// Tells who waits for a dead worker's output that all of it is out.
    fn answer(&mut self) {
        let Hub { taps, draining, .. } = self;
        let is_drained = |worker| taps.iter().filter(|tap| tap.id.worker == worker).all(Tap::is_drained);
        for Draining { worker, done } in draining.extract_if(.., |draining| is_drained(draining.worker)) {
            let stderr = taps.iter().find(|tap| tap.id == StreamId { worker, stream: Stream::Stderr });
            let _ = done.send(stderr.map_or(Vec::new(), Tap::last_lines));
        }
    }

    /// Closes what is over and what nobody will ask about.
    fn close(&mut self) {
        let Hub { format, taps, lanes, draining, finishing, .. } = self;
        let asked_for = |tap: &Tap| draining.iter().any(|draining| draining.worker == tap.id.worker);
        taps.retain(|tap| asked_for(tap) || !tap.is_over(finishing.is_some()));
        if taps.iter().filter(|tap| tap.is_left_over()).count() > LEFT_OPEN
            && let Some(oldest) = taps.iter().position(Tap::is_left_over)
        {
            let mut tap = taps.remove(oldest);
            tap.end_line(format, lanes.of(tap.id.stream), &Stamp::new(SystemTime::now()));
        }
    }
}

/// Whoever stands in the middle of a line for too long while others wait has its line ended.
fn end_overdue_lines(lanes: &mut Lanes, taps: &mut [Tap], format: &Format, time: &Stamp) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        if !lanes.look(stream).is_held() {
            continue;
        }
        let shared: Vec<bool> = taps.iter().map(|tap| lanes.are_shared(tap.id.stream, stream)).collect();
        let lane = lanes.of(stream);
        let own_waits = !lane.own.is_empty();
        let others_wait = |holder| {
            let mut others = taps.iter().zip(&shared).filter(|(tap, shared)| **shared && tap.id != holder);
            own_waits || others.any(|(tap, _)| bytes_waiting(tap.pipe.as_fd()) > 0)
        };
        if let Some(holder) = lane.overdue(others_wait) {
            match taps.iter_mut().find(|tap| tap.id == holder) {
                Some(tap) => tap.end_line(format, lane, time),
                None => lane.free(),
            }
            lane.sink.flush();
        }
    }
}
