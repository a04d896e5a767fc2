//! Takes the terminal over, draws frames on it, and gives it back as it was, however monit ends.

use super::model::Model;
use super::view::view;
use crate::sys;
use nix::sys::termios::{FlushArg, tcflush};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use ratatui::layout::Size;
use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// The size of a terminal that does not know its own.
const DEFAULT_SIZE: Size = Size { width: 80, height: 24 };

/// The bytes of a frame that are written at once.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// The terminal, taken over until this is dropped. A panic gives it back too, before its message is printed.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    has_colours: bool,
    _restore: Restore,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// There is none, or it does not accept the settings.
    pub fn enter() -> Result<Screen, String> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err("monit needs a terminal: docker exec -it CONTAINER rinit monit; without one: rinit list".into());
        }
        let print_panic = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print_panic(panic);
        }));
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // From here on: an error gives the terminal back too.
        let restore = Restore;
        let terminal = take_over().map_err(|error| format!("cannot use the terminal: {error}"))?;
        Ok(Screen { terminal, has_colours, _restore: restore })
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, model: &Model) -> Result<(), String> {
        let has_colours = self.has_colours;
        let drawn = self.terminal.draw(|frame| {
            view(model, frame);
            if !has_colours {
                frame.buffer_mut().content.iter_mut().for_each(|cell| cell.fg = ratatui::style::Color::Reset);
            }
        });
        drawn.map(drop).map_err(|error| format!("the terminal is gone: {error}"))
    }

    /// Takes the terminal over once more, after a shell has had it, and draws everything afresh with the next frame.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn enter_again(&mut self) -> Result<(), String> {
        // The settings are changed only where raw mode is not on.
        let again = disable_raw_mode().and_then(|()| take_over());
        self.terminal = again.map_err(|error| format!("the terminal is gone: {error}"))?;
        Ok(())
    }
}

fn take_over() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    let mut output = BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout());
    execute!(output, EnterAlternateScreen, Hide, DisableLineWrap, Clear(ClearType::All))?;
    Terminal::new(CrosstermBackend::new(output))
}

/// True if the terminal is taken over.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, once. Where that fails there is none any more.
fn restore() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    // Keys that were pressed and not read are not for the shell.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    let _ = disable_raw_mode();
}

/// Gives the terminal back when it is dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        restore();
    }
}

/// The columns and rows of the terminal.
pub fn size() -> Size {
    sys::tty::size()
        .filter(|(_, rows)| *rows > 0)
        .map_or(DEFAULT_SIZE, |(columns, rows)| Size { width: columns, height: rows })
}
