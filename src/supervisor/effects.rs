//! What the fleet says, done: the other half of a turn.

use super::launch::{LaunchSpec, WorkerEnv, read_again};
use super::reporter::{Message, Reporter};
use super::workers::Workers;
use super::{Notice, on_a_thread};
use crate::control::{Entry, Journal};
use crate::core::{AppId, Effect, Event, Fleet, Report};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long reading a new generation's files may take.
const READING: Duration = Duration::from_secs(10);
/// How long a Node worker that is replaced leaves connections open on which nothing goes on: longer than Node's own 5 s, so
/// that no client's next request meets a closed one; and of the time until the stop signal comes, so much at the most: who
/// sends a request before that has time for an answer.
const IDLE_AT_RELOAD: Duration = Duration::from_millis(5500);
const IDLE_AT_MOST: f32 = 0.8;
/// And when the container stops, which somebody may be waiting for.
const IDLE_AT_STOP: Duration = Duration::from_secs(1);

/// What a worker leaves to be told of, when it has ended.
pub(super) struct DeadWorker {
    pub(super) pid: Pid,
    /// Its last lines, once all of them are written.
    pub(super) lines: oneshot::Receiver<Vec<String>>,
}

/// Does what the fleet says. An answer that is known at once is returned.
pub(super) fn perform(
    effect: Effect,
    fleet: &Fleet,
    launches: &mut BTreeMap<AppId, LaunchSpec>,
    workers: &mut Workers,
    remains: &mut Option<DeadWorker>,
    reporter: &mut Reporter,
    book: &Journal,
) -> Option<Event> {
    match effect {
        Effect::Spawn { worker, slot, generation } => {
            let launch = launches.get(&slot.app)?;
            let wanted = fleet.app(slot.app).map_or(1, |app| app.wanted());
            let seat = WorkerEnv { worker, index: slot.index, generation, workers: wanted };
            workers.start(worker, slot, launch, &seat).err().map(|error| Event::SpawnFailed(worker, error))
        }
        Effect::Retire(worker) => {
            // First what waits is handed out, while there is somebody to take it.
            if fleet.is_stopping() {
                workers.ports.close();
            }
            workers.ports.retire(worker);
            None
        }
        Effect::Ask(worker) => {
            let launch = workers.slot(worker).and_then(|slot| launches.get(&slot.app))?;
            let idle = if fleet.is_stopping() { IDLE_AT_STOP } else { IDLE_AT_RELOAD };
            let patience = launch.app.policy.ask.unwrap_or_default();
            workers.ask(worker, launch, idle.min(patience.mul_f32(IDLE_AT_MOST)));
            None
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
            let launch = launches.get_mut(&app)?;
            prepare(app, generation, launch, workers.notices.clone())
        }
        Effect::Report(report) => {
            if let Report::Reloaded { app, .. } | Report::ReloadFailed { app, .. } = report
                && let (Some(launch), Some(app)) = (launches.get_mut(&app), fleet.app(app))
            {
                launch.forget_unless(|generation| app.uses(generation));
            }
            let remains = if report.is_an_end() { remains.take() } else { None };
            let (dead, lines) = remains.map(|remains| (remains.pid, remains.lines)).unzip();
            let pid = |worker| workers.pid(worker).or(dead);
            let message = Message::of(&report, launches, pid, |worker| workers.last_answer(worker));
            let note = Entry {
                time: SystemTime::now(),
                app: report.app().and_then(|app| launches.get(&app)).map(|launch| launch.app.name.as_str()),
                pid: report.worker().and_then(pid).map(|pid| pid.as_raw().unsigned_abs()),
                level: message.level(),
                message: message.text(),
            };
            book.note(&report, &note);
            // One of that number that comes later is another.
            match report {
                Report::Exited { slot, .. } | Report::StartFailed { slot, .. } => {
                    book.forget(|one| one == slot && !fleet.has(slot));
                }
                Report::Scaled { .. } => book.forget(|slot| !fleet.has(slot)),
                _ => {}
            }
            reporter.tell(message, lines);
            None
        }
    }
}

/// Reads a new generation's files.
fn prepare(app: AppId, generation: u32, launch: &mut LaunchSpec, notices: mpsc::Sender<Notice>) -> Option<Event> {
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
