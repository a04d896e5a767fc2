//! Starts, signals and kills the workers' processes, and knows which process belongs to which worker.

use super::Notice;
use super::helper::{HelperSetup, Helpers};
use super::hooks::Subject;
use super::launch::{InheritedFds, is_for_helpers};
use super::output::Output;
use super::probe::{LastAnswer, ProbeSetup};
use super::ready::{self, Watched, WorkerReport};
use crate::config::{LiveCheck, LogConfig, LogFormat, Probe, ReadyCheck};
use crate::core::{DrainKind, Signal, SlotId, SpawnError, StopPlan, WorkerId};
use crate::logs::{Labels, Logs};
use crate::ports::{DrainRequest, Ports};
use crate::sys::peer::{Identity, exists};
use crate::sys::process::{Program, Session, Setup, exec_result, kill, spawn, why_not_started};
use crate::sys::reap;
use crate::sys::signals::Inherited;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The live processes.
pub(super) struct Workers {
    running: HashMap<WorkerId, Running>,
    by_pid: HashMap<Pid, WorkerId>,
    /// Workers whose first process has been collected, and others of its group not.
    groups: Vec<WorkerId>,
    logs: Logs,
    log: LogConfig,
    pub(super) ports: Ports,
    /// What workers have as standard input, and probes as everything.
    pub(super) null: Rc<OwnedFd>,
    inherited: Inherited,
    oom_score_adj: Option<i32>,
    parent_death: Option<Signal>,
    pub(super) helpers: Helpers,
    pub(super) notices: mpsc::Sender<Notice>,
}

struct Running {
    pid: Pid,
    subject: Subject,
    /// The pipe that tells of its exec, until it has.
    exec: Option<Rc<OwnedFd>>,
    /// What came of the last probe.
    last_answer: LastAnswer,
    /// The facts that its messages have told.
    report: WorkerReport,
    /// It is to stop.
    is_leaving: bool,
    /// A signal such as SIGSTOP has suspended it.
    is_suspended: bool,
    /// rinit sent it SIGKILL.
    killed: bool,
    /// Its first process has been collected: only others of its group are left.
    is_collected: bool,
    tasks: Vec<JoinHandle<()>>,
}

/// What the kernel is to prefer workers by, over rinit (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE_MORE: i32 = 100;
const OOM_SCORE_MOST: i32 = 1000;

impl Workers {
    pub(super) fn new(
        logs: Logs,
        log: LogConfig,
        ports: Ports,
        inherited: Inherited,
        notices: mpsc::Sender<Notice>,
    ) -> nix::Result<Workers> {
        let own_score =
            std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
        let is_pid_1 = nix::unistd::getpid().as_raw() == 1;
        Ok(Workers {
            running: HashMap::new(),
            by_pid: HashMap::new(),
            groups: Vec::new(),
            logs,
            log,
            ports,
            null: Rc::new(open_null()?),
            inherited,
            oom_score_adj: own_score.map(|score| (score + OOM_SCORE_MORE).min(OOM_SCORE_MOST)),
            // The death of PID 1 ends all; that of another process would leave them running.
            parent_death: if is_pid_1 { None } else { Some(Signal::TERM) },
            helpers: Helpers::default(),
            notices,
        })
    }

