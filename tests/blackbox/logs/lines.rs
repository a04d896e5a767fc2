//! Tests that lines stay whole and in order, and that none is lost.

use super::{Reader, assert_counted, eventually_full, lines_of};
use crate::harness::{Flag, Rig, eventually};

#[test]
fn a_million_lines_come_in_order() {
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("lines=500000").stdout(write).start();
    let reader = Reader::of(read);
    assert_eq!(rig.wait(), 0);
    assert_counted(&reader.lines(), 2, 500_000);
}

#[test]
fn two_workers_that_shout_at_once_never_share_a_line() {
    for format in ["prefix", "raw", "json"] {
        let (read, write) = std::io::pipe().unwrap();
        let rig =
            Rig::new(&["-i", "2", "--restart", "never", "--log", format]).fixture("shout=200").stdout(write).start();
        let reader = Reader::of(read);
        assert_eq!(rig.wait(), 0);
        let mut next = [0, 0];
        for line in reader.lines() {
            let line = match format {
                "json" => {
                    serde_json::from_str::<serde_json::Value>(&line).unwrap()["message"].as_str().unwrap().to_owned()
                }
                _ => line,
            };
            let shouted = line.split_once("| ").map_or(&*line, |(_, shouted)| shouted);
            let worker = usize::from(shouted.ends_with('b'));
            let n = next[worker];
            assert!(
                shouted == format!("{n} {}", ["a", "b"][worker].repeat(n * 7919 % 20_000 + 1)),
                "{n}: {shouted:.99}"
            );
            next[worker] += 1;
        }
        assert_eq!(next, [200, 200], "{format}");
    }
}

