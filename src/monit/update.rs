//! Changes the model when something happens, and returns what is to be done then.

use super::layout::Panes;
use super::model::{Call, Command, Dialog, Filter, Focus, Message, Model, Notice, Scope};
use crate::control::types::{Error, WorkerStatus};
use crate::units::count;
use ratatui::crossterm::event::KeyCode as Key;

/// The length of the filter, in characters.
const MAX_FILTER_LENGTH: usize = 100;

/// Applies a message to the model, and returns what is to be done.
pub fn update(model: &mut Model, message: Message) -> Vec<Command> {
    match message {
        Message::Key(key) => return on_key(model, key),
        Message::Status(status) => return model.apply_status(status),
        Message::History(history) => model.graphs.set_history(history),
        Message::Event(event) => model.events.push(event, |_| true),
        Message::EventsEnded => model.have_events_ended = true,
        Message::Line(number, line) if number == model.log_number => {
            if std::mem::take(&mut model.is_log_stale) {
                model.log.clear();
            }
            let filter = model.log_filter();
            model.log.push(line, filter);
        }
        Message::LinesEnded(number, why) if number == model.log_number => model.log_ended = Some(why),
        Message::Line(..) | Message::LinesEnded(..) | Message::Continued => {}
        Message::Resized(size) => model.size = size,
        Message::Answer(call, answer) => {
            let words = call.words();
            if let Some(at) = model.pending.iter().position(|pending| *pending == words) {
                model.pending.remove(at);
            }
            match answer {
                Ok(done) => model.notice = Some(Notice::new(done.message, done.ok)),
                Err(Error { error, last_lines, .. }) if last_lines.is_empty() => {
                    model.notice = Some(Notice::new(error, false));
                }
                Err(Error { error, last_lines, .. }) => model.dialog = Some(Dialog::Failed(error, last_lines)),
            }
        }
        Message::End(result) => {
            let is_stopping = model.status.state == "stopping";
            let result =
                result.map_err(|why| if is_stopping { format!("{why} (the container was stopping)") } else { why });
            return vec![Command::End(result)];
        }
    }
    Vec::new()
}

fn on_key(model: &mut Model, key: Key) -> Vec<Command> {
    if let Some(dialog) = model.dialog.take() {
        return match (dialog, key) {
            (Dialog::Confirm { call, .. }, Key::Char('y' | 'Y')) => model.call(call),
            (Dialog::Confirm { .. }, Key::Char('n' | 'N' | 'q') | Key::Esc) => Vec::new(),
            // A key with another meaning answers neither yes nor no.
            (question @ Dialog::Confirm { .. }, _) => {
                model.dialog = Some(question);
                Vec::new()
            }
            (Dialog::Help | Dialog::Failed(..), _) => Vec::new(),
        };
    }
    if model.filter.is_edited {
        edit_filter(model, key);
        return Vec::new();
    }
    match key {
        Key::Char('q') => return vec![Command::End(Ok(()))],
        Key::Char('?' | 'h') => model.dialog = Some(Dialog::Help),
        Key::Char('l') => model.focus = if model.focus == Focus::Log { Focus::Workers } else { Focus::Log },
        Key::Char('e') => model.focus = if model.focus == Focus::Events { Focus::Workers } else { Focus::Events },
        Key::Tab => {
            model.focus = match model.focus {
                Focus::Workers => Focus::Log,
                Focus::Log => Focus::Events,
                Focus::Events => Focus::Workers,
            }
        }
        Key::Esc if model.focus == Focus::Workers => model.filter = Filter::default(),
        Key::Esc => model.focus = Focus::Workers,
        Key::Char('/') => model.filter.is_edited = true,
        Key::Char('a') => return model.widen_scope(),
        Key::Char('t') => model.graphs.is_live = !model.graphs.is_live,
        Key::Char('r') => return restart(model),
        Key::Char('R') => return reload(model),
        Key::Char('s') => return stop_or_start(model),
        Key::Char('+' | '=') => return scale(model, "+1"),
        Key::Char('-') => return scale(model, "-1"),
        _ => return on_move(model, key),
    }
    Vec::new()
}

fn restart(model: &mut Model) -> Vec<Command> {
    let (name, workers) = (model.target(), target_words(model));
    match (model.scope, workers) {
        (_, None) => Vec::new(),
        (Scope::Worker, Some(_)) => model.call(Call::Restart(name)),
        (Scope::App | Scope::All, Some(workers)) => {
            let question = format!("Restart {workers}? They are stopped first. R reloads without a gap.");
            ask(model, Call::Restart(name), question, "restart them")
        }
    }
}

