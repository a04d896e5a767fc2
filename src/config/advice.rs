//! Recognizes common mistakes in a command, in settings and in the way that rinit is started, and returns what to write instead.

use super::app::AppConfig;
use super::given::Source;
use super::layer::Layer;
use super::settings::by_key;
use crate::core::{OnExit, Restart};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Shells, which pass no signals on to the program that they wait for.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"];
/// Words that only a shell understands, between commands.
const OPERATORS: [&str; 6] = ["&&", "||", "|", ">", ">>", "2>&1"];
/// Commands that only a shell has.
const BUILTINS: [&str; 6] = ["cd", "export", "exec", "source", "ulimit", "umask"];
/// The extensions of scripts, each with the interpreter that runs them.
const SCRIPTS: [(&str, &str); 8] = [
    ("js", "node"),
    ("mjs", "node"),
    ("cjs", "node"),
    ("py", "python3"),
    ("rb", "ruby"),
    ("pl", "perl"),
    ("php", "php"),
    ("sh", "sh"),
];

/// Returns a warning for each mistake in the command and in rinit's start.
pub fn warnings(command: &[OsString], is_supervisor: bool) -> Vec<String> {
    let mut warnings: Vec<String> = on_command(command, can_run).into_iter().collect();
    if !is_supervisor {
        warnings.extend(on_options_behind(command));
    }
    if nix::unistd::getppid().as_raw() == 1 {
        warnings.extend(on_pid_1(&std::fs::read("/proc/1/cmdline").unwrap_or_default()));
    }
    warnings
}

/// An app whose end is to end the container, but that is started again whenever it ends. `layer` holds its settings.
pub(super) fn on_end(app: &AppConfig, layer: &Layer) -> Option<String> {
    let policy = &app.policy;
    let is_started_again = policy.restart == Restart::Always && policy.stop_exit_codes.is_empty();
    (policy.on_exit == OnExit::End && is_started_again).then(|| {
        let given = by_key("on-exit").and_then(|setting| layer.values(setting).first());
        let place = match given.map(|given| &given.source) {
            Some(Source::File(place, _)) => format!("{place}: "),
            Some(Source::Flag(_) | Source::Variable) | None => String::new(),
        };
        let name = &app.name;
        format!(
            "{place}{name} is started again when it ends, so on_exit = \"end\" waits until it has failed for good: add restart = \"never\", or \"on-failure\""
        )
    })
}

/// A shell as PID 1 that waits for rinit: a shell-form ENTRYPOINT, or a script that does not `exec`.
fn on_pid_1(command_line: &[u8]) -> Option<String> {
    let mut words = command_line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let shell = Path::new(OsStr::from_bytes(words.next()?)).file_name()?.to_str()?;
    // Without arguments it is a person's shell, who starts rinit by hand.
    let runs_a_script = words.any(|word| !word.starts_with(b"-") || word.contains(&b'c'));
    (SHELLS.contains(&shell) && runs_a_script).then(|| {
        format!(
            "PID 1 is {shell} and not rinit, and a shell passes no signals on: docker stop does not reach rinit. Write the entrypoint as a list, ENTRYPOINT [\"rinit\", …], or exec rinit … in the script"
        )
    })
}

/// The options of rinit that stand behind the command, where they are the command's.
fn on_options_behind(command: &[OsString]) -> Option<String> {
    let program = file_name(command.first()?);
    if program.starts_with("pm2") {
        return None;
    }
    let words: Vec<&str> = command.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let is_count = |text: &str| text == "max" || text.parse::<i32>().is_ok();
    let found =
        words.iter().zip(words.iter().skip(1).map(Some).chain([None])).find_map(|(word, next)| match *word {
            "-i" | "--instances" => next.filter(|next| is_count(next)).map(|next| format!("{word} {next}")),
            _ => word.strip_prefix("--instances=").filter(|count| is_count(count)).map(|_| (*word).to_owned()),
        })?;
    Some(format!(
        "{found} is behind the command, so it is an option of {program}, and rinit runs one child: for workers write rinit {found} -- {program} …"
    ))
}

