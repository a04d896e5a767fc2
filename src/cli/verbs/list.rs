//! `rinit list`: every worker on a line.

use super::client::read_json;
use super::output::{RED, YELLOW, colour_of, harmless, harmless_lines};
use super::table::{Cell, Column, render};
use super::units::{or_dash, size, span};
use super::{Call, Outcome, Verb};
use crate::control::types::{AppStatus, Status, WorkerStatus};

pub(super) static VERB: Verb = Verb {
    names: &["list", "ls", "ps"],
    arguments: "",
    takes: 0..=0,
    summary: "the workers: state, uptime, restarts, CPU, memory",
    help: "Shows every worker on a line. During a reload a slot has two: the old worker and its replacement.\n\
           CPU is of one CPU, memory is resident; both are those of the worker and of what it has started.\n\
           Piped, nothing is cut, there are no colours, and every column holds one word, - for none; only\n\
           the last one, NOTE, may hold several.",
    options: &[],
    run,
};

const COLUMNS: [Column; 11] = [
    column("ID", false, 0),
    column("PID", true, 3),
    column("STATE", false, 0),
    column("GEN", true, 8),
    column("UPTIME", true, 2),
    column("RESTARTS", true, 4),
    column("CPU", true, 5),
    column("MEMORY", true, 6),
    column("READY", false, 10),
    Column { cut: true, ..column("LISTENS", false, 9) },
    Column { cut: true, ..column("NOTE", false, 7) },
];

const fn column(head: &'static str, right: bool, rank: u8) -> Column {
    Column { head, right, rank, cut: false }
}

fn run(call: &Call) -> Outcome {
    let text = call.client.get_text("/v1/status")?;
    if call.out.json {
        return call.out.print_json(&text);
    }
    let status: Status = read_json(&text)?;
    let rows: Vec<Vec<Cell>> = status.workers.iter().map(row).collect();
    call.out.print(&render(&COLUMNS, &rows, call.out.width, call.out.colour))?;
    // On stderr, so that what reads the table gets the table.
    if status.state != "running" {
        call.out.say(&format!("the container is {}\n", harmless(&status.state)));
    }
    status.apps.iter().filter_map(reload).for_each(|(colour, words)| {
        call.out.say(&format!("{}\n", call.out.paint(colour, &words)));
    });
    Ok(())
}

fn row(worker: &WorkerStatus) -> Vec<Cell> {
    vec![
        worker.id.as_str().into(),
        or_dash(worker.pid, |pid| pid.to_string()).into(),
        Cell::coloured(&worker.state, colour_of(&worker.state)),
        worker.generation.to_string().into(),
        or_dash(worker.uptime_ms, span).into(),
        worker.restarts.to_string().into(),
        or_dash(worker.cpu_percent, |percent| format!("{percent:.1}%")).into(),
        or_dash(worker.memory_bytes, size).into(),
        worker.ready_by.clone().unwrap_or_default().into(),
        listens(&worker.listens).into(),
        note(worker).into(),
    ]
}

/// `8080,/run/app.sock`: one word.
fn listens(places: &[String]) -> String {
    let word = |place: &String| place.strip_prefix("port ").unwrap_or(place).replace(' ', "-");
    places.iter().map(word).collect::<Vec<_>>().join(",")
}

/// What the other columns do not say.
fn note(worker: &WorkerStatus) -> String {
    let last = worker.last_exit.as_ref();
    match (worker.role.as_str(), worker.state.as_str()) {
        ("replacement", _) => "is to replace the one above".into(),
        ("replaced", _) => "is replaced".into(),
        (_, "backoff") => {
            let again = or_dash(worker.retry_in_ms, |ms| format!("again in {}", span(ms)));
            last.map_or(again.clone(), |exit| format!("{again}, after {}", exit.cause))
        }
        (_, "failed") => last.map_or_else(String::new, |exit| exit.cause.clone()),
        _ => last.filter(|exit| !exit.asked).map_or_else(String::new, |exit| format!("last exit: {}", exit.cause)),
    }
}

fn reload(app: &AppStatus) -> Option<(&'static str, String)> {
    let name = harmless(&app.name);
    if let Some(reload) = &app.reload {
        let (generation, time) = (reload.generation, span(reload.since_ms));
        return Some((YELLOW, format!("{name}: the reload to generation {generation} goes on since {time}")));
    }
    let last = app.last_reload.as_ref().filter(|last| last.result == "failed")?;
    let why = harmless_lines(last.why.as_deref().unwrap_or("it was ended"));
    // The reason begins with the app's name, as the log has it.
    let whose = if why.starts_with(&format!("{name}: ")) { String::new() } else { format!("{name}: ") };
    Some((RED, format!("the last reload failed at {}: {whose}{why}", harmless(&last.time))))
}
