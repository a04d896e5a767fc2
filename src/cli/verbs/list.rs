//! Implements `rinit list`: a table of the workers.

use super::client::read_json;
use super::health::missing_of_app;
use super::output::{RED, YELLOW, colour_of, harmless, harmless_lines, is_unread};
use super::table::{Cell, Column, or_dash, render};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::control::types::{AppStatus, Status, WorkerStatus};
use crate::units;
use nix::poll::{PollTimeout, poll};
use std::time::SystemTime;

pub(super) static VERB: Verb = Verb {
    names: &["list", "ls", "ps"],
    arguments: "",
    takes: 0..=0,
    summary: "list the workers: state, uptime, restarts, CPU, memory",
    help: "Shows every worker on a line. During a reload a slot has two: the old worker and its replacement.\n\
           CPU is of one CPU, memory is resident, CONNS are the clients' TCP connections that are open; all are\n\
           those of the worker and of its child processes.\n\
           Piped, nothing is cut, there are no colours, and every column holds one word, - for none; only\n\
           the last one, NOTE, may hold several. On a terminal RESTARTS says how long ago the last one was.",
    options: &[
        Opt {
            letter: Some('w'),
            names: &["watch"],
            value: "",
            help: "print the table anew every second, until Ctrl-C",
        },
        Opt { letter: Some('q'), names: &["quiet"], value: "", help: "print the IDs only" },
        Opt {
            letter: Some('o'),
            names: &["output"],
            value: "FORMAT",
            help: "wide: every column, uncut; json: indented JSON; name: the IDs only",
        },
    ],
    run,
};

/// The pause between two tables of `--watch`, in milliseconds.
const WATCH_INTERVAL_MS: u16 = 1000;

const COLUMNS: [Column; 12] = [
    column("ID", false, 0),
    column("PID", true, 3),
    column("STATE", false, 0),
    column("GEN", true, 8),
    column("UPTIME", true, 2),
    column("RESTARTS", true, 4),
    column("CPU", true, 5),
    column("MEMORY", true, 6),
    column("READY", false, 11),
    Column { is_cut: true, ..column("LISTENS", false, 9) },
    column("CONNS", true, 10),
    Column { is_cut: true, ..column("NOTE", false, 7) },
];

const fn column(head: &'static str, is_right: bool, rank: u8) -> Column {
    Column { head, is_right, rank, is_cut: false }
}

/// The form in which the workers are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Wide,
    Names,
    Json,
    IndentedJson,
}

fn run(call: &Call) -> Outcome {
    let format = match call.option("output") {
        _ if call.out.json => Format::Json,
        _ if call.has("quiet") => Format::Names,
        None => Format::Table,
        Some("wide") => Format::Wide,
        Some("json") => Format::IndentedJson,
        Some("name") => Format::Names,
        Some(other) => return Err(Failure::Usage(format!("-o {other}: allowed: wide, json, name"))),
    };
    loop {
        if call.has("watch") && call.out.stdout_is_terminal {
            // Home, and no more below; the lines above stay in the terminal's history.
            call.out.print("\x1b[H\x1b[2J")?;
        }
        print(call, format)?;
        if !call.has("watch") {
            return Ok(());
        }
        // A poll of nothing is a pause.
        let _ = poll(&mut [], PollTimeout::from(WATCH_INTERVAL_MS));
        if is_unread() {
            return Err(Failure::Unread);
        }
    }
}

/// Prints the workers as a table, as for `rinit list`.
pub(super) fn print_table(call: &Call) -> Outcome {
    print(call, if call.out.json { Format::Json } else { Format::Table })
}

fn print(call: &Call, format: Format) -> Outcome {
    let text = call.client.get_text("/v1/status")?;
    if format == Format::Json {
        return call.out.print_json(&text);
    }
    let status: Status = read_json(&text)?;
    match format {
        Format::Json => call.out.print_json(&text),
        Format::IndentedJson => {
            let indented = serde_json::to_string_pretty(&status).map_err(|error| Failure::failed(error.to_string()))?;
            call.out.print_json(&indented)
        }
        Format::Names => {
            let ids = status.workers.iter().filter(|worker| worker.role == "worker");
            call.out.print(&ids.map(|worker| format!("{}\n", harmless(&worker.id))).collect::<String>())
        }
        Format::Table | Format::Wide => {
            let now = call.out.stdout_is_terminal.then(SystemTime::now);
            let rows: Vec<Vec<Cell>> = status.workers.iter().map(|worker| row(worker, now)).collect();
            let width = call.out.width.filter(|_| format == Format::Table);
            call.out.print(&render(&COLUMNS, &rows, width, call.out.colour))?;
            print_remarks(call, &status);
            Ok(())
        }
    }
}

