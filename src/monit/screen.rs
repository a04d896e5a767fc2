//! The terminal: taken over, drawn on, and given back as it was, however monit ends.

use super::model::Model;
use super::view::view;
use crate::sys;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui::Terminal;
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;

/// How the terminal was, while it is taken over.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The alternate screen, without a cursor, and without lines that wrap by themselves.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J";
const LEAVE: &[u8] = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal, taken over until this is dropped. A panic gives it back too, before it says anything.
pub struct Screen {
    terminal: Terminal<Output>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// There is none, or it does not do what it is told.
    pub fn enter() -> Result<Screen, String> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err("monit needs a terminal: docker exec -it CONTAINER rinit monit; without one: rinit list".into());
        }
        let describe = |error: &dyn std::fmt::Display| format!("cannot use the terminal: {error}");
        let output = Output::new().map_err(|error| describe(&error))?;
        make_raw().map_err(|error| describe(&error))?;
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            told(panic);
        }));
        let mut terminal = Terminal::new(output).map_err(|error| {
            restore();
            describe(&error)
        })?;
        let entered = terminal.backend_mut().write(ENTER);
        let screen = Screen { terminal };
        entered.map_err(|error| describe(&error)).map(|()| screen)
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, model: &Model) -> Result<(), String> {
        let drawn = self.terminal.draw(|frame| view(model, frame));
        drawn.map(drop).map_err(|error| format!("the terminal is gone: {error}"))
    }

    /// Takes the terminal over once more, for a shell has had it in between, and draws everything afresh.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn again(&mut self) -> Result<(), String> {
        let again = make_raw().and_then(|()| self.terminal.backend_mut().write(ENTER));
        let again = again.and_then(|()| self.terminal.clear());
        again.map_err(|error| format!("the terminal is gone: {error}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Columns and rows of the terminal; what is usual where it does not know.
pub fn size() -> Size {
    sys::tty::size().filter(|(_, rows)| *rows > 0).map_or(Size::new(80, 24), |(columns, rows)| Size::new(columns, rows))
}

fn make_raw() -> io::Result<()> {
    let now = tcgetattr(io::stdin())?;
    let mut raw = now.clone();
    cfmakeraw(&mut raw);
    let mut before = BEFORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    before.get_or_insert(now);
    tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
    Ok(())
}

/// Gives the terminal back as it was; once.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let Some(before) = before {
        let _ = Output::new().and_then(|mut output| output.write(LEAVE));
        // What was typed and not read is not for the shell.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &before);
    }
}

/// What ratatui draws on: escape sequences that every terminal since the VT100 and xterm understands.
struct Output {
    file: File,
    buffer: Vec<u8>,
    has_colours: bool,
}

impl Output {
    fn new() -> io::Result<Output> {
        let file = File::from(sys::stdout().try_clone_to_owned()?);
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Output { file, buffer: Vec::new(), has_colours })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody has made the terminal one that does not block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_room(&self.file)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn wait_for_room(file: &File) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
    Ok(())
}

impl Backend for Output {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, cells: I) -> io::Result<()> {
        let mut place = None;
        let mut style = None;
        for (column, row, cell) in cells {
            if place != Some((column, row)) {
                write!(self.buffer, "\x1b[{};{}H", row + 1, column + 1)?;
            }
            // What is wider than one column moves the cursor farther: the next cell is told its place.
            place = cell.symbol().is_ascii().then_some((column + 1, row));
            let wanted = (cell.fg, cell.bg, cell.modifier);
            if style != Some(wanted) {
                self.buffer.extend_from_slice(sgr(cell, self.has_colours).as_bytes());
                style = Some(wanted);
            }
            self.buffer.extend_from_slice(cell.symbol().as_bytes());
        }
        self.buffer.extend_from_slice(b"\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _: P) -> io::Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.buffer.extend_from_slice(b"\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        Ok(size())
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: size(), pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)
    }
}

/// The cell's style, from nothing: `ESC [ 0 ; 1 ; 31 m`.
fn sgr(cell: &Cell, has_colours: bool) -> String {
    let mut sgr = "\x1b[0".to_owned();
    for (modifier, code) in
        [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::UNDERLINED, ";4"), (Modifier::REVERSED, ";7")]
    {
        if cell.modifier.contains(modifier) {
            sgr.push_str(code);
        }
    }
    let foreground = if has_colours { foreground(cell.fg) } else { "" };
    sgr + foreground + "m"
}

/// The colours that monit uses. It leaves the background to the terminal.
fn foreground(color: Color) -> &'static str {
    match color {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Magenta => ";35",
        Color::Cyan => ";36",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    #[test]
    fn cells_are_drawn_where_they_belong() {
        let file = tempfile::tempfile().unwrap();
        let mut output = Output { file: file.try_clone().unwrap(), buffer: vec![], has_colours: true };
        let mut red = Cell::new("r");
        red.set_style(Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let (wide, plain) = (Cell::new("界"), Cell::new("x"));
        let cells = [(0, 0, &red), (1, 0, &red), (2, 0, &wide), (4, 0, &plain), (5, 0, &plain), (0, 9, &plain)];
        output.draw(cells.into_iter()).unwrap();
        assert_eq!(
            String::from_utf8(output.buffer).unwrap(),
            "\x1b[1;1H\x1b[0;1;31mrr\x1b[0m界\x1b[1;5Hxx\x1b[10;1Hx\x1b[0m"
        );
        assert_eq!(sgr(&red, false), "\x1b[0;1m");
    }
}
