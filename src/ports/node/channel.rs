//! Reads and writes lines and descriptors at rinit's end of a worker's IPC channel. Memory is bounded in both directions.

use crate::sys::socket;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The longest line that is read, in bytes; longer ones are skipped. Node's own have a few hundred.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The size of one read, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The maximum number of reads in one turn: each read ends where a descriptor came along.
const MAX_READS: usize = 64;
/// The maximum number of bytes that wait for a worker that does not read.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// rinit's end of a channel.
pub struct Channel {
    socket: OwnedFd,
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// That line is too long: the bytes up to its end are dropped.
    is_skipping: bool,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
}

/// A line that waits to be sent.
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<Arc<OwnedFd>>,
}

/// The reason why a channel is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The worker has closed its end.
    Closed,
    /// The worker does not read its end.
    NotReading,
}

impl Channel {
    /// A channel on that socket, which does not block.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket, partial: Vec::new(), is_skipping: false, queue: VecDeque::new(), queued_bytes: 0 }
    }

    /// Reads the bytes that have arrived, up to a bound, and passes each whole line on. Descriptors that arrive are closed.
    ///
    /// # Errors
    /// The other end is closed, and all lines before that were passed on.
    pub fn read(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        buffer.resize(READ_BYTES, 0);
        for _ in 0..MAX_READS {
            match socket::receive(self.socket.as_fd(), buffer) {
                Ok((0, _)) => return Err(Broken::Closed),
                Ok((count, _descriptors)) => {
                    self.split(buffer.get(..count).unwrap_or_default(), &mut each);
                    if count == READ_BYTES {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return Err(Broken::Closed),
            }
        }
        Ok(())
    }

    fn split(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.is_skipping || self.partial.len() + line.len() > MAX_LINE_BYTES {
                self.is_skipping = false;
            } else if self.partial.is_empty() {
                each(line);
            } else {
                self.partial.extend_from_slice(line);
                each(&self.partial);
            }
            self.partial.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        if self.is_skipping || self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            (self.is_skipping, self.partial) = (true, Vec::new());
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Returns true if no line waits to be sent.
    pub fn is_free(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends a line with its descriptor now, or not at all.
    ///
    /// # Errors
    /// `EAGAIN`: it does not fit; the other end is gone.
    pub fn send_now(&mut self, line: Vec<u8>, descriptor: BorrowedFd) -> nix::Result<()> {
        if !self.is_free() {
            return Err(Errno::EAGAIN);
        }
        let sent = socket::send(self.socket.as_fd(), &line, Some(descriptor))?;
        if sent < line.len() {
            self.queued_bytes += line.len();
            self.queue.push_back(Outgoing { bytes: line, sent, descriptor: None });
        }
        Ok(())
    }

    /// Sends a line, now or when there is room.
    ///
    /// # Errors
    /// Too much waits already, or the other end is gone.
    pub fn send(&mut self, line: Vec<u8>, descriptor: Option<Arc<OwnedFd>>) -> Result<(), Broken> {
        if self.queued_bytes + line.len() > MAX_QUEUED_BYTES {
            return Err(Broken::NotReading);
        }
        self.queued_bytes += line.len();
        self.queue.push_back(Outgoing { bytes: line, sent: 0, descriptor });
        self.flush()
    }

    /// Shuts it down in both directions. Lines that have arrived are still read.
    pub fn shut_down(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        self.queue.clear();
    }

    /// Sends the lines that wait, as far as there is room.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn flush(&mut self) -> Result<(), Broken> {
        while let Some(Outgoing { bytes, sent, descriptor }) = self.queue.front_mut() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            match socket::send(self.socket.as_fd(), rest, descriptor.as_ref().map(|one| one.as_fd())) {
                Ok(count) => {
                    *sent += count;
                    *descriptor = None;
                    if *sent >= bytes.len() {
                        self.queued_bytes -= bytes.len();
                        self.queue.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                // Descriptors on their way count against the user's limit, and leave it when they arrive.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM) => break,
                Err(_) => return Err(Broken::Closed),
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn channel() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Channel::new(ours.into()), theirs)
    }

    fn lines(channel: &mut Channel) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        channel.read(&mut Vec::new(), |line| lines.push(line.to_vec())).unwrap();
        lines
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory_and_the_next_one_is_read() {
        let (mut channel, mut worker) = channel();
        for _ in 0..40 {
            worker.write_all(&[b'x'; 8192]).unwrap();
            assert!(lines(&mut channel).is_empty());
            assert!(channel.partial.capacity() <= 2 * MAX_LINE_BYTES);
        }
        worker.write_all(b"\n\"ready\"\n").unwrap();
        assert_eq!(lines(&mut channel), [b"\"ready\""]);
    }

    #[test]
    fn the_lines_that_wait_for_a_worker_that_does_not_read_are_bounded() {
        let (mut channel, worker) = channel();
        let sent = (0..10_000).take_while(|_| channel.send(vec![b'x'; 1024], None).is_ok()).count();
        assert!((256..2000).contains(&sent), "{sent}");
        drop(worker);
        assert_eq!(channel.flush(), Err(Broken::Closed));
    }

    proptest! {
        /// However the bytes are cut, the lines are the same.
        #[test]
        fn lines_come_whole(text in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), cut in 1..40usize) {
            let (mut channel, mut worker) = channel();
            let mut sent: Vec<u8> = Vec::new();
            let expected: Vec<Vec<u8>> =
                text.into_iter().map(|line| line.into_iter().filter(|byte| *byte != b'\n').collect()).collect();
            for line in &expected {
                sent.extend(line);
                sent.push(b'\n');
            }
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                worker.write_all(piece).unwrap();
                got.extend(lines(&mut channel));
            }
            prop_assert_eq!(got, expected);
        }

        /// Reading ends whatever the line is.
        #[test]
        fn no_line_breaks_the_reader(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::ports::node::message::read(&tail);
            crate::ports::node::message::read(&[b"{\"cmd\":\"NODE_CLUSTER\",".as_slice(), &tail].concat());
        }
    }
}
