//! Implements `rinit describe`.

use super::client::read_json;
use super::output::{BOLD, DIM, Output, PLAIN, RED, colour_of, harmless};
use super::table::or_dash;
use super::{Call, MAX_IDS, Outcome, Verb, list};
use crate::control::encoded;
use crate::control::types::{Description, ExitRecord, NodeStatus, ReplacementRecord, WorkerStatus};
use crate::units::{milliseconds, percent, size};

pub(super) static VERB: Verb = Verb {
    names: &["describe", "status", "show", "info", "inspect"],
    arguments: "[ID]...",
    takes: 0..=MAX_IDS,
    summary: "show all about a worker: settings, last exits, last lines",
    help: "Shows a worker's state, command, settings and limits, its last replacements and exits with their\n\
           causes, its last lines on stderr, and its environment, where values that may be secrets are ***.\n\
           Without an ID: the table of all workers, as `rinit list` shows it. ID is as there: web-0, or 0\n\
           while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    if call.values.is_empty() {
        return list::print_table(call);
    }
    call.for_each(&call.values, |id| {
        let text = call.client.get_text(&format!("/v1/workers/{}", encoded(id)))?;
        if call.out.json {
            return call.out.print_json(&text);
        }
        call.out.print(&page(&read_json(&text)?, &call.out))
    })
}

fn page(about: &Description, out: &Output) -> String {
    let mut page = Page { text: String::new(), out };
    for worker in &about.workers {
        let role = if worker.role == "worker" { String::new() } else { format!(" ({})", worker.role) };
        page.section(&format!("{}{role}", worker.id), &of_worker(worker, about));
    }
    page.section("settings", &of_run(about));
    page.lines("replaced, newest first", about.replacements.iter().map(|one| (PLAIN, of_replacement(one))));
    page.lines("exits, newest first", about.exits.iter().map(|exit| (colour_of_exit(exit), of_exit(exit))));
    page.lines("last lines on stderr", about.last_lines.iter().map(|line| (PLAIN, line.clone())));
    page.lines("environment", about.environment.iter().map(|pair| (PLAIN, pair.clone())));
    page.text
}

type Row = (&'static str, String, &'static str);

fn of_worker(worker: &WorkerStatus, about: &Description) -> Vec<Row> {
    let by = worker.ready_by.as_ref().map_or(String::new(), |by| format!(", by {by}"));
    let again = worker.retry_in_ms.map_or(String::new(), |ms| format!(", again in {}", milliseconds(ms)));
    let mut rows = vec![
        ("state", format!("{}{by}{again}", worker.state), colour_of(&worker.state)),
        ("pid", or_dash(worker.pid, |pid| pid.to_string()), PLAIN),
        ("generation", worker.generation.to_string(), PLAIN),
        ("uptime", or_dash(worker.uptime_ms, milliseconds) + &of_limit(about.max_uptime_ms.map(milliseconds)), PLAIN),
        ("restarts", worker.restarts.to_string(), PLAIN),
        ("cpu", or_dash(worker.cpu_percent, percent), PLAIN),
        ("memory", or_dash(worker.memory_bytes, size) + &of_limit(about.max_memory.clone()), PLAIN),
        ("listens", if worker.listens.is_empty() { "-".into() } else { worker.listens.join(", ") }, PLAIN),
    ];
    if let Some(open) = worker.open_connections {
        let handed = worker.connections.map_or(String::new(), |count| format!(", {count} handed out by rinit"));
        rows.push(("conns", format!("{open} open{handed}"), PLAIN));
    }
    if let Some(NodeStatus { event_loop_lag_ms, heap_used_bytes, active_handles }) = &worker.node {
        let (lag, heap) = (milliseconds(*event_loop_lag_ms), size(*heap_used_bytes));
        rows.push(("node", format!("event loop lag {lag}, heap {heap}, {active_handles} active handles"), PLAIN));
    }
    if let Some(status) = &worker.status {
        rows.push(("status", harmless(status).into_owned(), PLAIN));
    }
    // The API has these of the slot's current worker alone.
    if worker.role == "worker" {
        let limit = of_limit(about.open_files_limit.map(|limit| limit.to_string()));
        rows.push(("open files", or_dash(about.open_files, |count| format!("{count}{limit}")), PLAIN));
        rows.push(("threads", or_dash(about.threads, |count| count.to_string()), PLAIN));
    }
    rows
}

/// The limit behind a value.
fn of_limit(limit: Option<String>) -> String {
    limit.map_or(String::new(), |limit| format!(" of {limit}"))
}

fn of_replacement(one: &ReplacementRecord) -> String {
    format!("{}  {}", one.time, one.message)
}

fn of_run(about: &Description) -> Vec<Row> {
    let of = if about.max_restarts == 0 { String::new() } else { format!(" of {}", about.max_restarts) };
    vec![
        ("command", shell_words::join(&about.command), PLAIN),
        ("directory", about.cwd.clone().unwrap_or("-".into()), PLAIN),
        ("user", about.user.clone().unwrap_or("-".into()), PLAIN),
        ("ready", about.readiness.clone(), PLAIN),
        ("stop", format!("{}, then SIGKILL after {}", about.stop_signal, milliseconds(about.stop_timeout_ms)), PLAIN),
        ("crashes", format!("{}{of} in a row", about.crashes), if about.crashes > 0 { RED } else { PLAIN }),
    ]
}

fn of_exit(exit: &ExitRecord) -> String {
    let asked = if exit.asked { ", as asked" } else { "" };
    let pid = exit.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    format!("{}  {} after {}{asked}{pid}", exit.time, exit.cause, milliseconds(exit.lived_ms))
}

fn colour_of_exit(exit: &ExitRecord) -> &'static str {
    if exit.asked { DIM } else { PLAIN }
}

struct Page<'a> {
    text: String,
    out: &'a Output,
}

impl Page<'_> {
    fn title(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}{}\n", self.out.paint(BOLD, &harmless(title))));
    }

    /// Names and values in two columns.
    fn section(&mut self, title: &str, rows: &[Row]) {
        self.title(title);
        for (name, value, colour) in rows {
            self.text.push_str(&format!("  {name:10}  {}\n", self.out.paint(colour, &harmless(value))));
        }
    }

    /// Lines below a title; neither where there are no lines.
    fn lines(&mut self, title: &str, lines: impl Iterator<Item = (&'static str, String)>) {
        let mut lines = lines.peekable();
        if lines.peek().is_some() {
            self.title(title);
            lines.for_each(|(colour, line)| {
                self.text.push_str(&format!("  {}\n", self.out.paint(colour, &harmless(&line))));
            });
        }
    }
}
