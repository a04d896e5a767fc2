//! Writes the texts of `--help`, `--version` and `--license`.

use super::verbs;
use crate::config::{APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, INIT_SETTINGS, NO_DEFAULT, Setting};

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

pub(super) fn rinit() -> String {
    let mut text = String::from(
        "rinit [OPTIONS] [--] COMMAND [ARG]...
rinit VERB ...

Runs COMMAND as the init of a container: reaps zombies, forwards signals, exits with its code.
With -i it runs COMMAND as several workers: restarts those that crash, reloads them one by one
on SIGHUP, and brings their output to its own.

Every option is also an environment variable: --stop-timeout is RINIT_STOP_TIMEOUT.
Durations need a unit: 500ms, 10s, 1m; 0 alone is allowed.

Workers (with -i):
",
    );
    text.extend(APP_SETTINGS.iter().map(entry));
    text.push_str("\nThe container (with -i):\n");
    text.extend(CONTAINER_SETTINGS.iter().map(entry));
    text.push_str("\nBoth modes:\n");
    text.extend(COMMON_SETTINGS.iter().map(entry));
    text.push_str("\nOne child (without -i):\n");
    text.extend(INIT_SETTINGS.iter().map(entry));
    text.push_str(
        "  -s, -p SIG, -v, -w, -g, -e CODE, -c/--single-child
      as in tini and dumb-init, with their variables (TINI_…, DUMB_INIT_…)

  -h, --help      this text
  -V, --version   the version
  -l, --license   the license

Verbs, inside a container whose PID 1 is rinit with workers (docker exec app rinit list):
",
    );
    text.push_str(&verbs::overview());
    text.push_str("rinit VERB --help tells more. To run a program of such a name: rinit -- NAME\n");
    text
}

fn entry(setting: &Setting) -> String {
    let letter = setting.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let form = if setting.form.is_empty() { String::new() } else { format!(" {}", setting.form) };
    let default = match (setting.default)() {
        none if none == NO_DEFAULT => String::new(),
        default => format!(" (default: {default})"),
    };
    let repeats = if setting.repeats { "; may be given several times" } else { "" };
    let help = setting.help.replace('`', "");
    format!("  {letter}--{}{form}\n      {help}{repeats}{default}\n", setting.flag)
}
