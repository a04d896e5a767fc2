//! Draws the model. Colours are the terminal's own sixteen, which fit dark and light ones.

use super::draw::{CPU, MEMORY, bold, condition_style, dim, write};
use super::format::{clean, time_of_day};
use super::graphs::{bars, top_percent};
use super::layout::Panes;
use super::lines::Shown;
use super::model::{Focus, Line as LogEntry, Model, Scope};
use super::update::is_target_down;
use super::{dialogs, table};
use crate::control::types::{AppStatus, Event, WorkerStatus};
use crate::units;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders};
use std::collections::VecDeque;

/// Draws everything.
pub fn view(model: &Model, frame: &mut Frame) {
    let panes = Panes::of(model);
    let area = frame.area();
    let mut draw = |at: Rect, draw: &dyn Fn(&Model, Rect, &mut Frame)| {
        // The terminal may have become smaller since its size was asked for.
        let at = at.intersection(area);
        if !at.is_empty() {
            draw(model, at, frame);
        }
    };
    draw(panes.head, &head);
    draw(panes.table, &table::draw);
    draw(panes.graphs, &graphs);
    draw(panes.log, &log);
    draw(panes.events, &events);
    draw(panes.keys, &keys);
    draw(area, &dialogs::draw);
}

fn head(model: &Model, at: Rect, frame: &mut Frame) {
    let status = &model.status;
    let mut spans = vec![Span::styled(format!(" rinit {} ", status.version), bold())];
    let state = if status.state == "running" { Style::new() } else { bold().fg(Color::Yellow) };
    spans.push(Span::styled(format!(" {} {} ", status.state, units::milliseconds(status.uptime_ms)), state));
    status.apps.iter().for_each(|app| about(model, app, &mut spans));
    let cpu: f64 = status.workers.iter().filter_map(|row| row.cpu_percent).sum();
    let memory: u64 = status.workers.iter().filter_map(|row| row.memory_bytes).sum();
    spans.push(Span::styled(format!("  CPU {}", units::percent(cpu)), Style::new().fg(CPU)));
    spans.push(Span::styled(format!("  memory {}", units::size(memory)), Style::new().fg(MEMORY)));
    let listens: Vec<&str> = status.apps.iter().flat_map(|app| &app.listens).map(String::as_str).collect();
    spans.push(Span::styled(format!("  {}", clean(&listens.join(", "), 100)), dim()));
    write(frame, at, vec![Line::from(spans)], None, 0);
}

fn about(model: &Model, app: &AppStatus, spans: &mut Vec<Span<'static>>) {
    let style = condition_style(&app.condition);
    spans.push(Span::raw(format!(" {} ", clean(&app.name, 24))));
    spans.push(Span::styled(format!("{}/{} {}", app.ready, app.wanted, clean(&app.condition, 20)), style));
    spans.push(Span::raw(format!("  gen {}", app.generation)));
    let last = app.last_reload.as_ref().filter(|last| last.result == "failed");
    if let Some(reload) = &app.reload {
        let (done, of) = replaced(model, app);
        let text = format!("  reload {done}/{of}, {}", units::milliseconds(reload.since_ms));
        spans.push(Span::styled(text, bold().fg(Color::Yellow)));
    } else if last.is_some() {
        spans.push(Span::styled("  last reload failed", Style::new().fg(Color::Red)));
    }
}

/// The number of an app's slots that the reload in progress has given a new worker, and of all its slots.
fn replaced(model: &Model, app: &AppStatus) -> (usize, usize) {
    let generation = app.reload.as_ref().map_or(0, |reload| reload.generation);
    let slots = || model.status.workers.iter().filter(|row| row.app == app.name && row.role == "worker");
    (slots().filter(|row| row.state == "ready" && row.generation >= generation).count(), slots().count())
}

/// Draws the selected worker's CPU and memory, and facts about it.
fn graphs(model: &Model, at: Rect, frame: &mut Frame) {
    let Some(row) = model.row() else { return };
    let third = (at.width / 3).max(1);
    // One column apart.
    let left = Rect { width: third - 1, ..at };
    let middle = Rect { x: at.x + third, width: third - 1, ..at };
    let right = Rect { x: at.x + 2 * third, width: at.width - 2 * third, ..at };
    let peak_of =
        |values: &VecDeque<f64>, at: Rect| values.iter().rev().take(at.width.into()).copied().fold(0.0, f64::max);
    if let Some(graph) = model.graphs.of(&model.selected) {
        let peak = peak_of(&graph.cpu, left);
        let now = row.cpu_percent.map_or("–".into(), units::percent);
        let top = top_percent(peak);
        let span = model.graphs.span(graph.cpu.len().min(usize::from(left.width)));
        let title = format!(" CPU {now}, peak {} in {span} ", units::percent(peak));
        large(frame, left, title, bars(&graph.cpu, top, usize::from(left.width), height(left)), CPU);
        let peak = peak_of(&graph.memory, middle);
        let now = row.memory_bytes.map_or("–".into(), units::size);
        let title = format!(" memory {now}, peak {} in {span} ", units::size(peak as u64));
        // Some room above the peak, so that a rise is visible.
        large(
            frame,
            middle,
            title,
            bars(&graph.memory, peak * 1.15, usize::from(middle.width), height(middle)),
            MEMORY,
        );
    }
    let lines: Vec<Line> = facts(row).into_iter().map(Line::from).collect();
    write(frame, right, lines, Some(pane(format!(" {} ", clean(&row.id, 30)), false)), 0);
}

