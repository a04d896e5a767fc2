//! Runs the event loop: waits for the next event, reads the clock once, lets the fleet decide, and performs its effects.

use super::Notice;
use super::effects::DeadWorker;
use super::hooks::Hooks;
use super::launches::Launches;
use super::linger::linger;
use super::message;
use super::reconfigure::{Configuration, Request};
use super::reporter::Reporter;
use super::sampling::sample;
use super::service_manager::ServiceManager;
use super::signals::{SignalAction, SignalTable, StopSignalHint};
use super::triggers::{Triggers, WatchedByApp};
use super::workers::Workers;
use crate::control::{Call, Endpoints, Journal, SocketFile, SupervisorHandle, record_usage, start_when_needed};
use crate::core::{Count, EndReason, Event, Fleet, Target, Time, WorkerId};
use crate::logs::{Logs, Patience};
use crate::ports::Ports;
use crate::sys::cgroup;
use crate::sys::peer::exists;
use crate::sys::signals::{Caught, Inherited, Signals, suspend};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

/// The number of events of one kind that are handled before other kinds have their turn.
const MAX_EVENTS_IN_A_ROW: usize = 1024;
/// The number of events that are kept for the report of a panic.
const MAX_RECORDED_EVENTS: usize = 256;
/// A log that has moved nothing for this long, and does not even say so, is stuck in a write that waits.
const LOG_STUCK_AFTER: Duration = Duration::from_secs(2);
/// The time that the end waits for the ports to be closed: the files of unix sockets are removed then.
const PORTS_CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The time that the end waits for clients to be gone, and the interval at which it looks.
const CLIENT_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
const CLIENT_DRAIN_INTERVAL: Duration = Duration::from_millis(2);
/// The interval at which code pages are given back: those of the start, and then those of what runs seldom.
const RELEASE_INTERVAL: Duration = Duration::from_secs(5);
/// The number of notices from tasks that wait to be handled; a task with another one waits.
pub(super) const MAX_QUEUED_NOTICES: usize = 64;
/// The interval at which process groups are looked at that outlive their first process: the last of them may be collected by
/// another process than rinit.
const GROUP_INTERVAL: Duration = Duration::from_millis(50);

/// Everything the loop owns.
pub(super) struct Supervisor {
    pub(super) fleet: Fleet,
    pub(super) launches: Launches,
    pub(super) workers: Workers,
    pub(super) hooks: Hooks,
    pub(super) triggers: Triggers,
    pub(super) journal: Arc<Journal>,
    calls: mpsc::Receiver<Call>,
    /// The client that asked for the end, if one did.
    pub(super) asked_to_end_by: Option<Pid>,
    notices: mpsc::Receiver<Notice>,
    pub(super) logs: Logs,
    started: Instant,
    pub(super) started_at: SystemTime,
    /// The kills of the out-of-memory killer that are accounted for.
    pub(super) oom_kills: Option<u64>,
    pub(super) signals: SignalTable,
    pub(super) hint: StopSignalHint,
    linger: Duration,
    pub(super) configuration: Configuration,
    /// A signal has asked to stop after the last worker's end.
    is_impatient: bool,
    /// The last turn may have left zombies.
    pub(super) more_to_reap: bool,
    recorder: VecDeque<(Time, Event)>,
    pub(super) reporter: Reporter,
    pub(super) service_manager: Rc<ServiceManager>,
    /// Workers that have ended, until their ends are reported: in the same turn.
    pub(super) dead: Vec<DeadWorker>,
}

impl Supervisor {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(
        launches: Launches,
        logs: Logs,
        ports: Ports,
        inherited: Inherited,
        configuration: Configuration,
        (journal, calls): (Arc<Journal>, mpsc::Receiver<Call>),
        watched: WatchedByApp,
    ) -> io::Result<Supervisor> {
        let policies: Vec<_> = launches.iter().map(|(_, launch)| launches.policy(&launch.app)).collect();
        let stop_signals = configuration.in_force.stop_signals();
        let is_pid_1 = nix::unistd::getpid().as_raw() == 1;
        let (sender, notices) = mpsc::channel(MAX_QUEUED_NOTICES);
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        let workers = Workers::new(logs.clone(), configuration.in_force.container.log, ports, inherited, sender)?;
        let hooks = Hooks::new(logs.clone(), workers.null.clone(), inherited, workers.helpers.clone());
        Ok(Supervisor {
            fleet: Fleet::new(policies, seed),
            launches,
            workers,
            hooks,
            triggers: Triggers::new(watched),
            notices,
            reporter: Reporter::new(journal.clone()),
            service_manager: Rc::new(ServiceManager::from_environment()),
            dead: Vec::new(),
            journal,
            calls,
            asked_to_end_by: None,
            logs,
            started: now(),
            started_at: SystemTime::now(),
            oom_kills: None,
            signals: SignalTable { stop_signals, is_pid_1, inherited, stop_requested: None },
            hint: StopSignalHint::default(),
            linger: configuration.in_force.linger,
            configuration,
            is_impatient: false,
            more_to_reap: false,
            recorder: VecDeque::with_capacity(MAX_RECORDED_EVENTS),
        })
    }

