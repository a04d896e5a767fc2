//! Words the fleet's reports for the log.

use super::launches::Launches;
use crate::core::{
    AppId, AppResult, ContainerEnd, EndReason, Exit, ExitKind, Expectation, Missing, Next, ReadySignal, Report, Role,
    RolloutError, RolloutReason, ScaleReason, SlotId, Time, WorkerId,
};
use crate::units::{count, size as bytes, time as short};
use nix::errno::Errno;
use nix::unistd::Pid;
use tracing::Level;

/// A message for the log.
pub(super) struct Message {
    level: Level,
    text: String,
    /// True if the worker's last lines on stderr explain it.
    explained_by_stderr: bool,
    /// rinit knows of no port that the worker has bound or tried to.
    is_bind_unseen: bool,
    /// Its exit code says that its port is taken.
    is_port_taken: bool,
}

/// The advice for a worker that finds its port taken, by a sibling or another program.
const UNSEEN_BIND: &str = "its port is taken, and its bind() did not reach rinit, so the port is not shared: let it set \
                           SO_REUSEPORT, or set --listen or --increment-env";

impl Message {
    fn new(level: Level, text: String) -> Message {
        Message { level, text, explained_by_stderr: false, is_bind_unseen: false, is_port_taken: false }
    }

    /// Its level, as the log has it.
    pub(super) fn level(&self) -> &'static str {
        match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Adds advice if the worker, of which rinit knows no port, ended because its port was taken.
    pub(super) fn on_unseen_bind(&mut self, exit: Exit) {
        self.is_bind_unseen = true;
        self.is_port_taken = matches!(exit.kind, ExitKind::Code(code) if i32::from(code) == Errno::EADDRINUSE as i32);
    }

    /// Writes it to the log, with the worker's last lines where they explain it.
    pub(super) fn write(&self, lines: &[String]) {
        let mut text = self.text.clone();
        if self.explained_by_stderr && !lines.is_empty() {
            text.push_str("; its last lines on stderr:");
            lines.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
            if lines.iter().any(|line| line.contains("cluster.") && line.contains("is not a function")) {
                text.push_str("\nan app that forks its own cluster needs --share-ports off -i 1 --reload restart");
            }
        }
        // As Node, the C libraries and Rust word it.
        let words = ["EADDRINUSE", "ddress already in use", "ddress in use", "AddrInUse"];
        let is_taken = |line: &String| words.iter().any(|word| line.contains(word));
        if self.is_bind_unseen && (self.is_port_taken || lines.iter().any(is_taken)) {
            text.push_str(&format!("\n{UNSEEN_BIND}"));
        }
        match self.level {
            Level::ERROR => tracing::error!("{text}"),
            Level::WARN => tracing::warn!("{text}"),
            Level::INFO => tracing::info!("{text}"),
            _ => tracing::debug!("{text}"),
        }
    }

