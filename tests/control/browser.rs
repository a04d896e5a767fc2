//! Tests the dashboard in the system's Chromium, driven by `browser.mjs`.
//!
//! Without a browser, Node or npm it is skipped with a message; where the variable `CI` is set, that is a failure.

use crate::harness::{Rig, eventually, free_port};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TOKEN: &str = "a-token-of-sufficient-length-0123456789";

#[test]
fn the_dashboard_shows_and_controls_the_workers() {
    let Some((browser, packages)) = tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let rig =
        Rig::new(&["-i", "2", "--name", "web", "--ready", "spawn", "--min-uptime", "50ms", "--stop-timeout", "2s"])
            .args(&["--socket", "off", "--web", &address, "--web-token-file"])
            .arg(&token)
            .args(&["--", "sh", "-c", "while :; do echo \"<b>bold</b> $((n+=1))\"; echo oh >&2; sleep 0.2; done"])
            .start();
    eventually("the dashboard is served", || TcpStream::connect(&address).ok());
    let script = here().join("browser.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(browser)
        .args([&format!("http://{address}/"), TOKEN])
        .arg(packages)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let own: Vec<_> = rig.output().stderr.into_iter().filter(|line| line.starts_with("rinit | ")).collect();
    assert!(output.status.success(), "{out}\n{err}\n--- rinit\n{}", own.join("\n"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
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
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
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

/// Prints why the test is skipped; where the variable `CI` is set, fails.
fn lacking<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    // Not by eprintln!, which is shown only for tests that fail.
    let _ = writeln!(std::io::stderr(), "{why}: the browser test is skipped");
    None
}
