//! What comes of what has happened.

use super::keys::Key;
use super::layout::Panes;
use super::model::{Call, Command, Dialog, Filter, Focus, Message, Model, Notice};
use crate::control::types::Error;

/// No filter is longer, in characters.
const LONGEST_FILTER: usize = 100;

/// Takes what has happened, and says what is to be done.
pub fn update(model: &mut Model, message: Message) -> Vec<Command> {
    match message {
        Message::Key(key) => return press(model, key),
        Message::Status(status) => return model.take_status(status),
        Message::Event(event) => model.events.push(event, |_| true),
        Message::EventsEnded => model.events_ended = true,
        Message::Line(follow, line) if follow == model.follow => {
            if std::mem::take(&mut model.stale) {
                model.log.clear();
            }
            let shows = model.shows();
            model.log.push(line, shows);
        }
        Message::LinesEnded(follow, why) if follow == model.follow => model.log_ended = Some(why),
        Message::Line(..) | Message::LinesEnded(..) | Message::Continued => {}
        Message::Resized(size) => model.size = size,
        Message::Answer(call, answer) => {
            let words = call.words();
            if let Some(at) = model.waiting.iter().position(|waiting| *waiting == words) {
                model.waiting.remove(at);
            }
            match answer {
                Ok(done) => model.notice = Some(Notice::new(done.message, done.ok)),
                Err(Error { error, last_lines, .. }) if last_lines.is_empty() => {
                    model.notice = Some(Notice::new(error, false));
                }
                Err(Error { error, last_lines, .. }) => model.dialog = Some(Dialog::Failed(error, last_lines)),
            }
        }
        Message::End(how) => {
            let stops = model.status.state == "stopping";
            let how = how.map_err(|why| if stops { format!("{why} (the container was stopping)") } else { why });
            return vec![Command::End(how)];
        }
    }
    Vec::new()
}

fn press(model: &mut Model, key: Key) -> Vec<Command> {
    if key == Key::CtrlC {
        return vec![Command::End(Ok(()))];
    }
    if let Some(dialog) = model.dialog.take() {
        return match (dialog, key) {
            (Dialog::Stop(id), Key::Char('y' | 'Y')) => model.call(Call::Stop(id)),
            (Dialog::Stop(_), Key::Char('n' | 'N' | 'q') | Key::Escape) => Vec::new(),
            // A key that was meant for something else says neither.
            (stop @ Dialog::Stop(_), _) => {
                model.dialog = Some(stop);
                Vec::new()
            }
            (Dialog::Help | Dialog::Failed(..), _) => Vec::new(),
        };
    }
    if model.filter.is_typed {
        type_filter(model, key);
        return Vec::new();
    }
    let id = model.row().map(|row| row.id.clone());
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
        Key::Escape if model.focus == Focus::Workers => model.filter = Filter::default(),
        Key::Escape => model.focus = Focus::Workers,
        Key::Char('/') => model.filter.is_typed = true,
        Key::Char('r') => return id.map_or_else(Vec::new, |id| model.call(Call::Restart(id))),
        Key::Char('R') => return model.call(Call::Reload),
        Key::Char('s') => match model.row().map(|row| row.state.as_str()) {
            Some("stopped" | "failed") => return id.map_or_else(Vec::new, |id| model.call(Call::Start(id))),
            Some(_) => model.dialog = id.map(Dialog::Stop),
            None => {}
        },
        Key::Char('+' | '=') => return scale(model, "+1"),
        Key::Char('-') => return scale(model, "-1"),
        _ => return step(model, key),
    }
    Vec::new()
}

fn scale(model: &mut Model, by: &'static str) -> Vec<Command> {
    // An app without workers has no row.
    let app = model.row().map(|row| row.app.clone());
    let app = app.or_else(|| model.status.apps.first().map(|app| app.name.clone()));
    app.map_or_else(Vec::new, |app| model.call(Call::Scale(app, by)))
}

/// Arrows, in the pane that has the focus.
fn step(model: &mut Model, key: Key) -> Vec<Command> {
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
        Key::Char(_) | Key::Enter | Key::Tab | Key::Backspace | Key::Escape | Key::CtrlC => return Vec::new(),
    };
    match model.focus {
        Focus::Workers => {
            let at = model.position();
            return model.move_selection(if back { at.saturating_sub(by) } else { at.saturating_add(by) });
        }
        Focus::Log => {
            let shows = model.shows();
            model.log.scroll(back, by, page, shows);
        }
        Focus::Events => model.events.scroll(back, by, page, |_| true),
    }
    Vec::new()
}

/// Long lines, to the left and right.
fn pan(model: &mut Model, right: bool) -> Vec<Command> {
    match model.focus {
        Focus::Workers | Focus::Log => model.log.pan(right),
        Focus::Events => model.events.pan(right),
    }
    Vec::new()
}

fn type_filter(model: &mut Model, key: Key) {
    let text = &mut model.filter.text;
    match key {
        Key::Char(char) if text.chars().count() < LONGEST_FILTER => text.push(char),
        Key::Backspace => drop(text.pop()),
        Key::Enter => model.filter.is_typed = false,
        Key::Escape => model.filter = Filter::default(),
        _ => return,
    }
    model.log.follow();
}