    /// The text of a report.
    pub(super) fn of(
        report: &Report,
        launches: &Launches,
        pid_of: impl Fn(WorkerId) -> Option<Pid>,
        answer_of: impl Fn(WorkerId) -> Option<String>,
    ) -> Message {
        let app = |app: &AppId| launches.get(*app).map_or("?", |launch| &launch.app.name);
        let slot = |slot: &SlotId| format!("{}-{}", app(&slot.app), slot.index);
        let pid = |worker: &WorkerId| pid_of(*worker).map_or(String::new(), |pid| format!(" (pid {pid})"));
        let name = |at: &SlotId, worker: &WorkerId| slot(at) + &pid(worker);
        // The way in which it was asked whether it is ready, and the last answer.
        let asked = |app: &AppId, worker: &WorkerId| {
            let how = launches.get(*app).map_or(String::new(), |launch| launch.app.ready.to_string());
            let answer = answer_of(*worker).map_or(String::new(), |answer| format!(", last answer: {answer}"));
            format!("--ready {how}{answer}")
        };
        let failure = |error: &RolloutError| match error {
            RolloutError::Prepare(reason) => reason.clone(),
            RolloutError::Start { slot: at, error } => format!("the new {}: {error}", slot(at)),
            RolloutError::Exited { slot: at, exit, lived, .. } => {
                format!("the new {} ended with {exit} after {}", slot(at), short(*lived))
            }
            RolloutError::NotReady { slot: at, after, missing, .. } => {
                format!("the new {} was not ready within {}{}", slot(at), short(*after), lacking(missing))
            }
            RolloutError::OldRemains { slot: at, worker } => {
                format!("the old {} cannot be stopped and may still serve", name(at, worker))
            }
            RolloutError::Task { slot: at, exit } => {
                format!("{} failed: {}", slot(at), exit.map_or("it could not be run".into(), |exit| exit.to_string()))
            }
            RolloutError::Dependency(id) => format!("the reload of {}, after which it comes, has failed", app(id)),
            RolloutError::Stopped => "the container stops".into(),
            RolloutError::Removed => "the app is removed".into(),
        };
        let failed = |what: String, error: &RolloutError, advice: &str| match error {
            RolloutError::Stopped | RolloutError::Removed => {
                Message::new(Level::INFO, format!("{what}: {}", failure(error)))
            }
            error => Message::new(Level::ERROR, format!("{what}: {}; {advice}", failure(error))),
        };
        match report {
            Report::Started { slot: at, worker, role } => {
                let what = match role {
                    Role::Holder | Role::Leaving | Role::Late => "started",
                    Role::Replacement => "started as a replacement",
                };
                Message::new(Level::INFO, format!("{} {what}", name(at, worker)))
            }
            Report::Ready { slot: at, worker, signal, took } => {
                let level = if *signal == ReadySignal::Spawned { Level::DEBUG } else { Level::INFO };
                let took = short(*took);
                Message::new(level, format!("{} is ready after {took} ({})", name(at, worker), signal_text(*signal)))
            }
            Report::Silent { slot: at, worker, after } => Message::new(
                Level::WARN,
                format!(
                    "{} has given no signal of being ready in {}: workers of {} are taken to give none; \
                     --ready uptime says so from the start, and a longer --ready-timeout waits for slow ones",
                    name(at, worker),
                    short(*after),
                    app(&at.app)
                ),
            ),
            Report::LateSignal { slot: at, worker, signal, took } => Message::new(
                Level::WARN,
                format!(
                    "{} has given its first signal of being ready {} after its start ({}): its successors have up to twice as \
                     long, or a longer --ready-timeout",
                    name(at, worker),
                    short(*took),
                    signal_text(*signal)
                ),
            ),
            Report::StartFailed { slot: at, error, next, worker: _ } => {
                let level = if matches!(next, Next::GiveUp { .. }) { Level::ERROR } else { Level::WARN };
                Message::new(level, format!("{}: {error}{}", slot(at), following(next)))
            }
            Report::NotReady { slot: at, worker, after, missing } => Message::new(
                Level::WARN,
                format!(
                    "{} was not ready within {} and is stopped ({}{})",
                    name(at, worker),
                    short(*after),
                    asked(&at.app, worker),
                    lacking(missing)
                ),
            ),
            Report::Unhealthy { slot: at, worker, answer } => Message::new(
                Level::WARN,
                format!(
                    "{} does not answer its liveness probes: it is replaced; last answer: {answer}",
                    name(at, worker)
                ),
            ),
            Report::Oversized { slot: at, worker, used, limit, drain_first } => {
                let order = if *drain_first { ", after it has stopped: there is no room for both" } else { "" };
                let (used, limit) = (bytes(*used), bytes(*limit));
                let text = format!("{} uses {used} of memory, its limit is {limit} (--max-memory)", name(at, worker));
                Message::new(Level::WARN, format!("{text}: it is replaced{order}"))
            }
            Report::OversizedAgain { slot: at, worker, used, limit, before, wait } => {
                let (used, limit, wait) = (bytes(*used), bytes(*limit), short(*wait));
                let text = format!("{} uses {used} of memory, its limit is {limit} (--max-memory)", name(at, worker));
                let others = if *before == 1 { "the one".to_owned() } else { format!("the {before}") };
                let why =
                    format!("as {others} before it soon after the start: it is replaced in {wait}, if it still does");
                Message::new(Level::WARN, format!("{text}, {why}; the app may need a higher limit"))
            }
            Report::MemoryShort { slot: at, worker, used, container, limit } => {
                let limit = limit.map_or(String::new(), |limit| format!(" of {}", bytes(limit)));
                let text = format!("the container is nearly out of memory ({}{limit} in use)", bytes(*container));
                let biggest = format!("{}, the biggest worker with {}", name(at, worker), bytes(*used));
                Message::new(Level::WARN, format!("{text}: {biggest}, is replaced"))
            }
            Report::Stopping { slot: at, worker, signal, timeout } => {
                let what = match signal {
                    Some(signal) => format!("gets {signal} and {} to end", short(*timeout)),
                    None => format!("is asked to finish and gets {} to end", short(*timeout)),
                };
                Message::new(Level::INFO, format!("{} {what}", name(at, worker)))
            }
            Report::Killed { slot: at, worker, is_late } => {
                let why = if *is_late { "did not end in time" } else { "gets no more time to end" };
                Message::new(Level::WARN, format!("{} {why}: killed with its group", name(at, worker)))
            }
            Report::SignalRefused { slot: at, worker, signal, reason } => Message::new(
                Level::ERROR,
                format!(
                    "{}: {signal} could not be sent: {reason}; it runs as another user, and rinit lacks CAP_KILL \
                     (docker run --cap-add KILL), or a security profile (AppArmor, seccomp) forbids it",
                    name(at, worker)
                ),
            ),
            Report::GivenUp { slot: at, worker } => Message::new(
                Level::ERROR,
                format!(
                    "{} is still there after SIGKILL: not waited for any longer; it may have become another user's, or hang in the kernel",
                    name(at, worker)
                ),
            ),
            Report::Exited { slot: at, worker, role, exit, lived, stop_took, next } => {
                exited(&name(at, worker), *role, *exit, *lived, *stop_took, next)
            }
            Report::Reloading { app: id, generation } => {
                Message::new(Level::INFO, format!("{}: reload to generation {generation} begins", app(id)))
            }
            Report::ReloadQueued { app: id } => {
                Message::new(Level::INFO, format!("{}: another reload will follow the one in progress", app(id)))
            }
            Report::Reloaded { app: id, generation, took } => Message::new(
                Level::INFO,
                format!("{}: reload to generation {generation} done in {}", app(id), short(*took)),
            ),
            Report::ReloadFailed { app: id, generation, error, took: _ } => {
                let what = format!("{}: reload to generation {generation} stopped", app(id));
                failed(what, error, "the old workers stay, SIGHUP tries again")
            }
            Report::Replacing { slot: at, worker, reason } => {
                let why = reason_text(*reason);
                Message::new(Level::INFO, format!("{} is replaced: {why}", name(at, worker)))
            }
            Report::Replaced { app: id, reason: _, took } => {
                Message::new(Level::INFO, format!("{}: worker replaced in {}", app(id), short(*took)))
            }
            Report::ReplaceFailed { app: id, reason: _, error, took: _ } => {
                failed(format!("{}: replacing a worker stopped", app(id)), error, "the old worker stays")
            }
            Report::Held { app: id, after } => {
                let names: Vec<&str> = after.iter().map(app).collect();
                Message::new(Level::INFO, format!("{} starts after {}", app(id), names.join(" and ")))
            }
            Report::Added { app: id } => Message::new(Level::INFO, format!("{}: added", app(id))),
            Report::Removing { app: id, drain_delay } => Message::new(
                Level::INFO,
                format!("{}: removed; its workers are stopped{}", app(id), delay(*drain_delay)),
            ),
            Report::Removed { app: id } => Message::new(Level::INFO, format!("{}: gone", app(id))),
            Report::Ending { app: id, result, drain_delay } => {
                let name = app(id);
                let (level, what) = match result {
                    AppResult::Finished(0) => (Level::INFO, format!("{name} has finished")),
                    AppResult::Finished(status) => (Level::ERROR, format!("{name} has ended with status {status}")),
                    AppResult::Failed(_, status) => (Level::ERROR, format!("{name} has failed with status {status}")),
                };
                let ends = format!("the container ends{}", delay(*drain_delay));
                Message::new(level, format!("{what}: {ends} (on_exit = \"ignore\" lets the other apps go on)"))
            }
            Report::Autoscaled { app: id, from, to, reason } => {
                let percent = |busy: &u16| format!("{} %", busy / 10);
                let why = match reason {
                    ScaleReason::Cpus(cpus) => format!("the container may use {}", count(*cpus, "CPU")),
                    ScaleReason::High { waiting: 0, busy } => {
                        format!("every worker is busy for {} of its time", percent(busy))
                    }
                    ScaleReason::High { waiting, .. } => format!("{} wait", count(*waiting, "connection")),
                    ScaleReason::Low { busy } => format!("the workers are busy for {} of their time", percent(busy)),
                };
                Message::new(Level::INFO, format!("{}: {why}: {} instead of {from}", app(id), count(*to, "worker")))
            }
            Report::NoRoom { app: id, free, biggest } => Message::new(
                Level::WARN,
                format!(
                    "{}: the load asks for one more worker, but {} of memory are free and the biggest worker uses {}: none is \
                     added (docker run --memory)",
                    app(id),
                    bytes(*free),
                    bytes(*biggest)
                ),
            ),
            Report::Scaled { app: id, from, to } => {
                Message::new(Level::INFO, format!("{}: scaled from {from} to {to}", app(id)))
            }
            Report::Stop { drain_delay } => {
                Message::new(Level::INFO, format!("asked to stop: every worker is stopped{}", delay(*drain_delay)))
            }
        }
    }
}

