//! Performs the effects that the fleet asks for.

use super::app_files::{Variables, read_again};
use super::event_loop::Supervisor;
use super::hooks::Subject;
use super::launch::{LaunchSpec, WorkerEnv};
use super::message::Message;
use super::{Notice, within_time};
use crate::config::AppConfig;
use crate::control::Entry;
use crate::core::{AppId, Effect, Event, Report, Role, Signal, WorkerId};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// A worker that has ended, until its end is reported.
pub(super) struct DeadWorker {
    id: WorkerId,
    process: (Pid, Subject),
    /// rinit knows of a port that it has bound, or tried to.
    has_bound: bool,
    /// Its last lines, once all of them are written.
    lines: oneshot::Receiver<Vec<String>>,
}

impl Supervisor {
    /// Performs one effect. An answer that is known at once is returned.
    pub(super) fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn { worker, slot, generation, workers } => {
                let launch = self.launches.of(slot.app, generation)?.clone();
                let is_only_app = self.launches.len() == 1;
                let env = WorkerEnv { worker, index: slot.index, workers, is_only_app };
                self.start_worker(worker, Subject { slot, launch, env })
            }
            Effect::Drain(worker, plan) => {
                let cancelled = self.cancel_start(worker);
                self.workers.drain(worker, &plan);
                self.run_pre_stop(worker, &plan);
                cancelled
            }
            Effect::Signal { worker, signal, to_group } => match self.workers.signal(worker, signal, to_group) {
                Ok(()) | Err(Errno::ESRCH) => None,
                Err(errno) => Some(Event::SignalRefused(worker, signal, errno.desc().into())),
            },
            Effect::Kill(worker) => self.cancel_start(worker).or_else(|| {
                Some(match self.workers.kill(worker) {
                    Ok(()) => Event::Killed(worker),
                    Err(Errno::ESRCH) => Event::GroupEnded(worker),
                    Err(errno) => Event::SignalRefused(worker, Signal::KILL, errno.desc().into()),
                })
            }),
            Effect::Release(worker) => {
                let has_bound = self.workers.ports.has_bound(worker);
                let process = self.workers.release(worker)?;
                self.dead.push(DeadWorker { id: worker, process, has_bound, lines: self.logs.drain(worker) });
                None
            }
            Effect::ClosePorts(app) => {
                self.workers.ports.close(app);
                None
            }
            Effect::Prepare(app, generation) => self.prepare(app, generation),
            Effect::KeepGenerations(app, kept) => {
                self.launches.keep(app, &kept);
                None
            }
            Effect::SlotRemoved(slot) => {
                self.journal.remove_slot(slot);
                None
            }
            Effect::ForgetApp(app) => {
                self.launches.remove(app);
                self.workers.ports.close(app);
                self.journal.remove_apps(|gone| gone == app);
                None
            }
            Effect::AnnounceReady => {
                self.service_manager.announce_ready();
                None
            }
            Effect::AnnounceStopping => {
                self.service_manager.announce_stopping();
                None
            }
            Effect::Report(report) => {
                self.report(&report);
                None
            }
        }
    }

    /// Notes a report in the journal, and has it logged.
    fn report(&mut self, report: &Report) {
        let at = self.dead.iter().position(|dead| report.is_an_end() && report.worker() == Some(dead.id));
        let dead = at.map(|at| self.dead.swap_remove(at));
        let is_bind_unseen = dead.as_ref().is_some_and(|dead| !dead.has_bound);
        let (ended, lines) = dead.map(|dead| (dead.process, dead.lines)).unzip();
        let dead = ended.as_ref().map(|(pid, _)| *pid);
        let workers = &self.workers;
        let pid = |worker| workers.pid(worker).or(dead);
        let mut message = Message::of(report, &self.launches, pid, |worker| workers.last_answer(worker));
        if let Report::Exited { exit, .. } = report
            && is_bind_unseen
        {
            message.on_unseen_bind(*exit);
        }
        let entry = Entry {
            time: SystemTime::now(),
            app: report.app().and_then(|app| self.launches.get(app)).map(|launch| launch.app.name.as_str()),
            pid: report.worker().and_then(pid).map(|pid| pid.as_raw().unsigned_abs()),
            level: message.level(),
            message: message.text(),
        };
        self.journal.record(report, &entry);
        // One that was not asked to stop.
        if let Report::Exited { slot, role: Role::Holder, exit, .. } = report {
            self.hint.on_exit(*slot, &self.launches, *exit, self.now());
        }
        self.reporter.tell(message, lines);
        self.run_hooks(report, ended.as_ref());
    }

    /// Reads a new generation's files.
    fn prepare(&mut self, app: AppId, generation: u32) -> Option<Event> {
        let settings = self.launches.wanted(app)?;
        if settings.env_files.is_empty() {
            return Some(self.on_prepared(app, generation, Ok((settings, Vec::new()))));
        }
        let Some(reading) = self.launches.begin_reading(app) else {
            let why = "the files of --env-file are still being read for the reload before".to_owned();
            return Some(Event::Prepared(app, generation, Err(why)));
        };
        let notices = self.workers.notices.clone();
        let paths = settings.env_files.clone();
        let read = move || {
            let _until_done = reading;
            read_again(&paths)
        };
        tokio::task::spawn_local(async move {
            let read = within_time("--env-file", read).await.map(|variables| Box::new((settings, variables)));
            let _ = notices.send(Notice::Prepared(app, generation, read)).await;
        });
        None
    }

    /// Keeps what was read for a new generation.
    pub(super) fn on_prepared(
        &mut self,
        app: AppId,
        generation: u32,
        read: Result<(AppConfig, Variables), String>,
    ) -> Event {
        let result = read.and_then(|(settings, variables)| {
            let launch = self.launches.add_generation(app, generation, settings, variables)?;
            match launch.map(LaunchSpec::ports) {
                Some(Ok(ports)) => self.workers.ports.set_app(ports),
                Some(Err(error)) => return Err(format!("cannot share its sockets: {error}")),
                None => {}
            }
            Ok(())
        });
        Event::Prepared(app, generation, result)
    }
}
