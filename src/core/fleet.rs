//! Runs all apps of the container, from its start to its exit code.

use super::app::Context;
use super::slot::Outcome;
use super::*;

/// All apps of the container, and what is asked of them.
#[derive(Clone, Debug)]
pub struct Fleet {
    apps: Vec<App>,
    stage: Stage,
    /// Every app has been up at the same time, but for those that were over.
    has_been_ready: bool,
    last_worker: WorkerId,
    jitter: Jitter,
    /// The result of the app because of which the container stops.
    cause: Option<AppResult>,
}

/// The stage of the container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has been started.
    New,
    Running,
    /// Stops because of an app's end.
    Ending,
    /// Was asked to stop.
    Stopping,
    /// Asked to stop a second time: at once.
    Killing,
}

impl Fleet {
    /// A fleet of these apps. `seed` decides the jitter of backoff.
    pub fn new(policies: Vec<Policy>, seed: u64) -> Fleet {
        Fleet {
            apps: (0..).zip(policies).map(|(id, policy)| App::new(AppId(id), Arc::new(policy))).collect(),
            stage: Stage::New,
            has_been_ready: false,
            last_worker: WorkerId(0),
            jitter: Jitter::new(seed),
            cause: None,
        }
    }

    /// The apps, to be shown.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// The app of that number.
    pub fn app(&self, id: AppId) -> Option<&App> {
        self.apps.iter().find(|app| app.id == id)
    }

