//! Init mode's options, under each of the names that rinit may be called by.

use crate::core::Signal;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Init mode's options. [`Options::rinit`] has the defaults; the other names differ in fields alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name in front of its messages.
    pub name: &'static str,
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Signals go to the child's group.
    pub group: bool,
    /// The child gets a session of its own, and signals go to its whole group.
    pub session: bool,
    /// The rest of the child's group gets SIGTERM when the child has exited.
    pub terminate_group: bool,
    /// Orphans are adopted when this is not PID 1.
    pub subreaper: Subreaper,
    /// Exit codes of the child that become 0.
    pub success: Vec<u8>,
    /// The signal that this process gets when its parent dies.
    pub parent_death: Option<Signal>,
    /// Collecting an orphan is worth a warning.
    pub warn_reaped: bool,
    /// The signal that is sent in the place of another; `None`: none is.
    pub rewrite: BTreeMap<Signal, Option<Signal>>,
    /// Signals that are not forwarded.
    pub ignored: Vec<Signal>,
    /// Signals that stand for a fault (SIGSEGV…) are forwarded when a process sends them.
    pub forward_faults: bool,
    /// SIGTSTP, SIGTTIN and SIGTTOU stop this process too, after they are forwarded.
    pub stops_itself: bool,
    /// The child starts with no signal blocked or ignored, and not with those of this process.
    pub reset_signals: bool,
    /// The time that processes which the child leaves behind have to end.
    pub linger: Duration,
    /// The messages that are printed.
    pub verbosity: Verbosity,
    /// Exit codes of failures.
    pub codes: Codes,
    /// Settings that are odd and no fault.
    pub warnings: Vec<String>,
}

/// The adoption of orphans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subreaper {
    /// When this is not PID 1.
    WhenNeeded,
    /// Also as PID 1 (`-s`).
    Always,
    /// Never; being neither is worth a warning, as in tini.
    Never,
}

impl Subreaper {
    pub(super) fn is_wanted(self) -> bool {
        matches!(self, Subreaper::WhenNeeded | Subreaper::Always)
    }
    pub(super) fn is_always(self) -> bool {
        self == Subreaper::Always
    }
}

/// The messages that are printed, and their stream: tini prints all but warnings on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbosity {
    /// 0: what is fatal; 1: warnings; 2: information; 3: everything.
    pub level: u32,
    /// Messages that are no warning go to stdout.
    pub to_stdout: bool,
}

/// Exit codes of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// There is no such program.
    pub not_found: u8,
    /// It cannot be run.
    pub not_executable: u8,
    /// Anything else.
    pub internal: u8,
}

impl Options {
    /// rinit under its own name.
    pub fn rinit(command: Vec<OsString>) -> Options {
        Options {
            name: "rinit",
            command,
            group: false,
            session: false,
            terminate_group: false,
            subreaper: Subreaper::WhenNeeded,
            success: vec![],
            parent_death: None,
            warn_reaped: false,
            rewrite: BTreeMap::new(),
            ignored: vec![],
            forward_faults: true,
            stops_itself: false,
            reset_signals: false,
            linger: Duration::ZERO,
            verbosity: Verbosity { level: 1, to_stdout: false },
            codes: Codes { not_found: 127, not_executable: 126, internal: 70 },
            warnings: vec![],
        }
    }

    /// Installed as tini or docker-init.
    pub fn tini(command: Vec<OsString>) -> Options {
        Options {
            name: "tini",
            subreaper: Subreaper::Never,
            ignored: vec![Signal::TTIN, Signal::TTOU],
            forward_faults: false,
            verbosity: Verbosity { level: 1, to_stdout: true },
            codes: Codes { not_found: 127, not_executable: 126, internal: 1 },
            ..Options::rinit(command)
        }
    }

    /// Installed as dumb-init.
    pub fn dumb_init(command: Vec<OsString>) -> Options {
        let mut options = Options {
            name: "dumb-init",
            stops_itself: true,
            reset_signals: true,
            codes: Codes { not_found: 2, not_executable: 2, internal: 1 },
            ..Options::rinit(command)
        };
        options.set_session(true);
        options
    }

    /// dumb-init's session mode: a session of its own, SIGTERM to the rest of its group at the end, and SIGSTOP for the
    /// signals by which a terminal stops a job.
    pub fn set_session(&mut self, session: bool) {
        self.session = session;
        self.terminate_group = session;
        // dumb-init itself stops with or without a session.
        self.stops_itself |= session;
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            match session {
                true => self.rewrite.insert(signal, Some(Signal::STOP)),
                false => self.rewrite.remove(&signal),
            };
        }
    }

    /// The signal that the child gets for this one, if any.
    pub(super) fn forwarded_as(&self, signal: Signal) -> Option<Signal> {
        let is_dropped = self.ignored.contains(&signal) || signal.is_fault() && !self.forward_faults;
        if is_dropped { None } else { self.rewrite.get(&signal).copied().unwrap_or(Some(signal)) }
    }

    pub(super) fn program(&self) -> Cow<'_, str> {
        self.command.first().map_or("".into(), |program| program.to_string_lossy())
    }

    /// Prints a fatal message, and returns the code.
    pub(super) fn fail(&self, message: &str, code: u8) -> u8 {
        self.print(0, message);
        code
    }

    pub(super) fn warn(&self, message: &str) {
        self.print(1, message);
    }

    pub(super) fn info(&self, message: &str) {
        self.print(2, message);
    }

    pub(super) fn debug(&self, message: &str) {
        self.print(3, message);
    }

    /// A terminal or pipe that is gone is no reason to fail.
    fn print(&self, level: u32, message: &str) {
        let line = format!("{}: {message}\n", self.name);
        let _ = if level > self.verbosity.level {
            Ok(())
        } else if level > 1 && self.verbosity.to_stdout {
            std::io::stdout().write_all(line.as_bytes())
        } else {
            std::io::stderr().write_all(line.as_bytes())
        };
    }
}