/// Prints what concerns the container or an app and not one worker. On stderr: what reads the table gets the table alone.
fn print_remarks(call: &Call, status: &Status) {
    let remark = |colour, text: &str| call.out.print_error(&format!("{}\n", call.out.paint(colour, text)));
    if status.state != "running" {
        remark(YELLOW, &format!("the container is {}", harmless(&status.state)));
    }
    for app in &status.apps {
        if let Some((colour, text)) = condition(app).filter(|_| status.state == "running") {
            remark(colour, &harmless(&text));
        }
        if let Some((colour, text)) = reload(app) {
            remark(colour, &text);
        }
    }
}

fn row(worker: &WorkerStatus, now: Option<SystemTime>) -> Vec<Cell> {
    vec![
        worker.id.as_str().into(),
        or_dash(worker.pid, |pid| pid.to_string()).into(),
        Cell::coloured(&worker.state, colour_of(&worker.state)),
        worker.generation.to_string().into(),
        or_dash(worker.uptime_ms, units::milliseconds).into(),
        restarts(worker, now).into(),
        or_dash(worker.cpu_percent, units::percent).into(),
        or_dash(worker.memory_bytes, units::size).into(),
        worker.ready_by.clone().unwrap_or_default().into(),
        listens(&worker.listens).into(),
        or_dash(worker.open_connections, |count| count.to_string()).into(),
        note(worker).into(),
    ]
}

/// `5 (3s ago)`; without a time of now, the number alone.
fn restarts(worker: &WorkerStatus, now: Option<SystemTime>) -> String {
    let last = worker.last_exit.as_ref().filter(|exit| worker.restarts > 0 && !exit.asked);
    let time = last.and_then(|exit| humantime::parse_rfc3339(&exit.time).ok());
    let ago = now.zip(time).and_then(|(now, time)| now.duration_since(time).ok());
    ago.map_or(worker.restarts.to_string(), |ago| format!("{} ({} ago)", worker.restarts, units::time(ago)))
}

/// `8080,/run/app.sock`: one word.
fn listens(addresses: &[String]) -> String {
    let word = |address: &String| address.strip_prefix("port ").unwrap_or(address).replace(' ', "-");
    addresses.iter().map(word).collect::<Vec<_>>().join(",")
}

/// Returns what the other columns do not say.
fn note(worker: &WorkerStatus) -> String {
    let last = worker.last_exit.as_ref();
    match (worker.role.as_str(), worker.state.as_str()) {
        ("replacement", _) => "replaces the one above".into(),
        ("replaced", _) => "is being replaced".into(),
        (_, "backoff") => {
            let again = or_dash(worker.retry_in_ms, |ms| format!("again in {}", units::milliseconds(ms)));
            last.map_or(again.clone(), |exit| format!("{again}, after {}", exit.cause))
        }
        (_, "failed") => last.map_or_else(String::new, |exit| exit.cause.clone()),
        _ => {
            let looping = worker.is_crash_looping.then(|| "crash-looping".to_owned());
            let status = worker.status.as_deref().map(|status| harmless(status).into_owned());
            let exit = last.filter(|exit| !exit.asked).map(|exit| format!("last exit: {}", exit.cause));
            [looping, status, exit].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
    }
}

/// The condition of an app that does not serve as it should: `web is degraded: 1 of 2 workers are ready`.
fn condition(app: &AppStatus) -> Option<(&'static str, String)> {
    let (colour, condition) = match app.condition.as_str() {
        "ready" | "idle" => return None,
        "waiting" => (YELLOW, "waiting for another app"),
        "down" | "crash-looping" => (RED, app.condition.as_str()),
        other => (YELLOW, other),
    };
    let missing = missing_of_app(app).map_or(String::new(), |missing| format!(": {missing}"));
    Some((colour, format!("{} is {condition}{missing}", app.name)))
}

fn reload(app: &AppStatus) -> Option<(&'static str, String)> {
    let name = harmless(&app.name);
    if let Some(reload) = &app.reload {
        let (generation, time) = (reload.generation, units::milliseconds(reload.since_ms));
        return Some((YELLOW, format!("{name}: reload to generation {generation} in progress for {time}")));
    }
    let last = app.last_reload.as_ref().filter(|last| last.result == "failed")?;
    let why = harmless_lines(last.why.as_deref().unwrap_or("it was ended"));
    // The reason begins with the app's name, as in the log.
    let why = why.strip_prefix(&format!("{name}: ")).unwrap_or(&why);
    let (generation, time) = (last.generation, harmless(&last.time));
    Some((RED, format!("{name}: the reload to generation {generation} failed at {time}: {why}")))
}
