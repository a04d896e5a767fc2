//! Draws the table of workers, one row each.

use super::draw::{CPU, MEMORY, bold, dim, state_style, write};
use super::format::clean;
use super::graphs::{RowKey, bars, top_percent};
use super::model::{Focus, Model};
use crate::control::types::WorkerStatus;
use crate::units;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// The widths of the columns. A column of width 0 is left out.
#[derive(Clone, Copy)]
struct Widths {
    id: usize,
    state: usize,
    pid: usize,
    generation: usize,
    uptime: usize,
    restarts: usize,
    cpu: usize,
    cpu_graph: usize,
    memory: usize,
    memory_graph: usize,
}

const MAX_ID_WIDTH: usize = 28;
const MAX_GRAPH_WIDTH: usize = 60;
/// The width below which a graph is left out.
const MIN_GRAPH_WIDTH: usize = 5;

impl Widths {
    fn of(model: &Model, columns: usize) -> Widths {
        let ids = model.status.workers.iter().map(|row| name(row).chars().count());
        let mut widths = Widths {
            id: ids.max().unwrap_or(0).clamp(6, MAX_ID_WIDTH),
            state: 13,
            pid: 7,
            generation: 3,
            uptime: 7,
            restarts: 8,
            cpu: 6,
            cpu_graph: 0,
            memory: 7,
            memory_graph: 0,
        };
        // The columns that are left out on a narrow screen, the least important first.
        let optional: [fn(&mut Widths); 6] = [
            |widths| widths.generation = 0,
            |widths| widths.restarts = 0,
            |widths| widths.pid = 0,
            |widths| widths.uptime = 0,
            |widths| widths.memory = 0,
            |widths| widths.cpu = 0,
        ];
        for leave_out in optional {
            if widths.total() > columns {
                leave_out(&mut widths);
            }
        }
        let graph = (columns.saturating_sub(widths.total()) / 2).saturating_sub(1).min(MAX_GRAPH_WIDTH);
        if graph >= MIN_GRAPH_WIDTH {
            (widths.cpu_graph, widths.memory_graph) = (graph, graph);
        }
        widths
    }

    /// The width of a row: two columns for the mark, and a space after each column.
    fn total(&self) -> usize {
        let widths = [
            self.id,
            self.state,
            self.pid,
            self.generation,
            self.uptime,
            self.restarts,
            self.cpu,
            self.cpu_graph,
            self.memory,
            self.memory_graph,
        ];
        2 + widths.iter().filter(|width| **width > 0).map(|width| width + 1).sum::<usize>()
    }
}

/// Draws the table, scrolled to the selected row.
pub fn draw(model: &Model, at: Rect, frame: &mut Frame) {
    let widths = Widths::of(model, usize::from(at.width));
    let visible = usize::from(at.height.saturating_sub(1));
    let skip = (model.position() + 1).saturating_sub(visible);
    let rows = &model.status.workers;
    let (cpu, memory) = model.graphs.peaks();
    let tops = (top_percent(cpu), memory);
    let mut lines = vec![titles(model, &widths, rows.len(), visible)];
    lines.extend(rows.iter().skip(skip).take(visible).map(|row| line(model, row, &widths, tops)));
    if rows.is_empty() {
        lines.push(Line::styled("  no workers: + adds one", dim()));
    }
    write(frame, at, lines, None, 0);
}

fn titles(model: &Model, widths: &Widths, rows: usize, visible: usize) -> Line<'static> {
    let of_bar = format!("{} a bar", units::time(model.graphs.interval()));
    let above = |width: usize| left(if of_bar.len() <= width { &of_bar } else { "" }, width);
    let workers = if rows > visible { format!("{rows} ↑↓") } else { "worker".into() };
    let cells = [
        left(&workers, widths.id),
        left("state", widths.state),
        right("pid", widths.pid),
        right("gen", widths.generation),
        right("up", widths.uptime),
        right("restarts", widths.restarts),
        right("CPU", widths.cpu),
        above(widths.cpu_graph),
        right("memory", widths.memory),
        above(widths.memory_graph),
    ];
    Line::styled(format!("  {}", cells.concat()), bold().add_modifier(Modifier::UNDERLINED))
}

fn line(model: &Model, row: &WorkerStatus, widths: &Widths, tops: (f64, f64)) -> Line<'static> {
    let is_selected = model.selected.is_of(row);
    let graph = model.graphs.of(&RowKey::of(row)).unwrap_or_default();
    let bars = |values, top, width| if width == 0 { String::new() } else { bars(values, top, width, 1).concat() + " " };
    let cpu_graph = bars(&graph.cpu, tops.0, widths.cpu_graph);
    let memory_graph = bars(&graph.memory, tops.1, widths.memory_graph);
    let state = match row.retry_in_ms {
        _ if row.is_crash_looping => "crash-looping".into(),
        Some(wait) if row.state == "backoff" => format!("retry {}", units::milliseconds(wait)),
        _ => clean(&row.state, 20),
    };
    let restarts = if row.restarts > 0 { Style::new().fg(Color::Yellow) } else { Style::new() };
    let (mark, selected) = match (is_selected, model.focus) {
        (false, _) if model.is_target(row) => ("• ", bold()),
        (false, _) => ("  ", Style::new()),
        (true, Focus::Workers) => ("▸ ", bold().fg(Color::Cyan).add_modifier(Modifier::REVERSED)),
        (true, Focus::Log | Focus::Events) => ("▸ ", bold()),
    };
    let spans = vec![
        Span::styled(format!("{mark}{}", fit(&name(row), widths.id)), selected),
        Span::raw(" ".repeat(1 + widths.id.saturating_sub(name(row).chars().count()))),
        Span::styled(left(&state, widths.state), state_style(if row.is_crash_looping { "failed" } else { &row.state })),
        Span::raw(right(&row.pid.map_or("–".into(), |pid| pid.to_string()), widths.pid)),
        Span::raw(right(&row.generation.to_string(), widths.generation)),
        Span::raw(right(&row.uptime_ms.map_or("–".into(), units::milliseconds), widths.uptime)),
        Span::styled(right(&row.restarts.to_string(), widths.restarts), restarts),
        Span::raw(right(&row.cpu_percent.map_or("–".into(), units::percent), widths.cpu)),
        Span::styled(cpu_graph, Style::new().fg(CPU)),
        Span::raw(right(&row.memory_bytes.map_or("–".into(), units::size), widths.memory)),
        Span::styled(memory_graph, Style::new().fg(MEMORY)),
    ];
    Line::from(spans)
}

/// The name of a row: during a reload a slot has two.
fn name(row: &WorkerStatus) -> String {
    let id = clean(&row.id, MAX_ID_WIDTH);
    match row.role.as_str() {
        "replacement" => id + " new",
        "replaced" => id + " old",
        _ => id,
    }
}

fn left(text: &str, width: usize) -> String {
    if width == 0 { String::new() } else { format!("{:<width$} ", fit(text, width)) }
}

fn right(text: &str, width: usize) -> String {
    if width == 0 { String::new() } else { format!("{:>width$} ", fit(text, width)) }
}

fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
