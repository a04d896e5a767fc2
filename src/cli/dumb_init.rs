//! Parses the command line of dumb-init (`+hvVcr:`), with its meanings and exit codes.

use super::*;
use crate::config::{Rewrite, Value};
use lexopt::{Arg, Parser, ValueExt};

const LONG_OPTIONS: [&str; 5] = ["help", "rewrite", "single-child", "verbose", "version"];

pub(super) fn parse(arguments: Vec<OsString>, environment: &Environment) -> Invocation {
    match options(arguments, environment) {
        Ok(Ok(options)) if !options.command.is_empty() => Invocation::Init(options),
        Ok(Ok(_)) => Invocation::refuse(help::DUMB_INIT, 1),
        // dumb-init prints its help and version on stderr, and exits with 0.
        Ok(Err(text)) => Invocation::refuse(text, 0),
        Err(error) => Invocation::refuse(format!("dumb-init: {error}\n{}", help::DUMB_INIT), 1),
    }
}

fn options(
    arguments: Vec<OsString>,
    environment: &Environment,
) -> Result<Result<init::Options, &'static str>, lexopt::Error> {
    let mut options = init::Options::dumb_init(vec![]);
    let mut rewrites = Vec::new();
    let mut single_child = false;
    let mut parser = Parser::from_args(arguments);
    apply_dumb_init_variables(&mut options, environment);
    while let Some(argument) = parser.next()? {
        match whole(argument) {
            Arg::Short('h') | Arg::Long("help") => return Ok(Err(help::DUMB_INIT)),
            Arg::Short('V') | Arg::Long("version") => return Ok(Err("dumb-init v1.2.5\n")),
            Arg::Short('v') | Arg::Long("verbose") => options.verbosity.level = 3,
            Arg::Short('c') | Arg::Long("single-child") => single_child = true,
            Arg::Short('r') | Arg::Long("rewrite") => {
                let Rewrite(from, to) = Rewrite::parse(&parser.value()?.string()?)?;
                rewrites.push((from, to));
            }
            Arg::Value(word) => {
                options.command = std::iter::once(word).chain(parser.raw_args()?).collect();
                break;
            }
            unknown @ (Arg::Short(_) | Arg::Long(_)) => return Err(unknown.unexpected()),
        }
    }
    if single_child {
        options.set_session(false);
    }
    options.rewrite.extend(rewrites);
    Ok(Ok(options))
}

/// The long option that is meant: getopt_long(3) takes any beginning that only one of them has.
fn whole(argument: Arg<'_>) -> Arg<'_> {
    let Arg::Long(start) = argument else { return argument };
    let mut meant = LONG_OPTIONS.iter().filter(|name| name.starts_with(start));
    match (meant.next(), meant.next()) {
        (Some(name), None) => Arg::Long(name),
        _ => argument,
    }
}
