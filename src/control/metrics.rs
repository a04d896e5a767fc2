//! Writes `/metrics` in Prometheus' text format 0.0.4, with names and units by its conventions.

use super::api::{Api, Request};
use super::journal::Counters;
use super::response::{Answer, Failure, whole};
use super::types::{Status, WorkerStatus};
use crate::core::AppId;
use crate::logs::SlotTotals;
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

const STATES: [&str; 6] = ["starting", "ready", "draining", "backoff", "stopped", "failed"];

/// `GET /metrics`
pub(super) async fn metrics(api: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    let status = api.status().await?;
    // The journal is not locked while /proc is read.
    let counters = api.rinit.journal.lock().counters.clone();
    let text = text(&status, &counters, &api.rinit.log_history.totals(), api.refusals.get());
    Ok(whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}

fn text(status: &Status, counters: &Counters, passed: &[SlotTotals], refusals: u64) -> String {
    let mut page = Page(String::new());

    page.family("rinit_build_info", "gauge", "The version of rinit; always 1.");
    page.sample("rinit_build_info", &[("version", &status.version)], 1.0);
    page.family("rinit_start_time_seconds", "gauge", "Time of rinit's start, in seconds since 1970.");
    let started = humantime::parse_rfc3339(&status.started).ok();
    let started = started.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    page.sample("rinit_start_time_seconds", &[], started.as_secs_f64());

    page.family("rinit_workers", "gauge", "Workers by state.");
    for one in &status.apps {
        let mut by_state: BTreeMap<&str, u32> = STATES.iter().map(|state| (*state, 0)).collect();
        for worker in status.workers.iter().filter(|worker| worker.app == one.name) {
            *by_state.entry(worker.state.as_str()).or_default() += 1;
        }
        for (state, count) in by_state {
            page.sample("rinit_workers", &[("app", &one.name), ("state", state)], f64::from(count));
        }
    }
    page.family("rinit_workers_wanted", "gauge", "Workers that are wanted; not those stopped by hand.");
    status.apps.iter().for_each(|one| {
        page.sample("rinit_workers_wanted", &[("app", &one.name)], f64::from(one.wanted));
    });
    page.family("rinit_workers_missing", "gauge", "Workers that are wanted and not ready.");
    status.apps.iter().for_each(|one| {
        page.sample("rinit_workers_missing", &[("app", &one.name)], f64::from(one.missing));
    });
    page.family("rinit_generation", "gauge", "The newest generation: one more with each reload.");
    status.apps.iter().for_each(|one| {
        page.sample("rinit_generation", &[("app", &one.name)], f64::from(one.generation));
    });

    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&WorkerStatus) -> Option<f64>| {
        page.family(name, kind, help);
        for worker in &status.workers {
            if let (Some(value), Some(pid)) = (value(worker), worker.pid) {
                let pid = pid.to_string();
                page.sample(name, &[("app", &worker.app), ("worker", &worker.id), ("pid", &pid)], value);
            }
        }
    };
    each("rinit_worker_cpu_seconds_total", "counter", "CPU time of a worker and its descendants.", &|one| {
        super::usage::usage(one.pid?).map(|usage| usage.cpu)
    });
    each("rinit_worker_resident_memory_bytes", "gauge", "Resident memory of a worker and its descendants.", &|one| {
        one.memory_bytes.map(|bytes| bytes as f64)
    });
    each("rinit_worker_uptime_seconds", "gauge", "Time since the worker's start.", &|one| {
        one.uptime_ms.map(|ms| ms as f64 / 1000.0)
    });

    page.family("rinit_worker_restarts_total", "counter", "Starts after an exit that nobody asked for.");
    for one in &status.apps {
        let count = counters.restarts.get(&AppId(one.id)).copied().unwrap_or_default();
        page.sample("rinit_worker_restarts_total", &[("app", &one.name)], count as f64);
    }
    page.family(
        "rinit_worker_exits_total",
        "counter",
        "Exits of workers by cause: exit (code 0), error, signal, oom, asked.",
    );
    for one in &status.apps {
        for cause in ["exit", "error", "signal", "oom", "asked"] {
            let count = counters.exits.get(&(AppId(one.id), cause)).copied().unwrap_or_default();
            page.sample("rinit_worker_exits_total", &[("app", &one.name), ("cause", cause)], count as f64);
        }
    }
    page.family("rinit_oom_kills_total", "counter", "Workers that the kernel's out-of-memory killer killed.");
    for one in &status.apps {
        let count = counters.exits.get(&(AppId(one.id), "oom")).copied().unwrap_or_default();
        page.sample("rinit_oom_kills_total", &[("app", &one.name)], count as f64);
    }
    page.family("rinit_reload_duration_seconds", "summary", "Reloads by result, and their durations.");
    for one in &status.apps {
        for result in ["done", "failed"] {
            let (count, sum) = counters.reloads.get(&(AppId(one.id), result)).copied().unwrap_or_default();
            let labels = [("app", one.name.as_str()), ("result", result)];
            page.sample("rinit_reload_duration_seconds_sum", &labels, sum.as_secs_f64());
            page.sample("rinit_reload_duration_seconds_count", &labels, count as f64);
        }
    }
    page.family("rinit_reaped_orphans_total", "counter", "Orphaned processes that were reaped.");
    page.sample("rinit_reaped_orphans_total", &[], counters.orphans as f64);
    page.family("rinit_forwarded_signals_total", "counter", "Signals that were forwarded to the workers.");
    page.sample("rinit_forwarded_signals_total", &[], counters.forwarded as f64);

    page.family("rinit_refused_tokens_total", "counter", "Requests over the web that were refused for their token.");
    page.sample("rinit_refused_tokens_total", &[], refusals as f64);

    let worker = |passed: &SlotTotals| format!("{}-{}", passed.slot.0, passed.slot.1);
    page.family("rinit_log_bytes_total", "counter", "Bytes that workers wrote, by stream.");
    for one in passed {
        for (stream, bytes) in ["stdout", "stderr"].iter().zip(one.bytes) {
            let labels = [("app", one.slot.0.as_str()), ("worker", &worker(one)), ("stream", stream)];
            page.sample("rinit_log_bytes_total", &labels, bytes as f64);
        }
    }
    page.family("rinit_log_lines_total", "counter", "Lines that workers wrote.");
    for one in passed {
        let labels = [("app", one.slot.0.as_str()), ("worker", &worker(one))];
        page.sample("rinit_log_lines_total", &labels, one.lines as f64);
    }
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{}{value}", if labels.is_empty() { " " } else { "} " });
    }
}
