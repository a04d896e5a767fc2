//! Divides the screen into panes.

use super::model::{Focus, Model};
use ratatui::layout::Rect;

/// The panes, from the top down. A pane without room is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panes {
    /// The line about rinit and its apps.
    pub head: Rect,
    /// The table of workers, below its titles.
    pub table: Rect,
    /// The graphs of the selected worker, on a large screen.
    pub graphs: Rect,
    /// The selected worker's log, below its title.
    pub log: Rect,
    /// The events, below their title.
    pub events: Rect,
    /// The keys, or a notice.
    pub keys: Rect,
}

/// The smallest screen with graphs of the selected worker, in columns and rows.
const MIN_SIZE_FOR_GRAPHS: (u16, u16) = (80, 30);
const GRAPH_ROWS: u16 = 7;
/// The fewest rows below the table for both the log and the events.
const MIN_ROWS_FOR_BOTH: u16 = 8;
/// The fewest rows below the table for the log or the events.
const MIN_ROWS_FOR_LINES: u16 = 3;

impl Panes {
    /// The panes for the model's screen size, workers and focus.
    pub fn of(model: &Model) -> Panes {
        let (columns, rows) = (model.size.width, model.size.height);
        let mut rest = Rect::new(0, 0, columns, rows);
        let head = take_top(&mut rest, 1);
        let body = rest.height.saturating_sub(1);
        let wanted = u16::try_from(model.status.workers.len()).unwrap_or(u16::MAX).saturating_add(1);
        let share = if model.focus == Focus::Workers { body * 2 / 5 } else { body / 4 };
        let table = if body < MIN_ROWS_FOR_LINES + 4 { body } else { wanted.clamp(2, share.max(3)) };
        let table = take_top(&mut rest, table);
        let graphs = if columns >= MIN_SIZE_FOR_GRAPHS.0 && rows >= MIN_SIZE_FOR_GRAPHS.1 { GRAPH_ROWS } else { 0 };
        let graphs = take_top(&mut rest, graphs);
        let lines = rest.height.saturating_sub(1);
        let (log, events) = match (lines, model.focus) {
            (..MIN_ROWS_FOR_LINES, _) => (0, 0),
            (MIN_ROWS_FOR_LINES..MIN_ROWS_FOR_BOTH, Focus::Events) => (0, lines),
            (MIN_ROWS_FOR_LINES..MIN_ROWS_FOR_BOTH, _) => (lines, 0),
            (_, Focus::Events) => (lines / 4, lines - lines / 4),
            (_, Focus::Workers) => (lines - lines * 3 / 10, lines * 3 / 10),
            (_, Focus::Log) => (lines - lines / 5, lines / 5),
        };
        let log = take_top(&mut rest, log);
        let events = take_top(&mut rest, events);
        let unused = rest.height.saturating_sub(1);
        take_top(&mut rest, unused);
        Panes { head, table, graphs, log, events, keys: rest }
    }
}

/// Takes rows off the top, as many as there are.
fn take_top(rest: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(rest.height);
    let top = Rect { height: rows, ..*rest };
    *rest = Rect { y: rest.y + rows, height: rest.height - rows, ..*rest };
    top
}
