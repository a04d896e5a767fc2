//! Orders the apps that depend on each other: who waits for whom at the start, at a reload and at the stop.

use super::*;

/// Lets every app close its gap, until none waits any more for what another has just done.
pub(super) fn reconcile(apps: &mut [App], context: &mut Context) {
    release(apps, context);
    // One app at least gets further in each round, so there are at most as many rounds as apps.
    for _ in 0..=apps.len() {
        apps.iter_mut().for_each(|app| app.reconcile(context));
        if !release(apps, context) {
            return;
        }
    }
}

/// Makes the reloads of apps that were asked for together wait for each other.
pub(super) fn chain_reloads(apps: &mut [App]) {
    let reloading: Vec<AppId> = apps.iter().filter(|app| app.is_reloading()).map(|app| app.id).collect();
    for app in apps {
        let after = app.policy().after.clone();
        if let Some(rollout) = app.rollout.as_mut().filter(|rollout| !rollout.is_prepared) {
            rollout.waits_for = after.into_iter().filter(|id| reloading.contains(id)).collect();
        }
    }
}

/// Lets those apps go on for which nobody is to be waited any more. Returns true if there are any.
fn release(apps: &mut [App], context: &mut Context) -> bool {
    apps.iter_mut().for_each(App::note_up);
    let facts: Vec<Facts> = apps.iter().map(Facts::of).collect();
    let fact = |id: &AppId| facts.iter().find(|facts| facts.id == *id);
    let mut has_released = false;
    for app in apps {
        let is_up = |id: &AppId| fact(id).is_none_or(|facts| facts.is_up);
        if app.is_held() && app.policy().after.iter().all(is_up) {
            app.release();
            has_released = true;
        }
        let is_needed = facts.iter().any(|facts| facts.runs && facts.after.contains(&app.id));
        has_released |= app.set_needed(is_needed);
        has_released |= app.await_reloads(|id| fact(&id).map(|facts| facts.reload), context);
    }
    has_released
}

/// The state of another app's reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadState {
    UnderWay,
    Failed,
    Done,
}

/// What other apps must know of one.
struct Facts {
    id: AppId,
    after: Vec<AppId>,
    is_up: bool,
    runs: bool,
    reload: ReloadState,
}

impl Facts {
    fn of(app: &App) -> Facts {
        Facts {
            id: app.id,
            after: app.policy().after.clone(),
            is_up: app.has_been_up() || app.is_over(),
            runs: app.is_wanted() || !app.is_empty(),
            reload: app.reload_state(),
        }
    }
}
