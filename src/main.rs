//! rinit: see `ARCHITECTURE.md`.

use rinit::cli::{Invocation, parse};
use rinit::init;
use rinit::sys::signals::Inherited;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: from here on no signal is lost.
    let inherited = Inherited::take();
    let environment: Vec<_> = std::env::vars_os().collect();
    match parse(std::env::args_os().collect(), &environment) {
        Invocation::Init(options) => init::run(&options, inherited).into(),
        Invocation::Supervise(_settings, _warnings) => ExitCode::SUCCESS,
        Invocation::Print(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Invocation::Refuse(text, code) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            code.into()
        }
    }
}