fn delay(drain_delay: Time) -> String {
    if drain_delay.is_zero() { String::new() } else { format!(", after {}", short(drain_delay)) }
}

/// The message at the container's end, unless it was asked for.
pub(super) fn end(ContainerEnd { code, reason }: ContainerEnd) -> Option<Message> {
    Some(match reason {
        EndReason::Stopped => return None,
        EndReason::Finished if code == 0 => Message::new(Level::INFO, "every worker has finished; exit code 0".into()),
        EndReason::Failed { status: 0 } => Message::new(
            Level::ERROR,
            format!(
                "no worker is left to run; exit code {code}: the command ends at once with code 0; if it goes to the \
                 background (a daemon), have it stay in the foreground, and if it is to run once, set --restart on-failure"
            ),
        ),
        EndReason::Finished | EndReason::Failed { .. } => {
            Message::new(Level::ERROR, format!("no worker is left to run; exit code {code}"))
        }
    })
}

fn exited(name: &str, role: Role, exit: Exit, lived: Time, stop_took: Option<Time>, next: &Next) -> Message {
    let lived = short(lived);
    let advice = if exit.oom_killed { " (raise the container's memory limit, or run fewer workers)" } else { "" };
    match (role, next) {
        (Role::Leaving, Next::Gone) => {
            let took = stop_took.map_or(String::new(), |took| format!(", {} after it was asked to stop", short(took)));
            Message::new(Level::INFO, format!("{name} is gone: {exit}{took}"))
        }
        (_, Next::Finished) => Message::new(Level::INFO, format!("{name} finished: {exit} after {lived}")),
        (Role::Late, Next::Gone) => Message {
            explained_by_stderr: true,
            ..Message::new(Level::WARN, format!("{name}, which was not ready in time, ended: {exit} after {lived}"))
        },
        (Role::Replacement, _) => Message {
            explained_by_stderr: true,
            ..Message::new(Level::WARN, format!("the new {name} ended: {exit} after {lived}{advice}"))
        },
        (Role::Holder | Role::Leaving | Role::Late, next) => {
            let level = if matches!(next, Next::GiveUp { .. }) { Level::ERROR } else { Level::WARN };
            let text = format!("{name} ended: {exit} after {lived}{advice}{}", following(next));
            let explained_by_stderr = exit.kind != ExitKind::Code(0) || role == Role::Late;
            Message { explained_by_stderr, ..Message::new(level, text) }
        }
    }
}

