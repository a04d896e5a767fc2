//! `rinit health`: for Docker's HEALTHCHECK.

use super::client::Client;
use super::units::span;
use super::{Call, Failure, Outcome, Verb};
use crate::control::types::{Status, WorkerStatus};
use std::time::Duration;

pub(super) static VERB: Verb = Verb {
    names: &["health"],
    arguments: "",
    takes: 0..=0,
    summary: "exit code 0 when every worker is ready, else 1 (for HEALTHCHECK)",
    help: "Prints one line and exits with 0 when every worker that is wanted is ready, else with 1; also when no\n\
           rinit answers. In a Dockerfile: HEALTHCHECK CMD [\"rinit\", \"health\"]",
    options: &[],
    run,
};

/// Below Docker's own 30 s, so that it is rinit's line that is shown.
const PATIENCE: Duration = Duration::from_secs(5);

fn run(call: &Call) -> Outcome {
    match call.client.probe("/readyz", PATIENCE)? {
        (200, _) => ready(call),
        (_, words) => Err(Failure::failed(why_not(&call.client, &words))),
    }
}

/// Says so.
pub(super) fn ready(call: &Call) -> Outcome {
    if call.out.json { call.out.print_json(r#"{"ready":true}"#) } else { call.out.print("ready\n") }
}

/// Who is not ready, in a line; `words` are rinit's own.
pub(super) fn why_not(client: &Client, words: &str) -> String {
    let Ok(status) = client.get::<Status>("/v1/status") else {
        return format!("not ready: {}", super::output::harmless(words.trim()));
    };
    if status.state != "running" {
        return format!("not ready: the container is {}", status.state);
    }
    let apps = status.apps.iter().filter(|app| app.ready < app.wanted);
    let counts = apps.map(|app| format!("{}: {} of {} workers are ready", app.name, app.ready, app.wanted));
    // Those that hold a slot; a replacement is one more.
    let sick = status.workers.iter().filter(|worker| worker.state != "ready" && worker.role == "worker");
    let parts: Vec<String> = counts.chain(sick.take(4).map(state)).collect();
    let text = if parts.is_empty() { words.trim().to_owned() } else { parts.join("; ") };
    format!("not ready: {}", super::output::harmless(&text))
}

fn state(worker: &WorkerStatus) -> String {
    let again = worker.retry_in_ms.map_or(String::new(), |ms| format!(" for {} more", span(ms)));
    let exit = worker.last_exit.as_ref().filter(|exit| !exit.asked);
    let exit = exit.map_or(String::new(), |exit| format!(" after {}", exit.cause));
    format!(
        "{} is {}{again}{exit}",
        worker.id,
        match worker.state.as_str() {
            "backoff" => "in backoff",
            state => state,
        }
    )
}
