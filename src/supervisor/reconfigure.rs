//! Reads the configuration file again, and tells the fleet what has changed.

use super::app_files::{Variables, read_again};
use super::event_loop::Supervisor;
use super::launch::LaunchSpec;
use super::triggers::WatchedByApp;
use super::watching::Watched;
use super::{Notice, within_time};
use crate::config::{AppChange, AppConfig, Changes, ConfigSource, SupervisorConfig};
use crate::control::{Accepted, SharedConfig};
use crate::core::{AppId, Event, Policy, Target};
use crate::ordered::ordered;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The configuration in force, and the state of its next reading.
pub(super) struct Configuration {
    pub(super) in_force: SupervisorConfig,
    /// The same, to be shown.
    shown: SharedConfig,
    /// The control socket's path.
    socket: Option<PathBuf>,
    /// The file is being read. A further request waits until it is read, and then it is read once more.
    is_being_read: bool,
    waiting: Vec<Request>,
}

/// A request for a reload of all apps.
pub(super) enum Request {
    /// SIGHUP: apps that have changed are reloaded, or all of them if none has.
    Signal,
    /// The control plane's: all apps are reloaded.
    Call(oneshot::Sender<Result<Accepted, String>>),
}

/// The configuration that a file holds, the variables of its new apps, and the state of what its apps watch.
pub(super) struct NewConfiguration {
    config: SupervisorConfig,
    variables: BTreeMap<String, Variables>,
    watched: WatchedByApp,
}

impl Configuration {
    pub(super) fn new(in_force: SupervisorConfig, shown: SharedConfig, socket: Option<PathBuf>) -> Configuration {
        shown.set(in_force.in_force(socket.as_deref()));
        Configuration { in_force, shown, socket, is_being_read: false, waiting: Vec::new() }
    }

    fn put_in_force(&mut self, config: SupervisorConfig) {
        self.shown.set(config.in_force(self.socket.as_deref()));
        self.in_force = config;
    }
}

/// The consequences of a new configuration.
#[derive(Default)]
struct Applied {
    has_changed: bool,
    /// The apps whose workers come or go because of it.
    rolled: Vec<AppId>,
}

impl Supervisor {
    /// Reloads all apps, after the configuration file is read again if there is one.
    pub(super) fn reload_all(&mut self, request: Request) {
        let Some(source) = self.configuration.in_force.source.clone() else {
            let generations = self.next_generations();
            return self.reload_unchanged(vec![request], &Applied::default(), generations);
        };
        let waiting = &mut self.configuration.waiting;
        if matches!(request, Request::Call(_)) || !waiting.iter().any(|other| matches!(other, Request::Signal)) {
            waiting.push(request);
        }
        if !std::mem::replace(&mut self.configuration.is_being_read, true) {
            self.read_configuration(source);
        }
    }

    fn read_configuration(&mut self, source: ConfigSource) {
        let requests = std::mem::take(&mut self.configuration.waiting);
        let known = ordered(self.configuration.in_force.apps.iter().map(|app| app.name.clone()));
        let notices = self.workers.notices.clone();
        tokio::task::spawn_local(async move {
            let read = within_time("the configuration file", move || read(&source, &known)).await;
            let _ = notices.send(Notice::Configuration(read.map(Box::new), requests)).await;
        });
    }

    /// Applies what was read, unless it has a fault: then nothing changes.
    pub(super) fn on_configuration(&mut self, read: Result<Box<NewConfiguration>, String>, requests: Vec<Request>) {
        self.configuration.is_being_read = false;
        match read {
            Ok(new) => {
                let generations = self.next_generations();
                let applied = if self.fleet.is_stopping() { Applied::default() } else { self.apply(*new) };
                self.reload_unchanged(requests, &applied, generations);
            }
            Err(faults) => {
                tracing::error!("nothing is reloaded: {faults}");
                for request in requests {
                    if let Request::Call(reply) = request {
                        let _ = reply.send(Err(faults.clone()));
                    }
                }
            }
        }
        if !self.configuration.waiting.is_empty()
            && let Some(source) = self.configuration.in_force.source.clone()
        {
            self.configuration.is_being_read = true;
            self.read_configuration(source);
        }
    }

    /// The generation to which each app's next reload brings it.
    fn next_generations(&self) -> Vec<(AppId, u32)> {
        self.fleet.apps().iter().map(|app| (app.id, app.newest() + 1)).collect()
    }

