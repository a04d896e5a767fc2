//! Tests the dashboard in the system's Chromium, driven by `browser.mjs`.
//!
//! Without a browser, Node or npm it is skipped with a message; where the variable `CI` is set, that is a failure.

use crate::harness::{Rig, Running, eventually, free_port};
use crate::schema::{check, schema};
use nix::fcntl::{Flock, FlockArg};
use rinit::units;
use serde_json::Value;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const READ_TOKEN: &str = "a-token-for-reading-0123456789";
const CHANGE_TOKEN: &str = "a-token-for-changes-0123456789";

/// Lines with markup and of JSON, and lines on stderr. A reload takes long enough for a slow browser to show it.
const APP: &str = r#"trap 'sleep 1.5; exit' TERM; while :; do echo "<b>bold</b> $((n+=1))"; echo '{"level":"error","msg":"connection refused","host":"db-1"}'; echo oh >&2; sleep 0.2; done"#;

/// Two workers behind `--web`, with those options.
fn rinit(options: &[&str]) -> (Running, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let rig =
        Rig::new(&["-i", "2", "--name", "web", "--ready", "uptime", "--min-uptime", "600ms", "--stop-timeout", "8s"])
            .args(&["--socket", "off", "--web", &address])
            .args(options)
            .args(&["--", "sh", "-c", APP])
            .start();
    eventually("the dashboard is served", || TcpStream::connect(&address).ok());
    (rig, format!("http://{address}/"))
}

