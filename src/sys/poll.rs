//! Waits for many descriptors at once (poll(2)), in memory that is kept from one wait to the next.

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// A set of descriptors, filled anew before each wait.
#[derive(Default)]
pub struct PollSet {
    descriptors: Vec<libc::pollfd>,
}

/// The event that a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It can be read, or its writers are gone.
    Read,
    /// It can be written, or its readers are gone.
    Write,
}

impl PollSet {
    /// Removes all descriptors.
    pub fn clear(&mut self) {
        self.descriptors.clear();
    }

    /// Adds a descriptor.
    pub fn add(&mut self, descriptor: BorrowedFd, interest: Interest) {
        let events = match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
        };
        self.descriptors.push(libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 });
    }

    /// Waits until one of them is ready, or for that long; without a timeout, for as long as it takes. A timeout is rounded
    /// up to milliseconds.
    ///
    /// # Errors
    /// The kernel has no memory left. A signal ends the wait without an error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let count = self.descriptors.len() as libc::nfds_t;
        // SAFETY: the pointer and the count are those of one vector, which lives longer than the call.
        match Errno::result(unsafe { libc::poll(self.descriptors.as_mut_ptr(), count, timeout) }) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Tells for each descriptor, in the order of their addition, if it is ready.
    pub fn ready(&self) -> impl Iterator<Item = bool> {
        self.descriptors.iter().map(|one| one.revents != 0)
    }
}
