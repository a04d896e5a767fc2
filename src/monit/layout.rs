//! Where everything is on the screen.

use super::model::{Focus, Model};
use ratatui::layout::Rect;

/// The parts of the screen, from the top down. What has no room is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panes {
    /// rinit and the app.
    pub head: Rect,
    /// The workers, below a row of titles.
    pub table: Rect,
    /// The selected worker, large: where there is room.
    pub graphs: Rect,
    /// Its log, below its title.
    pub log: Rect,
    /// Events, below their title.
    pub events: Rect,
    /// The keys, or what is to be said.
    pub keys: Rect,
}

/// From this size on there are graphs of the selected worker.
const ROOM_FOR_GRAPHS: (u16, u16) = (80, 30);
const GRAPHS: u16 = 7;
/// Below this many rows there are either lines of the log or events.
const ROOM_FOR_BOTH: u16 = 8;
/// Below this many rows there is only the table.
const ROOM_FOR_LINES: u16 = 3;

impl Panes {
    /// For what is to be shown.
    pub fn of(model: &Model) -> Panes {
        let (columns, rows) = (model.size.width, model.size.height);
        let mut rest = Rect::new(0, 0, columns, rows);
        let head = cut(&mut rest, 1);
        let body = rest.height.saturating_sub(1);
        let wanted = u16::try_from(model.status.workers.len()).unwrap_or(u16::MAX).saturating_add(1);
        let share = if model.focus == Focus::Workers { body * 2 / 5 } else { body / 4 };
        let table = if body < ROOM_FOR_LINES + 4 { body } else { wanted.clamp(2, share.max(3)) };
        let table = cut(&mut rest, table);
        let graphs = if columns >= ROOM_FOR_GRAPHS.0 && rows >= ROOM_FOR_GRAPHS.1 { GRAPHS } else { 0 };
        let graphs = cut(&mut rest, graphs);
        let lines = rest.height.saturating_sub(1);
        let (log, events) = match (lines, model.focus) {
            (..ROOM_FOR_LINES, _) => (0, 0),
            (ROOM_FOR_LINES..ROOM_FOR_BOTH, Focus::Events) => (0, lines),
            (ROOM_FOR_LINES..ROOM_FOR_BOTH, _) => (lines, 0),
            (_, Focus::Events) => (lines / 4, lines - lines / 4),
            (_, Focus::Workers) => (lines - lines * 3 / 10, lines * 3 / 10),
            (_, Focus::Log) => (lines - lines / 5, lines / 5),
        };
        let log = cut(&mut rest, log);
        let events = cut(&mut rest, events);
        let unused = rest.height.saturating_sub(1);
        cut(&mut rest, unused);
        Panes { head, table, graphs, log, events, keys: rest }
    }
}

/// Takes so many rows off the top, as far as there are.
fn cut(rest: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(rest.height);
    let top = Rect { height: rows, ..*rest };
    *rest = Rect { y: rest.y + rows, height: rest.height - rows, ..*rest };
    top
}
