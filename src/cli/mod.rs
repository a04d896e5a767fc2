//! Parses the command line under the name that rinit is called by, and merges it with the environment.

mod dumb_init;
mod help;
mod pm2;
mod rinit;
mod tini;
pub mod verbs;

use crate::config::{Refusal, SupervisorConfig};
use crate::init;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The action that the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run one child.
    Init(init::Options),
    /// Run workers, and log these warnings.
    Supervise(Box<SupervisorConfig>, Vec<String>),
    /// Call the rinit that runs the container.
    Verb(verbs::Call),
    /// Print this text and exit with 0.
    Print(String),
    /// Print this text on stderr and exit with its code.
    Refuse(Refusal),
}

impl Invocation {
    fn refuse(text: impl Into<String>, code: u8) -> Invocation {
        Invocation::Refuse(Refusal { text: text.into(), code })
    }
}

/// The environment: names and values.
pub type Environment = [(OsString, OsString)];

/// Parses the command line. `arguments` begin with the name under which the program was called.
pub fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    if is_release_of("tini", name) || is_release_of("docker-init", name) {
        tini::parse(arguments, environment)
    } else if is_release_of("dumb-init", name) {
        dumb_init::parse(arguments, environment)
    } else {
        rinit::parse(arguments, environment)
    }
}

/// True if a release of the program has that file name: `tini`, `tini-static-arm64`, `dumb-init_1.2.5_x86_64`.
fn is_release_of(program: &str, file: &str) -> bool {
    file.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

/// Returns a variable's value if it is set, even to nothing.
fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

/// Applies tini's variables, which count when they are set, even to nothing.
fn apply_tini_variables(options: &mut init::Options, environment: &Environment) {
    if variable(environment, "TINI_SUBREAPER").is_some() {
        options.subreaper = init::Subreaper::Always;
    }
    if variable(environment, "TINI_KILL_PROCESS_GROUP").is_some() {
        options.group = true;
    }
    if let Some(level) = variable(environment, "TINI_VERBOSITY") {
        // As with atoi(3): the digits at the front count, and without any it is 0.
        let text = level.to_string_lossy();
        let text = text.trim_start();
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        options.verbosity.level = text.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    }
}

/// Applies dumb-init's variables.
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
