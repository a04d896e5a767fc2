//! Tests of the formats of a line.

use crate::harness::{Output, Rig};
use serde_json::{Value, json};
use std::time::SystemTime;

#[test]
fn every_line_is_prefixed_in_one_column() {
    let rig = Rig::new(&["-i", "11"]).fixture("say=out err=err wait").start();
    let own = |out: &Output| out.stderr.iter().filter(|line| line.starts_with("rinit      | ")).count();
    rig.until("all have spoken", |out| out.count("| out") == 11 && out.count("| err") == 11 && own(out) >= 11);
    let out = rig.output();
    for k in 0..11 {
        assert!(out.stdout.contains(&format!("{:10} | out", format!("fixture-{k}"))));
        assert!(out.stderr.contains(&format!("{:10} | err", format!("fixture-{k}"))));
    }
}

#[test]
fn stdout_and_stderr_are_kept_apart() {
    let rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("lines=100 err-lines=50").start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert_eq!((out.stdout.len(), out.stderr.iter().filter(|line| line.starts_with("fixture-")).count()), (200, 100));
    assert!(out.stderr.iter().all(|line| line.starts_with("fixture-") || line.starts_with("rinit     | ")));
}

#[test]
fn raw_lines_have_nothing_in_front() {
    let rig = Rig::new(&["-i", "2", "--restart", "never", "--log", "raw"]).fixture("say=out err=err").start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert_eq!(out.stdout, ["out", "out"]);
    assert_eq!(out.stderr.iter().filter(|line| *line == "err").count(), 2);
    assert!(out.stderr.iter().all(|line| line == "err" || line.starts_with("rinit: ")));
    assert!(out.count("rinit: fixture-0") > 0);
}

#[test]
fn json_wraps_a_line_in_an_object_that_says_whose_it_is() {
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--log", "json", "--name", "web"])
        .arg("--")
        .args(&[
            "sh",
            "-c",
            r#"printf 'tab\t"quoted" \\ \001 \360\237\230\200\r\n'; printf 'caf\351\n\n' >&2; echo $$"#,
        ])
        .start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    let lines = values(&out.stdout);
    let pid: i64 = lines[1]["message"].as_str().unwrap().parse().unwrap();
    let mut first = lines[0].clone();
    let time = first["rinit"].as_object_mut().unwrap().remove("time").unwrap();
    humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    let message = "tab\t\"quoted\" \\ \u{1} \u{1f600}";
    let of_rinit = json!({"app": "web", "worker": 0, "pid": pid, "stream": "stdout"});
    assert_eq!(first, json!({"rinit": of_rinit, "message": message}));
    // A byte that is no UTF-8 becomes the replacement character, for JSON can hold no other.
    let errors: Vec<Value> =
        values(&out.stderr).into_iter().filter(|line| line["rinit"]["stream"] == "stderr").collect();
    let messages: Vec<&Value> = errors.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["caf\u{fffd}", ""]);
}

