//! Parses `node` command lines.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Node's options that take the next word as their value.
const OPTIONS_WITH_VALUE: [&str; 12] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--title",
    "--disable-warning",
    "--env-file",
    "--env-file-if-exists",
    "--icu-data-dir",
];
/// Node's options with which it runs no script file.
const OPTIONS_WITHOUT_SCRIPT: [&str; 12] =
    ["-e", "--eval", "-p", "--print", "-pe", "-c", "--check", "-i", "--interactive", "--test", "--run", "-"];
/// The default port of the inspector.
const DEFAULT_INSPECTOR_PORT: u16 = 9229;

/// Returns true if Node runs that command's script itself, which can then be a worker of Node's cluster. `node -e`, `node
/// inspect`, a shell or npm are none: their children would not find the channel, or would never end because of it.
pub fn has_cluster_worker(command: &[OsString]) -> bool {
    let Some((program, words)) = command.split_first() else { return false };
    is_node(program) && script_position(words).is_some_and(|at| words.get(at).is_some_and(|script| script != "inspect"))
}

fn is_node(program: &OsStr) -> bool {
    matches!(Path::new(program).file_name().and_then(OsStr::to_str), Some("node" | "nodejs"))
}

/// The position of the script; `None` if there is none.
fn script_position(words: &[OsString]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let word = word.to_str().unwrap_or("?");
        if OPTIONS_WITHOUT_SCRIPT.contains(&word) || word.starts_with("--eval=") || word.starts_with("--print=") {
            return None;
        }
        if word == "--" {
            return (at + 1 < words.len()).then_some(at + 1);
        }
        if !word.starts_with('-') {
            return Some(at);
        }
        at += if OPTIONS_WITH_VALUE.contains(&word) { 2 } else { 1 };
    }
    None
}

/// The command of that slot's worker. Each has an inspector of its own, at the given port plus the slot's number, as Node's
/// own cluster counts.
pub fn with_inspector_port(command: &[OsString], slot: u32) -> Vec<OsString> {
    let Some((program, words)) = command.split_first().filter(|(program, _)| slot > 0 && is_node(program)) else {
        return command.to_vec();
    };
    let options = script_position(words).unwrap_or(0);
    let moved = words.iter().enumerate().map(|(at, word)| {
        let text = word.to_str().filter(|text| at < options && text.starts_with("--inspect"));
        text.and_then(|text| moved_option(text, slot)).map_or_else(|| word.clone(), OsString::from)
    });
    std::iter::once(program.clone()).chain(moved).collect()
}

/// The port of the inspector of that slot's worker, also of one that only SIGUSR1 starts. It is not shared.
pub fn inspector_port(command: &[OsString], slot: u32) -> u16 {
    let words = with_inspector_port(command, slot);
    let ports = words.iter().filter_map(|word| word.to_str()?.strip_prefix("--inspect"));
    ports.filter_map(|option| option.rsplit_once([':', '='])?.1.parse().ok()).next().unwrap_or(DEFAULT_INSPECTOR_PORT)
}

/// An `--inspect` option with the port of that slot; `None` if the option is another.
fn moved_option(option: &str, slot: u32) -> Option<String> {
    let by = u16::try_from(slot).ok()?;
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    if !matches!(name, "--inspect" | "--inspect-brk" | "--inspect-wait" | "--inspect-port") {
        return None;
    }
    let (host, port) = match value {
        None => (None, DEFAULT_INSPECTOR_PORT),
        Some(value) => match value.rsplit_once(':') {
            Some((host, port)) => (Some(host), port.parse().ok()?),
            None => value.parse().map_or((Some(value), DEFAULT_INSPECTOR_PORT), |port| (None, port)),
        },
    };
    // Port 0 is any free port, for every worker.
    let port = if port == 0 { 0 } else { port.checked_add(by)? };
    Some(host.map_or_else(|| format!("{name}={port}"), |host| format!("{name}={host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_script_of_nodes_own_is_a_cluster_worker() {
        for command in [
            "node app.js",
            "/usr/local/bin/node --enable-source-maps dist/main.js --port 80",
            "nodejs -r ./setup .",
            "node --inspect app.js -e x",
            "node -- app.js",
        ] {
            assert!(has_cluster_worker(&words(command)), "{command}");
        }
        for command in [
            "node",
            "node -e server()",
            "node --test",
            "node inspect app.js",
            "node -",
            "npm start",
            "sh -c node",
            "nodemon app.js",
            "node -r ./setup",
            "bun app.js",
        ] {
            assert!(!has_cluster_worker(&words(command)), "{command}");
        }
    }

    #[test]
    fn each_worker_has_an_inspector_of_its_own() {
        let of = |command: &str, slot| {
            let moved = with_inspector_port(&words(command), slot);
            moved.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("node --inspect app.js", 0), "node --inspect app.js");
        assert_eq!(of("node --inspect app.js --inspect", 2), "node --inspect=9231 app.js --inspect");
        assert_eq!(of("node --inspect=0.0.0.0:9000 app.js", 1), "node --inspect=0.0.0.0:9001 app.js");
        assert_eq!(of("node --inspect=[::1] app.js", 1), "node --inspect=[::1] app.js");
        assert_eq!(of("node --inspect-brk=0 app.js", 3), "node --inspect-brk=0 app.js");
        assert_eq!(of("python --inspect", 3), "python --inspect");
    }
}
