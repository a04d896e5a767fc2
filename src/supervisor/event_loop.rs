//! The loop: wait for what happens next, read the clock once, tell the fleet, do what it says.

use super::Notice;
use super::effects::{DeadWorker, perform};
use super::launch::LaunchSpec;
use super::reporter::{self, Reporter};
use super::workers::Workers;
use crate::config::Settings;
use crate::control::{Call, Endpoints, Journal, SupervisorHandle, start_when_needed};
use crate::core::{AppId, Event, Exit, ExitKind, Fleet, Signal, SlotState, Time, WorkerId};
use crate::logs::Logs;
use crate::ports::Ports;
use crate::sys::peer::exists;
use crate::sys::process::kill;
use crate::sys::signals::{Inherited, Signals};
use crate::sys::{cgroup, reap};
use nix::unistd::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

/// So many of one kind are handled before the others have their turn.
const AT_ONCE: usize = 1024;
/// So many deaths are handled, each with the start that follows, before signals have their turn.
const DEATHS: usize = 32;
/// Events kept for the report of a panic.
const RECORDED: usize = 256;
/// A log that has moved nothing for so long, and does not even say so, is stuck in a write that waits.
const STUCK: Duration = Duration::from_secs(2);
/// So long the end waits for clients to be gone, looking that often.
const FAREWELL: Duration = Duration::from_millis(500);
const GOING: Duration = Duration::from_millis(2);
/// Tasks wait when the loop has so many of their notices to read.
const NOTICES: usize = 64;

/// Everything the loop owns.
pub(super) struct Supervisor {
    pub(super) fleet: Fleet,
    pub(super) launches: BTreeMap<AppId, LaunchSpec>,
    pub(super) workers: Workers,
    /// What has happened, for those who ask.
    pub(super) book: Arc<Journal>,
    calls: mpsc::Receiver<Call>,
    /// The client that asked for the end, if one did.
    pub(super) asked_to_end_by: Option<Pid>,
    notices: mpsc::Receiver<Notice>,
    logs: Logs,
    started: Instant,
    pub(super) started_at: SystemTime,
    /// How many kills of the out-of-memory killer are accounted for.
    oom_kills: Option<u64>,
    /// There may be zombies that the last turn left.
    more_to_reap: bool,
    recorder: VecDeque<(Time, Event)>,
}

impl Supervisor {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(
        launches: BTreeMap<AppId, LaunchSpec>,
        logs: Logs,
        ports: Ports,
        inherited: Inherited,
        settings: &Settings,
        (book, calls): (Arc<Journal>, mpsc::Receiver<Call>),
    ) -> io::Result<Supervisor> {
        let policies = launches.values().map(|launch| launch.app.policy.clone()).collect();
        let (sender, notices) = mpsc::channel(NOTICES);
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        Ok(Supervisor {
            fleet: Fleet::new(policies, seed),
            launches,
            workers: Workers::new(logs.clone(), settings.log, ports, inherited, sender)?,
            notices,
            book,
            calls,
            asked_to_end_by: None,
            logs,
            started: now(),
            started_at: SystemTime::now(),
            oom_kills: cgroup::oom_kills(Path::new("/")),
            more_to_reap: false,
            recorder: VecDeque::with_capacity(RECORDED),
        })
    }