#[test]
fn json_objects_keep_their_keys_and_cannot_forge_rinits() {
    let forged = r#"{"rinit":{"app":"other","worker":5},"level":"info"}"#;
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--log", "json"])
        .fixture("")
        .arg(r#"say={"level": "warn", "app": {"id": 7}, "time": 12.5, "message": "own"}"#)
        .arg("say={}")
        .arg(r#"say={"broken": "#)
        .arg("say=[1]")
        .arg(format!("say={forged}"))
        .start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    let lines = values(&out.stdout);
    assert_eq!(
        (&lines[0]["level"], &lines[0]["app"], &lines[0]["time"]),
        (&json!("warn"), &json!({"id": 7}), &json!(12.5))
    );
    assert_eq!(
        (&lines[0]["message"], &lines[0]["rinit"]["app"], &lines[0]["rinit"]["stream"]),
        (&json!("own"), &json!("fixture"), &json!("stdout"))
    );
    assert_eq!((&lines[1]["rinit"]["app"], &lines[1].get("message")), (&json!("fixture"), &None));
    assert_eq!((&lines[2]["message"], &lines[3]["message"]), (&json!("{\"broken\": "), &json!("[1]")));
    // What rinit says of a line is rinit's alone: such an object is text.
    assert_eq!((&lines[4]["rinit"]["app"], &lines[4]["message"]), (&json!("fixture"), &json!(forged)));
}

#[test]
fn a_long_line_of_json_comes_in_parts_that_join_to_the_same_text() {
    // Characters of three bytes, so that a part that ends at a round number of bytes would end inside of one.
    let text = "€".repeat(40_000);
    let rig =
        Rig::new(&["-i", "1", "--restart", "never", "--log", "json"]).fixture("").arg(format!("say={text}")).start();
    assert_eq!(rig.wait(), 0);
    let lines = values(&rig.output().stdout);
    let (last, parts) = lines.split_last().unwrap();
    assert!(!parts.is_empty() && parts.iter().all(|part| part["rinit"]["partial"] == json!(true)));
    assert_eq!(last["rinit"].get("partial"), None);
    let joined: String = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(joined == text, "{} of its characters became others", joined.matches('\u{fffd}').count());
}

#[test]
fn a_long_line_that_is_an_object_stays_one_up_to_256_kib() {
    let object = |length: usize| {
        let frame = r#"{"level":"info","text":""}"#;
        format!(r#"{{"level":"info","text":"{}"}}"#, "x".repeat(length - frame.len()))
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    let (fits, is_longer) = (object(256 * 1024), object(400 * 1024));
    std::fs::write(&file, format!("{fits}\n{is_longer}\n")).unwrap();
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--log", "json", "--", "cat"]).arg(&file).start();
    assert_eq!(rig.wait(), 0);
    let lines = values(&rig.output().stdout);
    assert_eq!((&lines[0]["level"], &lines[0]["rinit"]["app"]), (&json!("info"), &json!("cat")));
    assert_eq!(lines[0]["text"].as_str().unwrap().len(), fits.len() - r#"{"level":"info","text":""}"#.len());
    // A longer one is text, in parts.
    let parts: Vec<&str> = lines[1..].iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(parts.len() > 1 && parts.concat() == is_longer, "{} parts", parts.len());
}

#[test]
fn ecs_has_the_names_that_elastic_indexes() {
    let rig = Rig::new(&["-i", "1", "--restart", "never", "--log", "ecs", "--name", "web"])
        .fixture("")
        .arg("say=plain text")
        .arg(r#"say={"level":40,"msg":"slow","time":1}"#)
        .start();
    assert_eq!(rig.wait(), 0);
    let lines = values(&rig.output().stdout);
    for (line, level, message) in [(&lines[0], "info", "plain text"), (&lines[1], "warn", "slow")] {
        humantime::parse_rfc3339(line["@timestamp"].as_str().unwrap()).unwrap();
        assert_eq!((&line["log.level"], &line["message"]), (&json!(level), &json!(message)));
        assert_eq!((&line["service.name"], &line["service.node.name"]), (&json!("web"), &json!("web-0")));
        assert!(line["process.pid"].is_u64() && line["ecs.version"].is_string(), "{line}");
        assert_eq!(line["rinit"]["worker"], json!(0));
    }
    let own = values(&rig.output().stderr);
    assert!(own.iter().all(|line| line["service.name"] == "rinit" && line["log.level"].is_string()), "{own:?}");
}

#[test]
fn rinits_own_lines_are_json_too() {
    let rig = Rig::new(&["-i", "1", "--log", "json", "--max-restarts", "1", "--backoff", "1ms..1ms"])
        .fixture("err=why exit=3")
        .start();
    assert_eq!(rig.wait(), 3);
    let own: Vec<Value> =
        values(&rig.output().stderr).into_iter().filter(|line| line["rinit"].get("app").is_none()).collect();
    assert!(own.iter().all(|line| line["rinit"]["time"].is_string() && line["message"].is_string()));
    let levels: Vec<&str> = own.iter().map(|line| line["rinit"]["level"].as_str().unwrap()).collect();
    assert!(["info", "warn", "error"].iter().all(|level| levels.contains(level)), "{levels:?}");
    // A report of several lines is one event, and so one object.
    assert!(own.iter().any(|line| line["message"].as_str().unwrap().contains("exit code 3")
        && line["message"].as_str().unwrap().contains("\n    why")));
}

#[test]
fn log_time_puts_the_time_in_front() {
    for (format, mark) in [("prefix", "fixture-0 | "), ("raw", "")] {
        let before = SystemTime::now() - std::time::Duration::from_millis(1);
        let rig = Rig::new(&["-i", "1", "--restart", "never", "--log", format, "--log-time"])
            .fixture("say=out err=err")
            .start();
        assert_eq!(rig.wait(), 0);
        let out = rig.output();
        for line in out.stdout.iter().chain(&out.stderr) {
            let (time, _) = line.split_once(' ').unwrap();
            let time = humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert!(before <= time && time <= SystemTime::now(), "{line:?}");
        }
        assert!(out.stdout[0].ends_with(&format!("Z {mark}out")), "{:?}", out.stdout);
        assert_eq!(out.count(&format!("Z {mark}err")), 1);
    }
}

#[test]
fn log_level_says_which_of_rinits_own_lines_are_written() {
    let own_lines = |level: &str| {
        let rig = Rig::new(&["-i", "1", "--log-level", level, "--max-restarts", "1", "--backoff", "1ms..1ms"])
            .fixture("say=out err=err exit=4")
            .start();
        assert_eq!(rig.wait(), 4);
        let out = rig.output();
        // Workers' lines have no level.
        assert_eq!((out.stdout.len(), out.count("fixture-0 | err")), (2, 2));
        out.stderr.into_iter().filter(|line| line.starts_with("rinit ")).collect::<Vec<String>>()
    };
    let levels = |level: &str| {
        let lines = own_lines(level);
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        (has("rinit     | error: "), has("rinit     | warning: "), has(") started"))
    };
    assert_eq!(levels("error"), (true, false, false));
    assert_eq!(levels("warn"), (true, true, false));
    assert_eq!(levels("info"), (true, true, true));
    let rig = Rig::new(&["-i", "1", "--log-level", "debug"]).fixture("up wait").start();
    rig.until("it is up", |out| out.has("up 0"));
    rig.signal("USR1");
    rig.until("the signal is told", |out| out.has("rinit     | debug: got SIGUSR1"));
}

#[test]
fn a_line_that_was_written_in_two_halves_is_one_line_of_the_report() {
    let rig = Rig::new(&["-i", "1", "--max-restarts", "1", "--backoff", "1ms..1ms"])
        .args(&["--", "sh", "-c", "printf 'one half' >&2; sleep 0.1; echo ' and the other' >&2; exit 3"])
        .start();
    assert_eq!(rig.wait(), 3);
    let out = rig.output();
    assert_eq!(out.count("sh-0  | one half and the other"), 2);
    assert_eq!(out.count("rinit |     one half and the other"), 2, "{:#?}", out.stderr);
}

fn values(lines: &[String]) -> Vec<Value> {
    let value = |line: &String| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let values: Vec<Value> = lines.iter().map(value).collect();
    assert!(values.iter().all(Value::is_object));
    values
}

#[test]
fn rinits_own_lines_hold_no_control_characters_of_names() {
    for format in ["prefix", "json"] {
        let program = "/no/such\u{1b}[2J\r\u{7}program";
        let rig = Rig::new(&["-i", "2", "--log", format, "--restart", "never", "--", program]).start();
        assert_eq!(rig.wait(), 127);
        let said = rig.output();
        assert!(said.has("/no/such [2J  program"), "{said:?}");
        assert!(!said.stderr.iter().any(|line| line.contains(['\u{1b}', '\r', '\u{7}'])), "{said:?}");
    }
}
