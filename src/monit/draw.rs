//! Holds the styles and the drawing function that all panes share.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph};

/// The style of less important text.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// The style of more important text.
pub fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// The style of a worker's state.
pub fn state_style(state: &str) -> Style {
    match state {
        "ready" => Style::new().fg(Color::Green),
        "starting" => Style::new().fg(Color::Cyan),
        "draining" | "backoff" => Style::new().fg(Color::Yellow),
        "failed" => bold().fg(Color::Red),
        _ => dim(),
    }
}

/// The style of an app's condition.
pub fn condition_style(condition: &str) -> Style {
    match condition {
        "ready" => Style::new().fg(Color::Green),
        "starting" => Style::new().fg(Color::Cyan),
        "crash-looping" | "down" => bold().fg(Color::Red),
        "idle" | "waiting" => dim(),
        _ => Style::new().fg(Color::Yellow),
    }
}

/// The colour of CPU.
pub const CPU: Color = Color::Cyan;
/// The colour of memory.
pub const MEMORY: Color = Color::Magenta;

/// Writes lines, from a column on. All panes call this one function: the widget is large where it is inlined.
#[inline(never)]
pub fn write(frame: &mut Frame, at: Rect, lines: Vec<Line>, block: Option<Block>, column: u16) {
    let text = Paragraph::new(lines).scroll((0, column));
    let text = if let Some(block) = block { text.block(block) } else { text };
    frame.render_widget(text, at);
}
