//! Holds the state of monit as plain data: no terminal, no connection, no clock.

use super::graphs::{Graphs, RowKey};
use super::lines::Lines;
use crate::control::types::{Done, Error, Event, History, LogLine, Status, WorkerStatus};
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Size;

/// The state of the screen.
#[derive(Debug)]
pub struct Model {
    /// Columns and rows of the terminal.
    pub size: Size,
    /// rinit's last status.
    pub status: Status,
    /// The workers' CPU and memory over time.
    pub graphs: Graphs,
    /// The selected row.
    pub selected: RowKey,
    /// The workers that keys act on, and whose log is shown.
    pub scope: Scope,
    /// The log of the workers in the scope.
    pub log: Lines<Line>,
    /// The reason for which the log does not go on.
    pub log_ended: Option<String>,
    /// rinit's events.
    pub events: Lines<Event>,
    /// The pane that the arrow keys move.
    pub focus: Focus,
    /// The filter of the log.
    pub filter: Filter,
    /// The dialog on top.
    pub dialog: Option<Dialog>,
    /// The calls that rinit has not answered yet, in words.
    pub pending: Vec<String>,
    /// The last answer.
    pub notice: Option<Notice>,
    /// The worker or app whose log is followed, or `all`; empty: none.
    followed: String,
    /// The number of the log that is followed. Lines of earlier ones are late, and ignored.
    pub(super) log_number: u64,
    /// True if the log is cleared by the next line.
    pub(super) is_log_stale: bool,
    /// True if the stream of events has ended, and is to be asked for again.
    pub(super) have_events_ended: bool,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A worker's.
    Log(LogLine),
    /// A number of lines that came too fast.
    Missed(u64),
}

/// The workers that keys act on, and whose log is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The selected one.
    Worker,
    /// Those of its app.
    App,
    /// All.
    All,
}

impl Line {
    /// The worker that wrote it; empty: none.
    pub fn worker(&self) -> &str {
        match self {
            Line::Log(line) => &line.worker,
            Line::Missed(_) => "",
        }
    }
}

/// The pane that the arrow keys move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the panes
pub enum Focus {
    Workers,
    Log,
    Events,
}

/// The filter of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The text that shown lines contain; empty: every line is shown.
    pub text: String,
    /// True if it is being typed.
    pub is_edited: bool,
}

/// A dialog on top of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The list of keys.
    Help,
    /// A question before a call, and the word for yes.
    Confirm {
        /// The call.
        call: Call,
        /// The question.
        question: String,
        /// The answer that makes the call.
        yes: &'static str,
    },
    /// A failure: a sentence, and a worker's last lines.
    Failed(String, Vec<String>),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// In words.
    pub text: String,
    /// True if it was done.
    pub ok: bool,
    /// The number of further statuses until it is hidden.
    remaining_updates: u32,
}

/// Something that has happened.
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(KeyCode),
    /// rinit's status, which is asked for once a second.
    Status(Status),
    /// The usage of the last hour.
    History(History),
    /// An event of rinit's.
    Event(Event),
    /// The stream of events has ended.
    EventsEnded,
    /// A line of the log of this number.
    Line(u64, Line),
    /// The log of this number has ended, and why.
    LinesEnded(u64, String),
    /// The answer to a call.
    Answer(Call, Result<Done, Error>),
    /// The terminal's new size.
    Resized(Size),
    /// monit was stopped, and has been continued.
    Continued,
    /// monit ends, and with which result.
    End(Result<(), String>),
}

/// Something that the model asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Follow the log of this worker or app, or of `all`, under this number, in place of the one before.
    Follow(u64, String),
    /// Follow the events from this number on.
    Events(Option<u64>),
    /// Ask rinit for a change.
    Call(Call),
    /// End, with this result.
    End(Result<(), String>),
}

/// A change that rinit can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Restart this worker, the workers of this app, or `all`.
    Restart(String),
    /// Stop them.
    Stop(String),
    /// Start them.
    Start(String),
    /// Reload this app, or `all`.
    Reload(String),
    /// Run more or fewer workers of this app: `+1`, `-1`.
    Scale(String, &'static str),
}

impl Call {
    /// The text that is shown while it is not answered.
    pub fn words(&self) -> String {
        match self {
            Call::Restart(id) => format!("restarting {id}"),
            Call::Stop(id) => format!("stopping {id}"),
            Call::Start(id) => format!("starting {id}"),
            Call::Reload(app) => format!("reloading {app}"),
            Call::Scale(app, by) => format!("scaling {app} by {by}"),
        }
    }
}

/// The most calls that wait for an answer.
const MAX_PENDING_CALLS: usize = 4;
/// The number of lines, and of events, that are kept.
const MAX_LINES: usize = 500;
/// The number of statuses for which a notice of success is shown, and one of failure.
const NOTICE_UPDATES: (u32, u32) = (5, 15);

