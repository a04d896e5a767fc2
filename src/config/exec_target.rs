//! Finds the program that a command becomes by exec: behind a script's first line, and in `sh -c 'exec PROGRAM …'`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The length of a script's first line that is read (`BINPRM_BUF_SIZE` of Linux: execve(2)).
const MAX_FIRST_LINE: u64 = 256;
/// The number of steps that are followed: a script may be another script's interpreter.
const MAX_STEPS: usize = 4;
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];
/// Characters that mean something to a shell: a text with one of them is not taken apart.
const SHELL_SYNTAX: &str = ";&|<>()$`\\\"'*?[]#~=%!{}\n";

/// The command that runs in the end, as words. The process stays the same: only exec is followed.
pub fn exec_target(command: &[OsString]) -> Vec<OsString> {
    let mut words = command.to_vec();
    for _ in 0..MAX_STEPS {
        match in_shell(&words).or_else(|| in_script(&words)) {
            Some(next) => words = next,
            None => break,
        }
    }
    words
}

/// `sh -c 'exec node app.js'`: the shell becomes the program. With any syntax of the shell's it may do more than that.
fn in_shell(words: &[OsString]) -> Option<Vec<OsString>> {
    let [shell, option, text, ..] = words else { return None };
    let name = Path::new(shell).file_name().and_then(OsStr::to_str)?;
    let text = text.to_str().filter(|text| !text.contains(|c| SHELL_SYNTAX.contains(c)))?;
    let program = text.trim_start().strip_prefix("exec ").filter(|_| SHELLS.contains(&name) && option == "-c")?;
    let program: Vec<OsString> = program.split_whitespace().map(OsString::from).collect();
    (!program.is_empty()).then_some(program)
}

/// `./app.js` that begins with `#!/usr/bin/env node`: the kernel runs the interpreter with the script's path.
fn in_script(words: &[OsString]) -> Option<Vec<OsString>> {
    let path = words.first().filter(|program| program.as_bytes().contains(&b'/'))?;
    // A link is a tool's launcher (`node_modules/.bin/next`), which starts the app in processes of its own.
    let is_plain = std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
    let file = is_plain.then(|| File::open(path).ok()).flatten()?;
    let mut text = Vec::new();
    file.take(MAX_FIRST_LINE).read_to_end(&mut text).ok()?;
    let line = text.split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let line = std::str::from_utf8(line).ok()?.trim();
    // One argument at most, with its spaces (execve(2)).
    let (interpreter, argument) = line.split_once([' ', '\t']).map_or((line, ""), |(a, b)| (a, b.trim()));
    let argument = (!argument.is_empty()).then(|| OsString::from(argument));
    let head = std::iter::once(OsString::from(interpreter)).chain(argument);
    (!interpreter.is_empty()).then(|| head.chain(words.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_shell_that_only_becomes_a_program_is_that_program() {
        let target = |text| exec_target(&words(&["sh", "-c", text]));
        assert_eq!(target("exec node app.js --x"), words(&["node", "app.js", "--x"]));
        for more in ["node app.js", "exec node app.js; true", "exec node $APP", "A=1 exec node app.js", "exec ", ""] {
            assert_eq!(target(more), words(&["sh", "-c", more]), "{more:?}");
        }
        assert_eq!(exec_target(&words(&["sh", "exec node"])), words(&["sh", "exec node"]));
    }

    #[test]
    fn a_script_is_run_by_the_interpreter_of_its_first_line() {
        let mut script = tempfile::NamedTempFile::new().unwrap();
        script.write_all(b"#!/usr/bin/env node\nrequire('http')\n").unwrap();
        let path = script.path().to_str().unwrap();
        assert_eq!(exec_target(&words(&[path, "-x"])), words(&["/usr/bin/env", "node", path, "-x"]));
        for other in ["/etc/passwd", "/no/such/file", "/", "node"] {
            assert_eq!(exec_target(&words(&[other])), words(&[other]));
        }
    }
}
