//! Runs hooks: commands at moments of a worker's life, with their output in the log.

use super::Notice;
use super::event_loop::Supervisor;
use super::helper::{HelperSetup, Helpers};
use super::launch::{InheritedFds, LaunchSpec, WorkerEnv, is_for_helpers};
use crate::config::Moment;
use crate::core::{DrainKind, Event, Exit, ExitKind, Next, Report, SlotId, SpawnError, StopPlan, WorkerId};
use crate::logs::{Labels, Logs, Pipes};
use crate::sys::pair;
use crate::sys::signals::Inherited;
use crate::units::time as short;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What hooks need of the supervisor, and the workers that wait for one.
pub(super) struct Hooks {
    logs: Logs,
    null: Rc<OwnedFd>,
    signals: Inherited,
    helpers: Helpers,
    /// The number of hooks that run.
    running: Rc<Cell<usize>>,
    /// The streams of hooks have numbers as workers', from the other end.
    last_stream: u64,
    /// Workers that are started when their `pre_start` hook has succeeded.
    starting: BTreeMap<WorkerId, Starting>,
    /// Workers whose stop signal waits for their `pre_stop` hook.
    stopping: BTreeMap<WorkerId, Stopping>,
}

/// The worker that a hook is about.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) slot: SlotId,
    pub(super) launch: Rc<LaunchSpec>,
    pub(super) env: WorkerEnv,
}

/// A worker that waits for its `pre_start` hook.
struct Starting {
    subject: Subject,
    hook: JoinHandle<()>,
}

/// A worker that is stopped when its `pre_stop` hook has ended.
struct Stopping {
    /// It has finished what was under way.
    is_drained: bool,
}

/// A hook that is ready to run.
struct Hook {
    moment: Moment,
    worker: String,
    command: Vec<String>,
    setup: HelperSetup,
    labels: Labels,
    stream: WorkerId,
    patience: Duration,
    logs: Logs,
    null: Rc<OwnedFd>,
    running: Running,
}

/// Counts a hook while it runs.
struct Running(Rc<Cell<usize>>);

