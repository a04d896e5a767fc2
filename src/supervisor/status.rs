//! Answers to the control plane: what the fleet, the processes and the book say, put together.

use super::event_loop::Supervisor;
use super::launch::LaunchSpec;
use crate::config::scaled;
use crate::control::types::{AppStatus, Description, Reloading, Status, WorkerStatus};
use crate::control::{Accepted, Action, Call, JournalState, Target as Name, redacted_command, time_text};
use crate::core::{
    App, AppId, Count, Desired, Event, Phase, Refused, RolloutReason, Signal, Slot, SlotId, SlotState, Target, Worker,
};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

impl Supervisor {
    /// Answers a call; what is to happen in the fleet is returned.
    pub(super) fn answer(&mut self, call: Call) -> Option<Event> {
        match call {
            Call::Status(reply) => drop(reply.send(self.status())),
            Call::Describe(slot, reply) => drop(reply.send(self.describe(slot))),
            Call::Find(target, reply) => drop(reply.send(self.find(&target))),
            Call::Act(action, reply) => {
                let (answer, event) = match self.act(action) {
                    Ok((accepted, event)) => (Ok(accepted), event),
                    Err(why) => (Err(why), None),
                };
                let _ = reply.send(answer);
                return event;
            }
        }
        None
    }

    fn act(&mut self, action: Action) -> Result<(Accepted, Option<Event>), String> {
        let accepted = Accepted { events_from: self.book.open().end(), ..Accepted::default() };
        let (accepted, event) = match action {
            Action::Reload => {
                // One that is asked for during another follows it, as does every other that is asked for until then.
                let generations = self.fleet.apps().iter().map(|app| (app.id, app.newest() + 1)).collect();
                (Accepted { generations, ..accepted }, Event::Reload(Target::All))
            }
            Action::Scale { app, to } => {
                let app = self.app(app.as_deref())?;
                let now = self.fleet.app(app).map_or(1, App::wanted);
                let count = scaled(&to, now)?;
                let scaled = Some((app, now, count));
                (Accepted { scaled, ..accepted }, Event::Scale(Target::App(app), Count::To(count)))
            }
            Action::Start(slot) => (accepted, Event::Start(Target::Slot(slot))),
            Action::Stop(slot) => (accepted, Event::Stop(Target::Slot(slot))),
            Action::Restart(slot) => (accepted, Event::Restart(Target::Slot(slot))),
            Action::Drop(slot) => (accepted, Event::Remove(Target::Slot(slot))),
            Action::Signal(slot, signal) => {
                let message = self.send_signal(slot, signal)?;
                return Ok((Accepted { message: Some(message), ..accepted }, None));
            }
            Action::Shutdown(client) => {
                self.asked_to_end_by = client;
                let message = Some("the container stops".into());
                (Accepted { message, ..accepted }, Event::Shutdown)
            }
        };
        self.fleet.admit(&event).map_err(|refused| self.refusal(refused))?;
        Ok((accepted, Some(event)))
    }

    fn send_signal(&self, slot: SlotId, signal: Signal) -> Result<String, String> {
        let holder = self.fleet.slot(slot).and_then(Slot::holder).map(|worker| worker.id);
        let pid = holder.and_then(|worker| self.workers.pid(worker));
        let (Some(worker), Some(pid)) = (holder, pid) else {
            return Err(format!("{} has no process now", self.name(slot)));
        };
        match self.workers.signal(worker, signal, false) {
            Ok(()) => Ok(format!("{signal} sent to {} (pid {pid})", self.name(slot))),
            Err(errno) => Err(format!("{signal} not sent to {} (pid {pid}): {}", self.name(slot), errno.desc())),
        }
    }

    fn refusal(&self, refused: Refused) -> String {
        match refused {
            Refused::Stopping => "the container is stopping".into(),
            Refused::NoSuchTarget => "there is no such worker any more".into(),
            Refused::BeingRemoved(slot) => {
                format!("{} is on its way out: it was deleted, or scaled down", self.name(slot))
            }
            Refused::LastSlot(slot) => {
                format!("{} is the last worker: `delete all` ends the container", self.name(slot))
            }
        }
    }

    fn app(&self, name: Option<&str>) -> Result<AppId, String> {
        let names: Vec<&str> = self.launches.values().map(|launch| launch.app.name.as_str()).collect();
        match name {
            None if names.len() == 1 => Ok(AppId(0)),
            None => Err(format!("which app? there are {}", names.join(", "))),
            Some(name) => names
                .iter()
                .position(|one| *one == name)
                .map(|at| AppId(at as u32))
                .ok_or_else(|| format!("there is no app {name}; there is {}", names.join(", "))),
        }
    }

    /// The slots that a name means; at least one.
    fn find(&self, Name(name): &Name) -> Result<Vec<SlotId>, String> {
        let all = || self.fleet.apps().iter().flat_map(|app| &app.slots).map(|slot| slot.id);
        let stays = |slot: &SlotId| !self.is_leaving(*slot);
        let alone = self.launches.len() == 1;
        let is_meant = |slot: &SlotId| {
            let app = self.launches.get(&slot.app).map_or("", |launch| &launch.app.name);
            // Who is named is meant, even on the way out.
            (name == "all" || *name == app) && stays(slot)
                || *name == self.name(*slot)
                || alone && *name == slot.index.to_string()
        };
        let found: Vec<SlotId> = all().filter(is_meant).collect();
        if found.is_empty() {
            let names: Vec<String> = all().map(|slot| self.name(slot)).collect();
            let some = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 8 { "…" } else { "" };
            return Err(format!("there is no worker {name}; there is {some}{more} and all"));
        }
        Ok(found)
    }

