//! Parses `node` command lines.

use crate::config::{NodeCommand, exec_target};
use std::ffi::OsString;

/// The default port of the inspector.
const DEFAULT_INSPECTOR_PORT: u16 = 9229;

/// True if Node runs that command's script itself, which can then be a worker of Node's cluster: also behind
/// `sh -c 'exec node …'` or the first line of a script. `node -e`, `node inspect`, another shell or npm are none: their
/// children would not find the channel, or would never end because of it.
pub fn has_cluster_worker(command: &[OsString]) -> bool {
    let command = exec_target(command);
    let script = NodeCommand::find(&command).and_then(|node| command.get(node.script?));
    script.is_some_and(|script| script != "inspect")
}

/// True if the script that rinit adds can be an option of that command. Otherwise it is in `NODE_OPTIONS`, where it would keep
/// Node from what `--env-file` says there.
pub fn takes_option(command: &[OsString]) -> bool {
    NodeCommand::find(command).is_some_and(|node| node.script.is_some())
}

/// The command with an option of Node ahead of its others, if it takes one.
pub fn with_option(mut command: Vec<OsString>, option: &str) -> Vec<OsString> {
    if let Some(node) = NodeCommand::find(&command).filter(|node| node.script.is_some()) {
        command.insert(node.program + 1, option.into());
    }
    command
}

/// The command of that slot's worker. Each has an inspector of its own, at the given port plus the slot's number, as Node's
/// own cluster counts.
pub fn with_inspector_port(command: &[OsString], slot: u32) -> Vec<OsString> {
    let Some(node) = NodeCommand::find(command).filter(|_| slot > 0) else { return command.to_vec() };
    let options = node.program..node.script.unwrap_or(0);
    let moved = command.iter().enumerate().map(|(at, word)| {
        let text = word.to_str().filter(|text| options.contains(&at) && text.starts_with("--inspect"));
        text.and_then(|text| moved_option(text, slot)).map_or_else(|| word.clone(), OsString::from)
    });
    moved.collect()
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
    fn an_option_comes_before_the_apps_own() {
        for (command, with) in [
            ("node app.js", "node --require=x app.js"),
            ("env A=1 nice -n 5 node -r ./setup .", "env A=1 nice -n 5 node --require=x -r ./setup ."),
            ("npm start", "npm start"),
            ("node", "node"),
        ] {
            assert_eq!(with_option(words(command), "--require=x"), words(with));
            assert_eq!(takes_option(&words(command)), command != with);
        }
    }

    #[test]
    fn a_script_of_nodes_own_is_a_cluster_worker() {
        for command in [
            "node app.js",
            "/usr/local/bin/node --enable-source-maps dist/main.js --port 80",
            "nodejs -r ./setup .",
            "node --inspect app.js -e x",
            "node -- app.js",
            "env NODE_ENV=production nice -n 5 node --title shop app.js",
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
        assert_eq!(of("env A=1 node --inspect app.js", 2), "env A=1 node --inspect=9231 app.js");
        assert_eq!(of("python --inspect", 3), "python --inspect");
    }
}