impl Model {
    /// The first state, from rinit's first status, and what it asks for.
    pub fn new(status: Status, size: Size) -> (Model, Vec<Command>) {
        let mut model = Model {
            size,
            selected: RowKey::default(),
            graphs: Graphs::default(),
            scope: Scope::Worker,
            log: Lines::new(MAX_LINES),
            log_ended: None,
            events: Lines::new(MAX_LINES),
            focus: Focus::Workers,
            filter: Filter::default(),
            dialog: None,
            pending: Vec::new(),
            notice: None,
            followed: String::new(),
            log_number: 0,
            is_log_stale: false,
            have_events_ended: false,
            status: status.clone(),
        };
        let mut commands = vec![Command::Events(None)];
        commands.extend(model.apply_status(status));
        (model, commands)
    }

    /// The selected row.
    pub fn row(&self) -> Option<&WorkerStatus> {
        self.status.workers.iter().find(|row| self.selected.is_of(row))
    }

    /// The selected row's position in the table.
    pub fn position(&self) -> usize {
        self.status.workers.iter().position(|row| self.selected.is_of(row)).unwrap_or(0)
    }

    pub(super) fn apply_status(&mut self, status: Status) -> Vec<Command> {
        self.graphs.add(&status.workers);
        let position = self.position();
        self.status = status;
        self.notice = self.notice.take().and_then(|notice| {
            let remaining_updates = notice.remaining_updates.checked_sub(1)?;
            Some(Notice { remaining_updates, ..notice })
        });
        // The selected row may have a new role, or be gone.
        let rows = &self.status.workers;
        let same = rows.iter().find(|row| self.selected.is_of(row));
        let same = same.or_else(|| rows.iter().find(|row| row.id == self.selected.id));
        let next = same.or_else(|| rows.get(position.min(rows.len().saturating_sub(1))));
        let mut commands = next.map(RowKey::of).map_or_else(Vec::new, |key| self.select(key));
        if self.log_ended.is_some() && commands.is_empty() && !self.followed.is_empty() {
            commands.push(self.follow_log());
        }
        if std::mem::take(&mut self.have_events_ended) {
            commands.push(Command::Events(self.events.last().map(|event| event.seq + 1)));
        }
        commands
    }

    pub(super) fn select(&mut self, key: RowKey) -> Vec<Command> {
        self.selected = key;
        self.follow_target()
    }

    /// Goes on to the next scope: the selected worker, its app where there are several, all workers.
    pub(super) fn widen_scope(&mut self) -> Vec<Command> {
        self.scope = match self.scope {
            Scope::Worker if self.status.apps.len() > 1 => Scope::App,
            Scope::Worker | Scope::App => Scope::All,
            Scope::All => Scope::Worker,
        };
        self.follow_target()
    }

    /// The name that calls have for the workers in the scope; empty: there is none.
    pub fn target(&self) -> String {
        match self.scope {
            Scope::Worker => self.selected.id.clone(),
            Scope::App => self.row().map_or(String::new(), |row| row.app.clone()),
            Scope::All => "all".into(),
        }
    }

    /// True if a row is in the scope.
    pub fn is_target(&self, row: &WorkerStatus) -> bool {
        match self.scope {
            Scope::Worker => self.selected.is_of(row),
            Scope::App => self.row().is_some_and(|selected| selected.app == row.app),
            Scope::All => true,
        }
    }

    /// Follows the log of the scope, if another one is followed.
    fn follow_target(&mut self) -> Vec<Command> {
        let target = self.target();
        if target.is_empty() || target == self.followed {
            return Vec::new();
        }
        self.followed = target;
        self.log.clear();
        vec![self.follow_log()]
    }

    fn follow_log(&mut self) -> Command {
        self.log_number += 1;
        self.is_log_stale = true;
        self.log_ended = None;
        Command::Follow(self.log_number, self.followed.clone())
    }

    pub(super) fn move_selection(&mut self, to: usize) -> Vec<Command> {
        let rows = &self.status.workers;
        let key = rows.get(to.min(rows.len().saturating_sub(1))).map(RowKey::of);
        key.map_or_else(Vec::new, |key| self.select(key))
    }

    pub(super) fn call(&mut self, call: Call) -> Vec<Command> {
        if self.pending.len() >= MAX_PENDING_CALLS {
            self.notice = Some(Notice::new(format!("{MAX_PENDING_CALLS} calls are not answered yet"), false));
            return Vec::new();
        }
        self.pending.push(call.words());
        self.notice = None;
        vec![Command::Call(call)]
    }

    /// The condition on the lines of the log that are shown.
    pub fn log_filter(&self) -> impl Fn(&Line) -> bool + use<> {
        let wanted = self.filter.text.to_ascii_lowercase();
        move |line| match line {
            Line::Log(line) => wanted.is_empty() || line.line.to_ascii_lowercase().contains(&wanted),
            Line::Missed(_) => true,
        }
    }
}

impl Notice {
    pub(super) fn new(text: String, ok: bool) -> Notice {
        Notice { text, ok, remaining_updates: if ok { NOTICE_UPDATES.0 } else { NOTICE_UPDATES.1 } }
    }
}