    /// Runs to the container's exit code.
    ///
    /// # Errors
    /// The kernel refuses to watch the signals' pipe.
    pub(super) async fn run(&mut self, signals: Signals, control: (Endpoints, SupervisorHandle)) -> io::Result<u8> {
        let signals = crate::sys::watch(signals)?;
        let mut reporter = Reporter::start(self.book.clone());
        tokio::task::spawn_local(self.workers.ports.clone().start_when_needed());
        let (gate, rinit) = control;
        let (socket, clients) = (gate.path().map(Path::to_owned), rinit.clients.clone());
        if gate.is_open() {
            tokio::task::spawn_local(start_when_needed(gate, rinit));
        }
        self.turn(Event::Boot, None, &mut reporter);
        let code = loop {
            if let Some(code) = self.fleet.finished() {
                break code;
            }
            let notice = self.wait(&signals).await?;
            for _ in 0..AT_ONCE {
                let Ok(signal) = signals.try_io(Interest::READABLE, Signals::next) else { break };
                self.hear_signal(signal, &mut reporter);
            }
            self.reap(&mut reporter);
            let mut next = notice.or_else(|| self.notices.try_recv().ok());
            for _ in 0..AT_ONCE {
                let Some(notice) = next.take() else { break };
                self.hear_notice(notice, &mut reporter);
                next = self.notices.try_recv().ok();
            }
            if self.fleet.next_deadline().is_some_and(|deadline| deadline <= self.now()) {
                self.turn(Event::Tick, None, &mut reporter);
            }
        };
        if !self.fleet.is_stopping() {
            let has_failed =
                self.fleet.apps().iter().flat_map(|app| &app.slots).any(|slot| slot.place == SlotState::Failed);
            reporter.tell(reporter::end(code, has_failed), None);
        }
        // What is still asked is not answered any more.
        self.calls.close();
        while self.calls.try_recv().is_ok() {}
        reporter.finish().await;
        self.flush(&signals).await?;
        self.take_leave(&clients).await;
        // Its thread goes on to the last.
        socket.iter().for_each(|path| drop(std::fs::remove_file(path)));
        Ok(code)
    }

    /// Waits until there is something to handle: signals, a deadline, or a notice, which is returned.
    async fn wait(&mut self, signals: &AsyncFd<Signals>) -> io::Result<Option<Notice>> {
        if self.more_to_reap {
            tokio::task::yield_now().await;
            return Ok(None);
        }
        let deadline = self.fleet.next_deadline().map(|deadline| self.started + deadline);
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

    /// The table of the README.
    fn hear_signal(&mut self, signal: Signal, reporter: &mut Reporter) {
        let event = match signal {
            Signal::CHLD => {
                self.more_to_reap = true;
                return;
            }
            Signal::TERM | Signal::INT | Signal::QUIT => Event::Stop,
            Signal::HUP => Event::Reload,
            Signal::TTIN => Event::Scale(1),
            Signal::TTOU => Event::Scale(-1),
            other => {
                self.book.open().counts.forwarded += 1;
                Event::Forward(other)
            }
        };
        tracing::debug!("got {signal}");
        self.turn(event, None, reporter);
    }

    fn hear_notice(&mut self, notice: Notice, reporter: &mut Reporter) {
        match notice {
            Notice::Exec(worker) => {
                let program = self.program_of(worker);
                let event = match self.workers.exec_news(worker, &program) {
                    Some(Ok(())) => Event::Spawned(worker),
                    Some(Err(error)) => Event::SpawnFailed(worker, error),
                    None => return,
                };
                self.turn(event, None, reporter);
            }
            Notice::Ready(worker, sign) => self.turn(Event::Ready(worker, sign), None, reporter),
            Notice::Call(call) => {
                if let Some(event) = self.answer(call) {
                    self.turn(event, None, reporter);
                    self.book.stir();
                }
            }
            Notice::Finished(worker) => self.turn(Event::Finished(worker), None, reporter),
            Notice::Prepared(app, generation, read) => {
                let result = read.map(|variables| {
                    if let Some(launch) = self.launches.get_mut(&app) {
                        launch.keep(generation, variables);
                    }
                });
                self.turn(Event::Prepared(app, generation, result), None, reporter);
            }
        }
    }

    fn program_of(&self, worker: WorkerId) -> String {
        let app = self.workers.slot(worker).and_then(|slot| self.launches.get(&slot.app));
        app.and_then(|launch| launch.app.command.first())
            .map_or_else(String::new, |program| program.to_string_lossy().into_owned())
    }

    /// Collects what has ended: workers, probes, and every orphan of the container.
    fn reap(&mut self, reporter: &mut Reporter) {
        for _ in 0..DEATHS {
            let Some((pid, exit)) = reap::peek() else {
                self.more_to_reap = false;
                return;
            };
            match self.workers.of(pid) {
                Some(worker) => {
                    let program = self.program_of(worker);
                    // A program that could not be run tells so through its pipe, and ends; either may be seen first.
                    let exec = self.workers.exec_news(worker, &program);
                    if let Some(Ok(())) = exec {
                        self.turn(Event::Spawned(worker), None, reporter);
                    }
                    let remains = Some(DeadWorker { pid, lines: self.logs.drain(worker) });
                    let killed = self.workers.ended(worker);
                    reap::collect(pid);
                    let event = match exec {
                        Some(Err(error)) => Event::SpawnFailed(worker, error),
                        Some(Ok(())) | None => {
                            let oom_killed = !killed && self.was_oom_kill(exit);
                            Event::Exited(worker, Exit { oom_killed, ..exit })
                        }
                    };
                    self.turn(event, remains, reporter);
                }
                None => {
                    let probe = self.workers.probes.borrow_mut().remove(&pid);
                    let is_probe = probe.is_some();
                    if let Some(probe) = probe {
                        // As with a worker: what it leaves in its group ends with it.
                        let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::KILL);
                        let _ = probe.send(exit);
                    }
                    reap::collect(pid);
                    self.book.open().counts.orphans += u64::from(!is_probe);
                }
            }
        }
    }