fn on_command(command: &[OsString], can_run: impl Fn(&OsStr) -> bool) -> Option<String> {
    let first = command.first()?;
    let (text, name) = (first.to_str().unwrap_or_default(), file_name(first));
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    if let Some(file) = command.iter().take(2).map(|word| file_name(word)).find(|name| is_pm2_file(name)) {
        let is_json = file.ends_with(".json");
        let target = if is_json { file } else { "ecosystem.json" };
        let conversion = match is_json {
            true => String::new(),
            false => format!(
                "; one in JavaScript is made JSON by node -p 'JSON.stringify(require(\"./{file}\"))' > {target}"
            ),
        };
        return Some(format!(
            "{file} is a configuration of pm2 and not a command: write rinit --config {target}{conversion}"
        ));
    }
    if can_run(first) {
        return on_operators(command, name);
    }
    if let Some((variable, _)) = text.split_once('=').filter(|(name, _)| is_variable(name)) {
        return Some(format!(
            "{variable}=… is a variable and not a program: write ENV {variable}=… in the Dockerfile, or rinit … -- env {variable}=… COMMAND"
        ));
    }
    if text.contains(char::is_whitespace) {
        return Some(
            "the command is one word with spaces in it: write each word by itself, or rinit … -- sh -c 'exec …'".into(),
        );
    }
    if let Some((_, interpreter)) = SCRIPTS.iter().find(|(known, _)| *known == extension) {
        return Some(format!("{name} is a script and not a program: write rinit … -- {interpreter} {text}"));
    }
    on_operators(command, name)
}

fn on_operators(command: &[OsString], program: &str) -> Option<String> {
    let operator = command.iter().filter_map(|word| word.to_str()).find(|word| OPERATORS.contains(word));
    let word = operator.or(BUILTINS.contains(&program).then_some(program))?;
    Some(format!(
        "{word} is the shell's, and rinit starts no shell: write rinit … -- sh -c '… && exec COMMAND', or WORKDIR and ENV in the Dockerfile"
    ))
}

fn file_name(word: &OsStr) -> &str {
    Path::new(word).file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// True if pm2 reads settings from files of that name.
fn is_pm2_file(name: &str) -> bool {
    matches!(name, "pm2.json" | "process.json" | "pm2.yml" | "pm2.yaml")
        || name.starts_with("ecosystem.") && !name.ends_with('.')
        || name.ends_with(".config.js") && name.contains("pm2")
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// True if execve(2) would find a program of that name.
fn can_run(name: &OsStr) -> bool {
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if name.as_bytes().contains(&b'/') {
        return is_program(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        shell_words::split(text).unwrap().into_iter().map(OsString::from).collect()
    }

    #[test]
    fn a_command_that_only_a_shell_understands_is_answered_with_the_cure() {
        let on = |command: &str| on_command(&words(command), |name| name == "node" || name == "/app/run.js");
        for (command, part) in [
            ("app.js", "app.js is a script and not a program: write rinit … -- node app.js"),
            ("/app/main.py", "python3 /app/main.py"),
            ("ecosystem.config.js", "rinit --config ecosystem.json"),
            ("node ./ecosystem.config.cjs", "a configuration of pm2"),
            (
                "process.json",
                "process.json is a configuration of pm2 and not a command: write rinit --config process.json",
            ),
            ("DB_PASSWORD=secret node app.js", "DB_PASSWORD=… is a variable"),
            ("cd /app '&&' node app.js", "&& is the shell's"),
            ("cd /app", "cd is the shell's"),
            ("node app.js '|' tee log", "| is the shell's"),
            ("'node app.js'", "one word with spaces"),
        ] {
            let warning = on(command).unwrap_or_default();
            assert!(warning.contains(part) && !warning.contains("secret"), "{command}: {warning}");
        }
        for command in ["node app.js", "/app/run.js", "sh -c 'cd /app && node app.js'", "node app.js A=1 x.js"] {
            assert_eq!(on(command), None, "{command}");
        }
    }

    #[test]
    fn an_instance_count_behind_the_command_is_told_of() {
        let on = |command: &str| on_options_behind(&words(command)).unwrap_or_default();
        assert!(on("node app.js -i 4").contains("write rinit -i 4 -- node …"));
        assert!(on("node app.js --instances=max").contains("rinit --instances=max -- node …"));
        for command in ["node app.js -i", "grep -i x", "pm2-runtime app.js -i 4", "node"] {
            assert_eq!(on(command), "", "{command}");
        }
    }

    #[test]
    fn a_shell_as_pid_1_is_told_of_and_a_persons_shell_is_not() {
        for command_line in ["/bin/sh\0-c\0rinit -- app\0", "bash\0/entrypoint.sh\0", "sh\0-ec\0rinit app\0"] {
            assert!(on_pid_1(command_line.as_bytes()).unwrap().contains("ENTRYPOINT [\"rinit\""), "{command_line:?}");
        }
        for command_line in ["", "bash\0", "-sh\0", "bash\0-i\0", "/sbin/init\0splash\0", "/usr/bin/tini\0--\0rinit\0"]
        {
            assert_eq!(on_pid_1(command_line.as_bytes()), None, "{command_line:?}");
        }
    }
}
