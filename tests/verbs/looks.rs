//! Tests verbs that read and change nothing.

use crate::fake::{Fake, Ran, app, exit, finish, verb, worker};
use rinit::control::types::{
    Config, Description, Reloaded, Reloading, ReplacementRecord, SettingValue, Status, WorkerStatus, Workers,
};
use std::process::Stdio;

pub fn status(workers: Vec<WorkerStatus>, ready: u32) -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 1,
        state: "running".into(),
        started: "2026-01-01T12:00:00.000Z".into(),
        uptime_ms: 200_000,
        apps: vec![app("web", 2, ready)],
        workers,
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn listed(status: &Status) -> Ran {
    Fake::always(200, json(status)).run("list")
}

#[test]
fn list_is_a_table_whose_columns_hold_a_word_each() {
    let backoff = WorkerStatus {
        state: "backoff".into(),
        pid: None,
        uptime_ms: None,
        cpu_percent: None,
        memory_bytes: None,
        ready_by: None,
        status: None,
        listens: vec![],
        restarts: 4,
        retry_in_ms: Some(2300),
        last_exit: Some(exit()),
        ..worker("web-10")
    };
    let counted = WorkerStatus { open_connections: Some(7), ..worker("web-0") };
    let ran = listed(&status(vec![counted, backoff], 1));
    assert_eq!(
        ran.stdout,
        "ID      PID  STATE    GEN  UPTIME  RESTARTS   CPU  MEMORY  READY   LISTENS  CONNS  NOTE\n\
         web-0    12  ready      1   3m12s         0  1.2%   34.1M  listen  8080         7  -\n\
         web-10    -  backoff    1       -         4     -       -  -       -            -  again in 2.3s, after exit code 3\n"
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "web is degraded: 1 of 2 workers are ready\n"));
    for line in ran.stdout.lines() {
        assert!(line.split_whitespace().count() >= 12, "{line}");
    }
}

#[test]
fn the_note_has_what_a_worker_says_and_whether_it_crashes_again_and_again() {
    let note = |worker: WorkerStatus| {
        let text = listed(&status(vec![worker], 2)).stdout;
        text.lines().nth(1).unwrap().rsplit_once("  ").unwrap().1.to_owned()
    };
    let says = WorkerStatus { status: Some("7 jobs\u{1b}[2J".into()), ..worker("web-0") };
    assert_eq!(note(says.clone()), "7 jobs [2J");
    let looping = WorkerStatus { is_crash_looping: true, last_exit: Some(exit()), ..says };
    assert_eq!(note(looping), "crash-looping; 7 jobs [2J; last exit: exit code 3");
}

#[test]
fn an_app_that_does_not_serve_as_it_should_is_named_below_the_table() {
    let remark = |condition: &str, ready: u32| {
        let mut at = status(vec![worker("web-0")], ready);
        at.apps[0].condition = condition.into();
        listed(&at).stderr
    };
    assert_eq!(remark("ready", 2), "");
    assert_eq!(remark("crash-looping", 2), "web is crash-looping\n");
    assert_eq!(remark("down", 0), "web is down: 0 of 2 workers are ready\n");
    assert_eq!(remark("waiting", 0), "web is waiting for another app: 0 of 2 workers are ready\n");
}

#[test]
fn a_reload_in_progress_or_failed_is_reported_beside_the_table() {
    let mut at = status(vec![worker("web-0")], 2);
    at.apps[0].reload = Some(Reloading { generation: 3, since_ms: 4000 });
    assert_eq!(listed(&at).stderr, "web: reload to generation 3 in progress for 4s\n");
    at.apps[0].reload = None;
    at.apps[0].last_reload = Some(Reloaded {
        generation: 2,
        result: "failed".into(),
        took_ms: 100,
        time: "2026-01-01T12:00:00.000Z".into(),
        why: Some("web-0 ended: exit code 3".into()),
    });
    let stderr = listed(&at).stderr;
    assert_eq!(
        stderr,
        "web: the reload to generation 2 failed at 2026-01-01T12:00:00.000Z: web-0 ended: exit code 3\n"
    );
}

