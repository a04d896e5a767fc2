//! rinit: see `ARCHITECTURE.md`.

use rinit::cli::{Invocation, parse};
use rinit::config::Refusal;
use rinit::sys::signals::Inherited;
use rinit::{init, supervisor};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: from here on no signal is lost.
    let inherited = Inherited::take();
    let environment: Vec<_> = std::env::vars_os().collect();
    match parse(std::env::args_os().collect(), &environment) {
        Invocation::Init(options) => init::run(&options, inherited).into(),
        Invocation::Supervise(settings, warnings) => {
            supervisor::run(settings, &warnings, inherited).map_or_else(say, ExitCode::from)
        }
        Invocation::Verb(call) => {
            // Not PID 1 but a command like any other: Ctrl-C ends it.
            inherited.let_through();
            call.run().into()
        }
        Invocation::Print(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Refuse(refusal) => say(refusal),
    }
}

fn say(refusal: Refusal) -> ExitCode {
    let _ = std::io::stderr().write_all(refusal.text.as_bytes());
    refusal.code.into()
}
