//! Tests monit with a real rinit behind it.

use crate::terminal::Window;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A rinit with two workers called `web`.
struct Real {
    socket: PathBuf,
    rinit: Child,
    _folder: tempfile::TempDir,
}

impl Real {
    fn start() -> Real {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("rinit.sock");
        let app = r#"echo "hello from $RINIT_WORKER, pid $$"; trap 'exit 0' TERM; while :; do sleep 0.05; done"#;
        let rinit = Command::new(env!("CARGO_BIN_EXE_rinit"))
            .args(["-i", "2", "--name", "web", "--ready", "uptime", "--min-uptime", "100ms", "--", "sh", "-c", app])
            .env("RINIT_SOCKET", &socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wait = Command::new(env!("CARGO_BIN_EXE_rinit"))
            .args(["wait", "--timeout", "60s"])
            .env("RINIT_SOCKET", &socket)
            .output()
            .unwrap();
        assert!(wait.status.success(), "{wait:?}");
        Real { socket, rinit, _folder: folder }
    }

    fn end(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.rinit.id() as i32);
        if self.rinit.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = self.rinit.wait();
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn monit_shows_and_controls_a_real_rinit() {
    let mut real = Real::start();
    let Some(window) = Window::monit(real.socket.to_str().unwrap()) else { return };
    let screen = window.until_shown("hello from 0");
    for words in ["2/2 ready", "▸ web-0", "web-1", "ready", "memory", "gen 1", "events"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    window.press("j");
    let screen = window.until_shown("hello from 1");
    let pid_of = |screen: &str| {
        let row = screen.lines().find(|line| line.contains("▸ web-1")).unwrap_or_default();
        row.split_whitespace().nth(3).unwrap_or_default().to_owned()
    };
    let before = pid_of(&screen);
    window.press("r");
    window.until("another process", |screen| {
        let pid = pid_of(screen);
        pid != before && screen.contains(&format!("hello from 1, pid {pid}"))
    });
    window.press("s");
    window.until_shown("Stop web-1?");
    window.press("y");
    let is_stopped = |line: &str| line.contains("▸ web-1") && line.contains("stopped");
    window.until("stopped", |screen| screen.lines().any(is_stopped) && !screen.contains("Stop web-1?"));
    window.press("s");
    window.until("started again", |screen| screen.contains("2/2 ready"));
    window.press("+");
    window.until_shown("▸ web-1");
    window.until_shown("web-2");
    window.until_shown("3/3 ready");
    window.press("-");
    window.until("one fewer", |screen| screen.contains("2/2 ready"));
    // Both workers' lines together.
    window.press("a");
    window.until("both logs", |screen| screen.contains("hello from 0") && screen.contains("hello from 1"));
    window.press("R");
    window.until_shown("Reload all 2 workers?");
    window.press("y");
    window.until("new workers", |screen| screen.contains("gen 2") && screen.contains("2/2 ready"));
    real.end();
    let screen = window.until_restored(1);
    assert!(screen.contains("rinit has ended") || screen.contains("was lost"), "{screen}");
}
