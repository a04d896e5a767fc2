//! Implements `rinit health`, for Docker's HEALTHCHECK.

use super::client::Client;
use super::output::harmless;
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::control::encoded;
use crate::control::types::{AppStatus, Status, WorkerStatus};
use crate::units;
use std::time::Duration;

pub(super) static VERB: Verb = Verb {
    names: &["health"],
    arguments: "",
    takes: 0..=0,
    summary: "exit with 0 when every app serves, else with 1 (for HEALTHCHECK)",
    help: "Prints one line and exits with 0 when every app has a ready worker, or as many as --min says; else\n\
           with 1, also when no rinit answers. Workers that were stopped by hand are not wanted, and so not\n\
           missing. In a Dockerfile: HEALTHCHECK CMD [\"rinit\", \"health\"]",
    options: &[MIN],
    run,
};

/// The option for the number of ready workers.
pub(super) const MIN: Opt = Opt {
    letter: None,
    names: &["min"],
    value: "N|P%",
    help: "ready workers that each app needs: 2, or 50% of the wanted",
};

/// The time limit. It is shorter than Docker's 30 s, so that the line shown is rinit's.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

fn run(call: &Call) -> Outcome {
    match call.client.probe(&probe_path(call, "")?, ANSWER_TIMEOUT)? {
        (200, _) => print_ready(call),
        (_, text) => Err(Failure::failed(missing(&call.client, &text))),
    }
}

/// The path of the readiness probe, with the number of workers that `--min` asks for.
pub(super) fn probe_path(call: &Call, default: &str) -> Result<String, Failure> {
    let min = call.option("min").unwrap_or(default);
    let number = min.strip_suffix('%').unwrap_or(min);
    let is_percent = number.len() < min.len();
    let is_allowed = number.parse::<u32>().is_ok_and(|number| !is_percent || number <= 100);
    match min {
        "" => Ok("/readyz".into()),
        _ if is_allowed => Ok(format!("/readyz?min={}", encoded(min))),
        _ => {
            Err(Failure::Usage(format!("--min {min}: allowed: a number of workers such as 2, or a share such as 50%")))
        }
    }
}

/// Prints that the workers are ready.
pub(super) fn print_ready(call: &Call) -> Outcome {
    if call.out.json { call.out.print_json(r#"{"ready":true}"#) } else { call.out.print("ready\n") }
}

/// Returns which workers are missing, in one line; `text` is what the probe answered.
pub(super) fn missing(client: &Client, text: &str) -> String {
    let text = text.trim().trim_start_matches("not ready").trim();
    let Ok(status) = client.get::<Status>("/v1/status") else { return format!("not ready: {}", harmless(text)) };
    if status.state != "running" {
        return format!("not ready: the container is {}", status.state);
    }
    let counts = status.apps.iter().filter_map(|app| Some(format!("{}: {}", app.name, missing_of_app(app)?)));
    // A replacement beside them is one more, and not missed.
    let not_ready = status.workers.iter().filter(|worker| is_missing(worker));
    let parts: Vec<String> = counts.chain(not_ready.take(4).map(state)).collect();
    let text = if parts.is_empty() { text.to_owned() } else { parts.join("; ") };
    format!("not ready: {}", harmless(&text))
}

/// Returns how many of an app's wanted workers are ready, where some are missing: `1 of 2 workers are ready`.
pub(super) fn missing_of_app(app: &AppStatus) -> Option<String> {
    let wanted = units::count(app.wanted, "worker");
    let verb = if app.wanted == 1 { "is" } else { "are" };
    (app.ready < app.wanted).then(|| format!("{} of {wanted} {verb} ready", app.ready))
}

fn is_missing(worker: &WorkerStatus) -> bool {
    worker.role == "worker" && !matches!(worker.state.as_str(), "ready" | "stopped")
}

fn state(worker: &WorkerStatus) -> String {
    let again = worker.retry_in_ms.map_or(String::new(), |ms| format!(" for {} more", units::milliseconds(ms)));
    let exit = worker.last_exit.as_ref().filter(|exit| !exit.asked);
    let exit = exit.map_or(String::new(), |exit| format!(" after {}", exit.cause));
    let state = if worker.state == "backoff" { "in backoff" } else { &worker.state };
    format!("{} is {state}{again}{exit}", worker.id)
}
