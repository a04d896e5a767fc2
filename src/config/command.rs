//! Finds the program and the script in a command.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The command's base name; for an interpreter its script's stem: `node dist/server.js` is `server`.
pub fn name_of(command: &[OsString]) -> String {
    let base = |word: &OsString| Path::new(word).file_name().and_then(OsStr::to_str).map(str::to_owned);
    let program = command.first().and_then(base).unwrap_or_default();
    let is_interpreter = INTERPRETERS
        .iter()
        .any(|known| program.strip_prefix(known).is_some_and(|version| !version.contains(char::is_alphabetic)));
    // What follows -c or -e is a program and not its name.
    let words = || command.iter().skip(1).filter_map(|word| word.to_str());
    let is_inline = words().take_while(|word| word.starts_with('-')).any(|word| matches!(word, "-c" | "-e" | "--eval"));
    let script = words().find(|word| !word.starts_with('-')).filter(|_| is_interpreter && !is_inline);
    let file = script.map(Path::new).filter(|file| file.extension().is_some());
    let name = file.and_then(Path::file_stem).and_then(OsStr::to_str).map_or(program, str::to_owned);
    let fits: String =
        name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@')).take(64).collect();
    if fits.is_empty() { "app".into() } else { fits }
}

const INTERPRETERS: [&str; 10] = ["node", "nodejs", "python", "pypy", "ruby", "perl", "php", "bun", "deno", "sh"];