fn following(next: &Next) -> String {
    match next {
        Next::Restart => "; started again".into(),
        Next::Backoff { wait, crashes: 0 } => format!("; tried again in {}", short(*wait)),
        Next::Backoff { wait, crashes: 1 } => format!("; started again in {}", short(*wait)),
        Next::Backoff { wait, crashes } => format!("; {crashes} crashes in a row, started again in {}", short(*wait)),
        Next::GiveUp { crashes: 1 } => "; not tried again".into(),
        Next::GiveUp { crashes } => format!("; {crashes} crashes in a row: it has failed and is not started again"),
        Next::Finished | Next::Gone => String::new(),
    }
}

fn signal_text(signal: ReadySignal) -> &'static str {
    match signal {
        ReadySignal::Spawned => "its program runs",
        ReadySignal::Uptime => "by its uptime",
        ReadySignal::Notify => "it said so",
        ReadySignal::Listen => "it listens",
        ReadySignal::Message => "it sent 'ready'",
        ReadySignal::Probe => "it answered",
        ReadySignal::Newline => "it wrote a newline",
    }
}

fn reason_text(reason: RolloutReason) -> &'static str {
    match reason {
        RolloutReason::Reload => "a new generation",
        RolloutReason::Requested => "asked for",
        RolloutReason::Liveness => "its liveness probes have failed",
        RolloutReason::Memory => "it uses too much memory",
        RolloutReason::MemoryShortage => "memory is short",
        RolloutReason::Uptime => "it has lived for --max-uptime",
    }
}

/// The signal that a worker did not give, and its predecessor did.
fn lacking(missing: &Missing) -> String {
    let Some(Expectation::Signal(signal, address)) = &missing.expected else { return String::new() };
    let cure = ": --ready uptime if this one never will";
    match (signal, address) {
        // It listens, but elsewhere: clients would not find it.
        (_, Some(address)) if !missing.addresses.is_empty() && !missing.addresses.contains(address) => {
            format!("; it listens on {}, not on {address} as the one before it", missing.addresses.join(", "))
        }
        (ReadySignal::Notify, _) => format!("; the one before it said READY=1{cure}"),
        (ReadySignal::Message, _) => format!("; the one before it sent 'ready'{cure}"),
        (ReadySignal::Listen, _) => format!("; the one before it listened on a shared port{cure}"),
        (ReadySignal::Probe | ReadySignal::Newline | ReadySignal::Spawned | ReadySignal::Uptime, _) => String::new(),
    }
}