    /// Runs to the container's exit code.
    ///
    /// # Errors
    /// The kernel refuses to watch the signals' pipe or to wait for processes.
    pub(super) async fn run(&mut self, signals: Signals, control: (Endpoints, SupervisorHandle)) -> io::Result<u8> {
        let signals = crate::sys::watch(signals)?;
        self.reporter.start();
        tokio::task::spawn_local(self.service_manager.clone().ping_watchdog());
        tokio::task::spawn_local(self.workers.ports.clone().start_when_needed());
        let (gate, rinit) = control;
        let (socket, clients) = (gate.socket_file().cloned(), rinit.connections.clone());
        if gate.is_open() {
            tokio::task::spawn_local(record_usage(rinit.clone()));
            tokio::task::spawn_local(start_when_needed(gate, rinit));
        }
        tokio::task::spawn_local(sample(self.workers.notices.clone(), self.workers.ports.clone()));
        self.handle(Event::Boot);
        tokio::task::spawn_local(async {
            loop {
                sleep(RELEASE_INTERVAL).await;
                crate::sys::startup::release_code_pages();
            }
        });
        self.refresh_triggers();
        // The first workers do not need it for their start.
        self.oom_kills = cgroup::oom_kills(Path::new("/"));
        let end = loop {
            // A hook has its time, unless rinit is asked to stop again.
            if let Some(end) = self.fleet.end().filter(|_| !self.hooks.are_running() || self.is_impatient) {
                break end;
            }
            let notice = self.wait(&signals).await?;
            for _ in 0..MAX_EVENTS_IN_A_ROW {
                let Ok(caught) = signals.try_io(Interest::READABLE, Signals::next) else { break };
                self.on_signal(caught);
            }
            self.reap()?;
            self.on_notices(notice);
            if self.is_due() {
                // After a freeze of the container or the machine, what came before the deadline is seen only after it. First
                // the descriptors are looked at, then the tasks that wait for them report.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                self.on_notices(None);
            }
            if self.is_due() {
                self.handle(Event::Tick);
            }
        };
        if let Some(message) = message::end(end) {
            self.reporter.tell(message, None);
        }
        // What is still asked is not answered any more.
        self.calls.close();
        while self.calls.try_recv().is_ok() {}
        linger(self.linger, &signals, &mut self.signals).await?;
        self.reporter.finish().await;
        self.flush(&signals, end.reason).await?;
        let _ = timeout(PORTS_CLOSE_TIMEOUT, self.workers.ports.settle()).await;
        self.drain_clients(&clients).await;
        // Its thread goes on to the last.
        socket.iter().for_each(SocketFile::remove);
        Ok(end.code)
    }

