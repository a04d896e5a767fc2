//! Moves every byte from the workers' pipes to rinit's stdout and stderr, on one thread.
//!
//! Each turn waits for pipes and sinks, reads each readable pipe once, and writes all lines of a read at once. A pipe is
//! read only while its output is free. So memory holds one read for each output, and one unfinished line for each pipe.

use super::format::{Format, Timestamp};
use super::handle::{Command, Logs, Patience, Pipes, Shared};
use super::history::HistoryWriter;
use super::limits::{
    JSON_READ_SIZE, MAX_ORPHANED_PIPES, PARTIAL_LINE_TIMEOUT, READ_SIZE, STALLED_READER_CHECK, STALLED_READER_TIMEOUT,
};
use super::output::{Output, Outputs, now};
use super::source::Source;
use super::{Stream, StreamId};
use crate::core::WorkerId;
use crate::sys::poll::{Interest, PollSet};
use crate::sys::{bytes_waiting, spawn_thread};
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Starts the hub's thread. Without `keeps_history` the lines are written and not kept: nobody could ask for them.
///
/// # Errors
/// When the kernel has no descriptor or no thread left.
pub fn start(format: Format, keeps_history: bool) -> io::Result<Logs> {
    let shared = Arc::new(Shared::new()?);
    let mut hub = Hub::new(format, keeps_history, shared.clone());
    spawn_thread("logs", move || {
        // A fault in here loses the bytes that were being written, not the log.
        while catch_unwind(AssertUnwindSafe(|| hub.run())).is_err() {
            hub.recover();
        }
    })?;
    Ok(Logs { shared })
}

struct Hub {
    format: Format,
    keeps_history: bool,
    shared: Arc<Shared>,
    sources: Vec<Source>,
    outputs: Outputs,
    drain_requests: Vec<DrainRequest>,
    finish_request: Option<FinishRequest>,
    /// The number of rinit's own lines that found no room and are not reported yet.
    dropped: u64,
    read_buffer: Vec<u8>,
    poll_set: PollSet,
    /// The time of this turn.
    time: Timestamp,
}

/// A request for a dead worker's last lines.
struct DrainRequest {
    worker: WorkerId,
    done: oneshot::Sender<Vec<String>>,
}

/// A request to write the rest and end.
struct FinishRequest {
    patience: Patience,
    last_progress: Instant,
    done: oneshot::Sender<()>,
}

impl Hub {
    fn new(format: Format, keeps_history: bool, shared: Arc<Shared>) -> Hub {
        Hub {
            format,
            keeps_history,
            shared,
            sources: Vec::new(),
            outputs: Outputs::new(),
            drain_requests: Vec::new(),
            finish_request: None,
            dropped: 0,
            read_buffer: vec![0; if format.format.is_json() { JSON_READ_SIZE } else { READ_SIZE }],
            poll_set: PollSet::default(),
            time: format.timestamp(SystemTime::now()),
        }
    }

    /// Runs until it is asked to finish and has.
    fn run(&mut self) {
        loop {
            if self.wait() {
                self.take_commands();
            }
            let has_moved = self.move_bytes();
            self.answer_drain_requests();
            self.remove_sources();
            if self.is_finished(has_moved) {
                break;
            }
        }
        if let Some(FinishRequest { done, .. }) = self.finish_request.take() {
            let _ = done.send(());
        }
    }

    /// Drops half-written bytes after a panic. Requests stay.
    fn recover(&mut self) {
        for output in self.outputs.all_mut() {
            output.sink.reset();
            output.release();
        }
        self.write_diagnostic(tracing::Level::ERROR, "the log failed on a line, which is lost; it goes on");
    }

    /// Writes a line of the log's own.
    fn write_diagnostic(&mut self, level: tracing::Level, message: &str) {
        let line = self.format.diagnostic(level, message, SystemTime::now());
        self.shared.waiting_diagnostics.fetch_add(line.len(), Ordering::Relaxed);
        self.outputs.get_mut(Stream::Stderr).diagnostics.push_back(line);
    }

