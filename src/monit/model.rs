//! What monit shows and is asked to do, as plain data: no terminal, no connection, no clock.

use super::graphs::{Graphs, Key as RowKey};
use super::keys::Key;
use super::lines::Lines;
use crate::control::types::{Done, Error, Event, LogLine, Status, WorkerStatus};
use ratatui::layout::Size;

/// Everything that is on the screen.
#[derive(Debug)]
pub struct Model {
    /// Columns and rows of the terminal.
    pub size: Size,
    /// rinit's last answer.
    pub status: Status,
    /// What the workers used.
    pub graphs: Graphs,
    /// The row that is selected.
    pub selected: RowKey,
    /// The selected worker's log.
    pub log: Lines<Line>,
    /// What else is to be known of the log: why it does not go on.
    pub log_ended: Option<String>,
    /// rinit's events.
    pub events: Lines<Event>,
    /// Where the arrows go.
    pub focus: Focus,
    /// What the log is searched for.
    pub filter: Filter,
    /// What lies on top.
    pub dialog: Option<Dialog>,
    /// What was asked of rinit and is not answered yet.
    pub waiting: Vec<String>,
    /// The last answer.
    pub notice: Option<Notice>,
    /// Which log is followed: lines of the ones before are late, and passed over.
    pub(super) follow: u64,
    /// The log begins afresh with the first line that comes.
    pub(super) stale: bool,
    /// The events' stream has ended and is asked for again.
    pub(super) events_ended: bool,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A worker's.
    Log(LogLine),
    /// So many lines came too fast.
    Missed(u64),
}

/// Where the arrows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the panes
pub enum Focus {
    Workers,
    Log,
    Events,
}

/// What the log is searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nothing: every line is shown.
    pub text: String,
    /// Whether it is being typed.
    pub is_typed: bool,
}

/// What lies on top of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The keys.
    Help,
    /// Whether this worker is really to be stopped.
    Stop(String),
    /// What went wrong: a sentence, and a worker's last lines.
    Failed(String, Vec<String>),
}

/// The answer to what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// In words.
    pub text: String,
    /// Whether it was done.
    pub ok: bool,
    /// So many answers of rinit long it is shown.
    rest: u32,
}

/// Something has happened.
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(Key),
    /// rinit has said how things are; it is asked once a second.
    Status(Status),
    /// Something happened there.
    Event(Event),
    /// There come no more events, for now.
    EventsEnded,
    /// A line of the log that is followed under this number.
    Line(u64, Line),
    /// There come no more lines of it, and why.
    LinesEnded(u64, String),
    /// The answer to a call.
    Answer(Call, Result<Done, Error>),
    /// The terminal is of this size now.
    Resized(Size),
    /// monit was stopped, and goes on.
    Continued,
    /// It is over, and how.
    End(Result<(), String>),
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Follow this worker's log, under this number, in place of the one before.
    Follow(u64, String),
    /// Read the events from that number on.
    Events(Option<u64>),
    /// Ask rinit for this.
    Call(Call),
    /// Leave.
    End(Result<(), String>),
}

/// What rinit can be asked to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Restart this worker.
    Restart(String),
    /// Stop it.
    Stop(String),
    /// Start it.
    Start(String),
    /// Reload everything.
    Reload,
    /// Have more or fewer of this app: `+1`, `-1`.
    Scale(String, &'static str),
}

impl Call {
    /// What is going on while it is not answered.
    pub fn words(&self) -> String {
        match self {
            Call::Restart(id) => format!("restarting {id}"),
            Call::Stop(id) => format!("stopping {id}"),
            Call::Start(id) => format!("starting {id}"),
            Call::Reload => "reloading".into(),
            Call::Scale(app, by) => format!("scaling {app} by {by}"),
        }
    }
}

/// More calls than that are not asked at once.
const CALLS: usize = 4;
/// Lines and events that are kept.
const KEPT: usize = 500;

impl Model {
    /// The beginning: rinit's first answer, and what is to be done for more.
    pub fn new(status: Status, size: Size) -> (Model, Vec<Command>) {
        let mut model = Model {
            size,
            selected: RowKey::default(),
            graphs: Graphs::default(),
            log: Lines::new(KEPT),
            log_ended: None,
            events: Lines::new(KEPT),
            focus: Focus::Workers,
            filter: Filter::default(),
            dialog: None,
            waiting: Vec::new(),
            notice: None,
            follow: 0,
            stale: false,
            events_ended: false,
            status: status.clone(),
        };
        let mut commands = vec![Command::Events(None)];
        commands.extend(model.take_status(status));
        (model, commands)
    }

    /// The selected row.
    pub fn row(&self) -> Option<&WorkerStatus> {
        self.status.workers.iter().find(|row| self.selected.is_of(row))
    }

    /// Where it is in the table.
    pub fn position(&self) -> usize {
        self.status.workers.iter().position(|row| self.selected.is_of(row)).unwrap_or(0)
    }

    pub(super) fn take_status(&mut self, status: Status) -> Vec<Command> {
        self.graphs.take(&status.workers);
        let position = self.position();
        self.status = status;
        self.notice = self.notice.take().and_then(|notice| {
            let rest = notice.rest.checked_sub(1)?;
            Some(Notice { rest, ..notice })
        });
        // The row may have a new role, or be gone.
        let rows = &self.status.workers;
        let same = rows.iter().find(|row| self.selected.is_of(row));
        let same = same.or_else(|| rows.iter().find(|row| row.id == self.selected.id));
        let next = same.or_else(|| rows.get(position.min(rows.len().saturating_sub(1))));
        let mut commands = next.map(RowKey::of).map_or_else(Vec::new, |key| self.select(key));
        if self.log_ended.is_some() && commands.is_empty() && !self.selected.id.is_empty() {
            commands.push(self.follow());
        }
        if std::mem::take(&mut self.events_ended) {
            commands.push(Command::Events(self.events.last().map(|event| event.seq + 1)));
        }
        commands
    }

    pub(super) fn select(&mut self, key: RowKey) -> Vec<Command> {
        let same = key.id == self.selected.id;
        self.selected = key;
        if same {
            return Vec::new();
        }
        self.log.clear();
        vec![self.follow()]
    }

    fn follow(&mut self) -> Command {
        self.follow += 1;
        self.stale = true;
        self.log_ended = None;
        Command::Follow(self.follow, self.selected.id.clone())
    }

    pub(super) fn move_selection(&mut self, to: usize) -> Vec<Command> {
        let rows = &self.status.workers;
        let key = rows.get(to.min(rows.len().saturating_sub(1))).map(RowKey::of);
        key.map_or_else(Vec::new, |key| self.select(key))
    }

    pub(super) fn call(&mut self, call: Call) -> Vec<Command> {
        if self.waiting.len() >= CALLS {
            self.notice = Some(Notice::new(format!("{CALLS} calls are not answered yet"), false));
            return Vec::new();
        }
        self.waiting.push(call.words());
        self.notice = None;
        vec![Command::Call(call)]
    }

    /// Which lines of the log are shown.
    pub fn shows(&self) -> impl Fn(&Line) -> bool + use<> {
        let wanted = self.filter.text.to_ascii_lowercase();
        move |line| match line {
            Line::Log(line) => wanted.is_empty() || line.line.to_ascii_lowercase().contains(&wanted),
            Line::Missed(_) => true,
        }
    }
}

impl Notice {
    pub(super) fn new(text: String, ok: bool) -> Notice {
        Notice { text, ok, rest: if ok { 5 } else { 15 } }
    }
}