#[test]
fn json_is_that_of_the_api() {
    let text = json(&status(vec![worker("web-0")], 2));
    for line in ["list --json", "ls --json", "ps --json"] {
        assert_eq!(Fake::always(200, text.clone()).run(line).stdout, format!("{text}\n"));
    }
}

#[test]
fn list_prints_ids_json_or_every_column_as_asked() {
    let at = status(vec![worker("web-0"), WorkerStatus { role: "replacement".into(), ..worker("web-0") }], 2);
    let fake = Fake::always(200, json(&at));
    for line in ["list -q", "list -o name", "ls --output name"] {
        assert_eq!(fake.run(line).stdout, "web-0\n", "{line}");
    }
    for line in ["list -o json", "prettylist"] {
        let ran = fake.run(line);
        assert!(ran.stdout.lines().count() > 10, "{ran:?}");
        assert_eq!(serde_json::from_str::<Status>(&ran.stdout).unwrap(), at, "{line}");
    }
    assert_eq!(fake.run("jlist").stdout.lines().count(), 1);
    let wide = fake.run("list -o wide").stdout;
    assert!(wide.contains("LISTENS") && wide.contains("CONNS"), "{wide}");
    assert_eq!(fake.run("list -o table").code, 64);
}

#[test]
fn list_watches_until_its_reader_is_gone() {
    let fake = Fake::always(200, json(&status(vec![worker("web-0")], 2)));
    let mut child = fake.command("list -qw").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap(), "web-0");
    }
    drop(lines);
    assert_eq!(crate::fake::end(child).code, 0);
}

#[test]
fn describe_without_an_id_is_the_table() {
    let fake = Fake::always(200, json(&status(vec![worker("web-0")], 2)));
    for line in ["status", "info", "describe"] {
        assert!(fake.run(line).stdout.starts_with("ID "), "{line}");
    }
}

fn description() -> Description {
    Description {
        workers: vec![
            worker("web-0"),
            WorkerStatus { role: "replacement".into(), state: "starting".into(), ..worker("web-0") },
        ],
        command: vec!["node".into(), "my app.js".into()],
        environment: vec!["A=b".into(), "TOKEN=***".into(), "EVIL=\u{1b}[2Jx\ny".into()],
        cwd: Some("/app".into()),
        user: Some("1000:1000".into()),
        max_memory: Some("512 MiB".into()),
        max_uptime_ms: Some(86_400_000),
        replacements: vec![ReplacementRecord {
            time: "2026-01-02T03:04:05.678Z".into(),
            pid: Some(9),
            message: "web-0 (pid 9) uses 530 MiB of memory".into(),
        }],
        exits: vec![exit()],
        crashes: 1,
        max_restarts: 16,
        readiness: "auto".into(),
        stop_signal: "SIGTERM".into(),
        stop_timeout_ms: 8000,
        open_files: Some(23),
        open_files_limit: Some(1024),
        threads: Some(11),
        last_lines: vec!["Error: no".into()],
    }
}

#[test]
fn describe_aligns_names_and_values() {
    let fake = Fake::of(&[("GET /v1/workers/web-0", 200, json(&description()))]);
    let ran = fake.run("describe web-0");
    for part in [
        "web-0\n  state       ready, by listen\n  pid         12\n",
        "\nweb-0 (replacement)\n  state       starting",
        " of 1d\n",
        " of 512 MiB\n",
        "  open files  23 of 1024\n",
        "\nreplaced, newest first\n  2026-01-02T03:04:05.678Z  web-0 (pid 9) uses 530 MiB of memory\n",
        "  command     node 'my app.js'\n",
        "  stop        SIGTERM, then SIGKILL after 8s\n",
        "  crashes     1 of 16 in a row\n",
        "\nexits, newest first\n  2026-01-01T12:00:00.000Z  exit code 3 after 102ms (pid 9)\n",
        "\nlast lines on stderr\n  Error: no\n",
        "  TOKEN=***\n  EVIL= [2Jx y\n",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}'), "no value reaches the terminal's own language");
}

