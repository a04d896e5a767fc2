//! Answers `/metrics`: lists the metrics of rinit, its apps, their workers and the container, by Prometheus' conventions.
//!
//! No series has a pid: each belongs to an app or to a slot, and ends with it. A counter of a worker's processes begins
//! again with each process.

use super::api::{Api, Request, now};
use super::exposition::{Family, Format, Kind, write};
use super::handle::{Call, Holder};
use super::journal::{Counters, EXIT_CAUSES, RELOAD_RESULTS, SlotHistory};
use super::response::{Answer, Failure, whole};
use super::types::{Status, WorkerStatus};
use super::usage::{self, OpenFiles, Usage};
use crate::core::{AppId, SlotId};
use crate::logs::SlotTotals;
use crate::ordered::ordered;
use crate::ports::{ConnectionCounts, WorkerConnections};
use crate::sys::container::{self, ContainerUsage};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

/// The states of a worker.
const STATES: [&str; 7] = ["waiting", "starting", "ready", "draining", "backoff", "stopped", "failed"];

/// `GET /metrics`
pub(super) async fn metrics(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let format = Format::accepted(&request.accept);
    let mut status = api.rinit.ask(Call::Status).await?;
    api.open_connections.fill(&mut status.workers, now()).await;
    // The journal is not locked while /proc is read.
    let (counters, slots) = {
        let journal = api.rinit.journal.lock();
        (journal.counters.clone(), ordered(journal.histories().map(|(slot, history)| (slot, history.clone()))))
    };
    let holders = api.rinit.ask(Call::Holders).await?;
    let connections = api.rinit.ports.connections().await.unwrap_or_default();
    let workers = workers_of(&status, &slots, &holders, &connections);
    let mut families = of_rinit(&status, &counters, api.refusal_count.get());
    families.extend(of_apps(&status, &counters, &connections));
    families.extend(of_workers(&workers));
    let mut totals = api.rinit.log_history.totals();
    // The lines of a slot that is gone are kept for a while.
    totals.retain(|one| workers.iter().any(|worker| (worker.app, worker.row.slot) == (&one.slot.0, one.slot.1)));
    families.extend(of_logs(&totals));
    if holders.iter().any(|holder| holder.app_metrics.is_some()) {
        api.app_metrics.lock().await.add_to(&mut families, &api.rinit, &holders, now()).await;
    }
    families.extend(of_container(&container::usage(Path::new("/"))));
    Ok(whole(StatusCode::OK, format.content_type(), write(&families, format)))
}

/// A slot with the usage of its processes: during a reload there are two.
struct Worker<'a> {
    app: &'a str,
    /// The slot's number.
    number: String,
    /// The process that serves, or is to serve.
    row: &'a WorkerStatus,
    usage: Option<Usage>,
    files: Option<OpenFiles>,
    history: SlotHistory,
    /// Those that rinit handed to it.
    connections: Option<&'a WorkerConnections>,
    open_connections: Option<u64>,
}

fn workers_of<'a>(
    status: &'a Status,
    slots: &BTreeMap<SlotId, SlotHistory>,
    holders: &[Holder],
    connections: &'a ConnectionCounts,
) -> Vec<Worker<'a>> {
    let app_id = |name: &str| status.apps.iter().find(|app| app.name == name).map(|app| AppId(app.id));
    let rows = status.workers.chunk_by(|one, next| (&one.app, one.slot) == (&next.app, next.slot));
    let worker = |rows: &'a [WorkerStatus]| {
        let row = rows.iter().find(|row| row.role == "worker").or(rows.first())?;
        let slot = SlotId { app: app_id(&row.app)?, index: row.slot };
        let holder = holders.iter().find(|holder| holder.slot == slot);
        let usages = rows.iter().filter_map(|row| usage::usage(row.pid?));
        Some(Worker {
            app: &row.app,
            number: row.slot.to_string(),
            row,
            usage: usages.reduce(|sum, one| Usage { cpu: sum.cpu + one.cpu, memory: sum.memory + one.memory }),
            files: row.pid.and_then(usage::open_files),
            history: slots.get(&slot).cloned().unwrap_or_default(),
            connections: holder.and_then(|holder| connections.workers.get(&holder.worker)),
            open_connections: rows.iter().filter_map(|row| row.open_connections).reduce(|sum, one| sum + one),
        })
    };
    rows.filter_map(worker).collect()
}

