//! Answers the control plane's calls from the fleet, the processes and the journal.

use super::condition::{SlotFacts, condition};
use super::event_loop::Supervisor;
use super::launch::LaunchSpec;
use super::reconfigure::Request;
use crate::config::{Show, scaled};
use crate::control::types::{AppStatus, Description, NodeStatus, Reloading, Status, WorkerStatus};
use crate::control::{Accepted, Action, Call, Holder, JournalState, redacted_command, time_text};
use crate::core::{
    App, Count, Desired, Event, Kind, Phase, Refused, RolloutReason, Signal, Slot, SlotId, SlotState, Target, Worker,
};
use std::ffi::OsString;
use std::time::Duration;

impl Supervisor {
    /// Answers a call; what is to happen in the fleet is returned.
    pub(super) fn answer(&mut self, call: Call) -> Option<Event> {
        match call {
            Call::Status(reply) => drop(reply.send(self.status())),
            Call::Describe(slot, reply) => drop(reply.send(self.describe(slot))),
            Call::Resolve(name, reply) => drop(reply.send(self.resolve(&name))),
            Call::Holders(reply) => drop(reply.send(self.holders())),
            Call::Act(Action::Reload(Target::All), reply) => self.reload_all(Request::Call(reply)),
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
        let accepted = Accepted { events_from: self.journal.lock().next_seq(), ..Accepted::default() };
        let (accepted, event) = match action {
            Action::Reload(Target::Slot(slot)) if self.fleet.slot(slot).is_some_and(|slot| slot.holder().is_none()) => {
                return Err(format!("{0} has no process to replace: start {0}", self.name(slot)));
            }
            Action::Reload(target @ Target::Slot(_)) => (accepted, Event::Reload(target)),
            Action::Reload(target @ (Target::All | Target::App(_))) => {
                // A reload that is asked for during another one follows it, together with all others until then.
                let apps = self.fleet.apps().iter().filter(|app| target.has_app(app.id));
                let generations = apps.map(|app| (app.id, app.newest() + 1)).collect();
                (Accepted { generations, ..accepted }, Event::Reload(target))
            }
            Action::Scale { app, to } => {
                let now = self.fleet.app(app).map_or(1, App::wanted);
                let count = scaled(&to, now)?;
                let scaled = Some((app, now, count));
                (Accepted { scaled, ..accepted }, Event::Scale(Target::App(app), Count::To(count)))
            }
            Action::Start(slot) => (accepted, Event::Start(Target::Slot(slot))),
            Action::Stop(slot) => (accepted, Event::Stop(Target::Slot(slot))),
            Action::Restart(slot) => (accepted, Event::Restart(Target::Slot(slot))),
            Action::Delete(slot) => (accepted, Event::Remove(Target::Slot(slot))),
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

    pub(super) fn refusal(&self, refused: Refused) -> String {
        match refused {
            Refused::Stopping => "the container is stopping".into(),
            Refused::AppRemoved => "the app is on its way out: the configuration has it no more".into(),
            Refused::NoSuchTarget => "there is no such worker any more".into(),
            Refused::BeingRemoved(slot) => {
                format!("{} is on its way out: it was deleted, or scaled down", self.name(slot))
            }
            Refused::LastSlot(slot) => {
                format!("{} is the last worker: `delete all` ends the container", self.name(slot))
            }
        }
    }

    /// The target that a name means, and its slots: at least one.
    fn resolve(&self, name: &str) -> Result<(Target, Vec<SlotId>), String> {
        let all = || self.fleet.apps().iter().flat_map(|app| &app.slots).map(|slot| slot.id);
        let is_alone = self.launches.len() == 1;
        // A slot that is named is meant even while it is being removed.
        let slot = all().find(|slot| self.name(*slot) == name || is_alone && slot.index.to_string() == name);
        let app = self.launches.find(name);
        let target = match (slot, app) {
            (Some(slot), _) => Some(Target::Slot(slot)),
            (None, Some(app)) => Some(Target::App(app)),
            (None, None) => (name == "all").then_some(Target::All),
        };
        let is_meant = |slot: &SlotId| match target {
            Some(Target::Slot(one)) => *slot == one,
            Some(target) => target.has_slot(*slot) && !self.is_leaving(*slot),
            None => false,
        };
        let slots: Vec<SlotId> = all().filter(is_meant).collect();
        match target.filter(|_| !slots.is_empty()) {
            Some(target) => Ok((target, slots)),
            None => {
                let names: Vec<String> = all().map(|slot| self.name(slot)).collect();
                let some = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
                let more = if names.len() > 8 { "…" } else { "" };
                let in_the_file = self.configuration.in_force.source.as_ref().map_or_else(String::new, |source| {
                    let file = source.path().display();
                    format!("; an app that is new in {file} starts at SIGHUP, or at `rinit reload` without a name")
                });
                Err(format!("there is no worker {name}; there is {some}{more} and all{in_the_file}"))
            }
        }
    }

    fn holders(&self) -> Vec<Holder> {
        let slots = self.fleet.apps().iter().flat_map(|app| &app.slots);
        let holder = |slot: &Slot| {
            let worker = slot.holder()?.id;
            let settings = self.launches.get(slot.id.app).map(|launch| &launch.app)?;
            let (name, app, app_metrics) = (self.name(slot.id), settings.name.clone(), settings.app_metrics.clone());
            Some(Holder { slot: slot.id, name, app, app_metrics, worker, pid: self.workers.pid(worker)? })
        };
        slots.filter_map(holder).collect()
    }

    fn is_leaving(&self, slot: SlotId) -> bool {
        self.fleet.slot(slot).is_some_and(|slot| slot.desired == Desired::Removed)
    }

    fn name(&self, slot: SlotId) -> String {
        let app = self.launches.get(slot.app).map_or("?", |launch| &launch.app.name);
        format!("{app}-{}", slot.index)
    }

    fn status(&self) -> Status {
        let journal = self.journal.lock();
        let apps =
            self.fleet.apps().iter().filter_map(|app| Some(self.app_status(app, self.launches.get(app.id)?, &journal)));
        let slots = self.fleet.apps().iter().flat_map(|app| &app.slots);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            state: if self.fleet.is_stopping() { "stopping" } else { "running" }.into(),
            started: time_text(self.started_at),
            uptime_ms: ms(self.now()),
            apps: apps.collect(),
            workers: slots.flat_map(|slot| self.rows(slot, &journal)).collect(),
        }
    }

    fn app_status(&self, app: &App, launch: &LaunchSpec, journal: &JournalState) -> AppStatus {
        let rollout = app.rollout.as_ref().filter(|rollout| rollout.reason == RolloutReason::Reload);
        let mut listens = self.workers.ports.addresses(|slot| slot.app == app.id);
        listens.sort_unstable();
        listens.dedup();
        let is_task = app.policy().kind == Kind::Task;
        // A worker that was stopped by hand, or has finished, is not wanted; one of a task is to finish.
        let is_wanted = |slot: &&Slot| slot.desired == Desired::Up && (is_task || slot.state != SlotState::Stopped);
        let is_ready = |slot: &&Slot| if is_task { app.has_been_up() || slot.has_succeeded() } else { slot.is_ready() };
        let wanted = app.slots.iter().filter(is_wanted).count() as u32;
        let ready = app.slots.iter().filter(is_wanted).filter(is_ready).count() as u32;
        let slots: Vec<_> = app.slots.iter().filter(is_wanted).map(|slot| self.facts(slot, is_ready(&slot))).collect();
        AppStatus {
            id: app.id.0,
            name: launch.app.name.clone(),
            kind: if is_task { "task" } else { "service" }.into(),
            command: shown(&launch.app.command),
            instances: app.wanted(),
            wanted,
            ready,
            missing: wanted - ready,
            condition: if app.is_held() { "waiting" } else { condition(&slots) }.into(),
            is_over: app.is_over(),
            generation: app.newest(),
            reload: rollout.map(|rollout| Reloading {
                generation: rollout.generation,
                since_ms: ms(self.now().saturating_sub(rollout.since)),
            }),
            last_reload: journal.last_reload(app.id).cloned(),
            listens,
        }
    }

    fn facts(&self, slot: &Slot, is_ready: bool) -> SlotFacts {
        let has_lived = |worker: &Worker| self.now().saturating_sub(worker.started) >= slot.policy.stable_after;
        SlotFacts {
            is_ready,
            crashes: slot.crashes(),
            is_stable: slot.holder().is_some_and(|worker| worker.is_ready() && has_lived(worker)),
            has_failed: slot.state == SlotState::Failed,
        }
    }

    /// A slot's rows: who holds it, and who comes or goes beside.
    fn rows(&self, slot: &Slot, journal: &JournalState) -> Vec<WorkerStatus> {
        let mut rows = Vec::new();
        let beside = slot.incoming.iter().map(|worker| (worker, "replacement"));
        let beside: Vec<_> = beside.chain(slot.outgoing.iter().map(|worker| (worker, "replaced"))).collect();
        let holder = slot.holder();
        if holder.is_some() || slot.state != SlotState::Vacant || beside.is_empty() {
            rows.push(self.row(slot, holder, "worker", journal));
        }
        rows.extend(beside.into_iter().map(|(worker, role)| self.row(slot, Some(worker), role, journal)));
        rows
    }

    fn row(&self, slot: &Slot, worker: Option<&Worker>, role: &str, journal: &JournalState) -> WorkerStatus {
        let history = journal.history(slot.id);
        let now = self.now();
        let state = match (worker.map(|worker| worker.phase), &slot.state) {
            (Some(Phase::Forked { .. } | Phase::Starting { .. }), _) => "starting",
            (Some(Phase::Ready { .. }), _) => "ready",
            (Some(Phase::Draining { .. } | Phase::Killing { .. }), _) => "draining",
            (None, SlotState::Backoff(_)) => "backoff",
            (None, SlotState::Stopped) => "stopped",
            (None, SlotState::Failed) => "failed",
            (None, SlotState::Vacant) if self.fleet.app(slot.id.app).is_some_and(App::is_held) => "waiting",
            (None, SlotState::Vacant | SlotState::Held(_)) => "starting",
        };
        let retry = match slot.state {
            SlotState::Backoff(until) if worker.is_none() => Some(ms(until.saturating_sub(now))),
            _ => None,
        };
        WorkerStatus {
            id: self.name(slot.id),
            app: self.launches.get(slot.id.app).map_or(String::new(), |launch| launch.app.name.clone()),
            slot: slot.id.index,
            role: role.into(),
            state: state.into(),
            pid: worker.and_then(|worker| self.workers.pid(worker.id)).map(|pid| pid.as_raw().unsigned_abs()),
            generation: worker.map_or(slot.generation, |worker| worker.generation),
            started: worker.map(|worker| time_text(self.started_at + worker.started)),
            uptime_ms: worker.map(|worker| ms(now.saturating_sub(worker.started))),
            restarts: history.map_or(0, |history| history.restarts),
            cpu_percent: None,
            memory_bytes: None,
            ready_by: worker.and_then(|worker| journal.ready_by(worker.id)).map(str::to_owned),
            status: worker.and_then(|worker| self.workers.status(worker.id)),
            listens: worker.map_or_else(Vec::new, |worker| self.workers.ports.addresses_of(worker.id)),
            connections: worker.and_then(|worker| self.workers.ports.connections_of(worker.id)),
            open_connections: None,
            retry_in_ms: retry,
            is_crash_looping: self.facts(slot, slot.is_ready()).is_crash_looping(),
            last_exit: history.and_then(|history| history.exits.front().cloned()),
            node: worker.and_then(|worker| self.workers.ports.health_of(worker.id)).map(|health| NodeStatus {
                event_loop_lag_ms: health.lag,
                heap_used_bytes: health.heap,
                active_handles: health.handles,
            }),
        }
    }

    /// The part of a description that the loop knows; the rest is in /proc.
    fn describe(&self, id: SlotId) -> Option<Description> {
        let (slot, launch) = (self.fleet.slot(id)?, self.launches.get(id.app)?);
        let journal = self.journal.lock();
        let (policy, history) = (&launch.app.policy, journal.history(id));
        Some(Description {
            workers: self.rows(slot, &journal),
            command: shown(&launch.command(id.index)),
            environment: Vec::new(),
            cwd: None,
            user: None,
            max_memory: policy.max_memory.map(|limit| limit.show()),
            max_uptime_ms: policy.max_uptime.map(ms),
            replacements: history.map(|history| history.replacements.iter().cloned().collect()).unwrap_or_default(),
            exits: history.map(|history| history.exits.iter().cloned().collect()).unwrap_or_default(),
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
