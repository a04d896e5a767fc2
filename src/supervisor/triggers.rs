//! Asks for a reload at the times of `--cron`, and when what `--watch` names has changed.

use super::Notice;
use super::event_loop::Supervisor;
use super::watching::Watched;
use crate::config::{ReloadTriggers, Schedule, local_text, missing_zone};
use crate::core::{AppId, Event, Target};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A longer wait is cut into such parts: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The tasks that wait for each app's triggers.
pub(super) struct Triggers {
    apps: BTreeMap<AppId, (ReloadTriggers, Vec<JoinHandle<()>>)>,
    /// Watched files for which no task waits yet.
    watched: WatchedByApp,
}

/// The watched files of each app, by its name, as they were before the workers started that read them.
pub(super) type WatchedByApp = Vec<(String, Watched)>;

impl Triggers {
    pub(super) fn new(watched: WatchedByApp) -> Triggers {
        Triggers { apps: BTreeMap::new(), watched }
    }
}

impl Supervisor {
    /// Waits for the triggers that the apps have now, in a configuration that was read again.
    pub(super) fn replace_triggers(&mut self, watched: WatchedByApp) {
        self.triggers.watched = watched;
        self.refresh_triggers();
    }

    /// Waits for the triggers that the apps have now.
    pub(super) fn refresh_triggers(&mut self) {
        // Those of the configuration, also while the generation that has its other settings is still prepared, or has failed.
        let apps = self.launches.iter().filter_map(|(id, _)| Some((id, self.launches.wanted(id)?)));
        let wanted: Vec<(AppId, String, ReloadTriggers)> = apps.map(|(id, app)| (id, app.name, app.reloads)).collect();
        self.triggers.apps.retain(|id, (triggers, tasks)| {
            let stays = wanted.iter().any(|(other, _, wanted)| other == id && wanted == triggers);
            if !stays {
                tasks.iter().for_each(JoinHandle::abort);
            }
            stays
        });
        let mut watched = std::mem::take(&mut self.triggers.watched);
        for (id, name, triggers) in wanted {
            let notices = &self.workers.notices;
            self.triggers.apps.entry(id).or_insert_with(|| {
                let place = watched.iter().position(|(app, _)| *app == name);
                let watched = place.map(|place| watched.swap_remove(place).1);
                let cron = triggers.cron.clone();
                (triggers, start(id, name, cron, watched, notices))
            });
        }
    }

    /// Reloads an app for that reason.
    pub(super) fn on_trigger(&mut self, app: AppId, why: &str) {
        let Some(launch) = self.launches.get(app).filter(|_| !self.fleet.is_stopping()) else { return };
        tracing::info!("{}: {why}", launch.app.name);
        self.handle(Event::Reload(Target::App(app)));
        self.journal.wake();
    }
}

fn start(
    id: AppId,
    app: String,
    cron: Option<Schedule>,
    watched: Option<Watched>,
    notices: &mpsc::Sender<Notice>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    if let Some(schedule) = cron {
        warn_of_missing_zone(&app);
        tasks.push(tokio::task::spawn_local(follow(id, app, schedule, notices.clone())));
    }
    if let Some(mut watched) = watched {
        let notices = notices.clone();
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let why = match watched.changed().await {
                    Ok(path) => format!("{} has changed (--watch)", path.display()),
                    Err(error) => {
                        tracing::warn!("--watch: {error}");
                        sleep(LONGEST_SLEEP).await;
                        continue;
                    }
                };
                if notices.send(Notice::Trigger(id, why)).await.is_err() {
                    return;
                }
            }
        }));
    }
    tasks
}

/// Asks for a reload at each time of the schedule.
async fn follow(id: AppId, app: String, schedule: Schedule, notices: mpsc::Sender<Notice>) {
    let mut last = SystemTime::now();
    if let Some(next) = schedule.next_after(last) {
        tracing::info!("{app}: the first reload by --cron is at {}", local_text(next));
    }
    while let Some(next) = schedule.next_after(last) {
        while let Ok(wait) = next.duration_since(SystemTime::now())
            && !wait.is_zero()
        {
            sleep(wait.min(LONGEST_SLEEP)).await;
        }
        // A clock that was set forward passes several times at once: that is one reload.
        last = SystemTime::now().max(next);
        if notices.send(Notice::Trigger(id, "it is time (--cron)".into())).await.is_err() {
            return;
        }
    }
}

/// Warns where the times of `--cron` are in another time zone than `TZ` says.
fn warn_of_missing_zone(app: &str) {
    let tz = std::env::var("TZ").unwrap_or_default();
    if let Some(zone) = missing_zone(&tz) {
        tracing::warn!(
            "{app}: TZ={zone}: this image has no such time zone, and the times of --cron are in UTC; install tzdata, or write a \
             rule such as TZ=CET-1CEST,M3.5.0,M10.5.0/3"
        );
    }
}