#[test]
fn the_two_streams_of_a_container_with_one_terminal_never_share_a_line() {
    // `docker run -t`, or `2>&1`: stdout and stderr are one. Its reader is slow, so that writes end anywhere.
    let (mut read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never", "--name", "fixture", "--"])
        .args(&["sh", "-c", r#""$0" err-lines=20000 & "$0" lines=20000; wait"#])
        .fixture("")
        .through(&["sh", "-c", r#"exec "$0" "$@" 2>&1"#])
        .stdout(write)
        .start();
    let mut all = Vec::new();
    let mut chunk = [0; 5000];
    while let Ok(count @ 1..) = std::io::Read::read(&mut read, &mut chunk) {
        all.extend_from_slice(&chunk[..count]);
        std::thread::yield_now();
    }
    assert_eq!(rig.wait(), 0);
    let mut counted = 0;
    for line in lines_of(&all) {
        let Some((name, text)) = line.split_once(" | ") else { panic!("no whole line: {line:?}") };
        if name.trim_end() != "rinit" {
            let number = text.strip_prefix("line ").and_then(|number| number.parse::<u32>().ok());
            assert!(["fixture-0", "fixture-1"].contains(&name) && number.is_some_and(|n| n < 20_000), "{line:?}");
            counted += 1;
        }
    }
    assert_eq!(counted, 80_000);
}

#[test]
fn a_line_of_a_megabyte_is_not_cut_while_another_worker_shouts() {
    for format in ["prefix", "raw", "json"] {
        let (read, write) = std::io::pipe().unwrap();
        // Worker 1 floods from before worker 0 begins until it has come through.
        let (floods, script) = (
            Flag::new(),
            r#"if [ "$RINIT_WORKER" = 1 ]; then exec "$0" flood; fi
            while [ ! -e "$FLOODS" ]; do sleep 0.02; done
            exec "$0" long=1000000 say=through"#,
        );
        let rig = Rig::new(&["-i", "2", "--restart", "never", "--name", "web", "--log", format, "--", "sh", "-c"])
            .arg(script)
            .fixture("")
            .env("FLOODS", &floods.path())
            .stdout(write)
            .start();
        let reader = Reader::of(read);
        eventually("worker 1 floods", || (reader.len() > 0).then_some(()));
        floods.set();
        rig.until("worker 0 is through", |out| {
            out.stderr.iter().any(|line| line.contains("web-0") && line.contains("finished"))
        });
        rig.signal("TERM");
        rig.wait();
        // The flood's last line is given up if a busy machine's reader takes nothing for 3 s.
        let mut bytes = reader.all();
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let lines = lines_of(&bytes);
        let long: String = match format {
            "json" => {
                let values: Vec<serde_json::Value> =
                    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
                let first = values.iter().position(|line| line["rinit"]["partial"] == true).unwrap();
                let parts = values[first..].iter().position(|line| line["rinit"]["partial"] != true).unwrap() + 1;
                let parts = &values[first..first + parts];
                assert!(
                    parts.iter().all(|part| part["rinit"]["worker"] == 0),
                    "another worker's line stands between the parts"
                );
                parts.iter().map(|part| part["message"].as_str().unwrap()).collect()
            }
            _ => {
                let long = lines.iter().find(|line| line.ends_with('x')).unwrap();
                long.strip_prefix("web-0 | ").filter(|_| format == "prefix").unwrap_or(long).to_owned()
            }
        };
        assert!(long == "x".repeat(1_000_000), "{format}: {} bytes", long.len());
        assert!(lines.iter().any(|line| line.contains("flood")));
    }
}

#[test]
fn a_worker_that_stops_in_the_middle_of_a_long_line_does_not_silence_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (read, write) = std::io::pipe().unwrap();
    let script = r#"if [ "$RINIT_WORKER" = 0 ]; then exec "$0" "print=$LONG" file=$REST say=rest wait
        else exec "$0" file=$SPEAK lines=3 wait; fi"#;
    let rig = Rig::new(&["-i", "2", "--name", "web", "--", "sh", "-c", script])
        .fixture("")
        .env("LONG", &"x".repeat(100_000))
        .env("REST", &path("rest"))
        .env("SPEAK", &path("speak"))
        .stdout(write)
        .start();
    let reader = Reader::of(read);
    let has = |text: &str| String::from_utf8_lossy(&reader.so_far()).contains(text);
    eventually("most of the line is out", || (reader.len() > 65_536).then_some(()));
    std::fs::write(path("speak"), "").unwrap();
    eventually("the other is heard", || has("web-1 | line 2\n").then_some(()));
    std::fs::write(path("rest"), "").unwrap();
    eventually("the rest comes", || has("rest\n").then_some(()));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let lines = reader.lines();
    assert_eq!(lines.iter().map(|line| line.matches('x').count()).sum::<usize>(), 100_000);
    // What belongs to no whole line any more is at least marked as the worker's.
    assert!(lines.iter().all(|line| line.starts_with("web-0 | ") || line.starts_with("web-1 | line ")), "torn");
}

#[test]
fn a_long_line_that_trickles_for_ever_does_not_silence_the_others() {
    let (read, write) = std::io::pipe().unwrap();
    let script = r#"[ "$RINIT_WORKER" = 0 ] || exec "$0" file=$SPEAK say=heard wait
        printf %s "$LONG"; while :; do printf y; sleep 0.1; done"#;
    let speak = Flag::new();
    let rig = Rig::new(&["-i", "2", "--name", "web", "--", "sh", "-c", script])
        .fixture("")
        .env("LONG", &"x".repeat(100_000))
        .env("SPEAK", &speak.path())
        .stdout(write)
        .start();
    let reader = Reader::of(read);
    let has = |text: &str| String::from_utf8_lossy(&reader.so_far()).contains(text);
    eventually("most of the line is out", || (reader.len() > 65_536).then_some(()));
    speak.set();
    eventually("the other is heard", || has("web-1 | heard\n").then_some(()));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn bytes_that_are_no_text_pass_untouched() {
    // Every byte but the newline, in an order that repeats late; several reads long.
    let mut bytes: Vec<u8> = (0..150_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    for (format, mark) in [("prefix", "cat-0 | "), ("raw", "")] {
        let (read, write) = std::io::pipe().unwrap();
        // Two workers, for one alone would write its raw bytes itself.
        let rig = Rig::new(&["-i", "2", "--restart", "never", "--name", "cat", "--log", format, "--"])
            .args(&["sh", "-c", r#"[ "$RINIT_WORKER" = 1 ] || exec cat "$0""#])
            .arg(&file)
            .stdout(write)
            .start();
        let reader = Reader::of(read);
        assert_eq!(rig.wait(), 0);
        assert!(reader.all() == [mark.as_bytes(), &bytes, b"\n"].concat(), "{format}");
    }
}

#[test]
fn lines_wait_in_the_pipes_while_stdout_is_full_and_none_is_lost() {
    for format in ["prefix", "raw"] {
        let (read, write) = std::io::pipe().unwrap();
        let rig =
            Rig::new(&["-i", "2", "--restart", "never", "--log", format]).fixture("lines=50000").stdout(write).start();
        eventually_full(&read);
        let reader = Reader::of(read);
        assert_eq!(rig.wait(), 0);
        let lines = reader.lines();
        match format {
            "prefix" => assert_counted(&lines, 2, 50_000),
            _ => {
                let mut all = lines.clone();
                all.sort();
                let mut expected: Vec<String> =
                    (0..50_000).flat_map(|n| [format!("line {n}"), format!("line {n}")]).collect();
                expected.sort();
                assert!(all == expected, "{} lines", all.len());
            }
        }
    }
}
