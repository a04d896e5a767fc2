//! Answers a first word that is neither a verb nor a program: a mistyped verb, or a command of pm2's.

use super::all_names;
use crate::cli::{Environment, Invocation, variable};
use crate::config::nearest;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The exit code of a shell for a command that it does not find.
const NOT_FOUND: u8 = 127;

/// pm2's commands that have no counterpart, and what to do instead.
const PM2_COMMANDS: &[(&str, &str)] = &[
    ("sendSignal", "write rinit signal SIG ID"),
    ("desc", "write rinit describe ID"),
    ("pid", "write rinit list"),
    ("gracefulReload", "write rinit reload"),
    ("startOrReload", "write rinit reload: the file is read again"),
    ("startOrRestart", "write rinit reload: the file is read again"),
    ("startOrGracefulReload", "write rinit reload: the file is read again"),
    ("deploy", "an image is deployed in its place"),
    ("update", "a new image has the new rinit"),
    ("ping", "write rinit health"),
    ("report", "write rinit list, rinit describe and rinit config"),
    ("attach", "a worker's standard input is /dev/null; rinit logs -f shows its lines"),
    ("dump", "the container's command line says what runs; nothing is to be saved"),
    ("unstartup", "rinit starts with its container"),
    ("flush", "rinit keeps no log files: the container engine has the log (docker logs)"),
    ("reloadLogs", "rinit keeps no log files: the container engine has the log (docker logs)"),
    ("save", "the container's command line says what runs; nothing is to be saved"),
    ("resurrect", "the container's command line says what runs; nothing is to be restored"),
    ("startup", "rinit starts with its container; the engine restarts that (docker run --restart)"),
];

/// Returns the refusal of a word that is no verb, is near to one, and names no program in PATH.
pub fn refuse(word: &OsStr, environment: &Environment) -> Option<Invocation> {
    let name = word.to_str()?;
    if name.is_empty() || name.starts_with('-') || name.contains('/') || is_program(word, environment) {
        return None;
    }
    let answer = PM2_COMMANDS.iter().find(|(command, _)| *command == name).map(|(_, answer)| (*answer).to_owned());
    let answer = answer.or_else(|| nearest(name, all_names()).map(|verb| format!("did you mean rinit {verb}?")))?;
    Some(Invocation::refuse(format!("rinit: {name}: no such verb, and no program in PATH; {answer}\n"), NOT_FOUND))
}

fn is_program(word: &OsStr, environment: &Environment) -> bool {
    let path = variable(environment, "PATH").unwrap_or(OsStr::new("/usr/local/bin:/bin:/usr/bin"));
    std::env::split_paths(path).any(|folder| is_executable(&folder.join(word)))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_verb_is_answered_and_a_program_of_that_name_runs() {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("PATH".into(), folder.path().into())];
        let refused = |word: &str| match refuse(OsStr::new(word), &environment) {
            Some(Invocation::Refuse(refusal)) => Some((refusal.code, refusal.text)),
            _ => None,
        };
        let (code, text) = refused("lst").unwrap();
        assert!(code == 127 && text.contains("did you mean rinit list?"), "{text}");
        assert!(refused("flush").unwrap().1.contains("docker logs"));
        assert!(refused("sendSignal").unwrap().1.contains("rinit signal SIG ID"));
        for other in ["node", "app", "-x", "./lst", ""] {
            assert_eq!(refused(other), None, "{other}");
        }
        let program = folder.path().join("lst");
        std::fs::write(&program, "").unwrap();
        assert!(refused("lst").is_some(), "a file that cannot be executed is no program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(refused("lst"), None);
    }
}
