//! What init mode was asked for, under whichever name.

use crate::core::Signal;
use crate::sys::signals;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// What init mode was asked for. [`Options::rinit`] is the plain thing; the other names differ in fields alone.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name under which it speaks.
    pub name: &'static str,
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Whether signals go to the child's group.
    pub group: bool,
    /// Whether the child gets a session of its own, and signals go to all of it.
    pub session: bool,
    /// Whether what is left of the child's group gets SIGTERM when the child has exited.
    pub terminate_group: bool,
    /// Whether orphans are taken in when this is not PID 1.
    pub subreaper: Subreaper,
    /// Exit codes of the child that become 0.
    pub success: Vec<u8>,
    /// What this process gets when its parent dies.
    pub parent_death: Option<Signal>,
    /// Whether collecting an orphan is worth a warning.
    pub warn_reaped: bool,
    /// What is sent in the place of a signal.
    pub rewrite: BTreeMap<Signal, Option<Signal>>,
    /// Signals that are not passed on.
    pub ignored: Vec<Signal>,
    /// Whether signals that stand for a fault (SIGSEGV…) are forwarded when a process sends them.
    pub forward_faults: bool,
    /// Whether the child starts with no signal blocked or ignored, or with what this process was started with.
    pub reset_signals: bool,
    /// How long what the child leaves behind may take to end.
    pub linger: Duration,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Codes for what goes wrong.
    pub codes: Codes,
    /// What is odd in the settings and no fault.
    pub warnings: Vec<String>,
}

/// Whether orphans are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subreaper {
    /// When this is not PID 1.
    WhenNeeded,
    /// Even then (`-s`).
    Always,
    /// No; being neither is worth a warning, as in tini.
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

/// How much is said, and where: tini puts all but warnings on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbosity {
    /// 0: what is fatal; 1: warnings; 2: information; 3: everything.
    pub level: u32,
    /// Whether what is no warning goes to stdout.
    pub to_stdout: bool,
}

/// Exit codes for what goes wrong.
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
            reset_signals: true,
            codes: Codes { not_found: 2, not_executable: 2, internal: 1 },
            ..Options::rinit(command)
        };
        options.set_session(true);
        options
    }

    /// dumb-init's session mode: a session of its own, SIGTERM to what is left of it, and stopping as a shell's job
    /// stops.
    pub fn set_session(&mut self, session: bool) {
        self.session = session;
        self.terminate_group = session;
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            match session {
                true => self.rewrite.insert(signal, Some(Signal::STOP)),
                false => self.rewrite.remove(&signal),
            };
        }
    }

    /// What the child gets for the signal, if anything.
    pub(super) fn passed_on_as(&self, signal: Signal) -> Option<Signal> {
        let kept_back = self.ignored.contains(&signal) || signal.is_fault() && !self.forward_faults;
        if kept_back { None } else { self.rewrite.get(&signal).copied().unwrap_or(Some(signal)) }
    }

    pub(super) fn program(&self) -> Cow<'_, str> {
        self.command.first().map_or("".into(), |program| program.to_string_lossy())
    }

    /// Says what ended it, and returns the code.
    pub(super) fn fail(&self, message: &str, code: u8) -> u8 {
        self.say(0, message);
        code
    }

    pub(super) fn warn(&self, message: &str) {
        self.say(1, message);
    }

    pub(super) fn info(&self, message: &str) {
        self.say(2, message);
    }

    pub(super) fn debug(&self, message: &str) {
        self.say(3, message);
    }

    /// A terminal or pipe that is gone is no reason to fail, and its SIGPIPE is not the child's.
    fn say(&self, level: u32, message: &str) {
        let line = format!("{}: {message}\n", self.name);
        let written = if level > self.verbosity.level {
            Ok(())
        } else if level > 1 && self.verbosity.to_stdout {
            std::io::stdout().write_all(line.as_bytes())
        } else {
            std::io::stderr().write_all(line.as_bytes())
        };
        if written.is_err() {
            signals::discard(Signal::PIPE);
        }
    }
}