/// A family with one sample.
fn single(kind: Kind, name: &str, help: &str, value: impl Into<Option<f64>>) -> Family {
    let mut family = Family::new(kind, name, help);
    if let Some(value) = value.into() {
        family.sample(&[], value);
    }
    family
}

fn of_rinit(status: &Status, counters: &Counters, refusals: u64) -> Vec<Family> {
    use Kind::{Counter, Gauge, Info};
    let mut build = Family::new(Info, "rinit_build", "The version of rinit; always 1.");
    build.sample(&[("version", &status.version)], 1.0);
    let own = usage::own();
    let files = usage::open_files(std::process::id());
    vec![
        build,
        single(Counter, "rinit_reaped_orphans", "Orphaned processes that were reaped.", counters.orphans as f64),
        single(
            Counter,
            "rinit_forwarded_signals",
            "Signals that were forwarded to the workers.",
            counters.forwarded as f64,
        ),
        single(
            Counter,
            "rinit_refused_tokens",
            "Requests over the web that were refused for their token.",
            refusals as f64,
        ),
        single(Counter, "process_cpu_seconds", "CPU time of rinit itself.", own.map(|own| own.usage.cpu)),
        single(
            Gauge,
            "process_resident_memory_bytes",
            "Resident memory of rinit itself.",
            own.map(|own| own.usage.memory as f64),
        ),
        single(
            Gauge,
            "process_virtual_memory_bytes",
            "Virtual memory of rinit itself.",
            own.map(|own| own.virtual_memory as f64),
        ),
        single(Gauge, "process_open_fds", "Descriptors of rinit itself.", files.map(|files| files.open as f64)),
        single(
            Gauge,
            "process_max_fds",
            "The limit of rinit's descriptors.",
            files.and_then(|files| files.limit).map(|limit| limit as f64),
        ),
        single(Gauge, "process_start_time_seconds", "Time of rinit's start, in seconds since 1970.", {
            seconds_since_1970(&status.started)
        }),
    ]
}

fn of_apps(status: &Status, counters: &Counters, connections: &ConnectionCounts) -> Vec<Family> {
    let mut workers = Family::new(Kind::Gauge, "rinit_workers", "Workers by state.");
    let mut wanted =
        Family::new(Kind::Gauge, "rinit_workers_wanted", "Workers that are wanted; not those stopped by hand.");
    let mut ready = Family::new(Kind::Gauge, "rinit_workers_ready", "Workers that are wanted and ready.");
    let mut missing = Family::new(Kind::Gauge, "rinit_workers_missing", "Workers that are wanted and not ready.");
    let mut generation =
        Family::new(Kind::Gauge, "rinit_generation", "The newest generation: one more with each reload.");
    let mut reloading =
        Family::new(Kind::Gauge, "rinit_reload_in_progress", "1 while a reload is in progress, otherwise 0.");
    let mut waiting = Family::new(Kind::Gauge, "rinit_connections_waiting", "Connections that no worker can take now.");
    let mut exits = Family::new(
        Kind::Counter,
        "rinit_worker_exits",
        "Exits of workers by cause: exit (code 0), error, signal, oom, asked.",
    );
    let mut reloads =
        Family::new(Kind::Histogram, "rinit_reload_duration_seconds", "Reloads by result, and their durations.");
    let none = Counters::no_reloads();
    for app in &status.apps {
        let (id, label) = (AppId(app.id), ("app", app.name.as_str()));
        for state in STATES {
            let is_counted = |row: &&WorkerStatus| row.app == app.name && row.state == state;
            let count = status.workers.iter().filter(is_counted).count();
            workers.sample(&[label, ("state", state)], count as f64);
        }
        wanted.sample(&[label], f64::from(app.wanted));
        ready.sample(&[label], f64::from(app.ready));
        missing.sample(&[label], f64::from(app.missing));
        generation.sample(&[label], f64::from(app.generation));
        reloading.sample(&[label], f64::from(u8::from(app.reload.is_some())));
        if let Some(count) = connections.waiting.get(&id) {
            waiting.sample(&[label], *count as f64);
        }
        for cause in EXIT_CAUSES {
            let count = counters.exits.get(&(id, cause)).copied().unwrap_or_default();
            exits.sample(&[label, ("cause", cause)], count as f64);
        }
        for result in RELOAD_RESULTS {
            let histogram = counters.reloads.get(&(id, result)).unwrap_or(&none);
            reloads.histogram(&[label, ("result", result)], histogram);
        }
    }
    vec![workers, wanted, ready, missing, generation, reloading, waiting, exits, reloads]
}

