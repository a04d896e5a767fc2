//! Collects processes that have ended: workers, probes, hooks, and every orphan of the container.

use super::event_loop::Supervisor;
use crate::core::{Event, Exit, ExitKind, Signal, WorkerId};
use crate::sys::process::kill;
use crate::sys::{cgroup, reap};
use nix::unistd::Pid;
use std::io;
use std::path::Path;

/// The number of exits that are handled, each with the start that follows, before signals have their turn.
const MAX_EXITS_IN_A_ROW: usize = 32;
/// The number of suspended or continued children that are noted before exits have their turn.
const MAX_SUSPENSIONS_IN_A_ROW: usize = 32;

impl Supervisor {
    /// Collects what has ended: workers, probes, hooks, and every orphan of the container. SIGCHLD tells of suspended ones too.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        if self.more_to_reap {
            let more_suspended = self.note_suspensions();
            self.more_to_reap = self.reap_some()? || more_suspended;
        }
        for worker in self.workers.take_ended_groups() {
            self.handle(Event::GroupEnded(worker));
        }
        Ok(())
    }

    /// Notes some of the workers that were suspended or continued. Where there are many threads, that takes its time, and SIGCHLD
    /// tells when it is done. Returns true if there may be more.
    fn note_suspensions(&mut self) -> bool {
        for _ in 0..MAX_SUSPENSIONS_IN_A_ROW {
            let Some((pid, by)) = reap::take_change() else { return false };
            if let Some(worker) = self.workers.of(pid) {
                self.workers.on_suspension(worker, by);
            }
        }
        true
    }

    /// Collects some of what has ended. Returns true if there may be more.
    fn reap_some(&mut self) -> io::Result<bool> {
        for _ in 0..MAX_EXITS_IN_A_ROW {
            let Some((pid, exit)) = reap::peek()? else { return Ok(false) };
            match self.workers.of(pid) {
                Some(worker) => self.reap_worker(worker, pid, exit),
                None => {
                    let helper = self.workers.helpers.borrow_mut().remove(&pid);
                    let is_helper = helper.is_some();
                    if let Some(helper) = helper {
                        // As with a worker: what it leaves in its group ends with it.
                        let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::KILL);
                        let _ = helper.send(exit);
                    }
                    reap::collect(pid);
                    self.journal.lock().counters.orphans += u64::from(!is_helper);
                }
            }
        }
        Ok(true)
    }

    /// Reports a worker's end to the fleet and collects it: in this order, so that signals to its group, which the fleet may
    /// ask for, go out while the group's number is still its own.
    fn reap_worker(&mut self, worker: WorkerId, pid: Pid, exit: Exit) {
        let program = self.program_of(worker);
        // A program that could not be run says so through its pipe, and ends; either may be seen first.
        let event = match self.workers.exec_news(worker, &program) {
            Some(Err(error)) => Event::SpawnFailed(worker, error),
            news => {
                if news.is_some() {
                    self.handle(Event::Spawned(worker));
                }
                let oom_killed = !self.workers.was_killed(worker) && self.was_oom_kill(exit);
                Event::Exited(worker, Exit { oom_killed, ..exit })
            }
        };
        self.handle(event);
        reap::collect(pid);
        self.workers.on_collected(worker);
    }

    /// True if the out-of-memory killer did it: its counter has moved since it was last looked at.
    fn was_oom_kill(&mut self, exit: Exit) -> bool {
        let now = cgroup::oom_kills(Path::new("/"));
        match (self.oom_kills, now) {
            (Some(known), Some(now)) if now > known && exit.kind == ExitKind::Signal(Signal::KILL) => {
                self.oom_kills = Some(known + 1);
                true
            }
            _ => {
                // Where it cannot be read just now (no descriptors), what is known stays.
                self.oom_kills = now.or(self.oom_kills);
                false
            }
        }
    }
}