    /// Whether the out-of-memory killer did it: its counter has moved since it was last looked at.
    fn was_oom_kill(&mut self, exit: Exit) -> bool {
        let now = cgroup::oom_kills(Path::new("/"));
        match (self.oom_kills, now) {
            (Some(known), Some(now)) if now > known && exit.how == ExitKind::Signal(Signal::KILL) => {
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

    /// One event, and all that follows from it.
    fn turn(&mut self, event: Event, remains: Option<DeadWorker>, reporter: &mut Reporter) {
        let now = self.now();
        let mut remains = remains;
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            if self.recorder.len() == RECORDED {
                self.recorder.pop_front();
            }
            self.recorder.push_back((now, event.clone()));
            self.fleet.handle(now, event, &mut effects);
            for effect in effects.drain(..) {
                events.extend(perform(
                    effect,
                    &self.fleet,
                    &mut self.launches,
                    &mut self.workers,
                    &mut remains,
                    reporter,
                    &self.book,
                ));
            }
        }
    }

    /// Waits until what the workers wrote is out, or nothing of it goes on; a signal to stop ends that too.
    async fn flush(&mut self, signals: &AsyncFd<Signals>) -> io::Result<()> {
        let mut done = self.logs.finish();
        loop {
            let moves = self.logs.moves();
            tokio::select! {
                biased;
                _ = &mut done => return Ok(()),
                ready = signals.readable() => drop(ready?),
                () = sleep(STUCK) => if moves == self.logs.moves() { return Ok(()) },
            }
            while let Ok(signal) = signals.try_io(Interest::READABLE, Signals::next) {
                if matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT) {
                    return Ok(());
                }
            }
        }
    }

    /// The end of PID 1 is the end of every process of the container: who follows the log or the events hears the rest first,
    /// and who asked for the end has its answer.
    async fn take_leave(&self, clients: &AtomicUsize) {
        self.book.end();
        let goes = async {
            while clients.load(Ordering::Relaxed) > 0 || self.asked_to_end_by.is_some_and(exists) {
                sleep(GOING).await;
            }
        };
        let _ = timeout(FAREWELL, goes).await;
    }

    /// For the report of a panic: what happened last, as the start of a test.
    pub(super) fn history(&self) -> String {
        let event = |(time, event): &(Time, Event)| {
            format!(
                "    ({time:?}, {event:?}),
"
            )
        };
        format!(
            "the last events, oldest first:
{}",
            self.recorder.iter().map(event).collect::<String>()
        )
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
fn now() -> Instant {
    Instant::now()
}
