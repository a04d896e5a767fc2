//! How things are drawn: what every part of the picture shares.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph};

/// What is less important.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// What is more important.
pub fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// A worker's state.
pub fn state_style(state: &str) -> Style {
    match state {
        "ready" => Style::new().fg(Color::Green),
        "starting" => Style::new().fg(Color::Cyan),
        "draining" | "backoff" => Style::new().fg(Color::Yellow),
        "failed" => bold().fg(Color::Red),
        _ => dim(),
    }
}

/// How CPU is drawn.
pub const CPU: Color = Color::Cyan;
/// How memory is drawn.
pub const MEMORY: Color = Color::Magenta;

/// Writes lines, from this column on. The only call of its kind: the widget is large when it is inlined.
#[inline(never)]
pub fn write(frame: &mut Frame, at: Rect, lines: Vec<Line>, block: Option<Block>, column: u16) {
    let text = Paragraph::new(lines).scroll((0, column));
    let text = if let Some(block) = block { text.block(block) } else { text };
    frame.render_widget(text, at);
}
