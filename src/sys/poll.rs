//! Waits for many descriptors at once (poll(2)), in memory that is kept from one wait to the next.

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
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

/// The interval, in milliseconds, at which more descriptors than one poll(2) may take are looked at.
const PART_INTERVAL: i32 = 10;

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
        match poll(&mut self.descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            // More than the limit on open files, which somebody has lowered meanwhile.
            Err(Errno::EINVAL) => self.wait_in_parts(timeout).map_err(io::Error::from),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Looks at as many at a time as the limit on open files allows, every [`PART_INTERVAL`].
    fn wait_in_parts(&mut self, timeout: i32) -> nix::Result<()> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1, |(soft, _)| soft.clamp(1, 1024) as usize);
        let mut waited = 0;
        loop {
            for part in self.descriptors.chunks_mut(limit) {
                match poll(part, 0) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    // Not even one: what is ready is found by reading, which does not block.
                    Err(Errno::EINVAL) => part.iter_mut().for_each(|one| one.revents = one.events),
                    Err(errno) => return Err(errno),
                }
            }
            let is_over = timeout >= 0 && waited >= timeout;
            if is_over || self.ready().any(|is_ready| is_ready) {
                return Ok(());
            }
            let _ = poll(&mut [], PART_INTERVAL);
            waited = waited.saturating_add(PART_INTERVAL);
        }
    }

    /// Tells for each descriptor, in the order of their addition, if it is ready.
    pub fn ready(&self) -> impl Iterator<Item = bool> {
        self.descriptors.iter().map(|one| one.revents != 0)
    }
}

fn poll(descriptors: &mut [libc::pollfd], timeout: i32) -> nix::Result<i32> {
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: the pointer and the count are those of one slice, which lives longer than the call.
    Errno::result(unsafe { libc::poll(descriptors.as_mut_ptr(), count, timeout) })
}
