//! Writes to rinit's stdout or stderr without waiting for its reader.
//!
//! Setting `O_NONBLOCK` on a descriptor that others share would change it for them too. So a pipe or terminal is opened
//! again for rinit alone (`/proc/self/fd`), and a socket is written with `MSG_DONTWAIT`. Where there is no /proc, or the
//! pipe is another user's, one write is no larger than what surely fits: a pipe that polls as writable has room for
//! `PIPE_BUF` bytes (`pipe(7)`).

use super::Stream;
use super::limits::{RETAINED_SINK_BUFFER, SINK_LOW_WATER};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One of rinit's two streams, and the bytes that wait for it.
pub(super) struct Sink {
    stream: Stream,
    target: Target,
    pending: Vec<u8>,
    /// The bytes of `pending` that are written.
    written: usize,
}

/// The kind of a stream, which decides how it is written.
enum Target {
    /// A pipe or terminal, opened again without blocking for rinit alone.
    Reopened(OwnedFd),
    Socket,
    /// A pipe or terminal whose blocking description others share.
    Shared,
    File,
    /// It has no reader and will have none: what comes is dropped.
    Closed,
}

/// True when rinit's stdout and stderr are one and the same: a terminal, or a pipe after `2>&1`.
pub(super) fn is_one_file() -> bool {
    let id = |fd: BorrowedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino, stat.st_rdev)).ok();
    let (stdout, stderr) = (id(crate::sys::stdout()), id(crate::sys::stderr()));
    stdout.is_some() && stdout == stderr
}

impl Sink {
    pub(super) fn new(stream: Stream) -> Sink {
        let mut sink = Sink { stream, target: Target::Shared, pending: Vec::new(), written: 0 };
        let kind = fstat(sink.as_fd()).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        sink.target = match kind {
            Ok(SFlag::S_IFREG) => Target::File,
            Ok(SFlag::S_IFSOCK) => Target::Socket,
            Ok(_) => sink.reopen().map_or(Target::Shared, Target::Reopened),
            Err(_) => Target::Closed,
        };
        sink
    }

    fn reopen(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let path = format!("/proc/self/fd/{}", self.as_fd().as_raw_fd());
        nix::fcntl::open(path.as_str(), flags, Mode::empty())
    }

    /// The buffer of the bytes to be written, to which more can be added.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.pending.drain(..std::mem::take(&mut self.written));
        &mut self.pending
    }

    /// True when nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// True when so little waits to be written that more can be added.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() - self.written < SINK_LOW_WATER
    }

    /// Drops what is to be written.
    pub(super) fn reset(&mut self) {
        self.pending.clear();
        self.written = 0;
    }

    /// Writes as much as fits now. True if anything was written.
    pub(super) fn flush(&mut self) -> bool {
        if self.is_empty() {
            return false;
        }
        let before = self.written;
        while self.written < self.pending.len() {
            match self.write() {
                // A write that is cut short has filled the pipe: a second one would only be refused.
                Ok(count) if count < self.pending.len() - self.written && !matches!(self.target, Target::Shared) => {
                    self.written += count;
                    return true;
                }
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return self.written > before,
                // The disk is full: these bytes are lost, and the next lines may find room again.
                Err(Errno::ENOSPC | Errno::EDQUOT) => break,
                Err(_) => {
                    self.target = Target::Closed;
                    break;
                }
            }
        }
        let has_written = self.written > before;
        self.reset();
        self.pending.shrink_to(RETAINED_SINK_BUFFER);
        has_written
    }

    fn write(&self) -> nix::Result<usize> {
        let rest = self.pending.get(self.written..).unwrap_or_default();
        match &self.target {
            Target::Reopened(file) => nix::unistd::write(file, rest),
            Target::File => nix::unistd::write(self.as_fd(), rest),
            Target::Socket => send(self.as_fd().as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Target::Shared => {
                let mut room = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut room, PollTimeout::ZERO) {
                    Ok(0) => Err(Errno::EAGAIN),
                    Ok(_) => nix::unistd::write(self.as_fd(), rest.get(..libc::PIPE_BUF).unwrap_or(rest)),
                    Err(errno) => Err(errno),
                }
            }
            Target::Closed => Ok(rest.len()),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.target, self.stream) {
            (Target::Reopened(file), _) => file.as_fd(),
            (Target::Socket | Target::Shared | Target::File | Target::Closed, Stream::Stdout) => crate::sys::stdout(),
            (Target::Socket | Target::Shared | Target::File | Target::Closed, Stream::Stderr) => crate::sys::stderr(),
        }
    }
}
