//! All apps of the container, from its start to its exit code.

use super::app::Context;
use super::slot::Upshot;
use super::*;

/// Everything that runs in the container, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Fleet {
    apps: Vec<App>,
    stage: Stage,
    /// The exit status of the worker that failed last.
    last_failure: u8,
    /// A worker had to be killed while the container stopped.
    had_to_kill: bool,
    last_worker: WorkerId,
    dice: Jitter,
}

/// What is asked of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing, so far.
    New,
    /// To run.
    Running,
    /// To stop.
    Stopping,
    /// To stop at once.
    Killing,
}

/// What a program gives that was killed: 128 + SIGKILL.
const KILLED: u8 = 137;

impl Fleet {
    /// A fleet of these apps. `seed` decides the jitter of backoff.
    pub fn new(policies: Vec<Policy>, seed: u64) -> Fleet {
        Fleet {
            apps: (0..).zip(policies).map(|(id, policy)| App::new(AppId(id), policy)).collect(),
            stage: Stage::New,
            last_failure: 0,
            had_to_kill: false,
            last_worker: WorkerId(0),
            dice: Jitter::new(seed),
        }
    }

    /// The apps, for those who look.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// The app of that number.
    pub fn app(&self, id: AppId) -> Option<&App> {
        self.apps.iter().find(|app| app.id == id)
    }

    /// Whether there is a slot of that number.
    pub fn has(&self, slot: SlotId) -> bool {
        self.app(slot.app).is_some_and(|app| app.slots.iter().any(|one| one.id == slot))
    }

    /// Whether the container was asked to stop.
    pub fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping | Stage::Killing)
    }

    /// Takes an event and says what is to be done. Every event is answered in every state.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        let is_stopping = self.is_stopping();
        let Fleet { apps, stage, last_failure, had_to_kill, last_worker, dice } = self;
        let context = &mut Context { now, last_worker, dice, effects };
        match event {
            Event::Boot => *stage = Stage::Running,
            Event::Tick => apps.iter_mut().for_each(|app| app.tick(context)),
            Event::Spawned(id) => {
                if let Some((app, slot)) = find(apps, id) {
                    app.spawned(slot, id, context);
                }
            }
            Event::SpawnFailed(id, error) => {
                if let Some((app, slot)) = find(apps, id) {
                    app.touch(slot, context, |slot, turn| slot.spawn_failed(id, error, turn));
                    *last_failure = app.failure(slot).unwrap_or(*last_failure);
                }
            }
            Event::Ready(id, sign) => {
                if let Some((app, slot)) = find(apps, id) {
                    app.touch(slot, context, |slot, turn| {
                        slot.ready(id, sign, turn);
                        Upshot::Nothing
                    });
                }
            }
            Event::Finished(id) => {
                if let Some((app, slot)) = find(apps, id) {
                    app.touch(slot, context, |slot, turn| {
                        slot.finished(id, turn.now);
                        Upshot::Nothing
                    });
                }
            }
            Event::Exited(id, exit) => {
                if let Some((app, slot)) = find(apps, id) {
                    app.touch(slot, context, |slot, turn| slot.exited(id, exit, turn));
                    *last_failure = app.failure(slot).unwrap_or(*last_failure);
                }
            }
            Event::Prepared(app, generation, result) => {
                if let Some(app) = apps.iter_mut().find(|one| one.id == app) {
                    app.prepared(generation, result, context);
                }
            }
            Event::Reload if is_stopping => {}
            Event::Reload => apps.iter_mut().for_each(|app| app.reload(context)),
            Event::Scale(_) if is_stopping => {}
            Event::Scale(by) => apps.iter_mut().for_each(|app| app.scale(by, context)),
            Event::ScaleTo(..)
            | Event::StartSlot(_)
            | Event::StopSlot(_)
            | Event::RestartSlot(_)
            | Event::DropSlot(_)
                if is_stopping => {}
            Event::ScaleTo(app, count) => {
                if let Some(app) = apps.iter_mut().find(|one| one.id == app) {
                    app.scale(count as i32 - app.wanted() as i32, context);
                }
            }
            Event::StartSlot(id) => operate(apps, id, |app, slot| app.start_slot(slot)),
            Event::StopSlot(id) => operate(apps, id, |app, slot| app.wish(slot, Desired::Down)),
            Event::RestartSlot(id) => operate(apps, id, |app, slot| app.restart_slot(slot, context)),
            Event::DropSlot(id) => operate(apps, id, |app, slot| {
                if app.wanted() > 1 {
                    app.wish(slot, Desired::Gone);
                }
            }),
            Event::Stop => match stage {
                Stage::New | Stage::Running => {
                    *stage = Stage::Stopping;
                    let drain_delay = apps.iter().map(|app| app.policy.drain_delay).max().unwrap_or_default();
                    context.report(Report::Stop { drain_delay });
                    apps.iter_mut().for_each(|app| app.stop(context));
                }
                Stage::Stopping | Stage::Killing => *stage = Stage::Killing,
            },
            Event::Forward(signal) => {
                let workers = apps.iter().flat_map(|app| &app.slots).flat_map(Slot::workers);
                context.effects.extend(workers.map(|worker| Effect::Signal(worker.id, signal)));
            }
        }
        match stage {
            Stage::New => {}
            Stage::Running | Stage::Stopping => apps.iter_mut().for_each(|app| app.reconcile(context)),
            Stage::Killing => apps.iter_mut().for_each(|app| app.kill(context)),
        }
        *had_to_kill |= is_stopping && apps.iter().any(App::is_killing);
    }

    /// The next time at which something is due: a [`Event::Tick`] is to be given then.
    pub fn next_deadline(&self) -> Option<Time> {
        self.apps.iter().filter_map(App::deadline).min()
    }

    /// The container's exit code, once nothing runs and nothing will.
    pub fn finished(&self) -> Option<u8> {
        match self.stage {
            Stage::New => None,
            Stage::Stopping | Stage::Killing => {
                let code = if self.had_to_kill { KILLED } else { 0 };
                self.apps.iter().all(App::is_empty).then_some(code)
            }
            Stage::Running if self.apps.iter().all(App::is_at_rest) => {
                let slots = || self.apps.iter().flat_map(|app| &app.slots);
                let highest = slots().filter_map(|slot| slot.last_exit).map(|exit| exit.status()).max();
                let failed = slots().any(|slot| slot.place == SlotState::Failed);
                Some(if failed { self.last_failure } else { highest.unwrap_or(0) })
            }
            Stage::Running => None,
        }
    }
}

/// Does something to a slot, if there is one of that number that stays.
fn operate(apps: &mut [App], id: SlotId, act: impl FnOnce(&mut App, usize)) {
    if let Some(app) = apps.iter_mut().find(|app| app.id == id.app)
        && let Some(at) = app.slots.iter().position(|slot| slot.id == id && slot.wish != Desired::Gone)
    {
        act(app, at);
    }
}

/// The worker's app, and the position of its slot in it.
fn find(apps: &mut [App], id: WorkerId) -> Option<(&mut App, usize)> {
    apps.iter_mut().find_map(|app| app.slot_of(id).map(|slot| (app, slot)))
}