/// `RINIT_DRAW=1 cargo test --test control browser` draws the pictures in docs anew.
#[test]
fn the_dashboard_shows_and_controls_the_workers() {
    let Some((browser, packages)) = tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{token}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (read, change) = (file("read", READ_TOKEN), file("change", CHANGE_TOKEN));
    let (rig, address) = rinit(&["--web-token-file", &change, "--web-read-token-file", &read]);
    let (other, closed) = rinit(&[]);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let given = serde_json::json!({
        "address": address, "closed": closed, "readToken": READ_TOKEN, "changeToken": CHANGE_TOKEN,
        "pictures": std::env::var_os("RINIT_DRAW").map(|_| docs),
    });
    let output = Command::new("node")
        .arg(here().join("browser.mjs"))
        .arg(browser)
        .arg(packages)
        .arg(given.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let own: Vec<_> = rig.output().stderr.into_iter().filter(|line| line.starts_with("rinit | ")).collect();
    assert!(output.status.success(), "{out}\n{err}\n--- rinit\n{}", own.join("\n"));
    for rig in [rig, other] {
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
    }
}

/// Runs a script of ECMAScript in Node, and returns the JSON that it prints; `None`: there is no Node.
fn evaluate(script: &str) -> Option<Value> {
    program("node").or_else(|| lacking("there is no node"))?;
    let output = Command::new("node").args(["--input-type=module", "-e", script]).current_dir(here()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The page has functions of its own for what `src/units.rs` does for the verbs.
#[test]
fn the_dashboard_writes_times_sizes_and_shares_as_the_verbs_do() {
    let durations: Vec<u64> = vec![
        0,
        1,
        999,
        1000,
        1099,
        2190,
        9999,
        10_000,
        59_999,
        60_000,
        61_000,
        192_000,
        3_599_999,
        3_600_000,
        7_500_000,
        86_399_999,
        86_400_000,
        273_600_000,
        90_000_000_000,
    ];
    let sizes: Vec<u64> =
        vec![0, 1, 1023, 1024, 35_757_000, 1_048_524, 1_048_525, 1_048_570, 1 << 30, 1 << 50, 1 << 52];
    let shares = [0.0, 0.04, 0.05, 3.21, 9.96, 99.94, 99.95, 99.96, 100.4, 234.4, 6400.0];
    let given = serde_json::json!({ "durations": durations, "sizes": sizes, "shares": shares });
    let script = format!(
        "{}\nconst given = {given};\nconsole.log(JSON.stringify({{ durations: given.durations.map(duration), \
         sizes: given.sizes.map(size), shares: given.shares.map(percent), counts: [0, 1, 2].map(one => count(one, \"line\")) }}))",
        include_str!("../../src/control/dashboard/format.js")
    );
    let Some(written) = evaluate(&script) else { return };
    let expected = serde_json::json!({
        "durations": durations.into_iter().map(units::milliseconds).collect::<Vec<_>>(),
        "sizes": sizes.into_iter().map(units::size).collect::<Vec<_>>(),
        "shares": shares.iter().map(|share| units::percent(*share)).collect::<Vec<_>>(),
        "counts": (0u32..3).map(|number| units::count(number, "line")).collect::<Vec<_>>(),
    });
    assert_eq!(written, expected);
}

#[test]
fn the_dashboard_finds_the_level_of_a_line_where_it_names_one() {
    let lines = [
        ("2026-08-01 12:00:00,123 ERROR in app: no database", "error"),
        ("12:00:00.123 [warn] slow", "warn"),
        ("Error: listen EADDRINUSE", "error"),
        ("warning: the cache misses: 212 of 300", "warn"),
        ("ts=12 level=info msg=\"no error at all\"", "info"),
        ("[2026-08-01T12:00:00Z] WARNING: x", "warn"),
        ("FATAL", "error"),
        ("DEBUG resolving", "debug"),
        ("request finished without error in 3 ms", ""),
        ("GET /error 200", ""),
        ("INFO-1 is a name", ""),
        ("level=high water=2", ""),
        ("level=constructor", ""),
        ("{\"level\":50,\"msg\":\"x\"}", "error"),
        ("{\"severity\":\"NOTICE\",\"message\":\"x\"}", "info"),
        ("{\"log.level\":\"warning\"}", "warn"),
        ("{\"log\":{\"level\":\"debug\"}}", "debug"),
        ("{\"no\":\"level\"}", ""),
        ("{ not JSON ERROR", "error"),
    ];
    let given = serde_json::json!(lines.map(|(line, _)| line));
    let script = format!(
        "{}\nconst of = line => (parseJson(line) ?? levelOfText(line)).level;\n\
         console.log(JSON.stringify([...{given}.map(of), withoutEscapes(\"\\x1b[1;31mred\\x1b[0m\\x1b]0;title\\x07!\")]))",
        include_str!("../../src/control/dashboard/lines.js")
    );
    let Some(found) = evaluate(&script) else { return };
    let expected: Vec<&str> = lines.iter().map(|(_, level)| *level).chain(["red!"]).collect();
    assert_eq!(found, serde_json::json!(expected));
}

/// The answers that the browser test prepares have the shapes that rinit's own have.
#[test]
fn the_prepared_answers_are_as_the_api_is_described() {
    let script = "import { answers } from './answers.mjs'; console.log(JSON.stringify(answers()))";
    let Some(answers) = evaluate(script) else { return };
    for (path, name) in [("/v1/access", "Access"), ("/v1/status", "Status"), ("/v1/history", "History")] {
        let answer: Value = serde_json::from_str(answers[path].as_str().unwrap()).unwrap();
        check(schema(name), &answer, path).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

/// The browser, and the folder `node_modules` of its driver.
fn tools() -> Option<(PathBuf, PathBuf)> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let Some(browser) = names.iter().find_map(|name| program(name)) else {
        return lacking(&format!("there is no {}", names.join(", ")));
    };
    for name in ["node", "npm"] {
        if program(name).is_none() {
            return lacking(&format!("there is no {name}"));
        }
    }
    match packages() {
        Ok(folder) => Some((browser, folder)),
        Err(why) => lacking(&format!("the browser's driver cannot be installed: {why}")),
    }
}

/// Installs the driver once, under a lock that other test processes wait for.
fn packages() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let text = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&folder).map_err(text)?;
    let lock = File::create(folder.join(".lock")).map_err(text)?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let wanted = fs::read(here().join("package-lock.json")).unwrap();
    if fs::read(folder.join(".done")).ok().as_ref() != Some(&wanted) {
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(here().join(name), folder.join(name)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder).stdin(Stdio::null());
        let output = npm.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        fs::write(folder.join(".done"), wanted).unwrap();
    }
    Ok(folder.join("node_modules"))
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control")
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn lacking<T>(why: &str) -> Option<T> {
    crate::harness::lacking(why);
    None
}
