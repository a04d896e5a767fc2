//! Parses the command line of tini (`p:hvwgle:s`), with its meanings and exit codes.

use super::*;
use crate::config::exit_code;
use lexopt::{Arg, Parser, ValueExt};

/// The answer to `docker-init --version`, from which dockerd reads the version.
const VERSION: &str = "tini version 0.19.0\n";

pub(super) fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    if arguments == ["--version"] {
        return Invocation::Print(VERSION.into());
    }
    match options(arguments, environment) {
        Ok(Ok(mut options)) if !options.command.is_empty() => {
            apply_tini_variables(&mut options, environment);
            Invocation::Init(options)
        }
        Ok(Ok(_)) => Invocation::refuse(help::TINI, 1),
        Ok(Err(text)) => Invocation::Print(text),
        Err(error) => Invocation::refuse(format!("tini: {error}\n{}", help::TINI), 1),
    }
}

/// Parses the options; `Ok(Err(text))` is a text that was asked for.
fn options(
    arguments: Vec<OsString>,
    environment: &Environment,
) -> Result<Result<init::Options, String>, lexopt::Error> {
    let mut options = init::Options::tini(vec![]);
    let mut parser = Parser::from_args(arguments);
    // As with tini, options are read behind the command too, up to `--`: `tini sh -c …` is refused. With POSIXLY_CORRECT the
    // command ends them (getopt(3)).
    let command_ends_options = variable(environment, "POSIXLY_CORRECT").is_some();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') => return Ok(Err(help::TINI.into())),
            Arg::Short('l') => return Ok(Err(help::LICENSE.into())),
            Arg::Short('s') => options.subreaper = init::Subreaper::Always,
            Arg::Short('p') => options.parent_death = Some(full_name(&parser.value()?.string()?)?),
            Arg::Short('v') => options.verbosity.level += 1,
            Arg::Short('w') => options.warn_reaped = true,
            Arg::Short('g') => options.group = true,
            Arg::Short('e') => options.success.push(remapped_code(&parser.value()?.string()?)?),
            Arg::Value(word) if command_ends_options => {
                options.command = std::iter::once(word).chain(parser.raw_args()?).collect();
                break;
            }
            Arg::Value(word) => options.command.push(word),
            Arg::Short(_) | Arg::Long(_) => return Err(argument.unexpected()),
        }
    }
    Ok(Ok(options))
}

/// Parses the value of `-e` as tini does, by strtol(3), to which no text is 0: `tini -e "$UNSET"` starts.
fn remapped_code(text: &str) -> Result<u8, String> {
    if text.is_empty() { Ok(0) } else { exit_code(text) }
}

/// Parses a signal as tini does, by its full name only: `SIGTERM`.
fn full_name(text: &str) -> Result<crate::core::Signal, String> {
    if text.starts_with("SIG") {
        text.parse()
    } else {
        Err(format!("{text:?} is not a signal: give its full name, such as SIGTERM"))
    }
}
