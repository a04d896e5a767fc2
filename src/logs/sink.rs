//! rinit's stdout or stderr: written without ever waiting for who reads it.
//!
//! Setting `O_NONBLOCK` on a descriptor that others share would change it for them too, so a pipe or terminal is opened
//! again for rinit alone (`/proc/self/fd`), a socket is written with `MSG_DONTWAIT`, and where there is no /proc, or
//! the pipe is another user's, only so much is written as fits for sure: a pipe that polls as writable has room for
//! `PIPE_BUF` (`pipe(7)`).

use super::Stream;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a sink keeps of its memory when it is empty: enough for what is read at once, and what is put in front of lines.
const KEPT: usize = 128 * 1024;

pub(super) struct Sink {
    stream: Stream,
    way: Way,
    pending: Vec<u8>,
    written: usize,
}

enum Way {
    /// A description of rinit's own.
    Own(OwnedFd),
    Socket,
    /// A blocking description that others share.
    Shared,
    File,
    /// Nobody reads it and nobody ever will: what comes is dropped.
    Gone,
}

/// Whether rinit's stdout and stderr are one and the same: a terminal, or a pipe after `2>&1`.
pub(super) fn are_one_file() -> bool {
    let id = |fd: BorrowedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino, stat.st_rdev)).ok();
    let (stdout, stderr) = (id(crate::sys::stdout()), id(crate::sys::stderr()));
    stdout.is_some() && stdout == stderr
}

impl Sink {
    pub(super) fn new(stream: Stream) -> Sink {
        let mut sink = Sink { stream, way: Way::Shared, pending: Vec::new(), written: 0 };
        let kind = fstat(sink.as_fd()).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        sink.way = match kind {
            Ok(SFlag::S_IFREG) => Way::File,
            Ok(SFlag::S_IFSOCK) => Way::Socket,
            Ok(_) => sink.reopen().map_or(Way::Shared, Way::Own),
            Err(_) => Way::Gone,
        };
        sink
    }

    fn reopen(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let path = format!("/proc/self/fd/{}", self.as_fd().as_raw_fd());
        nix::fcntl::open(path.as_str(), flags, Mode::empty())
    }

    /// Where to put what is to be written.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Gives up what is to be written.
    pub(super) fn reset(&mut self) {
        self.pending.clear();
        self.written = 0;
    }

    /// Writes as much as fits now. Tells whether anything was written.
    pub(super) fn flush(&mut self) -> bool {
        let before = self.written;
        while self.written < self.pending.len() {
            match self.write() {
                Ok(count) => self.written += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return self.written > before,
                // The disk is full: what cannot be kept is lost, and the next lines may find room again.
                Err(Errno::ENOSPC | Errno::EDQUOT) => break,
                Err(_) => {
                    self.way = Way::Gone;
                    break;
                }
            }
        }
        let progress = self.written > before;
        self.reset();
        self.pending.shrink_to(KEPT);
        progress
    }

    fn write(&self) -> nix::Result<usize> {
        let rest = self.pending.get(self.written..).unwrap_or_default();
        match &self.way {
            Way::Own(file) => nix::unistd::write(file, rest),
            Way::File => nix::unistd::write(self.as_fd(), rest),
            Way::Socket => send(self.as_fd().as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Way::Shared => {
                let mut room = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut room, PollTimeout::ZERO) {
                    Ok(0) => Err(Errno::EAGAIN),
                    Ok(_) => nix::unistd::write(self.as_fd(), rest.get(..libc::PIPE_BUF).unwrap_or(rest)),
                    Err(errno) => Err(errno),
                }
            }
            Way::Gone => Ok(rest.len()),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.way, self.stream) {
            (Way::Own(file), _) => file.as_fd(),
            (_, Stream::Stdout) => crate::sys::stdout(),
            (_, Stream::Stderr) => crate::sys::stderr(),
        }
    }
}
