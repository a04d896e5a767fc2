//! Tests of the last lines: of a worker, of a container, and of a dead worker's descendants.

use super::{Reader, assert_counted, eventually_full, lines_of};
use crate::harness::{Flag, Rig, Running, children, eventually};
use nix::fcntl::{FcntlArg, fcntl};
use std::io::PipeReader;
use std::time::{Duration, Instant};

#[test]
fn a_last_line_without_newline_gets_one() {
    for how in ["exit=0", "crash=KILL"] {
        let rig = Rig::new(&["-i", "2", "--restart", "never", "--name", "web", "--"])
            .args(&["sh", "-c", r#"printf 'so far' >&2; exec "$0" "$@""#])
            .fixture(&format!("say=whole print=abc {how}"))
            .start();
        rig.wait();
        let out = rig.output();
        for line in ["web-0 | abc", "web-1 | abc"] {
            assert!(out.stdout.contains(&line.to_owned()), "{:?}", out.stdout);
        }
        assert_eq!(out.stdout.len(), 4);
        assert_eq!(out.stderr.iter().filter(|line| line.ends_with("| so far")).count(), 2, "{:?}", out.stderr);
    }
}

#[test]
fn a_last_line_without_newline_waits_for_a_slow_reader_too() {
    let (mut read, write) = std::io::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    // In one write, so that rinit reads all of it at once, can pass on but a part, and has the end in its own memory.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    std::fs::write(&file, format!("{}\nlast words", "x".repeat(8000))).unwrap();
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--", "cat"]).arg(&file).stdout(write).start();
    rig.until("rinit is about to end", |out| out.has("every worker has finished"));
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = std::io::Read::read(&mut read, &mut chunk) {
        text.extend_from_slice(&chunk[..count]);
        std::thread::sleep(std::time::Duration::from_millis(50)); // a slow reader
    }
    assert_eq!(rig.wait(), 0);
    let lines = lines_of(&text);
    assert_eq!(lines.last().unwrap(), "cat-0 | last words", "{} lines", lines.len());
}

/// A rinit whose workers have finished by themselves, and whose full stdout nobody has read yet.
fn finished_and_unread() -> (Running, PipeReader) {
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("lines=20000").stdout(write).start();
    eventually_full(&read);
    (rig, read)
}

#[test]
fn a_container_that_finished_by_itself_waits_for_its_reader() {
    let (rig, read) = finished_and_unread();
    std::thread::sleep(Duration::from_millis(3500)); // a reader that pauses for longer than a stopped container waits
    assert!(rig.is_running(), "rinit has ended before its lines were read");
    let reader = Reader::of(read);
    assert_eq!(rig.wait(), 0);
    assert_counted(&reader.lines(), 2, 20_000);
}

#[test]
fn a_stop_ends_the_wait_for_a_reader() {
    // All is in the pipes of rinit and of the reader: the worker has ended, and only the log is left.
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "1", "--restart", "never"]).fixture("lines=10000").stdout(write).start();
    rig.until("the worker has finished", |out| out.has("every worker has finished"));
    eventually_full(&read);
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    // After 3 s and what a busy machine adds; `docker stop` kills after 10 s.
    assert!(start.elapsed() < Duration::from_secs(8), "the stop took {:?}", start.elapsed());
}

#[test]
fn the_last_lines_of_a_dead_worker_are_reported_also_when_another_line_was_in_the_way() {
    // A descendant holds the dead worker's stderr open, so the kernel never says that it has ended. Meanwhile another worker
    // stands in the middle of a long line.
    let (is_held, is_collected) = (Flag::new(), Flag::new());
    let script = r#"if [ "$RINIT_WORKER" = 0 ]; then
            watch='while kill -0 "$0" 2>/dev/null; do sleep 0.02; done; touch "$COLLECTED"; exec sleep 1000'
            setsid sh -c "$watch" $$ </dev/null >/dev/null &
            echo last words >&2
            while [ ! -e "$HELD" ]; do sleep 0.02; done
            exit 3
        fi
        head -c 70000 /dev/zero | tr '\0' x >&2
        touch "$HELD"
        while [ ! -e "$COLLECTED" ]; do sleep 0.02; done
        echo >&2
        exec sleep 1000"#;
    let rig = Rig::new(&["-i", "2", "--share-ports", "off", "--min-uptime", "10s", "--backoff", "60s..60s"])
        .args(&["--name", "web", "--", "sh", "-c", script])
        .env("HELD", &is_held.path())
        .env("COLLECTED", &is_collected.path())
        .start();
    rig.until("its end is reported with its last lines", |out| {
        let report = out.stderr.iter().skip_while(|line| !line.contains("ended: exit code 3"));
        report.take(3).any(|line| line.starts_with("rinit") && line.contains("last words"))
    });
}