    fn is_leaving(&self, slot: SlotId) -> bool {
        self.fleet.slot(slot).is_some_and(|slot| slot.desired == Desired::Removed)
    }

    fn name(&self, slot: SlotId) -> String {
        let app = self.launches.get(&slot.app).map_or("?", |launch| &launch.app.name);
        format!("{app}-{}", slot.index)
    }

    fn status(&self) -> Status {
        let pages = self.book.open();
        let apps = self
            .fleet
            .apps()
            .iter()
            .zip(self.launches.values())
            .map(|(app, launch)| self.app_status(app, launch, &pages));
        let slots = self.fleet.apps().iter().flat_map(|app| &app.slots);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            state: if self.fleet.is_stopping() { "stopping" } else { "running" }.into(),
            started: time_text(self.started_at),
            uptime_ms: ms(self.now()),
            apps: apps.collect(),
            workers: slots.flat_map(|slot| self.rows(slot, &pages)).collect(),
        }
    }

    fn app_status(&self, app: &App, launch: &LaunchSpec, pages: &JournalState) -> AppStatus {
        let rollout = app.rollout.as_ref().filter(|rollout| rollout.reason == RolloutReason::Reload);
        let listens = BTreeSet::from_iter(self.workers.ports.addresses(|slot| slot.app == app.id));
        AppStatus {
            name: launch.app.name.clone(),
            command: shown(&launch.app.command),
            wanted: app.wanted(),
            ready: app.slots.iter().filter(|slot| slot.is_ready()).count() as u32,
            generation: app.newest(),
            reload: rollout.map(|rollout| Reloading {
                generation: rollout.generation,
                since_ms: ms(self.now().saturating_sub(rollout.since)),
            }),
            last_reload: pages.last_reload(app.id).cloned(),
            listens: listens.into_iter().collect(),
        }
    }

    /// A slot's rows: who holds it, and who comes or goes beside.
    fn rows(&self, slot: &Slot, pages: &JournalState) -> Vec<WorkerStatus> {
        let mut rows = Vec::new();
        let beside = slot.incoming.iter().map(|worker| (worker, "replacement"));
        let beside: Vec<_> = beside.chain(slot.outgoing.iter().map(|worker| (worker, "replaced"))).collect();
        let holder = slot.holder();
        if holder.is_some() || slot.state != SlotState::Vacant || beside.is_empty() {
            rows.push(self.row(slot, holder, "worker", pages));
        }
        rows.extend(beside.into_iter().map(|(worker, role)| self.row(slot, Some(worker), role, pages)));
        rows
    }

    fn row(&self, slot: &Slot, worker: Option<&Worker>, role: &str, pages: &JournalState) -> WorkerStatus {
        let history = pages.history(slot.id);
        let now = self.now();
        let state = match (worker.map(|worker| worker.phase), &slot.state) {
            (Some(Phase::Forked { .. } | Phase::Starting { .. }), _) => "starting",
            (Some(Phase::Ready { .. }), _) => "ready",
            (Some(Phase::Draining { .. } | Phase::Killing { .. }), _) => "draining",
            (None, SlotState::Backoff(_)) => "backoff",
            (None, SlotState::Stopped) => "stopped",
            (None, SlotState::Failed) => "failed",
            (None, SlotState::Vacant | SlotState::Held(_)) => "starting",
        };
        let retry = match slot.state {
            SlotState::Backoff(until) if worker.is_none() => Some(ms(until.saturating_sub(now))),
            _ => None,
        };
        WorkerStatus {
            id: self.name(slot.id),
            app: self.launches.get(&slot.id.app).map_or(String::new(), |launch| launch.app.name.clone()),
            slot: slot.id.index,
            role: role.into(),
            state: state.into(),
            pid: worker.and_then(|worker| self.workers.pid(worker.id)).map(|pid| pid.as_raw().unsigned_abs()),
            generation: worker.map_or(slot.generation, |worker| worker.generation),
            uptime_ms: worker.map(|worker| ms(now.saturating_sub(worker.started))),
            restarts: history.map_or(0, |history| history.restarts),
            cpu_percent: None,
            memory_bytes: None,
            ready_by: worker.and_then(|worker| pages.ready_by(worker.id)).map(str::to_owned),
            listens: worker.map_or_else(Vec::new, |worker| self.workers.ports.addresses_of(worker.id)),
            retry_in_ms: retry,
            last_exit: history.and_then(|history| history.exits.front().cloned()),
        }
    }

    /// What of a description the loop knows; the rest is in /proc.
    fn describe(&self, id: SlotId) -> Option<Description> {
        let (slot, launch) = (self.fleet.slot(id)?, self.launches.get(&id.app)?);
        let pages = self.book.open();
        let policy = &launch.app.policy;
        Some(Description {
            workers: self.rows(slot, &pages),
            command: shown(&launch.command(id.index)),
            environment: Vec::new(),
            cwd: None,
            user: None,
            exits: pages.history(id).map(|history| history.exits.iter().cloned().collect()).unwrap_or_default(),
            crashes: slot.crashes(),
            max_restarts: policy.max_restarts,
            readiness: launch.app.ready.name(),
            stop_signal: policy.stop.signal.to_string(),
            stop_timeout_ms: ms(policy.stop.timeout),
            open_files: None,
            open_files_limit: None,
            threads: None,
            last_lines: Vec::new(),
        })
    }
}

/// A command as it may be shown.
fn shown(command: &[OsString]) -> Vec<String> {
    redacted_command(command.iter().map(|word| word.to_string_lossy().into_owned()))
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}
