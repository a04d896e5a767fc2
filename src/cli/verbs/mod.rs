//! The verbs: `rinit VERB` talks to the rinit that runs the container, over its socket. A file each.
//!
//! Their exit codes are for scripts: 0 done; 1 failed, or not ready; 2 no rinit answers; 64 a verb that is used wrongly.

mod arguments;
mod client;
mod completions;
mod config;
mod delete;
mod describe;
mod events;
mod health;
mod help;
mod list;
mod logs;
mod monit;
mod output;
mod progress;
mod reload;
mod restart;
mod scale;
mod signal;
mod start;
mod stop;
mod table;
mod units;
mod wait;
mod web;

pub(super) use arguments::parse;

use crate::config::BAD_SETTINGS;
use crate::control::types::Error;
use client::Client;
use output::Output;
use std::ops::RangeInclusive;

/// In the order in which help shows them.
static VERBS: [&Verb; 18] = [
    &list::VERB,
    &describe::VERB,
    &logs::VERB,
    &monit::VERB,
    &reload::VERB,
    &restart::VERB,
    &stop::VERB,
    &start::VERB,
    &scale::VERB,
    &delete::VERB,
    &signal::VERB,
    &events::VERB,
    &config::VERB,
    &health::VERB,
    &wait::VERB,
    &web::VERB,
    &completions::VERB,
    &help::VERB,
];

/// What one verb is: help, completions and the reading of its arguments come from here.
#[derive(Debug)]
struct Verb {
    /// The one that is shown, and its other names.
    names: &'static [&'static str],
    /// As usage shows them: `[ID|all]`.
    arguments: &'static str,
    /// How many it takes.
    takes: RangeInclusive<usize>,
    /// A line for the table of verbs.
    summary: &'static str,
    /// More, for its own help.
    help: &'static str,
    /// Those of its own.
    options: &'static [Opt],
    run: fn(&Call) -> Outcome,
}

/// An option of a verb.
#[derive(Debug)]
struct Opt {
    letter: Option<char>,
    name: &'static str,
    /// What its value is called; empty for a switch.
    value: &'static str,
    help: &'static str,
}

/// What every verb has.
static COMMON: [Opt; 3] = [
    Opt { letter: None, name: "json", value: "", help: "the API's JSON instead of text" },
    Opt {
        letter: None,
        name: "socket",
        value: "PATH",
        help: "where rinit listens (default: RINIT_SOCKET, or where it looks)",
    },
    Opt { letter: Some('h'), name: "help", value: "", help: "this text" },
];

/// One use of a verb.
#[derive(Debug)]
pub struct Call {
    verb: &'static Verb,
    options: Vec<(&'static str, String)>,
    values: Vec<String>,
    client: Client,
    out: Output,
}

/// How a verb ends.
type Outcome = Result<(), Failure>;

/// Why a verb has not done what it was to do.
#[derive(Debug)]
enum Failure {
    /// rinit says no, or what was asked for has not come about.
    Failed(Error),
    /// No rinit answers.
    NoAnswer(String),
    /// Wrong arguments.
    Usage(String),
    /// Nobody reads stdout any more, as with `| head`: all is well, and there is nothing more to say.
    Unread,
}

impl Failure {
    fn failed(why: impl Into<String>) -> Failure {
        Failure::Failed(Error { error: why.into(), worker: None, last_lines: vec![] })
    }
}

impl Call {
    /// Does it, and returns the exit code.
    pub fn run(&self) -> u8 {
        let (error, code) = match (self.verb.run)(self) {
            Ok(()) | Err(Failure::Unread) => return 0,
            Err(Failure::Usage(why)) => {
                self.out.say(&self.verb.refusal(&why));
                return BAD_SETTINGS;
            }
            Err(Failure::Failed(error)) => (error, 1),
            Err(Failure::NoAnswer(why)) => (Error { error: why, worker: None, last_lines: vec![] }, self.no_answer()),
        };
        self.out.failure(&error);
        code
    }

    /// Docker keeps 2 from health checks: there it is 1.
    fn no_answer(&self) -> u8 {
        if self.verb.names == health::VERB.names { 1 } else { 2 }
    }

    fn has(&self, option: &str) -> bool {
        self.option(option).is_some()
    }

    /// The value that an option was given last.
    fn option(&self, option: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    /// The argument at that place, from 0.
    fn value(&self, index: usize) -> Option<&str> {
        self.values.get(index).map(String::as_str)
    }

    /// The worker, or all of them, that the argument at that place names.
    fn target(&self, index: usize) -> &str {
        self.value(index).unwrap_or("all")
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    fn usage(&self) -> String {
        let options: String = self.options.iter().map(|option| format!(" [{}]", option.usage())).collect();
        let space = if self.arguments.is_empty() { "" } else { " " };
        format!("rinit {}{options}{space}{}", self.name(), self.arguments)
    }

    fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().chain(&COMMON)
    }

    /// What `rinit VERB --help` prints.
    fn full_help(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n", self.usage(), self.help);
        let options: Vec<(String, &str)> = self.all_options().map(|option| (option.written(), option.help)).collect();
        let width = options.iter().map(|(written, _)| written.len()).max().unwrap_or_default();
        for (written, help) in options {
            text.push_str(&format!("  {written:width$}  {help}\n"));
        }
        match self.names {
            [_, others @ ..] if !others.is_empty() => text.push_str(&format!("\nAlso: {}\n", others.join(", "))),
            _ => {}
        }
        text
    }

    fn refusal(&self, why: &str) -> String {
        format!("rinit: {}: {why}\nusage: {}\n", self.name(), self.usage())
    }
}

impl Opt {
    /// `-n, --lines N`
    fn written(&self) -> String {
        let letter = self.letter.map_or(String::new(), |letter| format!("-{letter}, "));
        let value = if self.value.is_empty() { String::new() } else { format!(" {}", self.value) };
        format!("{letter}--{}{value}", self.name)
    }

    /// `-n N`
    fn usage(&self) -> String {
        let name = self.letter.map_or_else(|| format!("--{}", self.name), |letter| format!("-{letter}"));
        if self.value.is_empty() { name } else { format!("{name} {}", self.value) }
    }
}

/// The table of verbs, for rinit's own help.
pub(super) fn overview() -> String {
    let rows: Vec<(String, &str)> = VERBS
        .iter()
        .map(|verb| (format!("{} {}", verb.names.join(", "), verb.arguments).trim_end().to_owned(), verb.summary))
        .collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, summary)| format!("  {name:width$}  {summary}\n")).collect()
}

/// The verb of that name.
fn named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().copied().find(|verb| verb.names.contains(&name))
}
