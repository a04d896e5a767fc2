//! Called as `tini` or `docker-init`: tini's options (`p:hvwgle:s`), meanings and exit codes.

use super::*;
use crate::config::exit_code;
use lexopt::{Arg, Parser, ValueExt};

/// What dockerd asks for with `docker-init --version`, and takes the version from.
const VERSION: &str = "tini version 0.19.0\n";

pub(super) fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    if arguments == ["--version"] {
        return Invocation::Print(VERSION.into());
    }
    match options(arguments) {
        Ok(Ok(mut options)) if !options.command.is_empty() => {
            apply_tini_variables(&mut options, environment);
            Invocation::Init(options)
        }
        Ok(Ok(_)) => Invocation::refuse(help::TINI, 1),
        Ok(Err(text)) => Invocation::Print(text),
        Err(error) => Invocation::refuse(format!("tini: {error}\n{}", help::TINI), 1),
    }
}

/// The options; or, inside, a text that was asked for.
fn options(arguments: Vec<OsString>) -> Result<Result<init::Options, String>, lexopt::Error> {
    let mut options = init::Options::tini(vec![]);
    let mut parser = Parser::from_args(arguments);
    // As in tini, options are looked for behind the command too, until `--`: `tini sh -c …` is refused.
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') => return Ok(Err(help::TINI.into())),
            Arg::Short('l') => return Ok(Err(help::LICENSE.into())),
            Arg::Short('s') => options.subreaper = init::Subreaper::Always,
            Arg::Short('p') => options.parent_death = Some(full_name(&parser.value()?.string()?)?),
            Arg::Short('v') => options.verbosity.level += 1,
            Arg::Short('w') => options.warn_reaped = true,
            Arg::Short('g') => options.group = true,
            Arg::Short('e') => options.success.push(exit_code(&parser.value()?.string()?)?),
            Arg::Value(word) => options.command.push(word),
            Arg::Short(_) | Arg::Long(_) => return Err(argument.unexpected()),
        }
    }
    Ok(Ok(options))
}

/// tini knows signals by their full names alone: `SIGTERM`.
fn full_name(text: &str) -> Result<crate::core::Signal, String> {
    if text.starts_with("SIG") {
        text.parse()
    } else {
        Err(format!("{text:?} is no signal: give its full name, such as SIGTERM"))
    }
}
