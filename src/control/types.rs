//! Defines the API's JSON: the server writes these types, the verbs and the dashboard read them.
//!
//! Times are RFC 3339 in UTC with milliseconds; durations are whole milliseconds, sizes bytes. A field that is not known is
//! `null`.

use serde::{Deserialize, Serialize};

/// `GET /v1/status`: everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// rinit's version.
    pub version: String,
    /// rinit's own pid, as it sees it: 1 in a container.
    pub pid: u32,
    /// `running`, or `stopping` once the container was asked to end.
    pub state: String,
    /// The time of rinit's start.
    pub started: String,
    /// Time since its start.
    pub uptime_ms: u64,
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// Every slot and process, in the order of the table that `rinit list` prints.
    pub workers: Vec<WorkerStatus>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its number, which is never used again.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `service`, or `task`: it runs once, and its workers count as ready when they have succeeded.
    pub kind: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The number of its slots, which `rinit scale` sets: workers that are wanted, and such as were stopped by hand.
    pub instances: u32,
    /// The number of workers that are wanted: not those that were stopped by hand or have finished.
    pub wanted: u32,
    /// The number of those that are ready.
    pub ready: u32,
    /// The number of those that are not.
    pub missing: u32,
    /// `ready`: all workers that are wanted; `starting`: the others are on their way; `degraded`: some have crashed; `down`: all
    /// have; `crash-looping`: one crashes again and again; `waiting`: for another app; `idle`: none is wanted.
    pub condition: String,
    /// True if it has ended and the container goes on, and is ready, without it: it has finished, or its failure is ignored.
    pub is_over: bool,
    /// The generation that new workers run: 1 at the start, one more with each reload.
    pub generation: u32,
    /// The reload in progress.
    pub reload: Option<Reloading>,
    /// The last reload that has ended.
    pub last_reload: Option<Reloaded>,
    /// The addresses on which its workers listen, if rinit shares them: `port 8080`.
    pub listens: Vec<String>,
}

/// A reload in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloading {
    /// The generation of the new workers.
    pub generation: u32,
    /// Time since its start.
    pub since_ms: u64,
}

/// A reload that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation of its workers.
    pub generation: u32,
    /// `done` or `failed`.
    pub result: String,
    /// Its duration.
    pub took_ms: u64,
    /// The time of its end.
    pub time: String,
    /// The reason of a failure.
    pub why: Option<String>,
}

/// One process, or a slot without one. During a reload a slot has two rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// `web-0`: what calls take as `{id}`.
    pub id: String,
    /// The app.
    pub app: String,
    /// The slot's number, from 0.
    pub slot: u32,
    /// `worker`; `replacement`, which waits to take its place; `replaced`, which is on its way out.
    pub role: String,
    /// `starting`, `ready`, `draining`, `backoff`, `stopped`, `failed`.
    pub state: String,
    /// Its pid.
    pub pid: Option<u32>,
    /// The generation of its process, or of the one to come.
    pub generation: u32,
    /// The time of its start.
    pub started: Option<String>,
    /// Time since its start.
    pub uptime_ms: Option<u64>,
    /// The number of starts in this slot that followed an exit that nobody asked for.
    pub restarts: u64,
    /// Percentage of one CPU since it was last asked for, of its process and its descendants.
    pub cpu_percent: Option<f64>,
    /// Resident memory of its process and its descendants.
    pub memory_bytes: Option<u64>,
    /// The signal by which it became ready: `listen`, `message`, `notify`, `probe`, `fd`, `uptime`, `spawn`.
    pub ready_by: Option<String>,
    /// Its last `STATUS=` by sd_notify.
    pub status: Option<String>,
    /// The addresses on which it listens, if rinit shares them.
    pub listens: Vec<String>,
    /// Connections that rinit has given to its process; none where it accepts by itself.
    pub connections: Option<u64>,
    /// TCP connections of clients that are open in its process and its descendants; none where it listens at no TCP port.
    pub open_connections: Option<u64>,
    /// In backoff: time until the next start.
    pub retry_in_ms: Option<u64>,
    /// True if the slot's workers have crashed three times or more in a row, and the present one has not been stable since.
    pub is_crash_looping: bool,
    /// The exit of the slot's last worker.
    pub last_exit: Option<ExitRecord>,
    /// Of a Node worker that rinit's script is loaded into: its health.
    pub node: Option<NodeStatus>,
}

/// The health of a Node worker, measured every 5 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The longest delay of a timer in that time.
    pub event_loop_lag_ms: u64,
    /// The heap in use.
    pub heap_used_bytes: u64,
    /// Sockets, servers and timers that are open.
    pub active_handles: u64,
}

/// The exit of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The time of the exit.
    pub time: String,
    /// Its pid.
    pub pid: Option<u32>,
    /// Its exit code.
    pub code: Option<i32>,
    /// Or the signal that ended it: `SIGSEGV`.
    pub signal: Option<String>,
    /// True if the kernel's out-of-memory killer ended it.
    pub oom_killed: bool,
    /// In words: `exit code 3`, `SIGKILL by the out-of-memory killer`.
    pub cause: String,
    /// Time since its start.
    pub lived_ms: u64,
    /// True if it was asked to stop.
    pub asked: bool,
}

/// The replacement of one worker: for its memory, its age, its liveness, or because an operator asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplacementRecord {
    /// The time at which it began.
    pub time: String,
    /// The pid of the worker that was replaced.
    pub pid: Option<u32>,
    /// The reason in words, with its figures.
    pub message: String,
}