/// A metric that each worker has, or has not.
struct WorkerMetric {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    value: fn(&Worker) -> Option<f64>,
}

const WORKER_METRICS: [WorkerMetric; 16] = [
    counter("rinit_worker_restarts", "Starts after an exit that nobody asked for.", |one| {
        Some(one.history.restarts as f64)
    }),
    counter("rinit_worker_liveness_failures", "Times that a worker failed its liveness probes.", |one| {
        Some(one.history.unhealthy as f64)
    }),
    gauge(
        "rinit_worker_last_exit_code",
        "Exit code of the worker's last process; 128 and its number for a signal.",
        |one| one.history.last_status.map(f64::from),
    ),
    gauge(
        "rinit_worker_start_time_seconds",
        "Time of the start of the worker's process, in seconds since 1970.",
        |one| seconds_since_1970(one.row.started.as_deref()?),
    ),
    gauge("rinit_worker_generation", "The generation of the worker's process.", |one| {
        Some(f64::from(one.row.generation))
    }),
    counter("rinit_worker_cpu_seconds", "CPU time of a worker's process and its descendants.", |one| {
        Some(one.usage?.cpu)
    }),
    gauge("rinit_worker_resident_memory_bytes", "Resident memory of a worker's process and its descendants.", |one| {
        number(one.usage?.memory)
    }),
    counter("rinit_worker_connections", "Connections that rinit handed to a worker's process.", |one| {
        number(one.connections?.handed)
    }),
    gauge("rinit_worker_connections_open", "Open TCP connections of a worker's clients.", |one| {
        number(one.open_connections?)
    }),
    gauge("rinit_worker_connections_waiting", "Those that the worker has not accepted yet.", |one| {
        number(one.connections?.waiting)
    }),
    gauge("rinit_worker_connections_oldest_wait_seconds", "Time for which the oldest of them has waited.", |one| {
        Some(one.connections?.oldest.as_secs_f64())
    }),
    gauge("rinit_worker_event_loop_lag_seconds", "Of Node: the longest delay of a timer in the last 5 s.", |one| {
        Some(one.row.node.as_ref()?.event_loop_lag_ms as f64 / 1000.0)
    }),
    gauge("rinit_worker_heap_used_bytes", "Of Node: the heap in use.", |one| {
        number(one.row.node.as_ref()?.heap_used_bytes)
    }),
    gauge("rinit_worker_active_handles", "Of Node: sockets, servers and timers that are open.", |one| {
        number(one.row.node.as_ref()?.active_handles)
    }),
    gauge("rinit_worker_open_fds", "Descriptors of a worker's process.", |one| number(one.files?.open)),
    gauge("rinit_worker_max_fds", "The limit of a worker's descriptors.", |one| number(one.files?.limit?)),
];

const fn counter(name: &'static str, help: &'static str, value: fn(&Worker) -> Option<f64>) -> WorkerMetric {
    WorkerMetric { kind: Kind::Counter, name, help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Worker) -> Option<f64>) -> WorkerMetric {
    WorkerMetric { kind: Kind::Gauge, name, help, value }
}