    /// The slot of that number.
    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.app(id.app)?.slots.iter().find(|slot| slot.id == id)
    }

    /// True if the container was asked to stop.
    pub fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Ending | Stage::Stopping | Stage::Killing)
    }

    /// Takes an event and says what is to be done. Every event is answered in every state.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        let is_stopping = self.is_stopping();
        let Fleet { apps, stage, has_been_ready, last_worker, jitter, cause } = self;
        let context = &mut Context { now, last_worker, jitter, effects };
        // A worker that shows something runs, also if that is heard of later.
        if let Event::Bound(id) | Event::Listens(id, _) | Event::Ready(id, _) = &event
            && let Some((app, at)) = find(apps, *id)
        {
            app.on_spawned(at, *id, context);
        }
        match event {
            Event::Boot => {
                *stage = Stage::Running;
                apps.iter().for_each(|app| app.report_held(context));
            }
            Event::Tick => apps.iter_mut().for_each(|app| app.on_tick(context)),
            Event::Spawned(id) => {
                if let Some((app, at)) = find(apps, id) {
                    app.on_spawned(at, id, context);
                }
            }
            Event::SpawnFailed(id, error) => in_slot_of(apps, id, context, |slot, profile, context| {
                slot.on_spawn_failed(id, error, profile, context)
            }),
            Event::Bound(id) => {
                in_slot_of(apps, id, context, |slot, _, context| slot.on_evidence(id, Evidence::add_bound, context))
            }
            Event::Listens(id, address) => in_slot_of(apps, id, context, |slot, _, context| {
                slot.on_evidence(id, |evidence| evidence.add_address(address), context)
            }),
            Event::Ready(id, signal) => in_slot_of(apps, id, context, |slot, _, context| {
                slot.on_evidence(id, |evidence| evidence.add(signal), context)
            }),
            Event::Probed(id, answer) => {
                if let Some((app, at)) = find(apps, id) {
                    app.on_probed(at, id, answer, context);
                }
            }
            Event::Sampled(_) if is_stopping => {}
            Event::Sampled(sample) => {
                memory::on_sample(apps, &sample, context);
                for_each_app(apps, Target::All, |app| app.scale_by_usage(&sample, context));
            }
            Event::Drained(id) => in_slot_of(apps, id, context, |slot, _, context| {
                slot.on_drained(id, context.now);
                Outcome::Nothing
            }),
            Event::Signalled(id) => in_slot_of(apps, id, context, |slot, _, _| {
                slot.on_signalled(id);
                Outcome::Nothing
            }),
            Event::Exited(id, exit) => {
                in_slot_of(apps, id, context, |slot, profile, context| slot.on_exited(id, exit, profile, context))
            }
            Event::GroupEnded(id) => {
                in_slot_of(apps, id, context, |slot, profile, context| slot.on_group_ended(id, profile, context));
            }
            Event::Killed(id) => in_slot_of(apps, id, context, |slot, _, context| {
                slot.on_killed(id, context);
                Outcome::Nothing
            }),
            Event::SignalRefused(worker, signal, reason) => {
                if let Some((app, at)) = find(apps, worker)
                    && let Some(slot) = app.slots.get(at).map(|slot| slot.id)
                {
                    context.report(Report::SignalRefused { slot, worker, signal, reason });
                }
            }
            Event::Prepared(app, generation, result) => {
                if let Some(app) = apps.iter_mut().find(|one| one.id == app) {
                    app.on_prepared(generation, result, context);
                }
            }
            event if is_stopping && event.is_change() => {}
            Event::Reload(Target::Slot(id)) => for_each_slot(apps, Target::Slot(id), |app, at| {
                if let Some(worker) = app.slots.get(at).and_then(Slot::holder).map(|worker| worker.id) {
                    app.replace(id.index, Replacement::new(worker, RolloutReason::Requested));
                }
            }),
            Event::Reload(target) => {
                for_each_app(apps, target, |app| app.reload(context));
                order::chain_reloads(apps);
            }
            Event::AddApp(id, policy) => {
                let app = App::new(id, policy);
                context.report(Report::Added { app: id });
                app.report_held(context);
                apps.push(app);
            }
            Event::ConfigureApp(id, policy) => {
                for_each_app(apps, Target::App(id), |app| app.configure(policy.clone(), context));
                order::chain_reloads(apps);
            }
            Event::AdjustApp(id, policy) => {
                for_each_app(apps, Target::App(id), |app| app.adjust(policy.clone(), context));
            }
            Event::RemoveApp(id) => for_each_app(apps, Target::App(id), |app| app.remove(context)),
            Event::Scale(target, count) => for_each_app(apps, target, |app| app.scale(count, context)),
            Event::Start(target) => for_each_slot(apps, target, App::start_slot),
            Event::Stop(target) => for_each_slot(apps, target, |app, at| app.want(at, Desired::Down)),
            Event::Restart(target) => for_each_slot(apps, target, |app, at| app.restart_slot(at, context)),
            Event::Remove(target) => for_each_slot(apps, target, |app, at| {
                if app.wanted() > 1 {
                    app.want(at, Desired::Removed);
                }
            }),
            Event::Shutdown => match stage {
                Stage::New | Stage::Running => {
                    *stage = Stage::Stopping;
                    context.report(Report::Stop { drain_delay: longest_drain_delay(apps) });
                    begin_stop(apps, context);
                }
                // It stops already, and nobody has lost patience.
                Stage::Ending => *stage = Stage::Stopping,
                Stage::Stopping | Stage::Killing => *stage = Stage::Killing,
            },
            Event::Forward(signal) => {
                let workers = apps.iter().flat_map(|app| &app.slots).flat_map(Slot::workers);
                let forward = |worker: &Worker| Effect::Signal { worker: worker.id, signal, to_group: false };
                context.effects.extend(workers.map(forward));
            }
        }
        match stage {
            Stage::New => {}
            Stage::Running | Stage::Ending | Stage::Stopping => loop {
                order::reconcile(apps, context);
                // Others may have waited for the end of an app that is gone.
                if !forget_removed(apps, context) {
                    break;
                }
            },
            Stage::Killing => {
                apps.iter_mut().for_each(|app| app.kill(context));
                forget_removed(apps, context);
            }
        }
        let decisive = apps.iter().find_map(|app| Some((app.id, app.decisive_result()?)));
        if *stage == Stage::Running
            && let Some((app, result)) = decisive.filter(|_| apps.iter().any(|app| app.result().is_none()))
        {
            (*stage, *cause) = (Stage::Ending, Some(result));
            context.report(Report::Ending { app, result, drain_delay: longest_drain_delay(apps) });
            begin_stop(apps, context);
        }
        if !*has_been_ready && *stage == Stage::Running && is_ready(apps) {
            *has_been_ready = true;
            context.effects.push(Effect::AnnounceReady);
        }
    }

    /// The next time at which something is due: an [`Event::Tick`] is to be given then.
    pub fn next_deadline(&self) -> Option<Time> {
        self.apps.iter().filter_map(App::deadline).min()
    }

    /// The container's exit code, once nothing runs and nothing will.
    pub fn finished(&self) -> Option<u8> {
        self.end().map(|end| end.code)
    }

    /// The container's end, once nothing runs and nothing will.
    pub fn end(&self) -> Option<ContainerEnd> {
        match self.stage {
            Stage::New => None,
            Stage::Running => ContainerEnd::when_all_have_ended(&self.apps),
            Stage::Ending | Stage::Stopping | Stage::Killing if !self.apps.iter().all(App::is_empty) => None,
            Stage::Ending | Stage::Stopping | Stage::Killing => Some(match self.cause {
                Some(result) => ContainerEnd::because_of(result),
                None => ContainerEnd::after_stop(&self.apps),
            }),
        }
    }
}

