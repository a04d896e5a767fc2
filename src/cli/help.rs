//! Writes the texts of `--help`, `--version` and `--license`.

use super::verbs;
use crate::config::{
    APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, INIT_SETTINGS, NO_DEFAULT, PROGRAM_SETTINGS, Scope, Setting,
};

pub(super) const LICENSE: &str =
    "rinit is free software under the MIT license or the Apache License 2.0, as you choose.\n";

pub(super) const TINI: &str = "\
usage: tini [OPTIONS] -- COMMAND [ARG]...   (this is rinit under that name)
  -s       take in orphans when not PID 1 (TINI_SUBREAPER)
  -p SIG   get this signal when the parent dies, such as SIGTERM
  -v       say more, up to three times (TINI_VERBOSITY)
  -w       warn when an orphan is reaped
  -g       send signals to the child's process group (TINI_KILL_PROCESS_GROUP)
  -e CODE  the child's exit code CODE becomes 0; may be given several times
  -l       show the license
  -h       show this
";

pub(super) const DUMB_INIT: &str = "\
usage: dumb-init [OPTIONS] COMMAND [ARG]...   (this is rinit under that name)
  -c, --single-child   no session of its own, signals to the child alone (DUMB_INIT_SETSID=0)
  -r, --rewrite S:R    the child gets signal R for S; R = 0: nothing
  -v, --verbose        say what is done (DUMB_INIT_DEBUG=1)
  -h, --help           show this
  -V, --version        show the version
";

pub(super) fn version() -> String {
    format!("rinit {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `rinit --help`.
pub(super) fn rinit() -> String {
    page(&|settings| settings.iter().map(entry).collect(), "")
}

/// The text of `rinit -h`: a line for each option.
pub(super) fn rinit_in_short() -> String {
    page(&|settings| settings.iter().map(short_entry).collect(), "Options in full: rinit --help\n\n")
}

fn page(options: &dyn Fn(&[Setting]) -> String, hint: &str) -> String {
    let mut text = String::from(
        "rinit [OPTIONS] [--] COMMAND [ARG]...
rinit [OPTIONS] --config FILE
rinit VERB ...

Runs COMMAND as the init of a container: reaps zombies, forwards signals, exits with its code.
With -i it runs COMMAND as several workers: restarts those that crash, reloads them one by one
on SIGHUP, and brings their output to its own. A file gives several apps (/etc/rinit.toml if
neither a file nor a command is given):

  [[app]]
  name = \"api\"
  command = [\"node\", \"api.js\"]
  instances = 2

Every option is also an environment variable and a key of the file: --stop-timeout is
RINIT_STOP_TIMEOUT and stop_timeout = \"5s\".
Durations need a unit: 500ms, 10s, 1m; 0 alone is allowed.

",
    );
    text.push_str(hint);
    text.push_str("Workers (with -i):\n");
    text.push_str(&options(APP_SETTINGS));
    text.push_str("\nAn app in a file has these keys too:\n");
    text.push_str(&options(PROGRAM_SETTINGS));
    text.push_str("\nThe container (with -i):\n");
    text.push_str(&options(CONTAINER_SETTINGS));
    text.push_str("\nBoth modes:\n");
    text.push_str(&options(COMMON_SETTINGS));
    text.push_str("\nOne child (without -i):\n");
    text.push_str(&options(INIT_SETTINGS));
    text.push_str(
        "  -s, -p SIG, -v, -w, -g, -e CODE, -c/--single-child
      as in tini and dumb-init, with their variables (TINI_…, DUMB_INIT_…)

  -h, --help      help: -h in short, --help in full
  -V, --version   the version
  -l, --license   the license

Verbs, inside a container whose PID 1 is rinit with workers (docker exec app rinit list):
",
    );
    text.push_str(&verbs::overview());
    text.push_str("rinit VERB --help tells more. To run a program of such a name: rinit -- NAME\n");
    text
}

/// A setting as it is written: `-i, --instances N`.
pub(super) fn written(setting: &Setting) -> String {
    if setting.scope == Scope::Program {
        return setting.key();
    }
    let letter = setting.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let form = if setting.form.is_empty() { String::new() } else { format!(" {}", setting.form) };
    format!("{letter}--{}{form}", setting.flag)
}

/// The whole description of a setting, with its default.
pub(super) fn description(setting: &Setting) -> String {
    let default = match (setting.default)() {
        none if none == NO_DEFAULT => String::new(),
        default => format!(" (default: {default})"),
    };
    let repeats = if setting.repeats && setting.scope != Scope::Program { "; may be given several times" } else { "" };
    format!("{}{repeats}{default}", setting.help.replace('`', ""))
}

/// The first clause of the description of a setting.
pub(super) fn summary(setting: &Setting) -> String {
    let help = setting.help.replace('`', "");
    help.split([';', ':', '(']).next().unwrap_or_default().trim().to_owned()
}

/// The width of help texts, in columns.
const WIDTH: usize = 100;
/// The column at which the descriptions of the short help begin.
const SHORT_COLUMN: usize = 32;

fn entry(setting: &Setting) -> String {
    format!("  {}\n{}", written(setting), wrapped(&description(setting), 6))
}

fn short_entry(setting: &Setting) -> String {
    let name = format!("  {}", written(setting));
    let text = wrapped(&summary(setting), SHORT_COLUMN);
    if name.chars().count() + 2 > SHORT_COLUMN {
        return format!("{name}\n{text}");
    }
    format!("{name:SHORT_COLUMN$}{}", text.trim_start())
}

/// Breaks text at spaces into indented lines of [`WIDTH`].
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = WIDTH;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column + 1 + length > WIDTH {
            let newline = if lines.is_empty() { "" } else { "\n" };
            lines.push_str(&format!("{newline}{:indent$}", ""));
            column = indent;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_helps_fit_a_hundred_columns_and_the_short_one_has_every_option_too() {
        for text in [rinit(), rinit_in_short()] {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
            }
            for setting in crate::config::all() {
                assert!(text.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
            }
        }
        assert!(rinit_in_short().lines().count() < rinit().lines().count() * 3 / 4);
    }
}
