//! `docker logs`: what workers wrote, all of it.

use crate::engine::{Container, engine};

#[test]
fn every_line_that_was_written_before_the_end_is_in_docker_logs() {
    let Some(engine) = engine() else { return };
    let app = "i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); echo \"line $i\"; echo \"trouble $i\" >&2; done; \
               printf 'the last one has no end'";
    let command = ["-i", "2", "--name", "app", "--restart", "never", "--", "sh", "-c", app];
    let container = Container::start(&[], &engine.busybox, &command);
    assert_eq!(container.wait(), 0);
    for worker in 0..2 {
        let prefix = format!("app-{worker} | ");
        let of = |lines: &[String]| -> Vec<String> {
            lines.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
        };
        let mut stdout: Vec<String> = (1..=1000).map(|n| format!("line {n}")).collect();
        stdout.push("the last one has no end".into());
        let stderr: Vec<String> = (1..=1000).map(|n| format!("trouble {n}")).collect();
        container.until("every line is there once, whole and in order", |logs| {
            of(&logs.stdout) == stdout && of(&logs.stderr) == stderr
        });
    }
    let logs = container.logs();
    assert_eq!(logs.stdout.len(), 2 * 1001, "rinit adds nothing to stdout");
    assert!(logs.stderr.iter().all(|line| line.starts_with("app-") || line.starts_with("rinit | ")));
}

#[test]
fn a_killed_workers_last_line_is_in_docker_logs() {
    let Some(engine) = engine() else { return };
    let app = "echo 'the last word'; kill -KILL $$";
    let command = ["-i", "1", "--name", "app", "--restart", "never", "--", "sh", "-c", app];
    let container = Container::start(&[], &engine.busybox, &command);
    assert_eq!(container.wait(), 137);
    container.until("it is there", |logs| logs.stdout == ["app-0 | the last word"]);
}

#[test]
fn lines_as_json_are_objects_with_rinits_own_among_them() {
    let Some(engine) = engine() else { return };
    let command = ["-i", "1", "--name", "app", "--restart", "never", "--", "echo", "a \"quoted\" word"];
    let container = Container::start(&["-e", "RINIT_LOG=json"], &engine.busybox, &command);
    assert_eq!(container.wait(), 0);
    container.until("both streams have objects", |logs| !logs.stdout.is_empty() && !logs.stderr.is_empty());
    let logs = container.logs();
    let read = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap();
    assert_eq!(read(&logs.stdout[0])["message"], "a \"quoted\" word");
    assert_eq!(read(&logs.stdout[0])["rinit"]["app"], "app");
    logs.stderr.iter().for_each(|line| drop(read(line)));
}
