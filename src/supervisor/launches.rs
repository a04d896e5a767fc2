//! Keeps the launch specifications of all apps, one for each generation that is in use.

use super::app_files::Variables;
use super::launch::LaunchSpec;
use crate::config::AppConfig;
use crate::core::{AppId, Policy};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The apps of the container, by their numbers.
#[derive(Default)]
pub(super) struct Launches {
    apps: BTreeMap<AppId, Generations>,
    /// The number of the next app.
    next_id: u32,
}

/// One app's generations.
struct Generations {
    /// The one that is shown: the newest that could be prepared.
    current: Rc<LaunchSpec>,
    in_use: BTreeMap<u32, Rc<LaunchSpec>>,
    /// The settings that the next generation has: those of the configuration, though a reload with them has failed.
    wanted: AppConfig,
    /// A thread reads the files again. When their file system hangs it may do so for ever, and no second one is started.
    is_being_read: Arc<AtomicBool>,
}

/// Leave to read an app's files, given back when it is dropped.
pub(super) struct Reading(Arc<AtomicBool>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Launches {
    /// The number of the next app.
    pub(super) fn next_id(&self) -> AppId {
        AppId(self.next_id)
    }

    /// Adds an app with its first generation.
    pub(super) fn add(&mut self, launch: LaunchSpec) {
        let id = launch.id;
        self.next_id = self.next_id.max(id.0 + 1);
        let current = Rc::new(launch);
        let mut in_use = BTreeMap::new();
        in_use.insert(1, current.clone());
        let wanted = current.app.clone();
        self.apps.insert(id, Generations { current, in_use, wanted, is_being_read: Arc::default() });
    }

    /// Forgets an app.
    pub(super) fn remove(&mut self, id: AppId) {
        self.apps.remove(&id);
    }

    /// The number of apps.
    pub(super) fn len(&self) -> usize {
        self.apps.len()
    }

    /// An app's newest generation.
    pub(super) fn get(&self, id: AppId) -> Option<&LaunchSpec> {
        self.apps.get(&id).map(|app| &*app.current)
    }

    /// The same, to be kept.
    pub(super) fn current(&self, id: AppId) -> Option<Rc<LaunchSpec>> {
        self.apps.get(&id).map(|app| app.current.clone())
    }

    /// That generation of an app.
    pub(super) fn of(&self, id: AppId, generation: u32) -> Option<&Rc<LaunchSpec>> {
        let app = self.apps.get(&id)?;
        Some(app.in_use.get(&generation).unwrap_or(&app.current))
    }

    /// The newest generation of each app.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AppId, &LaunchSpec)> {
        self.apps.iter().map(|(id, app)| (*id, &*app.current))
    }

    /// The app of that name. One that is being removed may still have it too.
    pub(super) fn find(&self, name: &str) -> Option<AppId> {
        self.iter().filter(|(_, launch)| launch.app.name == name).map(|(id, _)| id).last()
    }

    /// The policy of an app: the names of those before it are numbers there.
    pub(super) fn policy(&self, app: &AppConfig) -> Policy {
        Policy { after: app.after.iter().filter_map(|name| self.find(name)).collect(), ..app.policy.clone() }
    }

    /// Notes the settings of the next generation.
    pub(super) fn configure(&mut self, id: AppId, settings: AppConfig) {
        if let Some(app) = self.apps.get_mut(&id) {
            app.wanted = settings;
        }
    }

    /// Changes settings by which nothing is started.
    pub(super) fn adjust(&mut self, id: AppId, settings: AppConfig) {
        if let Some(app) = self.apps.get_mut(&id) {
            let newest = app.in_use.last_entry();
            app.wanted = settings.clone();
            app.current = Rc::new(app.current.with(settings));
            newest.into_iter().for_each(|mut newest| drop(newest.insert(app.current.clone())));
        }
    }

    /// The settings of an app's next generation.
    pub(super) fn wanted(&self, id: AppId) -> Option<AppConfig> {
        self.apps.get(&id).map(|app| app.wanted.clone())
    }

    /// Leave to read an app's files again, while nobody else has it.
    pub(super) fn begin_reading(&self, id: AppId) -> Option<Reading> {
        let app = self.apps.get(&id)?;
        let is_taken = app.is_being_read.swap(true, Ordering::Relaxed);
        (!is_taken).then(|| Reading(app.is_being_read.clone()))
    }

    /// Adds a generation with the settings and variables that were read for it, and returns it.
    ///
    /// # Errors
    /// A socket that cannot be opened.
    pub(super) fn add_generation(
        &mut self,
        id: AppId,
        generation: u32,
        settings: AppConfig,
        variables: Variables,
    ) -> Result<Option<&LaunchSpec>, String> {
        let Some(app) = self.apps.get_mut(&id) else { return Ok(None) };
        app.current = Rc::new(app.current.next(settings, variables)?);
        app.in_use.insert(generation, app.current.clone());
        Ok(Some(&app.current))
    }

    /// Forgets generations of which no worker will be started any more.
    pub(super) fn keep(&mut self, id: AppId, kept: &[u32]) {
        if let Some(app) = self.apps.get_mut(&id) {
            app.in_use.retain(|generation, _| kept.contains(generation));
            if let Some((_, newest)) = app.in_use.last_key_value() {
                app.current = newest.clone();
            }
        }
    }
}