/// Reloads the selected worker's app, or all apps.
fn reload(model: &mut Model) -> Vec<Command> {
    let app = model.row().map(|row| row.app.clone()).unwrap_or_default();
    let is_all = model.scope == Scope::All;
    let is_meant = |row: &&WorkerStatus| row.role == "worker" && (is_all || row.app == app);
    let workers = match model.status.workers.iter().filter(is_meant).count() {
        0 => return Vec::new(),
        workers => count(workers as u64, "worker"),
    };
    let (name, workers) =
        if is_all { ("all".into(), format!("all {workers}")) } else { (app.clone(), format!("{workers} of {app}")) };
    ask(model, Call::Reload(name), format!("Reload {workers}? New ones replace them one by one."), "reload")
}

/// Starts what is down; stops what is not.
fn stop_or_start(model: &mut Model) -> Vec<Command> {
    let Some(workers) = target_words(model) else { return Vec::new() };
    let name = model.target();
    if is_target_down(model) {
        return model.call(Call::Start(name));
    }
    let (yes, stay) = match model.scope {
        Scope::Worker => ("stop it", "It stays down until it is started again."),
        Scope::App | Scope::All => ("stop them", "They stay down until they are started again."),
    };
    ask(model, Call::Stop(name), format!("Stop {workers}? {stay}"), yes)
}

/// True if every worker in the scope is stopped or has failed.
pub fn is_target_down(model: &Model) -> bool {
    let is_down = |row: &WorkerStatus| matches!(row.state.as_str(), "stopped" | "failed");
    let mut rows = model.status.workers.iter().filter(|row| model.is_target(row)).peekable();
    rows.peek().is_some() && rows.all(is_down)
}

/// The workers in the scope, in words; `None`: there are none.
fn target_words(model: &Model) -> Option<String> {
    let selected = model.row()?;
    let is_meant = |row: &&WorkerStatus| row.role == "worker" && model.is_target(row);
    let all = || count(model.status.workers.iter().filter(is_meant).count() as u64, "worker");
    Some(match model.scope {
        Scope::Worker => selected.id.clone(),
        Scope::App => format!("{} of {}", all(), selected.app),
        Scope::All => format!("all {}", all()),
    })
}

fn ask(model: &mut Model, call: Call, question: String, yes: &'static str) -> Vec<Command> {
    model.dialog = Some(Dialog::Confirm { call, question, yes });
    Vec::new()
}

fn scale(model: &mut Model, by: &'static str) -> Vec<Command> {
    // An app without workers has no row.
    let app = model.row().map(|row| row.app.clone());
    let app = app.or_else(|| model.status.apps.first().map(|app| app.name.clone()));
    app.map_or_else(Vec::new, |app| model.call(Call::Scale(app, by)))
}

/// Moves the selection or the view, in the pane that has the focus.
fn on_move(model: &mut Model, key: Key) -> Vec<Command> {
    let panes = Panes::of(model);
    let page = usize::from(
        match model.focus {
            Focus::Workers => panes.table,
            Focus::Log => panes.log,
            Focus::Events => panes.events,
        }
        .height
        .saturating_sub(1),
    );
    let (back, by) = match key {
        Key::Up | Key::Char('k') => (true, 1),
        Key::Down | Key::Char('j') => (false, 1),
        Key::PageUp => (true, page),
        Key::PageDown => (false, page),
        Key::Home | Key::Char('g') => (true, usize::MAX),
        Key::End | Key::Char('G') => (false, usize::MAX),
        Key::Left => return pan(model, false),
        Key::Right => return pan(model, true),
        _ => return Vec::new(),
    };
    match model.focus {
        Focus::Workers => {
            let at = model.position();
            return model.move_selection(if back { at.saturating_sub(by) } else { at.saturating_add(by) });
        }
        Focus::Log => {
            let filter = model.log_filter();
            model.log.scroll(back, by, page, filter);
        }
        Focus::Events => model.events.scroll(back, by, page, |_| true),
    }
    Vec::new()
}

/// Moves the view of long lines to the left and right.
fn pan(model: &mut Model, right: bool) -> Vec<Command> {
    match model.focus {
        Focus::Workers | Focus::Log => model.log.pan(right),
        Focus::Events => model.events.pan(right),
    }
    Vec::new()
}

fn edit_filter(model: &mut Model, key: Key) {
    let text = &mut model.filter.text;
    match key {
        Key::Char(char) if text.chars().count() < MAX_FILTER_LENGTH => text.push(char),
        Key::Backspace => drop(text.pop()),
        Key::Enter => model.filter.is_edited = false,
        Key::Esc => model.filter = Filter::default(),
        _ => return,
    }
    model.log.follow();
}