impl Running {
    fn new(count: &Rc<Cell<usize>>) -> Running {
        count.set(count.get() + 1);
        Running(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Hooks {
    pub(super) fn new(logs: Logs, null: Rc<OwnedFd>, signals: Inherited, helpers: Helpers) -> Hooks {
        Hooks {
            logs,
            null,
            signals,
            helpers,
            running: Rc::default(),
            last_stream: u64::MAX,
            starting: BTreeMap::new(),
            stopping: BTreeMap::new(),
        }
    }

    /// True while a hook runs.
    pub(super) fn are_running(&self) -> bool {
        self.running.get() > 0
    }

    /// The hook for that moment, if the app has one; with the facts of the moment.
    fn prepare(&mut self, moment: Moment, subject: &Subject, facts: Vec<(&str, String)>) -> Option<Hook> {
        let Subject { slot, launch, env } = subject;
        let hooks = &launch.app.hooks;
        let command = hooks.command(moment)?.to_vec();
        let mut environment = launch.environment(env, &InheritedFds::default());
        environment.retain(is_for_helpers);
        environment.push(pair("RINIT_HOOK".into(), moment.name().as_ref()));
        environment.extend(facts.into_iter().map(|(key, value)| pair(key.into(), value.as_ref())));
        self.last_stream -= 1;
        Some(Hook {
            moment,
            worker: format!("{}-{}", launch.app.name, slot.index),
            command,
            setup: HelperSetup {
                environment,
                user: launch.app.user.clone().filter(|user| !user.is_current()),
                properties: launch.properties().unwrap_or_default(),
                signals: self.signals,
                helpers: self.helpers.clone(),
            },
            labels: Labels { app: launch.app.name.clone(), index: slot.index, pid: 0 },
            stream: WorkerId(self.last_stream),
            patience: hooks.timeout,
            logs: self.logs.clone(),
            null: self.null.clone(),
            running: Running::new(&self.running),
        })
    }
}

impl Hook {
    /// Runs it; nothing depends on its result.
    async fn run_and_tell(self) {
        let worker = self.worker.clone();
        if let Err(why) = self.run().await {
            tracing::warn!("{worker}: {why}");
        }
    }

    /// Runs it to its end.
    async fn run(self) -> Result<(), String> {
        let Hook { moment, worker: _, command, setup, mut labels, stream, patience, logs, null, running } = self;
        let name = moment.name();
        let run = async {
            let (pipes, [stdout, stderr]) = pipes()?;
            let helper = setup.start(&command, [null.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()])?;
            labels.pid = helper.pid.as_raw();
            logs.add(stream, labels, pipes);
            drop((stdout, stderr));
            helper.finish().await
        };
        let result = match timeout(patience, run).await {
            Ok(result) => result.map_err(|error| format!("the {name} hook failed: {error}")),
            Err(_) => Err(format!("the {name} hook did not end within {}: killed", short(patience))),
        };
        // What it has written comes before what follows from it.
        let _ = logs.drain(stream).await;
        drop(running);
        result
    }
}

/// The pipes of a hook's stdout and stderr.
fn pipes() -> io::Result<(Pipes, [OwnedFd; 2])> {
    let pipe = || {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        io::Result::Ok((read, write))
    };
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    Ok((Pipes { stdout: out, stderr: err }, [stdout, stderr]))
}

impl Supervisor {
    /// Starts a worker, after its `pre_start` hook if it has one. An answer that is known at once is returned.
    pub(super) fn start_worker(&mut self, worker: WorkerId, subject: Subject) -> Option<Event> {
        let Some(hook) = self.hooks.prepare(Moment::PreStart, &subject, Vec::new()) else {
            return self.workers.start(worker, subject).err().map(|error| Event::SpawnFailed(worker, error));
        };
        let notices = self.workers.notices.clone();
        let hook = tokio::task::spawn_local(async move {
            let result = hook.run().await;
            let _ = notices.send(Notice::PreStartDone(worker, result)).await;
        });
        self.hooks.starting.insert(worker, Starting { subject, hook });
        None
    }

    /// Starts the worker whose `pre_start` hook has succeeded.
    pub(super) fn on_pre_start_done(&mut self, worker: WorkerId, result: Result<(), String>) {
        let Some(Starting { subject, .. }) = self.hooks.starting.remove(&worker) else { return };
        let started = match result {
            Ok(()) => self.workers.start(worker, subject),
            Err(why) => Err(SpawnError::Hook(why)),
        };
        if let Err(error) = started {
            self.handle(Event::SpawnFailed(worker, error));
        }
    }

    /// Gives up the start of a worker that still waits for its `pre_start` hook, which is killed.
    pub(super) fn cancel_start(&mut self, worker: WorkerId) -> Option<Event> {
        let Starting { hook, .. } = self.hooks.starting.remove(&worker)?;
        hook.abort();
        Some(Event::SpawnFailed(worker, SpawnError::NotNow("it is not wanted any more".into())))
    }

    /// Runs the `pre_stop` hook of a worker that serves. Where nothing else is asked of it, the signal waits for the hook.
    pub(super) fn run_pre_stop(&mut self, worker: WorkerId, plan: &StopPlan) {
        let Some(subject) = self.workers.subject(worker).filter(|_| plan.request.is_some()) else { return };
        let facts = self.pid_facts(worker);
        let Some(hook) = self.hooks.prepare(Moment::PreStop, &subject, facts) else { return };
        let StopPlan { request, handler_after, signal_after, signal, .. } = *plan;
        if request != Some(DrainKind::Hook) {
            tokio::task::spawn_local(hook.run_and_tell());
            return;
        }
        // The connections of a worker behind the library are waited for too, from now on: its ports may be closed meanwhile.
        let is_preloaded = subject.launch.app.sharing.library;
        if is_preloaded {
            self.workers.ports.drain_connections(worker, signal, handler_after, signal_after);
        }
        self.hooks.stopping.insert(worker, Stopping { is_drained: !is_preloaded });
        let notices = self.workers.notices.clone();
        tokio::task::spawn_local(async move {
            let hook = hook.run_and_tell();
            tokio::pin!(hook);
            let has_ended = timeout(handler_after, &mut hook).await.is_ok();
            let _ = notices.send(Notice::PreStopDone(worker)).await;
            if !has_ended {
                hook.await;
            }
        });
    }

    /// Handles what a worker or a task has told. That a worker has finished waits for its `pre_stop` hook.
    pub(super) fn on_told(&mut self, event: Event) {
        match event {
            Event::Drained(worker) if self.hooks.stopping.contains_key(&worker) => {
                self.hooks.stopping.insert(worker, Stopping { is_drained: true });
            }
            event => self.handle(event),
        }
    }

    /// Goes on with the stop of a worker whose `pre_stop` hook has ended, or has had its time.
    pub(super) fn on_pre_stop_done(&mut self, worker: WorkerId) {
        if self.hooks.stopping.remove(&worker).is_some_and(|stopping| stopping.is_drained) {
            self.handle(Event::Drained(worker));
        }
    }

    /// Runs the hooks for what a report says.
    pub(super) fn run_hooks(&mut self, report: &Report, ended: Option<&(Pid, Subject)>) {
        match report {
            Report::Ready { worker, .. } => {
                let subject = self.workers.subject(*worker);
                let facts = self.pid_facts(*worker);
                self.run_hook(Moment::PostReady, subject, facts);
            }
            Report::Exited { slot, worker, exit, next, .. } => {
                let (pid, subject) = ended.cloned().unzip();
                let mut facts = exit_facts(*exit);
                facts.extend(pid.map(|pid| ("RINIT_PID", pid.to_string())));
                self.run_hook(Moment::PostExit, subject, facts.clone());
                if matches!(next, Next::GiveUp { .. }) {
                    self.run_on_failed(*slot, *worker, facts);
                }
            }
            Report::StartFailed { slot, worker, error, next: Next::GiveUp { .. } } => {
                self.run_on_failed(*slot, *worker, vec![("RINIT_ERROR", error.clone())]);
            }
            _ => {}
        }
    }

    fn run_on_failed(&mut self, slot: SlotId, worker: WorkerId, facts: Vec<(&'static str, String)>) {
        let is_only_app = self.launches.len() == 1;
        let subject = self.launches.current(slot.app).map(|launch| {
            let env = WorkerEnv { worker, index: slot.index, workers: launch.app.instances.count, is_only_app };
            Subject { slot, launch, env }
        });
        self.run_hook(Moment::OnFailed, subject, facts);
    }

    fn run_hook(&mut self, moment: Moment, subject: Option<Subject>, facts: Vec<(&'static str, String)>) {
        if let Some(hook) = subject.and_then(|subject| self.hooks.prepare(moment, &subject, facts)) {
            tokio::task::spawn_local(hook.run_and_tell());
        }
    }

    fn pid_facts(&self, worker: WorkerId) -> Vec<(&'static str, String)> {
        self.workers.pid(worker).map(|pid| ("RINIT_PID", pid.to_string())).into_iter().collect()
    }
}

fn exit_facts(exit: Exit) -> Vec<(&'static str, String)> {
    let status = ("RINIT_EXIT_STATUS", exit.status().to_string());
    match exit.kind {
        ExitKind::Code(_) => vec![status],
        ExitKind::Signal(signal) => vec![status, ("RINIT_EXIT_SIGNAL", signal.to_string())],
    }
}
