//! Implements the verbs: `rinit VERB` asks the rinit that runs the container, over its control socket. One file each.
//!
//! Exit codes are for scripts: 0 done; 1 failed, or not ready; 2 no rinit answers; 64 wrong usage.

mod arguments;
mod client;
mod completions;
mod config;
mod curl;
mod delete;
mod describe;
mod events;
mod health;
mod help;
mod list;
mod log_filter;
mod logs;
mod man;
mod monit;
mod output;
mod progress;
mod reload;
mod restart;
mod scale;
mod signal;
mod start;
mod stop;
mod suggestions;
mod table;
mod wait;
mod web;

pub(super) use arguments::parse;
pub(super) use help::overview;

use crate::config::{BAD_SETTINGS, Refusal};
use crate::control::types::Error;
use client::Client;
use output::Output;
use std::ops::RangeInclusive;

/// All verbs, in the order of the help.
static VERBS: [&Verb; 20] = [
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
    &curl::VERB,
    &config::VERB,
    &health::VERB,
    &wait::VERB,
    &web::VERB,
    &completions::VERB,
    &man::VERB,
    &help::VERB,
];

/// The most options that a line of usage names one by one.
const MAX_OPTIONS_IN_USAGE: usize = 3;

/// The most IDs that one call may name.
const MAX_IDS: usize = 64;

/// A verb: its help, its completions, its part of the man page and the reading of its arguments come from here.
#[derive(Debug)]
struct Verb {
    /// Its name, and the names that other tools have for it.
    names: &'static [&'static str],
    /// Its arguments as usage shows them: `[ID|all]`.
    arguments: &'static str,
    /// The number of arguments that it takes.
    takes: RangeInclusive<usize>,
    /// One line for the table of verbs.
    summary: &'static str,
    /// Whole sentences for its own help; a line each.
    help: &'static str,
    /// Its options beside the common ones.
    options: &'static [Opt],
    run: fn(&Call) -> Outcome,
}

/// An option of a verb.
#[derive(Debug)]
struct Opt {
    letter: Option<char>,
    /// Its name, and other names for it.
    names: &'static [&'static str],
    /// The name of its value; empty for a switch.
    value: &'static str,
    help: &'static str,
}

/// The options that every verb has.
static COMMON: [Opt; 3] = [
    Opt { letter: None, names: &["json"], value: "", help: "print the API's JSON instead of text" },
    Opt {
        letter: None,
        names: &["socket"],
        value: "PATH",
        help: "rinit's control socket (default: RINIT_SOCKET, or the usual paths)",
    },
    Opt { letter: Some('h'), names: &["help"], value: "", help: "print help: -h in short, --help in full" },
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

/// The result of a verb.
type Outcome = Result<(), Failure>;

/// The reasons for which a verb does not do what it was asked to do.
#[derive(Debug)]
enum Failure {
    /// rinit refuses, or the requested state was not reached.
    Failed(Error),
    /// No rinit answers.
    NoAnswer(String),
    /// The arguments are wrong.
    Usage(String),
    /// A file of settings cannot be used.
    Refused(Refusal),
    /// The reader of stdout is gone, as with `| head`: no error, and nothing more to print.
    Unread,
}

impl Failure {
    fn failed(why: impl Into<String>) -> Failure {
        Failure::Failed(error(why.into()))
    }
}

fn error(why: String) -> Error {
    Error { error: why, worker: None, last_lines: vec![] }
}

impl Call {
    /// Runs the verb and returns its exit code.
    pub fn run(&self) -> u8 {
        match (self.verb.run)(self) {
            Ok(()) => 0,
            Err(failure) => self.report(failure),
        }
    }

    /// Prints why the verb failed, and returns the exit code for it.
    fn report(&self, failure: Failure) -> u8 {
        let (error, code) = match failure {
            Failure::Unread => return 0,
            Failure::Usage(why) => {
                self.out.print_error(&self.verb.refusal(&why));
                return BAD_SETTINGS;
            }
            Failure::Refused(refusal) => {
                self.out.print_error(&refusal.text);
                return refusal.code;
            }
            Failure::Failed(error) => (error, 1),
            // Docker reserves 2 for itself in health checks.
            Failure::NoAnswer(why) => (error(why), if self.is(&health::VERB) { 1 } else { 2 }),
        };
        self.out.print_failure(&error);
        code
    }

    fn is(&self, verb: &Verb) -> bool {
        self.verb.name() == verb.name()
    }

    fn has(&self, option: &str) -> bool {
        self.option(option).is_some()
    }

    /// The value of an option; of several, the last.
    fn option(&self, option: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    /// The argument at a position, from 0.
    fn value(&self, index: usize) -> Option<&str> {
        self.values.get(index).map(String::as_str)
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    fn usage(&self) -> String {
        let options: String = match self.options {
            options if options.len() > MAX_OPTIONS_IN_USAGE => " [OPTIONS]".into(),
            options => options.iter().map(|option| format!(" [{}]", option.usage())).collect(),
        };
        let space = if self.arguments.is_empty() { "" } else { " " };
        format!("rinit {}{options}{space}{}", self.name(), self.arguments)
    }

    fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().chain(&COMMON)
    }

    fn refusal(&self, why: &str) -> String {
        format!("rinit: {}: {why}\nusage: {}\n", self.name(), self.usage())
    }
}

impl Opt {
    fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// `-n, --lines N`
    fn written(&self) -> String {
        let letter = self.letter.map_or(String::new(), |letter| format!("-{letter}, "));
        let names: Vec<String> = self.names.iter().map(|name| format!("--{name}")).collect();
        let value = if self.value.is_empty() { String::new() } else { format!(" {}", self.value) };
        format!("{letter}{}{value}", names.join(", "))
    }

    /// `-n N`
    fn usage(&self) -> String {
        let name = self.letter.map_or_else(|| format!("--{}", self.name()), |letter| format!("-{letter}"));
        if self.value.is_empty() { name } else { format!("{name} {}", self.value) }
    }
}

/// The verb of a name.
fn named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().copied().find(|verb| verb.names.contains(&name))
}

/// Every name of every verb.
fn all_names() -> impl Iterator<Item = &'static str> {
    VERBS.iter().flat_map(|verb| verb.names.iter().copied())
}
