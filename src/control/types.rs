//! What the API says and takes, as JSON: the server writes these, the verbs and the dashboard read them.
//!
//! Times are RFC 3339 in UTC with milliseconds; durations are whole milliseconds, sizes bytes. A field that is not known is
//! `null`.

use serde::{Deserialize, Serialize};

/// `GET /v1/status`: everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// rinit's version.
    pub version: String,
    /// rinit's own number, as it sees it: 1 in a container.
    pub pid: u32,
    /// `running`, or `stopping` once the container was asked to end.
    pub state: String,
    /// When rinit started.
    pub started: String,
    /// For how long it runs.
    pub uptime_ms: u64,
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// Every slot and process, in the order of the table that `rinit list` prints.
    pub workers: Vec<WorkerStatus>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How many workers are wanted.
    pub wanted: u32,
    /// How many of them serve.
    pub ready: u32,
    /// The generation that new workers run: 1 at the start, one more with each reload.
    pub generation: u32,
    /// The reload in progress.
    pub reload: Option<Reloading>,
    /// How the last reload went.
    pub last_reload: Option<Reloaded>,
    /// Where its workers listen, as far as rinit shares it: `port 8080`.
    pub listens: Vec<String>,
}

/// A reload in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloading {
    /// The generation that it is for.
    pub generation: u32,
    /// For how long it goes on.
    pub since_ms: u64,
}

/// A reload that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that it was for.
    pub generation: u32,
    /// `done` or `failed`.
    pub result: String,
    /// How long it took.
    pub took_ms: u64,
    /// When it ended.
    pub time: String,
    /// Why it failed.
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
    /// Its process.
    pub pid: Option<u32>,
    /// Of which reload it is.
    pub generation: u32,
    /// How long its process lives.
    pub uptime_ms: Option<u64>,
    /// How often a worker was started in this slot because the one before it ended by itself.
    pub restarts: u64,
    /// Of one CPU, since it was last asked for: its process and those below it.
    pub cpu_percent: Option<f64>,
    /// Resident memory: its process and those below it.
    pub memory_bytes: Option<u64>,
    /// How it showed that it is ready: `listen`, `message`, `notify`, `probe`, `uptime`, `spawn`.
    pub ready_by: Option<String>,
    /// Where it listens, as far as rinit shares it.
    pub listens: Vec<String>,
    /// When it is started again, in backoff.
    pub retry_in_ms: Option<u64>,
    /// How the slot's last worker ended.
    pub last_exit: Option<ExitRecord>,
}

/// The end of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// When.
    pub time: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Its exit code.
    pub code: Option<i32>,
    /// Or the signal that killed it: `SIGSEGV`.
    pub signal: Option<String>,
    /// Whether the kernel's out-of-memory killer did.
    pub oom_killed: bool,
    /// In words: `exit code 3`, `SIGKILL by the out-of-memory killer`.
    pub cause: String,
    /// How long it lived.
    pub lived_ms: u64,
    /// Whether it was asked to go.
    pub asked: bool,
}

/// `GET /v1/workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// As in [`Status`].
    pub workers: Vec<WorkerStatus>,
}

/// `GET /v1/workers/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The slot's rows: one, and two during a reload.
    pub workers: Vec<WorkerStatus>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment, `KEY=VALUE`; what may be a secret is `***`.
    pub environment: Vec<String>,
    /// Its working folder.
    pub cwd: Option<String>,
    /// Its user, `uid:gid`.
    pub user: Option<String>,
    /// Its last exits, newest first.
    pub exits: Vec<ExitRecord>,
    /// Unstable exits in a row, and how many are allowed (0: any number).
    pub crashes: u32,
    /// See `crashes`.
    pub max_restarts: u32,
    /// `--ready`, as it was asked for.
    pub readiness: String,
    /// `--stop-signal`.
    pub stop_signal: String,
    /// `--stop-timeout`.
    pub stop_timeout_ms: u64,
    /// Open descriptors, and the limit.
    pub open_files: Option<u64>,
    /// See `open_files`.
    pub open_files_limit: Option<u64>,
    /// Threads of its process.
    pub threads: Option<u64>,
    /// Its last lines on stderr, oldest first.
    pub last_lines: Vec<String>,
}

/// `GET /v1/config`: every setting in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// When.
    pub time: String,
    /// `started`, `ready`, `not_ready`, `stopping`, `killed`, `exited`, `start_failed`, `given_up`, `reloading`,
    /// `reload_queued`, `reloaded`, `reload_failed`, `scaled`, `stop`.
    pub kind: String,
    /// The app.
    pub app: Option<String>,
    /// The worker, as `id` in [`WorkerStatus`].
    pub worker: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// In words, as in the log.
    pub message: String,
}

/// A line of `GET /v1/logs`. SSE: `event` is `line`, `data` is this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// One more with each line of this worker's slot.
    pub seq: u64,
    /// When it was read.
    pub time: String,
    /// `web-0`.
    pub worker: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line, without its newline.
    pub line: String,
}

/// Told to a reader that was too slow. SSE: `event` is `missed`, `data` is this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missed {
    /// Of which worker.
    pub worker: Option<String>,
    /// So many lines, or events.
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
    /// Which app; not needed while there is one.
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

/// What a changing call answers when it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Whether what was asked for has come about.
    pub ok: bool,
    /// In words.
    pub message: String,
    /// The workers after it.
    pub workers: Vec<WorkerStatus>,
}

/// Every answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// A sentence a person can act on.
    pub error: String,
    /// The worker that it is about.
    #[serde(default)]
    pub worker: Option<String>,
    /// Its last lines on stderr.
    #[serde(default)]
    pub last_lines: Vec<String>,
}
