//! Draws the dialog that lies on top of the panes.

use super::draw::{bold, dim, write};
use super::format::clean;
use super::model::{Dialog, Model};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear};

const HELP: [(&str, &str); 15] = [
    ("↑ ↓ k j", "select a worker"),
    ("a", "log of, and keys for: it, its app, all workers"),
    ("r", "restart it: stop it, then start it again"),
    ("s", "stop it (it stays down), or start it again"),
    ("R", "reload its app: new workers replace the old ones"),
    ("+ -", "one worker more, one fewer"),
    ("l", "scroll the log, with ↑ ↓ PgUp PgDn Home End"),
    ("e", "scroll the events"),
    ("← →", "see the rest of long lines"),
    ("/", "only lines of the log that contain this text"),
    ("Tab", "from pane to pane"),
    ("Esc", "back to the workers; there: remove the filter"),
    ("?", "this list of keys"),
    ("q Ctrl-C", "quit; workers are not affected"),
    ("t", "graphs of the last hour, or of the last seconds"),
];

/// Draws the dialog, if there is one.
pub fn draw(model: &Model, at: Rect, frame: &mut Frame) {
    let Some(dialog) = &model.dialog else { return };
    let (title, color, lines): (&str, Color, Vec<Line>) = match dialog {
        Dialog::Help => {
            let lines = HELP.iter().map(|(key, what)| Line::from(format!(" {key:>8}  {what}"))).collect();
            (" keys ", Color::Cyan, lines)
        }
        Dialog::Confirm { question, yes, .. } => {
            let answers = Line::styled(format!(" y: {yes}    n, Esc: do not"), bold());
            let width = usize::from(at.width.saturating_sub(6)).clamp(20, 90);
            let mut lines: Vec<Line> = wrap(&clean(question, 200), width).into_iter().map(Line::from).collect();
            lines.extend([Line::from(""), answers]);
            (" sure? ", Color::Yellow, lines)
        }
        Dialog::Failed(error, last_lines) => {
            let width = usize::from(at.width.saturating_sub(8)).clamp(20, 100);
            let mut lines: Vec<Line> = wrap(&clean(error, 1000), width).into_iter().map(Line::from).collect();
            lines.push(Line::from(""));
            lines.push(Line::styled(" its last lines:", dim()));
            // The newest lines explain the most.
            let room = usize::from(at.height).saturating_sub(lines.len() + 6);
            let skip = last_lines.len().saturating_sub(room);
            let last = last_lines.iter().skip(skip);
            lines.extend(
                last.map(|line| Line::styled(format!(" {}", clean(line, 200)), Style::new().fg(Color::Yellow))),
            );
            (" failed ", Color::Red, lines)
        }
    };
    let close = match dialog {
        Dialog::Help | Dialog::Failed(..) => " any key closes this ",
        Dialog::Confirm { .. } => "",
    };
    let widest = lines.iter().map(Line::width).max().unwrap_or(0).max(30);
    let width = u16::try_from(widest + 3).unwrap_or(u16::MAX).min(at.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(at.height);
    let place = Rect { x: at.x + (at.width - width) / 2, y: at.y + (at.height - height) / 2, width, height };
    let block = Block::bordered().border_style(Style::new().fg(color)).title(title).title_bottom(close);
    frame.render_widget(Clear, place);
    write(frame, place, lines, Some(block), 0);
}

/// Breaks text at spaces into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.chars().count() + 1 + word.chars().count() > width && line.chars().count() > 1 {
            lines.push(format!(" {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}
