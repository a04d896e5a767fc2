//! rinit's end of a worker's channel: whole lines in, whole lines and descriptors out, and a bound on both.

use crate::sys::socket;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The longest line that is read; of a longer one nothing is kept. Node's own are a few hundred bytes.
const LONGEST: usize = 64 * 1024;
/// So much is read at once.
const PIECE: usize = 64 * 1024;
/// And so often in one turn: each read ends where a descriptor came along.
const READS: usize = 64;
/// So much may wait for a worker that does not read.
const WAITING: usize = 256 * 1024;

/// The channel.
pub struct Channel {
    socket: OwnedFd,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// That line is too long: what comes up to its end is thrown away.
    skipping: bool,
    out: VecDeque<Out>,
    out_bytes: usize,
}

/// What waits to be sent.
struct Out {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<Arc<OwnedFd>>,
}

/// The channel is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The worker has closed its end.
    Ended,
    /// It does not read what it is sent.
    Deaf,
}

impl Channel {
    /// A channel by that socket, which does not block.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket, begun: Vec::new(), skipping: false, out: VecDeque::new(), out_bytes: 0 }
    }

    /// Reads what is there, up to a bound, and gives each whole line. Descriptors that come along are closed.
    ///
    /// # Errors
    /// The other end is closed, once all that came before is given.
    pub fn read(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(&[u8])) -> Result<(), Broken> {
        buffer.resize(PIECE, 0);
        for _ in 0..READS {
            match socket::receive(self.socket.as_fd(), buffer) {
                Ok((0, _)) => return Err(Broken::Ended),
                Ok((count, _descriptors)) => {
                    self.split(buffer.get(..count).unwrap_or_default(), &mut each);
                    if count == PIECE {
                        break;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return Err(Broken::Ended),
            }
        }
        Ok(())
    }

    fn split(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.skipping || self.begun.len() + line.len() > LONGEST {
                self.skipping = false;
            } else if self.begun.is_empty() {
                each(line);
            } else {
                self.begun.extend_from_slice(line);
                each(&self.begun);
            }
            self.begun.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        if self.skipping || self.begun.len() + bytes.len() > LONGEST {
            (self.skipping, self.begun) = (true, Vec::new());
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    /// Whether a line sent now would go out at once.
    pub fn is_free(&self) -> bool {
        self.out.is_empty()
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
            self.out_bytes += line.len();
            self.out.push_back(Out { bytes: line, sent, descriptor: None });
        }
        Ok(())
    }

    /// Sends a line, now or when there is room.
    ///
    /// # Errors
    /// Too much waits already, or the other end is gone.
    pub fn send(&mut self, line: Vec<u8>, descriptor: Option<Arc<OwnedFd>>) -> Result<(), Broken> {
        if self.out_bytes + line.len() > WAITING {
            return Err(Broken::Deaf);
        }
        self.out_bytes += line.len();
        self.out.push_back(Out { bytes: line, sent: 0, descriptor });
        self.flush()
    }

    /// Closes it in both directions: what has come is still read, and then its end.
    pub fn hang_up(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        self.out.clear();
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn flush(&mut self) -> Result<(), Broken> {
        while let Some(Out { bytes, sent, descriptor }) = self.out.front_mut() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            match socket::send(self.socket.as_fd(), rest, descriptor.as_ref().map(|one| one.as_fd())) {
                Ok(count) => {
                    *sent += count;
                    *descriptor = None;
                    if *sent >= bytes.len() {
                        self.out_bytes -= bytes.len();
                        self.out.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                // Descriptors on their way count against the user's limit, and are fewer later.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM) => break,
                Err(_) => return Err(Broken::Ended),
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
            assert!(channel.begun.capacity() <= 2 * LONGEST);
        }
        worker.write_all(b"\n\"ready\"\n").unwrap();
        assert_eq!(lines(&mut channel), [b"\"ready\""]);
    }

    #[test]
    fn what_a_deaf_worker_is_sent_is_bounded() {
        let (mut channel, worker) = channel();
        let sent = (0..10_000).take_while(|_| channel.send(vec![b'x'; 1024], None).is_ok()).count();
        assert!((256..2000).contains(&sent), "{sent}");
        drop(worker);
        assert_eq!(channel.flush(), Err(Broken::Ended));
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

        /// Whatever a line is, reading it ends.
        #[test]
        fn no_line_breaks_the_reader(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::ports::node::message::read(&tail);
            crate::ports::node::message::read(&[b"{\"cmd\":\"NODE_CLUSTER\",".as_slice(), &tail].concat());
        }
    }
}