    /// Starts a worker. What it needs of descriptors is opened first, so that nothing is half started.
    ///
    /// # Errors
    /// Why it was not started.
    pub(super) fn start(&mut self, worker: WorkerId, subject: Subject) -> Result<(), SpawnError> {
        let Subject { slot, launch, env } = &subject;
        let slot = *slot;
        let (channels, worker_ends) =
            ready::open(&launch.app.ready, &launch.app.live.check).map_err(no_room("open its readiness channel"))?;
        let name = format!("{}-{}", launch.app.name, slot.index);
        let ends = self
            .ports
            .open(worker, slot, name, launch.app.sharing, launch.injected.library.is_some())
            .map_err(no_room("open its connection for shared ports"))?;
        let user = launch.app.user.as_ref().filter(|user| !user.is_current());
        // rinit's own streams could not be opened again by another user, as /dev/stdout.
        let alone = env.is_only_app
            && env.workers == 1
            && self.log.format == LogFormat::Raw
            && !self.log.time
            && user.is_none();
        let output =
            if alone { None } else { Some(Output::open(launch).map_err(no_room("open a pipe for its output"))?) };

        let mut pass = launch.sockets();
        pass.extend(worker_ends.descriptor.as_ref().map(|(end, number)| (end.as_raw_fd(), *number)));
        let channel = ends.channel.as_ref().map(|channel| (channel.as_raw_fd(), launch.channel_number()));
        let (library, descriptor) = launch.library();
        pass.extend(channel.into_iter().chain(descriptor));
        let handed = InheritedFds {
            notify: worker_ends.notify.as_deref(),
            channel: channel.map(|(_, number)| number),
            library,
            broker: ends.broker.as_deref(),
        };
        let environment = launch.environment(env, &handed);
        let mut program = Program::new(&launch.command(slot.index), &environment)
            .map_err(|message| SpawnError::Program { status: 126, message })?;
        let properties = launch.properties().map_err(|message| SpawnError::Program { status: 126, message })?;
        let [stdout, stderr] = output.as_ref().map_or([None; 2], Output::ends);
        let setup = Setup {
            stdio: [Some(self.null.as_raw_fd()), stdout, stderr],
            pass: &pass,
            session: Session::Group,
            user,
            signals: self.inherited,
            foreground: false,
            oom_score_adj: self.oom_score_adj,
            parent_death: self.parent_death,
            properties: &properties,
        };
        let child = spawn(&mut program, &setup).map_err(no_room("fork"))?;

        if let Some(output) = output {
            let labels = Labels { app: launch.app.name.clone(), index: slot.index, pid: child.pid.as_raw() };
            self.logs.add(worker, labels, output.pipes);
        }
        let exec = Rc::new(child.outcome);
        let uid = launch.app.user.as_ref().map_or(nix::unistd::getuid(), |user| user.uid).as_raw();
        let who = Identity { pid: child.pid, uid };
        let last_answer = LastAnswer::default();
        let probes_by_command = matches!(launch.app.ready, ReadyCheck::Probe(Probe::Exec(_)))
            || matches!(launch.app.live.check, LiveCheck::Probe(Probe::Exec(_)));
        let probe = ProbeSetup {
            worker,
            pid: child.pid,
            ports: self.ports.clone(),
            helper: HelperSetup {
                // It may be large, and only a command needs it.
                environment: environment.into_iter().filter(|pair| probes_by_command && is_for_helpers(pair)).collect(),
                user: user.cloned(),
                properties,
                signals: self.inherited,
                helpers: self.helpers.clone(),
            },
            null: self.null.clone(),
            last_answer: last_answer.clone(),
        };
        let report = WorkerReport::default();
        let ports = self.ports.add_worker(ends, who);
        let watched = Watched {
            worker,
            who,
            ready: launch.app.ready.clone(),
            bound: ports.bound.clone(),
            live: launch.app.live.clone(),
            report: report.clone(),
            probe,
            notices: self.notices.clone(),
        };
        let tasks = vec![
            tokio::task::spawn_local(ready::watch_ports(worker, launch.app.ready.clone(), ports, self.notices.clone())),
            tokio::task::spawn_local(watch_exec(worker, exec.clone(), self.notices.clone())),
            tokio::task::spawn_local(watched.run(channels)),
        ];
        self.by_pid.insert(child.pid, worker);
        self.running.insert(
            worker,
            Running {
                pid: child.pid,
                subject,
                exec: Some(exec),
                last_answer,
                report,
                killed: false,
                is_leaving: false,
                is_suspended: false,
                is_collected: false,
                tasks,
            },
        );
        Ok(())
    }

    /// The worker's process, while it lives.
    pub(super) fn pid(&self, worker: WorkerId) -> Option<Pid> {
        self.running.get(&worker).map(|running| running.pid)
    }

    /// What came of the worker's last readiness probe.
    pub(super) fn last_answer(&self, worker: WorkerId) -> Option<String> {
        self.running.get(&worker).and_then(|running| running.last_answer.borrow().clone())
    }

    /// The worker's last `STATUS=` by sd_notify.
    pub(super) fn status(&self, worker: WorkerId) -> Option<String> {
        self.running.get(&worker).and_then(|running| running.report.status.borrow().clone())
    }

