//! Describes the end of a process.

use super::Signal;
use std::fmt;

/// The end of a process, as `waitid(2)` tells it, with what the cgroup's counter adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// With an exit code, or by a signal.
    pub kind: ExitKind,
    /// The kernel wrote a core file.
    pub core_dumped: bool,
    /// The kernel's out-of-memory killer did it.
    pub oom_killed: bool,
}

/// The kind of an end: with an exit code, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// `exit(code)`, 0 to 255.
    Code(u8),
    /// Killed by this signal.
    Signal(Signal),
}

impl Exit {
    /// An exit by itself.
    pub fn code(code: u8) -> Exit {
        Exit { kind: ExitKind::Code(code), core_dumped: false, oom_killed: false }
    }

    /// A death by a signal.
    pub fn signal(signal: Signal) -> Exit {
        Exit { kind: ExitKind::Signal(signal), core_dumped: false, oom_killed: false }
    }

    /// The status that a shell shows as `$?`: the code, or 128 plus the signal's number.
    pub fn status(&self) -> u8 {
        match self.kind {
            ExitKind::Code(code) => code,
            ExitKind::Signal(signal) => 128 + signal.number() as u8,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ExitKind::Code(code) => write!(f, "exit code {code}")?,
            ExitKind::Signal(signal) => write!(f, "{signal}")?,
        }
        if self.oom_killed {
            write!(f, " from the kernel, out of memory")?;
        }
        if self.core_dumped {
            write!(f, ", core dumped")?;
        }
        Ok(())
    }
}
