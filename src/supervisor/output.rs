//! Opens the pipes of a worker's standard output and standard error.

use super::launch::LaunchSpec;
use crate::logs::Pipes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{fchown, pipe2};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A worker's stdout and stderr.
pub(super) struct Output {
    /// rinit's ends.
    pub(super) pipes: Pipes,
    /// The worker's ends.
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    /// Opens both pipes, of which the worker's ends belong to its user.
    ///
    /// # Errors
    /// No descriptors left.
    pub(super) fn open(launch: &LaunchSpec) -> nix::Result<Output> {
        let pipe = || {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            if let Some(user) = &launch.app.user {
                // Else a program that opens /dev/stdout would be refused.
                let _ = fchown(&write, Some(user.uid), Some(user.gid));
            }
            Ok::<_, Errno>((read, write))
        };
        let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
        Ok(Output { pipes: Pipes { stdout: out, stderr: err }, stdout, stderr })
    }

    /// The worker's ends.
    pub(super) fn ends(&self) -> [Option<RawFd>; 2] {
        [Some(self.stdout.as_raw_fd()), Some(self.stderr.as_raw_fd())]
    }
}