#[test]
fn an_unknown_id_is_answered_with_the_nearest() {
    let workers = Workers { workers: vec![worker("web-0"), worker("web-1")] };
    let fake = Fake::of(&[
        ("GET /v1/workers/wbe-1", 404, r#"{"error":"there is no worker wbe-1"}"#.into()),
        ("GET /v1/workers", 200, json(&workers)),
    ]);
    let ran = fake.run("describe wbe-1");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "rinit: there is no worker wbe-1; did you mean web-1?\n"));
    let ran = fake.run("describe wbe-1 --json");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.starts_with("{\"error\":\"there is no worker wbe-1"), "{ran:?}");
}

#[test]
fn config_and_web() {
    let setting = |name: &str, value: &str, source: &str| SettingValue {
        name: name.into(),
        value: value.into(),
        source: source.into(),
        app: None,
        note: None,
        place: None,
    };
    let on =
        Config { settings: vec![setting("instances", "2", "flag"), setting("web", "0.0.0.0:9615", "environment")] };
    let fake = Fake::of(&[("GET /v1/config", 200, json(&on))]);
    assert_eq!(
        fake.run("config").stdout,
        "SETTING    SOURCE       VALUE\ninstances  flag         2\nweb        environment  0.0.0.0:9615\n"
    );
    assert_eq!(fake.run("web").stdout, "http://localhost:9615/\n");
    assert_eq!(fake.run("web --json").stdout, "{\"url\":\"http://localhost:9615/\"}\n");
    let off = Config { settings: vec![setting("web", "off", "default")] };
    let ran = Fake::of(&[("GET /v1/config", 200, json(&off))]).run("web");
    assert!(ran.code == 1 && ran.stderr.contains("--web ADDR"), "{ran:?}");
}

#[test]
fn health_is_one_line_and_an_exit_code_that_docker_knows() {
    let ran = Fake::of(&[("GET /readyz", 200, "ready".into())]).run("health");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "ready\n", ""));
    let starting = WorkerStatus { state: "starting".into(), ..worker("web-1") };
    let fake = Fake::of(&[
        ("GET /readyz", 503, "not ready".into()),
        ("GET /v1/status", 200, json(&status(vec![worker("web-0"), starting], 1))),
    ]);
    let ran = fake.run("health");
    let line = "rinit: not ready: web: 1 of 2 workers are ready; web-1 is starting\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", line));
    let ran = finish(verb("health --socket /nowhere/sock"));
    assert_eq!(ran.code, 1, "Docker keeps 2 for itself: {ran:?}");
}

#[test]
fn health_asks_for_as_many_ready_workers_as_wanted() {
    let fake = Fake::of(&[
        ("GET /readyz?min=3", 200, "ready".into()),
        ("GET /readyz?min=50%25", 503, "not ready\nweb: 1 of 2 workers ready, 1 missing".into()),
        ("GET /v1/status", 200, json(&status(vec![WorkerStatus { state: "stopped".into(), ..worker("web-1") }], 1))),
    ]);
    assert_eq!(fake.run("health --min 3").code, 0);
    let ran = fake.run("health --min 50%");
    let line = "rinit: not ready: web: 1 of 2 workers are ready\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, line), "a worker stopped by hand is not missing");
    for bad in ["health --min x", "health --min 101%", "health --min -1", "health --min"] {
        assert_eq!(fake.run(bad).code, 64, "{bad}");
    }
}

#[test]
fn wait_returns_when_all_are_ready() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let asked = AtomicU32::new(0);
    let fake = Fake::new(move |request, stream| {
        assert_eq!(request.line, "GET /readyz?min=100%25");
        let status = if asked.fetch_add(1, Ordering::SeqCst) < 3 { 503 } else { 200 };
        crate::fake::reply(stream, status, "…");
    });
    let ran = fake.run("wait --timeout 30s");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ready\n"));
    assert_eq!(fake.requests().len(), 4);
}

#[test]
fn wait_ends_when_its_time_is_up_and_says_who_is_not_ready() {
    let fake = Fake::of(&[
        ("GET /readyz?min=100%25", 503, "not ready".into()),
        ("GET /v1/status", 200, json(&status(vec![worker("web-0")], 1))),
    ]);
    let ran = fake.run("wait --timeout 150ms");
    assert!(ran.code == 1 && ran.stderr.contains("1 of 2 workers are ready"), "{ran:?}");
    let ran = finish(verb("wait --timeout 100ms --socket /nowhere/sock"));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(finish(verb("wait --timeout 5")).code, 64);
}