    /// Reloads those apps that the new configuration has not, where all are asked for or none has changed.
    fn reload_unchanged(&mut self, requests: Vec<Request>, applied: &Applied, generations: Vec<(AppId, u32)>) {
        let refusal = self.fleet.admit(&Event::Reload(Target::All)).err().map(|refused| self.refusal(refused));
        let accepted = Accepted { events_from: self.journal.lock().next_seq(), generations, ..Accepted::default() };
        let mut wants_all = !applied.has_changed;
        for request in requests {
            if let Request::Call(reply) = request {
                wants_all = true;
                let _ = reply.send(refusal.clone().map_or_else(|| Ok(accepted.clone()), Err));
            }
        }
        let others = self.fleet.apps().iter().map(|app| app.id).filter(|id| !applied.rolled.contains(id));
        match (wants_all, applied.rolled.is_empty()) {
            (false, _) => {}
            (true, true) => self.handle(Event::Reload(Target::All)),
            (true, false) => {
                let others: Vec<AppId> = others.collect();
                others.into_iter().for_each(|id| self.handle(Event::Reload(Target::App(id))));
            }
        }
        self.journal.wake();
    }

    /// Tells the fleet of each app that has come, gone or changed.
    fn apply(&mut self, new: NewConfiguration) -> Applied {
        let NewConfiguration { mut config, mut variables, watched } = new;
        std::mem::take(&mut config.warnings).iter().for_each(|warning| tracing::warn!("{warning}"));
        let changes = Changes::between(&self.configuration.in_force, &config);
        let mut applied = Applied { has_changed: !changes.is_empty(), rolled: Vec::new() };
        let Changes { added, removed, changed, container } = changes;
        if !container.is_empty() {
            tracing::warn!("{} changed: read at the start alone, so start the container again", container.join(", "));
        }
        let removed: Vec<AppId> = removed.iter().filter_map(|name| self.launches.find(name)).collect();
        for id in removed {
            applied.rolled.push(id);
            self.handle(Event::RemoveApp(id));
        }
        let mut added: Vec<AppId> = added
            .into_iter()
            .filter_map(|app| {
                let variables = variables.remove(&app.name).unwrap_or_default();
                self.add_app(app, variables)
            })
            .collect();
        applied.rolled.extend(&added);
        // An app comes after those before it: the fleet waits for none that it does not know.
        while !added.is_empty() {
            let policy = |id: AppId| self.launches.get(id).map(|launch| Arc::new(self.launches.policy(&launch.app)));
            let is_next = |policy: &Arc<Policy>| !policy.after.iter().any(|before| added.contains(before));
            let next = added.iter().find_map(|id| Some((*id, policy(*id).filter(is_next)?)));
            // A configuration has no cycles.
            let Some((id, policy)) = next else { break };
            added.retain(|other| *other != id);
            self.handle(Event::AddApp(id, policy));
        }
        for change in changed {
            self.change_app(change, &mut applied);
        }
        self.signals.stop_signals = config.stop_signals();
        self.configuration.put_in_force(config);
        self.replace_triggers(watched);
        applied
    }

    /// Opens what a new app needs.
    fn add_app(&mut self, app: AppConfig, variables: Variables) -> Option<AppId> {
        let mut listeners = Vec::new();
        for address in &app.listen {
            match address.open() {
                Ok(listener) => listeners.push(Rc::new(listener)),
                Err(why) => {
                    tracing::error!("{} is not added: --listen: {why}", app.name);
                    return None;
                }
            }
        }
        let id = self.launches.next_id();
        let mut launch = LaunchSpec::new(id, app, listeners, variables);
        launch.inject();
        match launch.ports() {
            Ok(ports) => self.workers.ports.set_app(ports),
            Err(error) => {
                tracing::error!("{} is not added: its sockets cannot be shared: {error}", launch.app.name);
                return None;
            }
        }
        self.launches.add(launch);
        Some(id)
    }

    fn change_app(&mut self, change: AppChange, applied: &mut Applied) {
        let AppChange { app, settings, needs_new_workers } = change;
        let Some(id) = self.launches.find(&app.name) else { return };
        tracing::info!("{}: {} changed", app.name, settings.join(", "));
        let policy = Arc::new(self.launches.policy(&app));
        if needs_new_workers {
            applied.rolled.push(id);
            self.launches.configure(id, app);
            self.handle(Event::ConfigureApp(id, policy));
        } else {
            self.launches.adjust(id, app);
            self.handle(Event::AdjustApp(id, policy));
        }
    }
}

/// Reads the file, the variables of apps that are new, and the state of what is watched. Not for the event loop: a file system may hang.
fn read(source: &ConfigSource, known: &BTreeSet<String>) -> Result<NewConfiguration, String> {
    let config = source.read_again().map_err(|faults| faults.join("; "))?;
    let new = config.apps.iter().filter(|app| !known.contains(&app.name));
    let variables = new.map(|app| Ok((app.name.clone(), read_again(&app.env_files)?)));
    let variables = variables.collect::<Result<_, String>>()?;
    let watched = config.apps.iter().filter_map(|app| Some((app.name.clone(), Watched::new(&app.reloads)?))).collect();
    Ok(NewConfiguration { config, variables, watched })
}