    /// Sleeps until something can be moved or a command comes. True if there may be commands.
    fn wait(&mut self) -> bool {
        let Hub { shared, sources, outputs, finish_request, poll_set, .. } = self;
        let can_read = |source: &Source| !source.has_ended && outputs.get(source.id.stream).accepts(source.id);
        poll_set.clear();
        poll_set.add(shared.wakeup.as_fd(), Interest::Read);
        sources
            .iter()
            .filter(|source| can_read(source))
            .for_each(|source| poll_set.add(source.pipe.as_fd(), Interest::Read));
        let full = outputs.all().filter(|output| !output.sink.is_empty());
        full.for_each(|output| poll_set.add(output.sink.as_fd(), Interest::Write));
        let timeout = if sources.iter().any(|source| source.is_draining() && can_read(source)) {
            // Its last bytes are read without a word from the kernel: a descendant may hold the pipe open in silence.
            Some(Duration::ZERO)
        } else if finish_request.is_some() {
            Some(STALLED_READER_CHECK)
        } else if outputs.all().any(Output::is_midway) {
            Some(PARTIAL_LINE_TIMEOUT)
        } else {
            None
        };
        // A kernel without memory for it leaves everything as not ready.
        let _ = poll_set.wait(timeout);
        let mut ready = poll_set.ready();
        let has_commands = ready.next() == Some(true);
        let polled = sources.iter_mut().filter(|source| can_read(source));
        polled.zip(ready).for_each(|(source, is_readable)| source.is_readable = is_readable);
        has_commands
    }