fn number(number: u64) -> Option<f64> {
    Some(number as f64)
}

fn of_workers(workers: &[Worker]) -> Vec<Family> {
    let mut states = Family::new(Kind::Gauge, "rinit_worker_state", "1 for the worker's state, 0 for the others.");
    let mut waits = Family::new(
        Kind::Histogram,
        "rinit_worker_connection_wait_seconds",
        "Time from rinit's accept of a connection to the worker's.",
    );
    for worker in workers {
        let labels = [("app", worker.app), ("worker", &worker.number)];
        for state in STATES {
            let labels = [labels[0], labels[1], ("state", state)];
            states.sample(&labels, f64::from(u8::from(worker.row.state == state)));
        }
        if let Some(connections) = worker.connections {
            waits.histogram(&labels, &connections.waits);
        }
    }
    let each = WORKER_METRICS.iter().map(|metric| {
        let mut family = Family::new(metric.kind, metric.name, metric.help);
        for worker in workers {
            if let Some(value) = (metric.value)(worker) {
                family.sample(&[("app", worker.app), ("worker", &worker.number)], value);
            }
        }
        family
    });
    [states, waits].into_iter().chain(each).collect()
}

fn of_logs(totals: &[SlotTotals]) -> Vec<Family> {
    let mut bytes = Family::new(Kind::Counter, "rinit_log_bytes", "Bytes that workers wrote, by stream.");
    let mut lines = Family::new(Kind::Counter, "rinit_log_lines", "Lines that workers wrote.");
    for one in totals {
        let (app, number) = (one.slot.0.as_str(), one.slot.1.to_string());
        let labels = [("app", app), ("worker", number.as_str())];
        for (stream, count) in ["stdout", "stderr"].into_iter().zip(one.bytes) {
            bytes.sample(&[labels.as_slice(), &[("stream", stream)]].concat(), count as f64);
        }
        lines.sample(&labels, one.lines as f64);
    }
    vec![bytes, lines]
}

fn of_container(usage: &ContainerUsage) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let number = |number: Option<u64>| number.map(|number| number as f64);
    let mut pressure = Family::new(
        Counter,
        "rinit_container_pressure_seconds",
        "Time for which some, or all, processes of the container waited for a resource: cpu, memory, io.",
    );
    for one in &usage.pressure {
        for (kind, time) in [("some", one.some), ("full", one.full)] {
            pressure.sample(&[("resource", one.resource), ("kind", kind)], time.as_secs_f64());
        }
    }
    vec![
        single(Gauge, "rinit_container_cpu_limit_cores", "The container's CPU quota, in CPUs.", usage.cpu_limit),
        single(Counter, "rinit_container_cpu_seconds", "CPU time of all processes.", seconds(usage.cpu)),
        single(
            Counter,
            "rinit_container_cpu_periods",
            "Periods of the CPU quota in which processes ran.",
            number(usage.periods.map(|(all, _)| all)),
        ),
        single(
            Counter,
            "rinit_container_cpu_throttled_periods",
            "Periods in which the CPU quota held processes up.",
            number(usage.periods.map(|(_, throttled)| throttled)),
        ),
        single(
            Counter,
            "rinit_container_cpu_throttled_seconds",
            "Time for which the CPU quota held processes up.",
            seconds(usage.throttled),
        ),
        single(
            Gauge,
            "rinit_container_memory_limit_bytes",
            "The container's memory limit.",
            number(usage.memory_limit),
        ),
        single(
            Gauge,
            "rinit_container_memory_bytes",
            "The container's memory in use, with the page cache.",
            number(usage.memory),
        ),
        single(
            Counter,
            "rinit_container_oom_kills",
            "Processes of the container that the out-of-memory killer has killed.",
            number(usage.oom_kills),
        ),
        pressure,
    ]
}

/// A time of the API in seconds since 1970.
fn seconds_since_1970(time: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339(time).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(time.as_secs_f64())
}