/// True if the container is ready: an app is up, and none is missed.
fn is_ready(apps: &[App]) -> bool {
    apps.iter().any(App::is_up) && apps.iter().all(|app| app.is_up() || app.is_over())
}

fn longest_drain_delay(apps: &[App]) -> Time {
    apps.iter().map(|app| app.policy().drain_delay).max().unwrap_or_default()
}

/// Forgets the apps that the configuration has no more, and of which nothing runs. Returns true if there are any.
fn forget_removed(apps: &mut Vec<App>, context: &mut Context) -> bool {
    let before = apps.len();
    apps.retain(|app| {
        let is_gone = app.is_removed() && app.is_empty();
        if is_gone {
            context.report(Report::Removed { app: app.id });
            context.effects.push(Effect::ForgetApp(app.id));
        }
        !is_gone
    });
    apps.len() < before
}

/// Asks every app to stop.
fn begin_stop(apps: &mut [App], context: &mut Context) {
    context.effects.push(Effect::AnnounceStopping);
    apps.iter_mut().filter(|app| !app.is_removed()).for_each(|app| app.shut_down(RolloutError::Stopped, context));
    order::reconcile(apps, context);
}

/// Lets something happen in the slot of that worker, if it still has one.
fn in_slot_of(
    apps: &mut [App],
    id: WorkerId,
    context: &mut Context,
    step: impl FnOnce(&mut Slot, &app::Profile, &mut Context) -> Outcome,
) {
    if let Some((app, at)) = find(apps, id) {
        app.in_slot(at, context, step);
    }
}

fn for_each_app(apps: &mut [App], target: Target, act: impl FnMut(&mut App)) {
    apps.iter_mut().filter(|app| target.has_app(app.id) && !app.is_removed()).for_each(act);
}

/// Acts on each slot of the target that is not being removed.
fn for_each_slot(apps: &mut [App], target: Target, mut act: impl FnMut(&mut App, usize)) {
    for app in apps.iter_mut().filter(|app| target.has_app(app.id) && !app.is_removed()) {
        for at in 0..app.slots.len() {
            let is_meant = |slot: &Slot| target.has_slot(slot.id) && slot.desired != Desired::Removed;
            if app.slots.get(at).is_some_and(is_meant) {
                act(app, at);
            }
        }
    }
}

/// The worker's app, and the position of its slot in it.
fn find(apps: &mut [App], id: WorkerId) -> Option<(&mut App, usize)> {
    apps.iter_mut().find_map(|app| app.slot_of(id).map(|at| (app, at)))
}
