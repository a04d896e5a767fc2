//! Tests the whole program in a real terminal: a tmux window in which a shell starts `rinit monit`.

use crate::server::Server;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// The time limit for a condition to come true.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Window {
    name: String,
    folder: tempfile::TempDir,
}

impl Window {
    /// None where there is no tmux.
    fn open(program: &str) -> Option<Window> {
        let has_tmux = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok();
        if !has_tmux {
            assert!(env::var_os("CI").is_none(), "tmux is missing: apt-get install tmux");
            eprintln!("skipped: tmux is missing");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rinit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let window = Window { name, folder: tempfile::tempdir().unwrap() };
        // Records the settings of the terminal before and after, and keeps the window open.
        let script = format!(
            "echo BEFORE; stty -g >{0}/before; {program}; echo \"ended with $?\"; stty -g >{0}/after; echo AFTER; exec sleep 1000",
            window.folder.path().display()
        );
        let arguments = ["-f", "/dev/null", "-u", "new-session", "-d", "-x", "100", "-y", "30", &script];
        window.tmux(&arguments);
        Some(window)
    }

    pub fn monit(socket: &str) -> Option<Window> {
        Window::open(&format!("{} monit --socket {socket}", env!("CARGO_BIN_EXE_rinit")))
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        // The user's own shell may be one that refuses to run.
        let output =
            Command::new("tmux").env("SHELL", "/bin/sh").args(["-L", &self.name]).args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(begin.elapsed() < CONDITION_TIMEOUT, "not so: {what}. The screen:\n{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn until_shown(&self, words: &str) -> String {
        self.until(words, |screen| screen.contains(words))
    }

    /// The process that is monit, a child of the shell.
    fn pid(&self) -> String {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        fs::read_to_string(children).unwrap().trim().to_owned()
    }

    /// The terminal is as it was: its settings, its cursor, and what was on it.
    #[track_caller]
    pub fn until_restored(&self, code: u8) -> String {
        let screen = self.until_shown("AFTER");
        assert!(screen.contains("BEFORE"), "what was there before is there again:\n{screen}");
        assert!(screen.contains(&format!("ended with {code}")), "{screen}");
        assert!(!screen.contains("log of"), "{screen}");
        let settings = |name: &str| fs::read_to_string(PathBuf::from(self.folder.path()).join(name)).unwrap();
        assert_eq!(settings("before"), settings("after"));
        let flags = "#{alternate_on} #{cursor_flag} #{wrap_flag}";
        assert_eq!(self.tmux(&["display-message", "-p", flags]).trim(), "0 1 1");
        screen
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.name, "kill-server"]).stderr(Stdio::null()).status();
    }
}

fn opened() -> Option<(Server, Window)> {
    let server = Server::start();
    let window = Window::monit(server.socket.to_str().unwrap())?;
    window.until_shown("line 3 of web-0");
    Some((server, window))
}

#[test]
fn workers_are_shown_and_keys_make_calls() {
    let Some((server, window)) = opened() else { return };
    let screen = window.until_shown("web-1 (pid 13) is ready");
    for words in ["rinit 0.1.0", "▸ web-0", "3/4 ready", "memory", "q quit"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    window.press("Down");
    window.until_shown("line 3 of web-1");
    window.press("r");
    window.until_shown("done: POST /v1/workers/web-1/restart");
    window.press("s");
    window.until_shown("Stop web-1?");
    window.press("y");
    window.until_shown("done: POST /v1/workers/web-1/stop");
    window.press("+");
    window.until_shown("done: POST /v1/scale");
    assert!(server.was_asked("POST /v1/scale {\"app\":\"web\",\"to\":\"+1\"}"));
    window.press("R");
    window.until_shown("Error: no database");
    window.press("Escape");
    window.until("the dialog is gone", |screen| !screen.contains("Error: no database"));
    for key in ["/", "3", "Enter"] {
        window.press(key);
    }
    window.until("only one line", |screen| screen.contains("line 3") && !screen.contains("line 2"));
    server.status.lock().unwrap().workers.truncate(1);
    window.until("the others are gone", |screen| screen.contains("▸ web-0") && !screen.contains("web-3"));
    window.press("q");
    window.until_restored(0);
}

#[test]
fn a_resized_terminal_is_filled() {
    let Some((_server, window)) = opened() else { return };
    window.tmux(&["resize-window", "-x", "132", "-y", "43"]);
    window.until("the keys are on the last line", |screen| {
        screen.lines().nth(42).is_some_and(|line| line.contains("q quit"))
    });
    window.tmux(&["resize-window", "-x", "50", "-y", "12"]);
    window.until("the keys are on the last line", |screen| {
        screen.lines().nth(11).is_some_and(|line| line.contains("q quit"))
    });
    window.press("C-c");
    window.until_restored(0);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (signal, code) in [("TERM", 1), ("INT", 0), ("HUP", 1), ("QUIT", 1)] {
        let Some((_server, window)) = opened() else { return };
        let kill = Command::new("kill").args(["-s", signal, &window.pid()]).status().unwrap();
        assert!(kill.success());
        let screen = window.until_restored(code);
        assert!(code == 0 || screen.contains(&format!("ended by SIG{signal}")), "{screen}");
    }
}

#[test]
fn monit_continues_after_it_was_stopped() {
    let Some((_server, window)) = opened() else { return };
    for signal in ["STOP", "CONT"] {
        Command::new("kill").args(["-s", signal, &window.pid()]).status().unwrap();
    }
    window.press("?");
    window.until_shown("any key closes this");
    window.press("x");
    window.press("q");
    window.until_restored(0);
}

#[test]
fn the_end_of_rinit_is_reported_on_the_restored_terminal() {
    let Some((server, window)) = opened() else { return };
    server.end();
    let screen = window.until_restored(1);
    assert!(screen.contains("rinit has ended") || screen.contains("was lost"), "{screen}");
}

#[test]
fn without_a_rinit_the_error_comes_at_once() {
    let Some(window) = Window::monit("/nowhere/rinit.sock") else { return };
    let screen = window.until_restored(2);
    assert!(screen.contains("no rinit answers") && screen.contains("/nowhere/rinit.sock"), "{screen}");
}

#[test]
fn without_a_terminal_the_error_names_docker_exec_it() {
    let server = Server::start();
    let output = Command::new(env!("CARGO_BIN_EXE_rinit"))
        .args(["monit", "--socket", server.socket.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("needs a terminal") && said.contains("docker exec -it"), "{said}");
}

#[test]
fn a_panic_restores_the_terminal_before_its_message() {
    let program = env::current_exe().unwrap();
    let test = "terminal::panics_on_the_screen --exact --ignored --nocapture --test-threads=1";
    let Some(window) = Window::open(&format!("RUST_BACKTRACE=0 {} {test}", program.display())) else { return };
    let screen = window.until_restored(101);
    assert!(screen.contains("it happened while drawing"), "{screen}");
}

/// Not a test: what the one above runs in a terminal.
#[test]
#[ignore = "run by another test"]
fn panics_on_the_screen() {
    let _screen = rinit::monit::screen::Screen::enter().unwrap();
    panic!("it happened while drawing");
}