/// The rows below a pane's title.
fn height(of: Rect) -> usize {
    usize::from(of.height.saturating_sub(1))
}

fn large(frame: &mut Frame, at: Rect, title: String, bars: Vec<String>, color: Color) {
    let lines: Vec<Line> = bars.into_iter().map(|line| Line::styled(line, Style::new().fg(color))).collect();
    write(frame, at, lines, Some(pane(title, false)), 0);
}

fn facts(row: &WorkerStatus) -> Vec<String> {
    let mut facts = Vec::new();
    let pid = row.pid.map_or("no process".into(), |pid| format!("pid {pid}"));
    let by = row.ready_by.as_ref().map_or(String::new(), |by| format!(" by {}", clean(by, 20)));
    facts.push(format!("{}{by}, {pid}", clean(&row.state, 20)));
    if let Some(uptime) = row.uptime_ms {
        facts.push(format!("up {}, generation {}", units::milliseconds(uptime), row.generation));
    }
    if !row.listens.is_empty() {
        facts.push(format!("listens: {}", clean(&row.listens.join(", "), 80)));
    }
    if let Some(open) = row.open_connections {
        facts.push(units::count(open, "open connection"));
    }
    if let Some(node) = &row.node {
        let (lag, heap) = (units::milliseconds(node.event_loop_lag_ms), units::size(node.heap_used_bytes));
        facts.push(format!("lag {lag}, heap {heap}, {}", units::count(node.active_handles, "handle")));
    }
    let looping = if row.is_crash_looping { ", crash-looping" } else { "" };
    facts.push(format!("restarts {}{looping}", row.restarts));
    if let Some(exit) = &row.last_exit {
        facts.push(format!("last: {}", clean(&exit.cause, 80)));
        facts.push(format!("  at {} after {}", time_of_day(&exit.time), units::milliseconds(exit.lived_ms)));
    }
    facts
}

/// The title line of a pane.
pub fn pane(title: String, has_focus: bool) -> Block<'static> {
    let style = if has_focus { bold().fg(Color::Cyan) } else { dim() };
    let title = Span::styled(title, if has_focus { style } else { bold() });
    Block::new().borders(Borders::TOP).border_style(style).title(title)
}

fn log(model: &Model, at: Rect, frame: &mut Frame) {
    let shown = model.log.shown(height(at), model.log_filter());
    let id = match model.scope {
        Scope::Worker | Scope::App => clean(&model.target(), 30),
        Scope::All => "all workers".into(),
    };
    let filter = &model.filter;
    let mut title = format!(" log of {id} ");
    if filter.is_edited {
        title.push_str(&format!("/{}▏", clean(&filter.text, 60)));
    } else if !filter.text.is_empty() {
        title.push_str(&format!("/{} ({}) ", clean(&filter.text, 60), units::count(shown.of as u64, "line")));
    }
    if let Some(why) = &model.log_ended {
        title.push_str(&format!("– {} ", clean(why, 100)));
    }
    title.push_str(&scroll_position(&shown));
    let widest = shown.rows.iter().map(|entry| entry.worker().chars().count()).max().unwrap_or(0);
    let width = if model.scope == Scope::Worker { 0 } else { widest.min(MAX_NAME_WIDTH) };
    let lines: Vec<Line> = shown.rows.iter().map(|entry| log_line(entry, &filter.text, width)).collect();
    let none = if filter.text.is_empty() { "no lines yet" } else { "no line contains that" };
    let lines = if lines.is_empty() { vec![Line::styled(none, dim())] } else { lines };
    write(frame, at, lines, Some(pane(title, model.focus == Focus::Log)), shown.column);
}

fn scroll_position<T>(shown: &Shown<T>) -> String {
    let below = if shown.below > 0 { format!("↑ {} newer below ", shown.below) } else { String::new() };
    let column = if shown.column > 0 { format!("→ from column {} ", shown.column + 1) } else { String::new() };
    below + &column
}

