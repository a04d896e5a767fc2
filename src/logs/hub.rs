//! The hub: one thread that moves every byte from the workers' pipes to rinit's stdout and stderr.
//!
//! Each turn waits for pipes and sinks, reads each ready pipe once, and writes each sink once, in one large piece. A
//! pipe is read only while its sink is empty, so what is in memory is one read's worth a sink, and one unfinished line
//! a pipe.

use super::Stream;
use super::format::{Format, Source, Stamp, Voice};
use super::lines::{LONGEST, Lines, Piece};
use super::sink::Sink;
use super::tail::Tail;
use crate::config::LogFormat;
use crate::core::WorkerId;
use crate::sys::{bytes_waiting, signals};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// A worker's pipes, the ends that rinit reads. Non-blocking.
pub struct Pipes {
    /// Its descriptor 1.
    pub stdout: OwnedFd,
    /// Its descriptor 2.
    pub stderr: OwnedFd,
}

/// The hub, for those who have something for it.
#[derive(Clone)]
pub struct Logs {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Bytes of rinit's own lines that are not in a sink yet.
    own: AtomicUsize,
    bell: EventFd,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// Own lines that found no room.
    dropped: u64,
}

enum Command {
    Add(WorkerId, Source, Pipes),
    Drain(WorkerId, oneshot::Sender<Vec<String>>),
    Own(Vec<u8>),
    Finish(oneshot::Sender<()>),
}

/// More of rinit's own lines than this do not wait: the oldest stay, the newest are counted.
const OWN_AT_MOST: usize = 256 * 1024;
/// How long a worker may stay in the middle of a line longer than [`LONGEST`] while others wait for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a sink that takes nothing is waited for at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Pipes of dead workers that some descendant holds open: more than this, and the oldest is closed.
const LEFT_OPEN: usize = 64;

/// Starts the hub's thread.
///
/// # Errors
/// When the kernel has no descriptor or no thread left.
pub fn start(format: Format) -> io::Result<Logs> {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        own: AtomicUsize::new(0),
        bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
    });
    let mut hub = Hub::new(format, shared.clone());
    // No signal is for this thread; above all not the SIGPIPE of a stdout that is gone.
    let before = signals::block_all();
    let thread = std::thread::Builder::new().name("logs".into()).stack_size(128 * 1024).spawn(move || {
        // A fault in here loses what was being written, not the log.
        while catch_unwind(AssertUnwindSafe(|| hub.run())).is_err() {
            hub.recover();
        }
    });
    signals::set_mask(before);
    thread?;
    Ok(Logs { shared })
}

impl Logs {
    /// Reads these pipes from now on.
    pub fn add(&self, worker: WorkerId, source: Source, pipes: Pipes) {
        self.give(Command::Add(worker, source, pipes));
    }

    /// Waits until all that the worker wrote before this call is written, or at least read; gives its last lines.
    /// Without an answer the hub has failed.
    pub fn drain(&self, worker: WorkerId) -> oneshot::Receiver<Vec<String>> {
        let (done, answer) = oneshot::channel();
        self.give(Command::Drain(worker, done));
        answer
    }

    /// Writes one of rinit's own lines, unless too many of them wait already.
    pub(super) fn own(&self, line: Vec<u8>) {
        let own = &self.shared.own;
        if own.fetch_add(line.len(), Ordering::Relaxed) + line.len() > OWN_AT_MOST {
            own.fetch_sub(line.len(), Ordering::Relaxed);
            self.shared.queue().dropped += 1;
            return;
        }
        self.give(Command::Own(line));
    }

    /// Writes all that is left in the pipes, and ends. Waits for a sink as long as it takes something every now and then.
    pub fn finish(&self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.give(Command::Finish(done));
        answer
    }

    fn give(&self, command: Command) {
        self.shared.queue().commands.push_back(command);
        // It fails only when it has been rung four billion times and not heard.
        let _ = self.shared.bell.write(1);
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream of one worker.
struct Tap {
    worker: WorkerId,
    voice: Voice,
    stream: Stream,
    pipe: OwnedFd,
    lines: Lines,
    tail: Tail,
    /// The worker is dead: so much of what it wrote is still in the pipe.
    left: Option<usize>,
    ended: bool,
}

struct Draining {
    worker: WorkerId,
    done: oneshot::Sender<Vec<String>>,
}

struct Hub {
    format: Format,
    shared: Arc<Shared>,
    taps: Vec<Tap>,
    sinks: [Lane; 2],
    draining: Vec<Draining>,
    finish: Option<oneshot::Sender<()>>,
    chunk: Vec<u8>,
}

/// A sink, and which worker is in the middle of a line in it.
struct Lane {
    stream: Stream,
    sink: Sink,
    midway: Option<(WorkerId, Instant)>,
    own: VecDeque<Vec<u8>>,
}

impl Lane {
    fn new(stream: Stream) -> Lane {
        Lane { stream, sink: Sink::new(stream), midway: None, own: VecDeque::new() }
    }

    fn takes(&self, worker: WorkerId) -> bool {
        self.sink.is_empty() && self.midway.is_none_or(|(holder, _)| holder == worker)
    }
}

impl Hub {
    fn new(format: Format, shared: Arc<Shared>) -> Hub {
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
    fn run(&mut self) {
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
    fn recover(&mut self) {
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

impl Tap {
    /// Formats bytes of this stream into its sink's buffer; with `is_last`, an unfinished line is ended.
    fn pass_on(&mut self, format: &Format, lane: &mut Lane, bytes: &[u8], is_last: bool, time: &Stamp) {
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
fn now() -> Instant {
    Instant::now()
}
