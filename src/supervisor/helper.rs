//! Runs a program beside a worker to its end: a probe or a hook.

use crate::core::{Exit, Signal};
use crate::sys::process::{Program, Properties, Session, Setup, exec_result, kill, spawn};
use crate::sys::signals::Inherited;
use crate::sys::user::Credentials;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use tokio::sync::oneshot;

/// The programs that run, by their process: the loop, which collects every process, tells of their ends.
pub(super) type Helpers = Rc<RefCell<HashMap<Pid, oneshot::Sender<Exit>>>>;

/// The surroundings of a worker's programs: those of the worker itself.
#[derive(Clone)]
pub(super) struct HelperSetup {
    pub(super) environment: Vec<OsString>,
    pub(super) user: Option<Credentials>,
    pub(super) properties: Properties,
    pub(super) signals: Inherited,
    pub(super) helpers: Helpers,
}

/// A program that runs. When it is dropped before its end, its group is killed; the loop collects it as any orphan.
pub(super) struct Helper {
    pub(super) pid: Pid,
    name: String,
    outcome: std::os::fd::OwnedFd,
    end: oneshot::Receiver<Exit>,
    helpers: Helpers,
}

impl HelperSetup {
    /// Starts the program in a process group of its own.
    ///
    /// # Errors
    /// No command, a NUL byte in it, or no room for a process.
    pub(super) fn start(&self, command: &[String], stdio: [RawFd; 3]) -> io::Result<Helper> {
        let name = command.first().cloned().unwrap_or_default();
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let mut program = Program::new(&command, &self.environment).map_err(io::Error::other)?;
        let setup = Setup {
            stdio: stdio.map(Some),
            pass: &[],
            session: Session::Group,
            user: self.user.as_ref(),
            signals: self.signals,
            foreground: false,
            oom_score_adj: None,
            parent_death: None,
            properties: &self.properties,
        };
        let child = spawn(&mut program, &setup)?;
        let (ended, end) = oneshot::channel();
        self.helpers.borrow_mut().insert(child.pid, ended);
        Ok(Helper { pid: child.pid, name, outcome: child.outcome, end, helpers: self.helpers.clone() })
    }
}

impl Helper {
    /// Waits for its end.
    ///
    /// # Errors
    /// Anything but exit code 0, in words.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        let exit = (&mut self.end).await.map_err(io::Error::other)?;
        match exec_result(&self.outcome) {
            Some(Err(error)) => Err(io::Error::other(error.explain(&self.name))),
            _ if exit.status() == 0 => Ok(()),
            _ => Err(io::Error::other(exit.to_string())),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.helpers.borrow_mut().remove(&self.pid).is_some() {
            let _ = kill(Pid::from_raw(-self.pid.as_raw()), Signal::KILL);
        }
    }
}