/// The characters of a line that are shown, and of a worker's name before it.
const MAX_LINE_LENGTH: usize = 2048;
const MAX_NAME_WIDTH: usize = 20;
/// The colours of workers' names in a log of several.
const NAME_COLOURS: [Color; 3] = [Color::Cyan, Color::Magenta, Color::Green];

/// A line of the log. `width`: of the worker's name before it; 0: none.
fn log_line(entry: &LogEntry, filter: &str, width: usize) -> Line<'static> {
    let line = match entry {
        LogEntry::Log(line) => line,
        LogEntry::Missed(count) => {
            return Line::styled(format!("… {count} lines were missed"), Style::new().fg(Color::Yellow));
        }
    };
    let style = if line.stream == "stderr" { Style::new().fg(Color::Yellow) } else { Style::new() };
    let mut spans = vec![Span::styled(format!("{} ", time_of_day(&line.time)), dim())];
    if width > 0 {
        let number = line.worker.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let color = NAME_COLOURS.get(number % NAME_COLOURS.len()).copied().unwrap_or(Color::Cyan);
        spans.push(Span::styled(format!("{:<width$} ", clean(&line.worker, MAX_NAME_WIDTH)), Style::new().fg(color)));
    }
    let text = clean(&line.line, MAX_LINE_LENGTH);
    let (lower, filter) = (text.to_ascii_lowercase(), filter.to_ascii_lowercase());
    let mut rest = 0;
    if !filter.is_empty() {
        for (at, found) in lower.match_indices(&filter) {
            spans.push(Span::styled(text.get(rest..at).unwrap_or_default().to_owned(), style));
            rest = at + found.len();
            let found = text.get(at..rest).unwrap_or_default().to_owned();
            spans.push(Span::styled(found, style.add_modifier(Modifier::REVERSED)));
        }
    }
    spans.push(Span::styled(text.get(rest..).unwrap_or_default().to_owned(), style));
    Line::from(spans)
}

fn events(model: &Model, at: Rect, frame: &mut Frame) {
    let shown = model.events.shown(height(at), |_| true);
    let title = format!(" events {}", scroll_position(&shown));
    let lines: Vec<Line> = shown.rows.iter().map(|event| event_line(event)).collect();
    let lines = if lines.is_empty() { vec![Line::styled("none yet", dim())] } else { lines };
    write(frame, at, lines, Some(pane(title, model.focus == Focus::Events)), shown.column);
}

fn event_line(event: &Event) -> Line<'static> {
    let style = match event.level.as_str() {
        "error" => Style::new().fg(Color::Red),
        "warn" => Style::new().fg(Color::Yellow),
        "debug" => dim(),
        _ => Style::new(),
    };
    let time = Span::styled(format!("{} ", time_of_day(&event.time)), dim());
    Line::from(vec![time, Span::styled(clean(&event.message, MAX_LINE_LENGTH), style)])
}

/// Draws the last line: the pending calls, the last answer, or else the keys.
fn keys(model: &Model, at: Rect, frame: &mut Frame) {
    let line = if !model.pending.is_empty() {
        Line::styled(format!(" {} … ", clean(&model.pending.join(", "), 200)), bold().fg(Color::Yellow))
    } else if let Some(notice) = &model.notice {
        let color = if notice.ok { Color::Green } else { Color::Red };
        Line::styled(format!(" {}", clean(&notice.text, 400)), bold().fg(color))
    } else if model.filter.is_edited {
        keys_line(&[("Enter", "keep the filter"), ("Esc", "remove it")])
    } else {
        let stop = if is_target_down(model) { "start" } else { "stop" };
        match model.focus {
            Focus::Workers => keys_line(&[
                ("q", "quit"),
                ("?", "help"),
                ("r", "restart"),
                ("s", stop),
                ("R", "reload"),
                ("a", "all"),
                ("+-", "scale"),
                ("/", "filter"),
                ("l", "log"),
                ("e", "events"),
                ("↑↓", "select"),
            ]),
            Focus::Log | Focus::Events => keys_line(&[
                ("q", "quit"),
                ("Esc", "workers"),
                ("↑↓ PgUp PgDn", "scroll"),
                ("End", "newest"),
                ("/", "filter"),
                ("←→", "long lines"),
            ]),
        }
    };
    write(frame, at, vec![line], None, 0);
}

/// A line of keys, the more important ones first: the rest is cut off.
fn keys_line(keys: &[(&'static str, &'static str)]) -> Line<'static> {
    let key = |(key, what): &(&'static str, &'static str)| {
        [Span::styled(format!(" {key}"), bold().fg(Color::Cyan)), Span::raw(format!(" {what}"))]
    };
    Line::from(keys.iter().flat_map(key).collect::<Vec<_>>())
}
