//! Stops and continues rinit together with its child, so that a shell's job control sees one job.
//!
//! The child has a process group of its own, so a key such as Ctrl-Z reaches the child and not rinit, for which the shell
//! waits. So rinit stops when its child has stopped, and continues the child when the shell continues rinit.

use crate::core::Signal;
use crate::sys::process::kill;
use crate::sys::signals::suspend;
use crate::sys::{reap, tty};
use nix::unistd::Pid;

/// The child, as a job of the shell that started rinit.
pub(super) struct Job {
    child: Pid,
    /// rinit is below a shell: it shares the shell's session and terminal. Never so for PID 1, which cannot be stopped.
    is_below_shell: bool,
    /// The child has stopped, and rinit with it.
    is_stopped: bool,
}

impl Job {
    pub(super) fn new(child: Pid, shares_session: bool, is_pid_1: bool) -> Job {
        Job { child, is_below_shell: shares_session && !is_pid_1 && tty::is_controlling(), is_stopped: false }
    }

    /// Stops rinit's group if the child has stopped, until the shell continues it.
    pub(super) fn follow_stop(&mut self) {
        if !self.is_below_shell {
            return;
        }
        let Some(signal) = reap::take_stop(self.child) else { return };
        let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
        if wants_terminal && tty::owns_foreground() {
            // The shell has brought rinit to the foreground without a signal: it knew of no stop.
            self.continue_child();
            return;
        }
        self.is_stopped = true;
        // The whole group, as the key would have stopped it: a pipeline's other programs, a script that runs rinit.
        suspend(Pid::from_raw(0), if wants_terminal { signal } else { Signal::TSTP });
    }

    /// Stops rinit itself, after it has forwarded a signal that stops the child too.
    pub(super) fn stop_itself(&mut self) {
        let _ = kill(nix::unistd::getpid(), Signal::STOP);
        if self.is_below_shell {
            // Continued again. The child's own stop is no reason to stop a second time.
            let _ = reap::take_stop(self.child);
            self.is_stopped = true;
        }
    }

    /// Continues the child if it had stopped rinit. Returns whether it did.
    pub(super) fn on_continued(&mut self) -> bool {
        let was_stopped = std::mem::take(&mut self.is_stopped);
        if was_stopped {
            self.continue_child();
        }
        was_stopped
    }

    /// Takes the terminal back from the child, which has ended. A shell that has put the job into the background has the
    /// terminal itself.
    pub(super) fn take_terminal_back(&self) {
        if self.is_below_shell {
            tty::take_foreground_from(self.child);
        }
    }

    fn continue_child(&self) {
        let group = Pid::from_raw(-self.child.as_raw());
        if tty::owns_foreground() {
            tty::give_foreground_to(self.child);
        }
        let _ = kill(group, Signal::CONT);
    }
}