/// `GET /v1/workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// As in [`Status`].
    pub workers: Vec<WorkerStatus>,
}

/// `GET /v1/access`: the client's permission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// `public`, `read` or `change`; each includes the ones before it.
    pub permission: String,
    /// The permissions for which a token is configured: `read`, `change`.
    pub tokens: Vec<String>,
}

/// `GET /v1/history`: the usage of the last hour. Series end at the same time; a shorter one begins later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The time of the newest values; none in the first seconds.
    pub time: Option<String>,
    /// Time between two values.
    pub interval_ms: u64,
    /// The sums of each app's workers; of the lag, the greatest.
    pub apps: Vec<UsageSeries>,
    /// Each slot: its worker and, during a reload, its replacement.
    pub workers: Vec<UsageSeries>,
}

/// The usage of an app or a worker, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageSeries {
    /// The app, or the worker.
    pub name: String,
    /// Mean percentage of one CPU.
    pub cpu_percent: Vec<Option<f64>>,
    /// Resident memory.
    pub memory_bytes: Vec<Option<u64>>,
    /// Starts that followed an exit that nobody asked for.
    pub restarts: Vec<Option<u64>>,
    /// Connections that rinit gave to it; empty where it accepts by itself.
    pub connections: Vec<Option<u64>>,
    /// Lag of a Node event loop, of several values the greatest; empty for other programs.
    pub event_loop_lag_ms: Vec<Option<f64>>,
}

/// `GET /v1/workers/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The slot's rows: one, and two during a reload.
    pub workers: Vec<WorkerStatus>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment, `KEY=VALUE`; a value that may be secret is `***`.
    pub environment: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Its user, `uid:gid`.
    pub user: Option<String>,
    /// `--max-memory`, as it is set.
    pub max_memory: Option<String>,
    /// `--max-uptime`.
    pub max_uptime_ms: Option<u64>,
    /// The last times that a worker was replaced outside of a reload, newest first.
    pub replacements: Vec<ReplacementRecord>,
    /// Its last exits, newest first.
    pub exits: Vec<ExitRecord>,
    /// Unstable exits in a row.
    pub crashes: u32,
    /// The number of those after which it has failed; 0: never.
    pub max_restarts: u32,
    /// `--ready`.
    pub readiness: String,
    /// `--stop-signal`.
    pub stop_signal: String,
    /// `--stop-timeout`.
    pub stop_timeout_ms: u64,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// The limit of open descriptors.
    pub open_files_limit: Option<u64>,
    /// Threads of its process.
    pub threads: Option<u64>,
    /// Its last lines on stderr, oldest first.
    pub last_lines: Vec<String>,
}

/// `GET /v1/config`: every setting in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// In the order of the README's tables: each app's, then the container's.
    pub settings: Vec<SettingValue>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingValue {
    /// The app whose setting it is; none: the container's.
    pub app: Option<String>,
    /// `stop-timeout`.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// The reason for a value that was resolved from what was given: `0: of 1.5 CPUs by quota`.
    pub note: Option<String>,
    /// `default`, `flag`, `environment` or `file`.
    pub source: String,
    /// The flag as it was written, the variable, or the file and line.
    pub place: Option<String>,
}

/// An event of `GET /v1/events`, and what changing calls stream. SSE: `id` is `seq`, `event` is `kind`, `data` is this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// One more with each event.
    pub seq: u64,
    /// The time.
    pub time: String,
    /// The report's name.
    pub kind: String,
    /// The app.
    pub app: Option<String>,
    /// The worker, as `id` in [`WorkerStatus`].
    pub worker: Option<String>,
    /// Its pid.
    pub pid: Option<u32>,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// The log's message.
    pub message: String,
}

/// A line of `GET /v1/logs`. SSE: `event` is `line`, `data` is this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// One more with each line of this worker's slot.
    pub seq: u64,
    /// The time at which rinit read it.
    pub time: String,
    /// `web-0`.
    pub worker: String,
    /// The app.
    pub app: String,
    /// The slot's number.
    pub slot: u32,
    /// The process that wrote it.
    pub pid: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line, without its newline.
    pub line: String,
}

/// Sent to a reader that was too slow. SSE: `event` is `missed`, `data` is this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missed {
    /// The worker.
    pub worker: Option<String>,
    /// The number of lost lines, or events.
    pub missed: u64,
}

/// `GET /v1/logs` without `follow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLines {
    /// Oldest first.
    pub lines: Vec<LogLine>,
}

/// `POST /v1/scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleRequest {
    /// The app, or `all`; not needed while there is one app.
    #[serde(default)]
    pub app: Option<String>,
    /// `"4"`, `"+2"`, `"-1"`, `"0"` or `"max"` (as many as CPUs).
    pub to: String,
}

/// `POST /v1/workers/{id}/signal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// `SIGUSR1`, `USR1` or `10`.
    pub signal: String,
}

/// The answer of a change that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Always true: a change that failed is an `Error`.
    pub ok: bool,
    /// The result, for people.
    pub message: String,
    /// The workers after the change.
    pub workers: Vec<WorkerStatus>,
}

/// The answer of a call that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// The failure, and what to do.
    pub error: String,
    /// The worker that failed.
    #[serde(default)]
    pub worker: Option<String>,
    /// Its last lines on stderr.
    #[serde(default)]
    pub last_lines: Vec<String>,
}