    fn take_commands(&mut self) {
        let _ = self.shared.wakeup.read();
        let (commands, dropped) = {
            let mut queue = self.shared.queue();
            (std::mem::take(&mut queue.commands), std::mem::take(&mut queue.dropped))
        };
        for command in commands {
            match command {
                Command::Add(worker, labels, Pipes { stdout, stderr }) => {
                    for (stream, pipe) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                        let start = self.format.line_start(&labels, stream);
                        let slot = (labels.app.clone(), labels.index);
                        let pid = labels.pid.unsigned_abs();
                        let history = self
                            .keeps_history
                            .then(|| HistoryWriter::new(self.shared.history.clone(), slot, stream, pid));
                        let id = StreamId { worker, stream };
                        self.sources.push(Source::new(id, &self.format, start, history, pipe));
                    }
                }
                Command::Drain(worker, done) => {
                    let sources = self.sources.iter_mut().filter(|source| source.id.worker == worker);
                    sources.for_each(Source::on_writer_death);
                    self.drain_requests.push(DrainRequest { worker, done });
                }
                Command::Diagnostic(line) => self.outputs.get_mut(Stream::Stderr).diagnostics.push_back(line),
                Command::Finish(patience, done) => {
                    if self.finish_request.is_none() {
                        self.sources.iter_mut().for_each(Source::on_writer_death);
                    }
                    self.finish_request = Some(FinishRequest { patience, last_progress: now(), done });
                }
            }
        }
        self.dropped += dropped;
    }

    /// Moves what can be moved now. True if anything was.
    fn move_bytes(&mut self) -> bool {
        let mut has_moved = false;
        let Hub { format, shared, sources, outputs, read_buffer, time, .. } = self;
        time.set(SystemTime::now());
        for source in sources.iter_mut().filter(|source| source.is_due()) {
            let output = outputs.get_mut(source.id.stream);
            if !output.sink.has_room() {
                has_moved |= output.sink.flush();
            }
            // A read that fills the buffer may have left more, but no more than a pipe holds (pipe(7)).
            let mut total = 0;
            while output.accepts(source.id) && total < READ_SIZE {
                let count = source.read(read_buffer, format, output, time);
                has_moved |= count > 0;
                total += count;
                if count < read_buffer.len() {
                    break;
                }
            }
        }
        for output in outputs.all_mut() {
            has_moved |= output.sink.flush();
        }
        end_overdue_lines(outputs, sources, format, time);
        for output in outputs.all_mut().filter(|output| output.accepts_diagnostics() && !output.diagnostics.is_empty())
        {
            // Between workers' lines, never inside one, and behind the lines that came before them.
            for line in output.diagnostics.drain(..) {
                shared.waiting_diagnostics.fetch_sub(line.len(), Ordering::Relaxed);
                output.sink.buffer().extend_from_slice(&line);
            }
            output.diagnostics.shrink_to(16);
            has_moved |= output.sink.flush();
        }
        if self.dropped > 0 && self.outputs.get(Stream::Stderr).accepts_diagnostics() {
            let dropped = std::mem::take(&mut self.dropped);
            let message = format!("{dropped} lines of rinit's own were lost: stderr was not read");
            self.write_diagnostic(tracing::Level::WARN, &message);
        }
        if has_moved {
            self.shared.progress.fetch_add(1, Ordering::Relaxed);
        }
        has_moved
    }

    /// Answers those who wait for a dead worker's output when all of it is passed on.
    fn answer_drain_requests(&mut self) {
        let Hub { sources, drain_requests, .. } = self;
        let is_drained = |worker| sources.iter().filter(|source| source.id.worker == worker).all(Source::is_drained);
        for DrainRequest { worker, done } in drain_requests.extract_if(.., |request| is_drained(request.worker)) {
            let stderr = sources.iter().find(|source| source.id == StreamId { worker, stream: Stream::Stderr });
            let _ = done.send(stderr.map_or(Vec::new(), Source::last_lines));
        }
    }

    /// Closes pipes that have ended and are not asked for, and the oldest of too many orphaned ones.
    fn remove_sources(&mut self) {
        let Hub { format, sources, outputs, drain_requests, finish_request, time, .. } = self;
        let is_asked_for = |source: &Source| drain_requests.iter().any(|request| request.worker == source.id.worker);
        sources.retain(|source| is_asked_for(source) || !source.is_over(finish_request.is_some()));
        if sources.iter().filter(|source| source.is_orphaned()).count() > MAX_ORPHANED_PIPES
            && let Some(oldest) = sources.iter().position(Source::is_orphaned)
        {
            let mut source = sources.remove(oldest);
            source.end_line(format, outputs.get_mut(source.id.stream), time);
        }
    }

    /// True when all is written after a request to finish, or its reader is given up.
    fn is_finished(&mut self, has_moved: bool) -> bool {
        let Some(request) = &mut self.finish_request else { return false };
        if has_moved {
            request.last_progress = now();
        }
        let is_stalled = match request.patience {
            Patience::UntilRead => false,
            Patience::WhileRead => now().saturating_duration_since(request.last_progress) >= STALLED_READER_TIMEOUT,
        };
        is_stalled || self.sources.is_empty() && self.outputs.all().all(|output| output.is_idle())
    }
}

/// Ends the line of a stream that stands in its middle for too long while others wait.
fn end_overdue_lines(outputs: &mut Outputs, sources: &mut [Source], format: &Format, time: &Timestamp) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        if !outputs.get(stream).is_midway() {
            continue;
        }
        let is_shared: Vec<bool> = sources.iter().map(|source| outputs.are_shared(source.id.stream, stream)).collect();
        let output = outputs.get_mut(stream);
        let diagnostics_wait = !output.diagnostics.is_empty();
        let has_waiters = |holder| {
            let mut others = sources.iter().zip(&is_shared).filter(|(source, shared)| **shared && source.id != holder);
            diagnostics_wait || others.any(|(source, _)| bytes_waiting(source.pipe.as_fd()) > 0)
        };
        if let Some(holder) = output.overdue(has_waiters) {
            match sources.iter_mut().find(|source| source.id == holder) {
                Some(source) => source.end_line(format, output, time),
                None => output.release(),
            }
            output.sink.flush();
        }
    }
}
