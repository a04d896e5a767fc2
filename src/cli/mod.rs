//! The command line: which program rinit is called as, and what it is asked to do.

mod dumb_init;
mod help;
mod rinit;
mod tini;
pub mod verbs;

use crate::config::{Refusal, Settings};
use crate::init;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What is to be done.
#[derive(Debug)]
pub enum Invocation {
    /// Run one child.
    Init(init::Options),
    /// Run workers. Beside them, what is odd and no fault.
    Supervise(Settings, Vec<String>),
    /// Ask the rinit that runs the container.
    Verb(verbs::Call),
    /// Print that and exit with 0.
    Print(String),
    /// Say that on stderr, and nothing else.
    Refuse(Refusal),
}

impl Invocation {
    fn refuse(text: impl Into<String>, code: u8) -> Invocation {
        Invocation::Refuse(Refusal { text: text.into(), code })
    }
}

/// The environment, as pairs.
pub type Environment = [(OsString, OsString)];

/// Reads the command line. `arguments` begin with the name under which the program was called.
pub fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    match name {
        "tini" | "tini-static" | "docker-init" => tini::parse(arguments, environment),
        "dumb-init" => dumb_init::parse(arguments, environment),
        _ => rinit::parse(arguments, environment),
    }
}

/// A variable's value, if it is set, even to nothing.
fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

/// What tini's variables say. They count when set at all, even empty.
fn apply_tini_variables(options: &mut init::Options, environment: &Environment) {
    if variable(environment, "TINI_SUBREAPER").is_some() {
        options.subreaper = init::Subreaper::Always;
    }
    if variable(environment, "TINI_KILL_PROCESS_GROUP").is_some() {
        options.group = true;
    }
    if let Some(level) = variable(environment, "TINI_VERBOSITY") {
        // What is no number counts as 0, as atoi(3) has it.
        options.verbosity.level = level.to_str().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    }
}

/// What dumb-init's variables say.
fn apply_dumb_init_variables(options: &mut init::Options, environment: &Environment) {
    match variable(environment, "DUMB_INIT_SETSID").and_then(OsStr::to_str) {
        Some("0") => options.set_session(false),
        Some("1") => options.set_session(true),
        Some(_) | None => {}
    }
    if variable(environment, "DUMB_INIT_DEBUG").and_then(OsStr::to_str) == Some("1") {
        options.verbosity.level = 3;
    }
}
