//! The loop: wait for what happens next, read the clock once, tell the fleet, do what it says.

use super::launch::{Launch, Seat, read_again};
use super::report::{self, Message, Reporter};
use super::workers::Workers;
use super::{Notice, on_a_thread};
use crate::config::Settings;
use crate::core::{AppId, Effect, Event, Exit, Fleet, How, Place, Report, Signal, Time, WorkerId};
use crate::logs::Logs;
use crate::sys::process::kill;
use crate::sys::signals::{Inherited, Signals};
use crate::sys::{cgroup, reap};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};

/// So many of one kind are handled before the others have their turn.
const AT_ONCE: usize = 1024;
/// Events kept for the report of a panic.
const RECORDED: usize = 256;
/// How long reading a new generation's files may take.
const READING: Duration = Duration::from_secs(10);
/// A log that has moved nothing for so long, and does not even say so, is stuck in a write that waits.
const STUCK: Duration = Duration::from_secs(2);
/// Tasks wait when the loop has so many of their notices to read.
const NOTICES: usize = 64;

/// Everything the loop owns.
pub(super) struct Supervisor {
    fleet: Fleet,
    launches: Vec<Launch>,
    workers: Workers,
    notices: mpsc::Receiver<Notice>,
    logs: Logs,
    started: Instant,
    /// How many kills of the out-of-memory killer are accounted for.
    oom_kills: Option<u64>,
    /// There may be zombies that the last turn left.
    more_to_reap: bool,
    recorder: VecDeque<(Time, Event)>,
}

/// What a worker leaves to be told of, when it has ended.
struct Remains {
    pid: Pid,
    /// Its last lines, once all of them are written.
    lines: oneshot::Receiver<Vec<String>>,
}

impl Supervisor {
    /// # Errors
    /// No descriptors left.
    pub(super) fn new(
        launches: Vec<Launch>,
        logs: Logs,
        inherited: Inherited,
        settings: &Settings,
    ) -> io::Result<Supervisor> {
        let policies = launches.iter().map(|launch| launch.app.policy.clone()).collect();
        let (sender, notices) = mpsc::channel(NOTICES);
        let seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        Ok(Supervisor {
            fleet: Fleet::new(policies, seed),
            launches,
            workers: Workers::new(logs.clone(), settings.log, inherited, sender)?,
            notices,
            logs,
            started: now(),
            oom_kills: cgroup::oom_kills(Path::new("/")),
            more_to_reap: false,
            recorder: VecDeque::with_capacity(RECORDED),
        })
    }

    /// Runs to the container's exit code.
    ///
    /// # Errors
    /// The kernel refuses to watch the signals' pipe.
    pub(super) async fn run(&mut self, signals: Signals) -> io::Result<u8> {
        let signals = crate::sys::watch(signals)?;
        let mut reporter = Reporter::start();
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
                self.fleet.apps().iter().flat_map(|app| &app.slots).any(|slot| slot.place == Place::Failed);
            reporter.tell(report::end(code, has_failed), None);
        }
        reporter.finish().await;
        self.flush(&signals).await?;
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
            other => Event::Forward(other),
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
            Notice::Prepared(app, generation, read) => {
                let result = read.map(|variables| {
                    if let Some(launch) = self.launches.get_mut(app) {
                        launch.keep(generation, variables);
                    }
                });
                self.turn(Event::Prepared(app, generation, result), None, reporter);
            }
        }
    }

    fn program_of(&self, worker: WorkerId) -> String {
        let app = self.workers.slot(worker).and_then(|slot| self.launches.get(slot.app));
        app.and_then(|launch| launch.app.command.first())
            .map_or_else(String::new, |program| program.to_string_lossy().into_owned())
    }

    /// Collects what has ended: workers, probes, and every orphan of the container.
    fn reap(&mut self, reporter: &mut Reporter) {
        for _ in 0..AT_ONCE {
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
                    let remains = Some(Remains { pid, lines: self.logs.drain(worker) });
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
                    if let Some(probe) = probe {
                        // As with a worker: what it leaves in its group ends with it.
                        let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::KILL);
                        let _ = probe.send(exit);
                    }
                    reap::collect(pid);
                }
            }
        }
    }

    /// Whether the out-of-memory killer did it: its counter has moved since it was last looked at.
    fn was_oom_kill(&mut self, exit: Exit) -> bool {
        let now = cgroup::oom_kills(Path::new("/"));
        match (self.oom_kills, now) {
            (Some(known), Some(now)) if now > known && exit.how == How::Signal(Signal::KILL) => {
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
    fn turn(&mut self, event: Event, remains: Option<Remains>, reporter: &mut Reporter) {
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
    fn now(&self) -> Time {
        now().saturating_duration_since(self.started)
    }
}

/// Does what the fleet says. An answer that is known at once is returned.
fn perform(
    effect: Effect,
    fleet: &Fleet,
    launches: &mut [Launch],
    workers: &mut Workers,
    remains: &mut Option<Remains>,
    reporter: &mut Reporter,
) -> Option<Event> {
    match effect {
        Effect::Spawn { worker, slot, generation } => {
            let launch = launches.get(slot.app)?;
            let wanted = fleet.apps().get(slot.app).map_or(1, |app| app.wanted());
            let seat = Seat { index: slot.index, generation, workers: wanted };
            workers.start(worker, slot, launch, &seat).err().map(|error| Event::SpawnFailed(worker, error))
        }
        Effect::Signal(worker, signal) => {
            workers.signal(worker, signal);
            None
        }
        Effect::Kill(worker) => {
            workers.kill(worker);
            None
        }
        Effect::Prepare(app, generation) => {
            let launch = launches.get_mut(app)?;
            prepare(app, generation, launch, workers.notices.clone())
        }
        Effect::Report(report) => {
            if let Report::Reloaded { app, .. } | Report::ReloadFailed { app, .. } = report
                && let (Some(launch), Some(app)) = (launches.get_mut(app), fleet.apps().get(app))
            {
                launch.forget_unless(|generation| app.uses(generation));
            }
            let remains = if report.is_an_end() { remains.take() } else { None };
            let (dead, lines) = remains.map(|remains| (remains.pid, remains.lines)).unzip();
            let pid = |worker| workers.pid(worker).or(dead);
            reporter.tell(Message::of(&report, launches, pid, |worker| workers.last_answer(worker)), lines);
            None
        }
    }
}

/// Reads a new generation's files.
fn prepare(app: AppId, generation: u32, launch: &mut Launch, notices: mpsc::Sender<Notice>) -> Option<Event> {
    let paths = launch.app.env_files.clone();
    if paths.is_empty() {
        launch.keep(generation, Vec::new());
        return Some(Event::Prepared(app, generation, Ok(())));
    }
    let Some(reading) = launch.begin_reading() else {
        let why = "the files of --env-file are still being read for the reload before".to_owned();
        return Some(Event::Prepared(app, generation, Err(why)));
    };
    let read = move || {
        let _until_done = reading;
        read_again(&paths)
    };
    tokio::task::spawn_local(async move {
        let read = match timeout(READING, on_a_thread(read)).await {
            Ok(Ok(read)) => read,
            Ok(Err(failed)) => Err(format!("cannot read --env-file: {failed}")),
            Err(_) => Err(format!("reading --env-file took longer than {READING:?}")),
        };
        let _ = notices.send(Notice::Prepared(app, generation, read)).await;
    });
    None
}

#[expect(clippy::disallowed_methods, reason = "the loop's clock")]
fn now() -> Instant {
    Instant::now()
}