    /// Every live worker's process.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.by_pid.keys().copied().collect()
    }

    /// Sends a worker's first process a signal, or its whole group.
    ///
    /// # Errors
    /// `ESRCH`: it has ended, or was never started. Anything else: the kernel refused.
    pub(super) fn signal(&self, worker: WorkerId, signal: Signal, to_group: bool) -> nix::Result<()> {
        let running = self.running.get(&worker).ok_or(Errno::ESRCH)?;
        if to_group {
            running.signal_group(signal)
        } else if running.is_collected {
            Err(Errno::ESRCH)
        } else {
            kill(running.pid, signal)
        }
    }

    /// Begins a worker's stop: it gets no new connections, and is asked over its channel to finish, if the plan says so.
    pub(super) fn drain(&mut self, worker: WorkerId, plan: &StopPlan) {
        self.ports.retire(worker);
        if let Some(running) = self.running.get_mut(&worker) {
            running.is_leaving = true;
            // SIGCHLD may be still to come.
            let is_stopped = || !running.is_collected && reap::take_stop(running.pid).is_some();
            if running.is_suspended || is_stopped() {
                // It would take neither a request nor another signal.
                let _ = running.signal_group(Signal::CONT);
            }
        }
        match plan.request {
            None | Some(DrainKind::Hook) => {}
            Some(DrainKind::Message) => self.ports.send_shutdown(worker, plan.idle_for),
            Some(DrainKind::Cluster) => {
                let StopPlan { idle_for, signal, handler_after, .. } = *plan;
                self.ports.drain(worker, DrainRequest { idle: idle_for, signal, after: handler_after });
            }
            Some(DrainKind::Connections) => {
                let StopPlan { signal, handler_after, signal_after, .. } = *plan;
                self.ports.drain_connections(worker, signal, handler_after, signal_after);
            }
        }
    }

    /// A signal has suspended a worker, or it was continued. One that is to stop is continued if it was SIGSTOP: one that reads from
    /// a terminal in the background would be suspended again at once.
    pub(super) fn on_suspension(&mut self, worker: WorkerId, by: Option<Signal>) {
        let Some(running) = self.running.get_mut(&worker) else { return };
        running.is_suspended = by.is_some();
        if running.is_leaving && by == Some(Signal::STOP) {
            let _ = running.signal_group(Signal::CONT);
        }
    }

    /// Sends SIGKILL to a worker's whole group.
    ///
    /// # Errors
    /// As [`Workers::signal`].
    pub(super) fn kill(&mut self, worker: WorkerId) -> nix::Result<()> {
        let running = self.running.get_mut(&worker).ok_or(Errno::ESRCH)?;
        running.killed = true;
        if running.is_collected {
            return running.signal_group(Signal::KILL);
        }
        // Its group may not be its own yet: it has just been forked.
        let leader = kill(running.pid, Signal::KILL);
        let group = running.signal_group(Signal::KILL);
        leader.or(group)
    }

    /// What came of the worker's exec, if it is known and was not before.
    pub(super) fn exec_news(&mut self, worker: WorkerId, program: &str) -> Option<Result<(), SpawnError>> {
        let running = self.running.get_mut(&worker)?;
        let news = exec_result(running.exec.as_ref()?)?;
        running.exec = None;
        Some(news.map_err(|error| match error.not_now() {
            Some(advice) => SpawnError::NotNow(advice.to_owned()),
            None => SpawnError::Program { status: error.status(), message: error.explain(program) },
        }))
    }

    /// The worker whose process that is.
    pub(super) fn of(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    /// The worker's slot.
    pub(super) fn slot(&self, worker: WorkerId) -> Option<SlotId> {
        self.running.get(&worker).map(|running| running.subject.slot)
    }

    /// The worker, for its hooks.
    pub(super) fn subject(&self, worker: WorkerId) -> Option<Subject> {
        self.running.get(&worker).map(|running| running.subject.clone())
    }

    /// True if rinit has sent the worker SIGKILL.
    pub(super) fn was_killed(&self, worker: WorkerId) -> bool {
        self.running.get(&worker).is_some_and(|running| running.killed)
    }

    /// Notes that a worker's first process has been collected. Unless the worker was released, its group lives on.
    pub(super) fn on_collected(&mut self, worker: WorkerId) {
        if let Some(running) = self.running.get_mut(&worker) {
            running.is_collected = true;
            self.by_pid.remove(&running.pid);
            self.groups.push(worker);
        }
    }

    /// Takes those workers of whose groups no process is left, after their first ones have been collected.
    pub(super) fn take_ended_groups(&mut self) -> Vec<WorkerId> {
        let running = &self.running;
        let has_ended = |worker: &mut WorkerId| running.get(worker).is_none_or(|one| !one.has_group());
        self.groups.extract_if(.., has_ended).collect()
    }

    /// True if the group of a worker outlives its first process.
    pub(super) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Forgets a worker that has ended, and kills what it leaves in its group. Returns its process and what it was, if it had one.
    pub(super) fn release(&mut self, worker: WorkerId) -> Option<(Pid, Subject)> {
        let running = self.running.remove(&worker)?;
        self.by_pid.remove(&running.pid);
        self.groups.retain(|other| *other != worker);
        self.ports.remove_worker(worker);
        running.tasks.iter().for_each(JoinHandle::abort);
        let _ = running.signal_group(Signal::KILL);
        Some((running.pid, running.subject))
    }
}

impl Running {
    /// Sends a signal to every process of its group.
    fn signal_group(&self, signal: Signal) -> nix::Result<()> {
        if !self.has_group() { Err(Errno::ESRCH) } else { kill(Pid::from_raw(-self.pid.as_raw()), signal) }
    }

    /// True while there is a process in its group. When the first one has been collected, its number may become a
    /// stranger's; as long as others are in the group, the kernel gives it to nobody (`kill(2)`, `credentials(7)`).
    fn has_group(&self) -> bool {
        if !self.is_collected {
            return true;
        }
        let group = Pid::from_raw(-self.pid.as_raw());
        !exists(self.pid) && nix::sys::signal::kill(group, None) != Err(Errno::ESRCH)
    }
}

/// Makes the error of a start whose step the kernel refused.
fn no_room(step: &str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::NotNow(why_not_started(step, errno))
}

/// /dev/null; or, in an image without it, a pipe whose other end is closed: nothing to be read from there either.
fn open_null() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open("/dev/null", flags, Mode::empty()).or_else(|_| pipe2(OFlag::O_CLOEXEC).map(|(read, _)| read))
}

/// Rings when there is news of the exec.
async fn watch_exec(worker: WorkerId, outcome: Rc<OwnedFd>, notices: mpsc::Sender<Notice>) {
    if let Ok(outcome) = crate::sys::watch(outcome)
        && outcome.readable().await.is_ok()
    {
        let _ = notices.send(Notice::Exec(worker)).await;
    }
}
