//! Blocks signals, reads the command line, runs the mode that it asks for, and returns its exit code.

use rinit::cli::{Invocation, parse};
use rinit::config::Refusal;
use rinit::sys::signals::Inherited;
use rinit::sys::startup::with_enough_stack;
use rinit::{init, supervisor};
use std::io::Write;
use std::process::ExitCode;

/// The exit code when no thread can be had in the place of a stack that is too small.
const INTERNAL_ERROR: u8 = 70;

fn main() -> ExitCode {
    // First of all: from here on no signal is lost.
    let inherited = Inherited::take();
    with_enough_stack(move || run(inherited)).unwrap_or(ExitCode::from(INTERNAL_ERROR))
}

/// Not inlined: `main` must fit into a small stack.
#[inline(never)]
fn run(inherited: Inherited) -> ExitCode {
    let environment: Vec<_> = std::env::vars_os().collect();
    match parse(std::env::args_os().collect(), &environment) {
        Invocation::Init(options) => init::run(&options, inherited).into(),
        Invocation::Supervise(settings, warnings) => {
            supervisor::run(*settings, &warnings, inherited).map_or_else(print_refusal, ExitCode::from)
        }
        Invocation::Verb(call) => {
            // Not PID 1 but a command like any other: Ctrl-C ends it.
            inherited.unblock();
            call.run().into()
        }
        Invocation::Print(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Refuse(refusal) => print_refusal(refusal),
    }
}

fn print_refusal(refusal: Refusal) -> ExitCode {
    let _ = std::io::stderr().write_all(refusal.text.as_bytes());
    refusal.code.into()
}