    /// Waits until there is something to handle: signals, a deadline, or a notice, which is returned.
    async fn wait(&mut self, signals: &AsyncFd<Signals>) -> io::Result<Option<Notice>> {
        if self.more_to_reap {
            tokio::task::yield_now().await;
            return Ok(None);
        }
        let look = self.workers.has_groups().then(|| self.now() + GROUP_INTERVAL);
        let deadline = self.fleet.next_deadline().into_iter().chain(look).min().map(|deadline| self.started + deadline);
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ready = signals.readable() => ready.map(|_| None),
            notice = self.notices.recv() => Ok(notice),
            Some(call) = self.calls.recv() => Ok(Some(Notice::Call(call))),
            () = due => Ok(None),
        }
    }

    /// True if a deadline of the fleet has come.
    fn is_due(&self) -> bool {
        self.fleet.next_deadline().is_some_and(|deadline| deadline <= self.now())
    }

    /// Acts on a signal to rinit, by the README's table.
    fn on_signal(&mut self, caught: Caught) {
        let signal = caught.signal;
        let event = match self.signals.receive(caught, now()) {
            SignalAction::Reap => {
                self.more_to_reap = true;
                return;
            }
            SignalAction::Stop => {
                self.is_impatient |= self.fleet.end().is_some();
                Event::Shutdown
            }
            SignalAction::Reload => return self.reload_all(Request::Signal),
            SignalAction::Scale(by) => Event::Scale(Target::All, Count::By(by)),
            SignalAction::Forward => {
                self.journal.lock().counters.forwarded += 1;
                self.hint.on_forwarded(signal, self.now());
                Event::Forward(signal)
            }
            SignalAction::Suspend => return suspend(Pid::this(), signal),
            SignalAction::StopRepeated => {
                return tracing::debug!("got {signal} again within 100 ms: the same request to stop");
            }
            SignalAction::Nothing => return tracing::debug!("got {signal} from the kernel or the terminal: no effect"),
        };
        tracing::debug!("got {signal}");
        self.handle(event);
    }

    /// Acts on that notice, and on those that wait.
    fn on_notices(&mut self, first: Option<Notice>) {
        let mut next = first.or_else(|| self.notices.try_recv().ok());
        for _ in 0..MAX_EVENTS_IN_A_ROW {
            let Some(notice) = next.take() else { break };
            self.on_notice(notice);
            next = self.notices.try_recv().ok();
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Exec(worker) => {
                let program = self.program_of(worker);
                let event = match self.workers.exec_news(worker, &program) {
                    Some(Ok(())) => Event::Spawned(worker),
                    Some(Err(error)) => Event::SpawnFailed(worker, error),
                    None => return,
                };
                self.handle(event);
            }
            Notice::Event(event) => self.on_told(event),
            Notice::ListSubjects(reply) => drop(reply.send(self.subjects())),
            Notice::Call(call) => {
                if let Some(event) = self.answer(call) {
                    self.handle(event);
                    self.journal.wake();
                }
            }
            Notice::Trigger(app, why) => self.on_trigger(app, &why),
            Notice::PreStartDone(worker, result) => self.on_pre_start_done(worker, result),
            Notice::PreStopDone(worker) => self.on_pre_stop_done(worker),
            Notice::Configuration(read, requests) => self.on_configuration(read, requests),
            Notice::Prepared(app, generation, read) => {
                let event = self.on_prepared(app, generation, read.map(|read| *read));
                self.handle(event);
            }
        }
    }

    pub(super) fn program_of(&self, worker: WorkerId) -> String {
        let app = self.workers.slot(worker).and_then(|slot| self.launches.get(slot.app));
        app.and_then(|launch| launch.app.command.first())
            .map_or_else(String::new, |program| program.to_string_lossy().into_owned())
    }

    /// Lets the fleet handle one event, and all that follows from it.
    pub(super) fn handle(&mut self, event: Event) {
        let now = self.now();
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            // Samples are many, and large.
            if !matches!(event, Event::Sampled(_)) {
                if self.recorder.len() == MAX_RECORDED_EVENTS {
                    self.recorder.pop_front();
                }
                self.recorder.push_back((now, event.clone()));
            }
            self.fleet.handle(now, event, &mut effects);
            for effect in effects.drain(..) {
                events.extend(self.perform(effect));
            }
        }
        self.dead.clear();
    }

    /// Waits until all that the workers wrote is written. After a request to stop, a reader that takes nothing is given up
    /// soon, and a further request ends the wait.
    async fn flush(&mut self, signals: &AsyncFd<Signals>, reason: EndReason) -> io::Result<()> {
        let mut patience = match reason {
            EndReason::Stopped => Patience::WhileRead,
            EndReason::Finished | EndReason::Failed { .. } => Patience::UntilRead,
        };
        let mut done = self.logs.finish(patience);
        loop {
            let progress = self.logs.progress();
            tokio::select! {
                biased;
                _ = &mut done => return Ok(()),
                ready = signals.readable() => drop(ready?),
                () = sleep(LOG_STUCK_AFTER), if patience == Patience::WhileRead => {
                    if progress == self.logs.progress() {
                        return Ok(());
                    }
                }
            }
            while let Ok(caught) = signals.try_io(Interest::READABLE, Signals::next) {
                if self.signals.receive(caught, now()) != SignalAction::Stop {
                    continue;
                }
                if patience == Patience::WhileRead {
                    return Ok(());
                }
                patience = Patience::WhileRead;
                done = self.logs.finish(patience);
            }
        }
    }

    /// The end of PID 1 is the end of every process of the container: who follows the log or the events hears the rest first,
    /// and who asked for the end has its answer.
    async fn drain_clients(&self, clients: &AtomicUsize) {
        self.journal.close();
        let goes = async {
            while clients.load(Ordering::Relaxed) > 0 || self.asked_to_end_by.is_some_and(exists) {
                sleep(CLIENT_DRAIN_INTERVAL).await;
            }
        };
        let _ = timeout(CLIENT_DRAIN_TIMEOUT, goes).await;
    }

    /// For the report of a panic: what happened last, as the start of a test.
    pub(super) fn history(&self) -> String {
        let event = |(time, event): &(Time, Event)| format!("    ({time:?}, {event:?}),\n");
        format!("the last events, oldest first:\n{}", self.recorder.iter().map(event).collect::<String>())
    }

    /// For the end after a panic: who is still there, and the log.
    pub(super) fn left(&self) -> (Vec<Pid>, &Logs) {
        (self.workers.pids(), &self.logs)
    }

    /// The time since the start: the fleet's only clock, read once a turn.
    pub(super) fn now(&self) -> Time {
        now().saturating_duration_since(self.started)
    }
}

#[expect(clippy::disallowed_methods, reason = "the loop's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