#[test]
fn every_line_before_a_workers_death_arrives_also_when_all_die_and_the_container_ends() {
    for (how, code) in [("exit=3", 3), ("crash=KILL", 137), ("crash=SEGV", 139)] {
        let (read, write) = std::io::pipe().unwrap();
        let rig = Rig::new(&["-i", "2", "--max-restarts", "1", "--backoff", "1ms..1ms"])
            .fixture(&format!("lines=3000 err-lines=1000 {how}"))
            .stdout(write)
            .start();
        let reader = Reader::of(read);
        assert_eq!(rig.wait(), code);
        let lines = reader.lines();
        for worker in 0..2 {
            // Two lives each, the second's lines after the first's.
            let mark = format!("fixture-{worker} | ");
            let lived = |count| (0..2).flat_map(move |_| (0..count).map(|n| format!("line {n}")));
            let of = |lines: &[String]| {
                lines.iter().filter_map(|line| line.strip_prefix(&mark).map(str::to_owned)).collect::<Vec<_>>()
            };
            assert!(of(&lines).into_iter().eq(lived(3000)), "{how}: {} lines of stdout", of(&lines).len());
            let errors = of(&rig.output().stderr);
            assert!(errors.clone().into_iter().eq(lived(1000)), "{how}: {} lines of stderr", errors.len());
        }
    }
}

#[test]
fn what_workers_say_while_they_are_stopped_arrives() {
    let rig = Rig::new(&["-i", "3"]).fixture("on-term=lines=5000,err-lines=100,print=bye,exit=0 up wait").start();
    rig.until("all are up", |out| out.count("| up ") == 3);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    for worker in 0..3 {
        let of = |lines: &[String], text: &str| {
            lines.iter().filter(|line| line.starts_with(&format!("fixture-{worker} | {text}"))).count()
        };
        assert_eq!((of(&out.stdout, "line "), of(&out.stderr, "line "), of(&out.stdout, "bye")), (5000, 100, 1));
    }
}

#[test]
fn what_a_dead_worker_leaves_running_still_speaks_in_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (read, write) = std::io::pipe().unwrap();
    // The daemon speaks when its worker is gone, and a second worker keeps the container up.
    let script = r#"if [ "$RINIT_WORKER" = 0 ]; then exec "$0" daemon=touch=$BORN,file=$SPEAK,shout=200 file=$BORN
        else exec "$0" wait; fi"#;
    let rig = Rig::new(&["-i", "2", "--restart", "never", "--name", "web", "--", "sh", "-c", script])
        .fixture("")
        .env("BORN", &path("born"))
        .env("SPEAK", &path("speak"))
        .stdout(write)
        .start();
    let reader = Reader::of(read);
    rig.until("worker 0 is gone", |out| {
        out.stderr.iter().any(|line| line.contains("web-0") && line.contains("finished"))
    });
    eventually("rinit has the daemon", || (children(rig.pid()).len() == 2).then_some(()));
    std::fs::write(path("speak"), "").unwrap();
    eventually("the daemon is done and collected", || (children(rig.pid()).len() == 1).then_some(()));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let lines = reader.lines();
    for (n, line) in lines.iter().enumerate() {
        assert!(*line == format!("web-0 | {n} {}", "a".repeat(n * 7919 % 20_000 + 1)), "line {n} is torn: {line:.99}");
    }
    assert_eq!(lines.len(), 200);
}
