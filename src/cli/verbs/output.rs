//! Where a verb's words go: plain and whole when piped, coloured and cut to the width on a terminal.

use super::{Failure, Outcome};
use crate::cli::{Environment, variable};
use crate::control::types::Error;
use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Who reads, and what.
#[derive(Debug)]
pub struct Output {
    /// The API's JSON, and no words.
    pub json: bool,
    /// The width of the terminal that stdout is.
    pub width: Option<usize>,
    /// Whether there are colours on stdout.
    pub colour: bool,
    /// Whether somebody watches stderr.
    pub progress: bool,
}

/// A colour's number, for `ESC [ … m`.
pub type Colour = &'static str;
pub const PLAIN: Colour = "";
pub const DIM: Colour = "2";
pub const BOLD: Colour = "1";
pub const RED: Colour = "31";
pub const GREEN: Colour = "32";
pub const YELLOW: Colour = "33";

impl Output {
    pub fn new(json: bool, environment: &Environment) -> Output {
        let is = |name, value: &str| variable(environment, name).is_some_and(|found| found == value);
        let plain = variable(environment, "NO_COLOR").is_some_and(|value| !value.is_empty()) || is("TERM", "dumb");
        let terminal = io::stdout().is_terminal();
        let width = if terminal { sys::tty::width().map(usize::from) } else { None };
        let progress = !json && io::stderr().is_terminal();
        Output { json, width, colour: terminal && !plain, progress }
    }

    /// Writes text on stdout, at once.
    ///
    /// # Errors
    /// [`Failure::Unread`] when nobody reads it.
    pub fn print(&self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::failed(format!("cannot write to stdout: {error}")),
        })
    }

    /// The API's JSON, as a line.
    pub fn print_json(&self, text: &str) -> Outcome {
        self.print(&format!("{}\n", text.trim_end()))
    }

    /// Writes on stderr. If that fails there is nobody to tell.
    pub fn say(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Says why something failed, and as JSON too where that was asked for.
    pub fn failure(&self, error: &Error) {
        if self.json
            && let Ok(text) = serde_json::to_string(error)
        {
            let _ = self.print_json(&text);
        }
        let about = error.worker.as_deref().filter(|worker| !error.error.contains(*worker));
        let about = about.map_or(String::new(), |worker| format!("{worker}: "));
        let mut text = format!("rinit: {about}{}\n", harmless_lines(&error.error));
        // The sentence may hold them already, as the log's does.
        if error.last_lines.iter().any(|line| !error.error.contains(line.as_str())) {
            text.push_str("its last lines on stderr:\n");
            error.last_lines.iter().for_each(|line| text.push_str(&format!("    {}\n", harmless(line))));
        }
        self.say(&text);
    }

    /// The text in that colour, where there are colours.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        paint(self.colour, colour, text)
    }
}

pub fn paint(colours: bool, colour: Colour, text: &str) -> String {
    if colours && !colour.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The colour of a worker's state.
pub fn colour_of(state: &str) -> Colour {
    match state {
        "ready" => GREEN,
        "starting" | "draining" | "backoff" => YELLOW,
        "failed" => RED,
        "stopped" => DIM,
        _ => PLAIN,
    }
}

/// The colour of a line of that level.
pub fn colour_of_level(level: &str) -> Colour {
    match level {
        "error" => RED,
        "warn" => YELLOW,
        "debug" | "trace" => DIM,
        _ => PLAIN,
    }
}

/// Whether stdout is a pipe whose reader is gone. Docker leaves what it has started with `exec` behind when its client
/// ends; whoever follows something finds out by that, and not only with the next line.
pub fn is_unread() -> bool {
    let mut stdout = [PollFd::new(sys::stdout(), PollFlags::empty())];
    let answered = poll(&mut stdout, PollTimeout::ZERO).is_ok();
    let [stdout] = stdout;
    answered && stdout.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// One line of text that moves no cursor and rings no bell: names and values may come from anywhere.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// The same for text of several lines.
pub fn harmless_lines(text: &str) -> String {
    text.trim_end().split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}
