//! Writes a verb's text: plain and whole when piped, coloured and cut to the width on a terminal.

use super::{Failure, Outcome};
use crate::cli::{Environment, variable};
use crate::control::types::Error;
use crate::sys;
pub use crate::units::harmless;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// The properties of stdout and stderr that decide how text is written.
#[derive(Debug)]
pub struct Output {
    /// The API's JSON is wanted instead of text.
    pub json: bool,
    /// The number of columns of the terminal that stdout is; none for a pipe or a file.
    pub width: Option<usize>,
    /// True if text on stdout has colours.
    pub colour: bool,
    /// True if stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// True if stderr is a terminal.
    pub stderr_is_terminal: bool,
}

/// The number of a colour, for `ESC [ … m`.
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
        let (stdout_is_terminal, stderr_is_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = if stdout_is_terminal { sys::tty::width().map(usize::from) } else { None };
        Output { json, width, colour: stdout_is_terminal && !plain, stdout_is_terminal, stderr_is_terminal }
    }

    /// Writes text on stdout, unbuffered.
    ///
    /// # Errors
    /// [`Failure::Unread`] when the reader is gone.
    pub fn print(&self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(cannot_write)
    }

    /// Writes bytes of an app: as they are, but on a terminal, which they must not control.
    pub fn print_bytes(&self, bytes: &[u8]) -> Outcome {
        if self.stdout_is_terminal {
            return self.print(&format!("{}\n", harmless_lines(&String::from_utf8_lossy(bytes))));
        }
        io::stdout().lock().write_all(bytes).map_err(cannot_write)
    }

    /// Writes the API's JSON, as one line.
    pub fn print_json(&self, text: &str) -> Outcome {
        self.print(&format!("{}\n", text.trim_end()))
    }

    /// Writes on stderr. A failure cannot be reported anywhere.
    pub fn print_error(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Prints the reason of a failure, and as JSON too where that was asked for.
    pub fn print_failure(&self, error: &Error) {
        if self.json
            && let Ok(text) = serde_json::to_string(error)
        {
            let _ = self.print_json(&text);
        }
        let about = error.worker.as_deref().filter(|worker| !error.error.contains(*worker));
        let about = about.map_or(String::new(), |worker| format!("{worker}: "));
        let mut text = format!("rinit: {about}{}\n", harmless_lines(&error.error));
        // The sentence may quote them already, as the one in the log does.
        if error.last_lines.iter().any(|line| !error.error.contains(line.as_str())) {
            text.push_str("its last lines on stderr:\n");
            error.last_lines.iter().for_each(|line| text.push_str(&format!("    {}\n", harmless(line))));
        }
        self.print_error(&text);
    }

    /// The text in a colour, where there are colours.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        paint(self.colour, colour, text)
    }
}

fn cannot_write(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::failed(format!("cannot write to stdout: {error}")),
    }
}

/// The text in a colour, where there are colours.
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

/// The colour of a line of a level.
pub fn colour_of_level(level: &str) -> Colour {
    match level {
        "error" => RED,
        "warn" => YELLOW,
        "debug" | "trace" => DIM,
        _ => PLAIN,
    }
}

/// True if stdout is a pipe without a reader. Docker leaves a process that was started with `exec` behind when its
/// client ends: one that follows something has to find out without writing.
pub fn is_unread() -> bool {
    let mut stdout = [PollFd::new(sys::stdout(), PollFlags::empty())];
    let answered = poll(&mut stdout, PollTimeout::ZERO).is_ok();
    let [stdout] = stdout;
    answered && stdout.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// The same for text of several lines.
pub fn harmless_lines(text: &str) -> String {
    text.trim_end().split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

/// Returns a worker's line as a terminal may show it: colours stay where there are colours, every other control character
/// is shown as `cat -v` shows it, and marks that change the direction of writing by their number.
pub fn visible(line: &str, colours: bool) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_control() && !is_direction_mark(c);
    if line.chars().all(|c| is_plain(c) || c == '\t') {
        return line.into();
    }
    let mut shown = String::with_capacity(line.len() + 16);
    let mut has_colour = false;
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        if let Some(length) = colour_length(rest) {
            if colours {
                shown.push_str(rest.get(..length).unwrap_or_default());
                has_colour = true;
            }
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        match next {
            '\t' => shown.push('\t'),
            '\0'..='\x1f' => shown.extend(['^', char::from(next as u8 + 0x40)]),
            '\x7f' => shown.push_str("^?"),
            next if is_plain(next) => shown.push(next),
            next => shown.push_str(&format!("<U+{:04X}>", u32::from(next))),
        }
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    if has_colour {
        shown.push_str("\x1b[0m");
    }
    shown.into()
}

fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The length of the colour sequence (`ESC [ 1 ; 31 m`) at the beginning of the text.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':'))?;
    parameters.get(length..)?.starts_with('m').then_some(2 + length + 1)
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_workers_line_has_colours_and_no_other_power_over_the_terminal() {
        assert_eq!(visible("plain\ttext é界", true), "plain\ttext é界");
        assert_eq!(visible("\x1b[1;31mred\x1b[m", true), "\x1b[1;31mred\x1b[m\x1b[0m");
        assert_eq!(visible("\x1b[1;31mred\x1b[m", false), "red");
        assert_eq!(visible("\x1b[2J\x1b]0;title\x07\r\x7f\x1b", true), "^[[2J^[]0;title^G^M^?^[");
        assert_eq!(visible("a\u{9b}31mb\u{202e}c", true), "a<U+009B>31mb<U+202E>c");
    }
}