#[test]
fn without_a_rinit_the_error_names_the_sockets_and_a_cure() {
    // Not the usual places: this machine may have a rinit there.
    let ran = finish(verb("list --socket /nowhere/sock"));
    assert_eq!(ran.code, 2);
    for part in ["rinit: no rinit answers; tried:\n  /nowhere/sock: no such socket\n", "PID 1 here is"] {
        assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let ran = finish(verb(&format!("list --socket {}", stale.display())));
    assert!(ran.code == 2 && ran.stderr.contains("the rinit that made it has ended"), "{ran:?}");
    let mut off = verb("list --json");
    off.env("RINIT_SOCKET", "off");
    let ran = finish(off);
    assert!(ran.code == 2 && ran.stdout.starts_with("{\"error\":\"the control socket is off"), "{ran:?}");
}

#[test]
fn an_invalid_answer_is_an_error_and_no_panic() {
    use std::io::Write;
    for (answer, code) in [
        ("", 2),
        ("SSH-2.0-OpenSSH\r\n", 2),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", 2),
        ("HTTP/1.1 200 OK\r\n\r\nnonsense", 1),
        ("HTTP/1.1 200 OK\r\n\r\n{}", 1),
        ("HTTP/1.1 500 X\r\n\r\n", 1),
        ("HTTP/1.1 503 X\r\n\r\n{\"error\":\"too many connections\"}", 1),
    ] {
        let ran = Fake::new(move |_, stream| drop(stream.write_all(answer.as_bytes()))).run("list");
        assert_eq!(ran.code, code, "{answer:?}: {ran:?}");
        assert!(ran.stderr.starts_with("rinit: ") && !ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_closed_stdout_is_no_error() {
    let workers = (0..2000).map(|slot| worker(&format!("web-{slot}"))).collect();
    let fake = Fake::always(200, json(&status(workers, 2)));
    let mut command = fake.command("list");
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    command.stdout(Stdio::from(write));
    let ran = finish(command);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn help_is_for_rinit_and_for_each_verb() {
    let all = finish(verb("--help")).stdout;
    assert!(all.contains("\n  list, ls, ps ") && all.contains("  scale [APP] N|+N|-N|0|max "), "{all}");
    assert_eq!(finish(verb("help")).stdout, all);
    let logs = finish(verb("logs --help")).stdout;
    assert!(logs.starts_with("rinit logs [OPTIONS] [ID]...") && logs.contains("  -n, --lines, --tail N "), "{logs}");
    assert_eq!(finish(verb("help logs")).stdout, logs);
    assert!(finish(verb("help lgos")).stderr.contains("did you mean logs?"));
    let short = finish(verb("logs -h")).stdout;
    assert!(short.contains("  -n, --lines, --tail N ") && short.len() < logs.len(), "{short}");
}

#[test]
fn behind_two_dashes_or_an_option_the_word_is_a_command() {
    for line in ["-- ls /proc/self/comm", "-w ls /proc/self/comm"] {
        let ran = finish(verb(line));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "/proc/self/comm\n"), "{ran:?}");
    }
}

#[test]
fn a_mistyped_verb_is_answered_with_the_nearest() {
    let ran = finish(verb("lst"));
    assert_eq!(ran.code, 127);
    assert_eq!(ran.stderr, "rinit: lst: no such verb, and no program in PATH; did you mean rinit list?\n");
    assert!(finish(verb("flush")).stderr.contains("docker logs"));
    assert!(!finish(verb("nod app.js")).stderr.contains("did you mean"), "a missing program is none of rinit's verbs");
}

#[test]
fn a_program_with_the_name_of_a_mistyped_verb_runs() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("lst");
    std::fs::write(&program, "#!/bin/sh\necho the program\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = verb("lst");
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let ran = finish(command);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "the program\n"), "{ran:?}");
}
