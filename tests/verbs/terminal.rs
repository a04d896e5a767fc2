//! Tests verbs on a terminal: colours, the width, progress.

use crate::calls::obedient;
use crate::fake::{Fake, worker};
use crate::looks::status;
use rinit::control::types::WorkerStatus;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// Runs a verb on a terminal of a width; returns its exit code and output.
fn on_terminal(fake: &Fake, line: &str, columns: u16, environment: &[(&str, &str)]) -> (i32, String) {
    let size = nix::pty::Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(&size, None).unwrap();
    let end = |end: &OwnedFd| Stdio::from(end.try_clone().unwrap());
    let mut command = fake.command(line);
    command.envs(environment.iter().copied()).stdout(end(&pty.slave)).stderr(end(&pty.slave));
    let mut child = command.spawn().unwrap();
    // The command holds the terminal too: only without it there is an end to read.
    drop(command);
    drop(pty.slave);
    let mut bytes = vec![];
    // EIO is how a terminal ends.
    let _ = File::from(pty.master).read_to_end(&mut bytes);
    (child.wait().unwrap().code().unwrap(), String::from_utf8(bytes).unwrap().replace("\r\n", "\n"))
}

fn two() -> Fake {
    let failed = WorkerStatus { state: "failed".into(), last_exit: Some(crate::fake::exit()), ..worker("web-1") };
    Fake::always(200, serde_json::to_string(&status(vec![worker("web-0"), failed], 1)).unwrap())
}

/// Without what is between ESC [ and m.
fn visible(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

#[test]
fn states_have_colours() {
    let (code, text) = on_terminal(&two(), "list", 120, &[]);
    assert_eq!(code, 0);
    assert!(text.contains("\x1b[32mready\x1b[0m") && text.contains("\x1b[31mfailed\x1b[0m"), "{text}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_terminal(&two(), "list", 120, &[plain]).1.contains('\x1b'), "{plain:?}");
    }
}

#[test]
fn the_table_fits_the_terminal() {
    for columns in [16, 40, 79, 80, 100, 200] {
        let text = visible(&on_terminal(&two(), "list", columns, &[]).1);
        // Sentences below the table wrap.
        let table = text.lines().filter(|line| !line.contains("workers are ready"));
        let longest = table.map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= usize::from(columns), "{columns}:\n{text}");
        assert!(text.contains("web-1") && text.contains("failed"), "{columns}:\n{text}");
    }
}

#[test]
fn the_cause_of_a_failure_fits_eighty_columns() {
    let text = visible(&on_terminal(&two(), "list", 80, &[]).1);
    assert!(text.contains("exit code 3"), "{text}");
}

#[test]
fn progress_is_printed_before_the_result() {
    let (code, text) = on_terminal(&obedient(), "reload", 80, &[]);
    assert_eq!((code, visible(&text)), (0, "  web-0 started: pid 12\n  web-0 is ready\nall is done\n".to_owned()));
    let (_, text) = on_terminal(&obedient(), "reload --json", 80, &[]);
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn restarts_say_how_long_ago_the_last_one_was() {
    let crashed = WorkerStatus { restarts: 5, last_exit: Some(crate::fake::exit()), ..worker("web-0") };
    let fake = Fake::always(200, serde_json::to_string(&status(vec![crashed], 2)).unwrap());
    let text = visible(&on_terminal(&fake, "list", 200, &[]).1);
    assert!(text.contains("5 (") && text.contains(" ago)"), "{text}");
    assert!(!fake.run("list").stdout.contains("ago"), "a pipe gets a word for each column");
}

#[test]
fn a_workers_line_cannot_control_the_terminal() {
    let text = "\u{1b}[2J\u{1b}[31mred\u{1b}[0m\u{7}";
    let line = rinit::control::types::LogLine {
        seq: 1,
        time: "2026-01-01T12:00:00.000Z".into(),
        worker: "web-0".into(),
        app: "web".into(),
        slot: 0,
        pid: 12,
        stream: "stdout".into(),
        line: text.into(),
    };
    let stderr = rinit::control::types::LogLine { stream: "stderr".into(), ..line.clone() };
    let lines = rinit::control::types::LogLines { lines: vec![line, stderr] };
    let fake = Fake::always(200, serde_json::to_string(&lines).unwrap());
    let shown = "web-0 | ^[[2J\x1b[31mred\x1b[0m^G\x1b[0m\n";
    assert_eq!(on_terminal(&fake, "logs", 80, &[]).1, shown.repeat(2));
    assert_eq!(on_terminal(&fake, "logs", 80, &[("NO_COLOR", "1")]).1, "web-0 | ^[[2Jred^G\n".repeat(2));
    assert!(fake.run("logs").stdout.contains(text), "a pipe gets the worker's bytes");
}
