//! Implements `rinit man`: the manual page, from the tables of settings and verbs.

use super::{Call, Outcome, VERBS, Verb};
use crate::cli::help::{description, written};
use crate::config::{APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, INIT_SETTINGS, PROGRAM_SETTINGS};

pub(super) static VERB: Verb = Verb {
    names: &["man"],
    arguments: "",
    takes: 0..=0,
    summary: "print the manual page, for man",
    help: "Prints the manual page in man's format: rinit man | man -l -, or into man1/rinit.1.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.out.print(&page())
}

const BEGINNING: &str = "\
.SH NAME
rinit \\- container init and process supervisor
.SH SYNOPSIS
.B rinit
.RI [ OPTIONS ]
.RB [ \\-\\- ]
.I COMMAND
.RI [ ARG ]...
.br
.B rinit
.RI [ OPTIONS ]
.B \\-\\-config
.I FILE
.br
.B rinit
.I VERB
\\&...
.SH DESCRIPTION
Runs COMMAND as a container's init: reaps zombies, forwards signals, exits with its code.
With \\-i it runs COMMAND as several workers: restarts those that crash, reloads them one by one on SIGHUP, and merges
their output.
.PP
Every option is also an environment variable: \\-\\-stop\\-timeout is RINIT_STOP_TIMEOUT.
Durations need a unit: 500ms, 10s, 1m; 0 alone is allowed.
";

const END: &str = "\
.SH EXIT STATUS
Of a verb: 0 done; 1 failed, or not ready; 2 no rinit answers; 64 wrong usage.
Of rinit itself: the command's exit code, 128 and the number of the signal that killed it, 127 command not found,
126 command not executable, 64 wrong settings.
.SH SEE ALSO
.BR docker (1)
";

fn page() -> String {
    let mut page = format!(".TH RINIT 1 \"\" \"rinit {}\"\n{BEGINNING}", env!("CARGO_PKG_VERSION"));
    for (title, settings) in [
        ("OPTIONS FOR WORKERS (\\-i)", APP_SETTINGS),
        ("KEYS OF AN APP IN A FILE", PROGRAM_SETTINGS),
        ("OPTIONS FOR THE CONTAINER (\\-i)", CONTAINER_SETTINGS),
        ("OPTIONS IN BOTH MODES", COMMON_SETTINGS),
        ("OPTIONS FOR ONE CHILD", INIT_SETTINGS),
    ] {
        page.push_str(&format!(".SH {title}\n"));
        page.extend(settings.iter().map(|setting| tagged(&written(setting), &description(setting))));
    }
    page.push_str(
        ".SH VERBS\nA verb asks the rinit that is PID 1 of the container: docker exec CONTAINER rinit VERB.\n",
    );
    VERBS.iter().for_each(|verb| page.push_str(&section(verb)));
    page + END
}

fn section(verb: &Verb) -> String {
    let mut section = format!(".SS {}\n{}\n", escaped(&verb.usage()), escaped_line(&verb.help.replace('\n', " ")));
    verb.options.iter().for_each(|option| section.push_str(&tagged(&option.written(), option.help)));
    if let [_, others @ ..] = verb.names
        && !others.is_empty()
    {
        section.push_str(&format!(".PP\nOther names: {}\n", escaped(&others.join(", "))));
    }
    section
}

/// A term in bold, and its text below.
fn tagged(term: &str, text: &str) -> String {
    format!(".TP\n.B {}\n{}\n", escaped(term), escaped_line(text))
}

/// Text in which no character means something else to roff (groff_char(7)).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '"' => escaped.push_str("\\(dq"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            ascii if ascii.is_ascii() => escaped.push(ascii),
            other => escaped.push_str(&format!("\\[u{:04X}]", u32::from(other))),
        }
    }
    escaped
}

/// The same for a line of its own, which must not begin as a request does.
fn escaped_line(text: &str) -> String {
    format!("\\&{}", escaped(text))
}
