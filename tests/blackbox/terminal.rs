//! Tests the terminal's foreground and its keys.
//!
//! As under `docker run -it`, rinit leads a session whose terminal is its standard input, here a pseudo-terminal whose
//! other end is the test's. Standard output stays a pipe, so that what the child says can be waited for.

use crate::harness::{Rig, Running, children, eventually, status_field};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

pub const IN_FRONT: [&str; 2] = ["setsid", "--ctty"];

pub struct Terminal {
    keyboard: PtyMaster,
    name: String,
}

impl Terminal {
    pub fn new() -> Terminal {
        // Closed in what other tests start at the same time, for which it would never hang up.
        let keyboard = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname_r(&keyboard).unwrap();
        Terminal { keyboard, name }
    }

    /// The end for a program.
    pub fn line(&self) -> File {
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(&self.name).unwrap()
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self) {
        // One number, since stty makes a change of its own of each.
        let done = Command::new("stty").args(["rows", "41"]).stdin(self.line()).status().unwrap();
        assert!(done.success());
    }
}

pub const CTRL_C: &str = "\x03";
pub const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// rinit as PID 1 with a terminal.
fn start(rig: Rig) -> (Running, Terminal) {
    let terminal = Terminal::new();
    let rig = rig.stdin(terminal.line()).through(&IN_FRONT).start();
    rig.until("it is up", |out| out.has("up "));
    (rig, terminal)
}

/// rinit below a shell that has the terminal and tells, when rinit has ended, how it is itself.
fn below_a_shell(rig: Rig, terminal: &Terminal, script: &str) -> Running {
    let script = format!("{script}; \"$FIXTURE\" say=after state; exec tail -f /dev/null");
    let rig = rig.env("FIXTURE", crate::harness::fixture().to_str().unwrap()).stdin(terminal.line());
    rig.through(&[IN_FRONT[0], IN_FRONT[1], "sh", "-c", &script]).start()
}

/// How often exactly this line was printed.
fn said(rig: &Running, line: &str) -> usize {
    rig.output().stdout.iter().filter(|said| *said == line).count()
}

/// The value behind that word in the n-th state that the fixture has told.
fn state(rig: &Running, n: usize, word: &str) -> String {
    rig.until("it told its state", |out| out.count("state pid") > n);
    let line = rig.output().stdout.into_iter().filter(|line| line.starts_with("state ")).nth(n).unwrap();
    line.split(' ').skip_while(|part| *part != word).nth(1).unwrap().to_owned()
}

/// Sends two signals, each when the one before has arrived: what came before is told by then.
fn send_and_await_two_signals(rig: &Running, pid: i32) {
    for times in [1, 2] {
        rig.signal_pid(pid, "64");
        rig.until("it answers", |out| out.count("got SIGRTMIN+30") == times);
    }
}

#[test]
fn the_child_has_the_foreground_under_every_name() {
    for name in ["rinit", "tini", "docker-init"] {
        let (rig, _terminal) = start(Rig::new(&["--"]).called(name).fixture("state up wait"));
        assert_eq!(state(&rig, 0, "foreground"), state(&rig, 0, "pid"), "{name}");
        assert_eq!(state(&rig, 0, "pgid"), state(&rig, 0, "pid"), "{name}");
        assert_ne!(state(&rig, 0, "sid"), state(&rig, 0, "pid"), "{name}");
    }
}

#[test]
fn the_keys_reach_the_child_and_not_rinit() {
    let (rig, mut terminal) = start(Rig::new(&[]).fixture("signals"));
    for (keys, signal) in [(CTRL_C, "SIGINT"), (CTRL_BACKSLASH, "SIGQUIT")] {
        terminal.press(keys);
        rig.until("it reached the child", |out| out.has(&format!("got {signal}")));
    }
    // Had rinit got them too, the child would have each a second time.
    send_and_await_two_signals(&rig, rig.pid());
    assert_eq!((said(&rig, "got SIGINT"), said(&rig, "got SIGQUIT")), (1, 1));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn ctrl_c_ends_a_child_without_a_handler_with_130() {
    let (rig, mut terminal) = start(Rig::new(&["--"]).fixture("up wait"));
    terminal.press(CTRL_C);
    assert_eq!(rig.wait(), 130);
}

#[test]
fn ctrl_z_stops_the_child_and_sigcont_to_rinit_has_it_go_on() {
    let (rig, mut terminal) = start(Rig::new(&["--"]).fixture("up wait"));
    let child = rig.workers()[0];
    let is_stopped = |pid| status_field(pid, "State").starts_with('T');
    terminal.press(CTRL_Z);
    eventually("the child is stopped", || is_stopped(child).then_some(()));
    assert!(!is_stopped(rig.pid()));
    rig.signal("CONT");
    eventually("the child goes on", || (!is_stopped(child)).then_some(()));
    terminal.press(CTRL_C);
    assert_eq!(rig.wait(), 130);
}

#[test]
fn a_change_of_the_windows_size_reaches_the_child_once() {
    let (rig, terminal) = start(Rig::new(&[]).fixture("signals"));
    terminal.resize();
    rig.until("it reached the child", |out| out.has("got SIGWINCH"));
    send_and_await_two_signals(&rig, rig.pid());
    assert_eq!(said(&rig, "got SIGWINCH"), 1);
}

#[test]
fn the_child_reads_the_terminal() {
    let (rig, mut terminal) = start(Rig::new(&["--", "sh", "-c", "echo up now; read line; echo \"read $line\""]));
    terminal.press("hello\n");
    assert_eq!((rig.wait(), said(&rig, "read hello")), (0, 1));
}

#[test]
fn a_shell_below_it_has_job_control() {
    let terminal = Terminal::new();
    let rig = Rig::new(&["--", "sh", "-i"]).stdin(terminal.line()).through(&IN_FRONT).start();
    let mut terminal = terminal;
    terminal.press("echo flags=$-\n");
    rig.until("it answers", |out| out.stdout.iter().any(|line| line.contains("flags=")));
    let out = rig.output();
    let flags = out.stdout.iter().find_map(|line| line.split("flags=").nth(1)).unwrap();
    assert!(flags.contains('m') && !out.has("job control"), "{out:?}");
    terminal.press("exit 5\n");
    assert_eq!(rig.wait(), 5);
}

#[test]
fn a_terminal_that_hangs_up_is_a_sighup_for_the_child() {
    let (rig, terminal) = start(Rig::new(&[]).fixture("signals"));
    drop(terminal);
    rig.until("it reached the child", |out| out.has("got SIGHUP"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

/// rinit in a session without a terminal, with one as its standard input.
fn without_a_terminal_of_its_own(name: &str) -> Running {
    let terminal = Terminal::new();
    let rig = Rig::new(&["--"]).called(name).fixture("state on-term=exit=5 up wait");
    let rig = rig.stdin(terminal.line()).through(&["setsid"]).start();
    rig.until("it is up", |out| out.has("up "));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 5, "{name}");
    rig
}

#[test]
fn a_terminal_that_is_not_its_sessions_is_not_fatal() {
    for name in ["rinit", "tini"] {
        assert_eq!(state(&without_a_terminal_of_its_own(name), 0, "foreground"), "none");
    }
}

#[test]
fn as_dumb_init_the_childs_session_takes_a_terminal_without_a_session() {
    let rig = without_a_terminal_of_its_own("dumb-init");
    assert_eq!(state(&rig, 0, "foreground"), state(&rig, 0, "pid"));
}

#[test]
fn in_the_background_it_takes_nothing_from_the_foreground() {
    for name in ["rinit", "tini"] {
        let terminal = Terminal::new();
        let rig = Rig::new(&["--"]).called(name).fixture("state exit=6");
        let rig = below_a_shell(rig, &terminal, "set -m; \"$0\" \"$@\" & wait $!; echo ended $?; set +m");
        rig.until("it has ended", |out| out.has("ended 6"));
        rig.until("the shell goes on", |out| out.has("after"));
        let foreground = state(&rig, 0, "foreground");
        assert_ne!(foreground, state(&rig, 0, "pgid"), "{name}");
        // The shell led a group of its own in front all the time, and has stayed there.
        assert_eq!(foreground, state(&rig, 1, "foreground"), "{name}");
        assert_eq!(foreground, state(&rig, 1, "pgid"), "{name}");
    }
}

#[test]
fn after_the_childs_end_the_shell_has_the_foreground_again() {
    for (words, expected) in [("state exit=6", "ended 6"), ("state crash=KILL", "ended 137")] {
        let terminal = Terminal::new();
        let rig = below_a_shell(Rig::new(&["--"]).fixture(words), &terminal, "\"$0\" \"$@\"; echo ended $?");
        rig.until("it has ended", |out| out.has(expected));
        assert_eq!(state(&rig, 0, "foreground"), state(&rig, 0, "pid"), "{words}");
        assert_eq!(state(&rig, 1, "foreground"), state(&rig, 1, "pgid"), "{words}");
    }
    let terminal = Terminal::new();
    let rig = below_a_shell(Rig::new(&["no-such-program"]), &terminal, "\"$0\" \"$@\"; echo ended $?");
    rig.until("it has ended", |out| out.has("ended 127"));
    assert_eq!(state(&rig, 0, "foreground"), state(&rig, 0, "pgid"));
}

#[test]
fn ctrl_z_below_a_shell_stops_the_child_alone() {
    let mut terminal = Terminal::new();
    let rig = below_a_shell(Rig::new(&["--"]).fixture("up wait"), &terminal, "\"$0\" \"$@\"; echo ended $?");
    rig.until("it is up", |out| out.has("up "));
    let itself = children(rig.pid())[0];
    let child = children(itself)[0];
    terminal.press(CTRL_Z);
    eventually("it is stopped", || status_field(child, "State").starts_with('T').then_some(()));
    eventually("it goes on", || {
        // No shell waits here until rinit has stopped: its stop discards a SIGCONT that came before it (signal(7)).
        rig.signal_pid(itself, "CONT");
        (!status_field(child, "State").starts_with('T')).then_some(())
    });
    terminal.press(CTRL_C);
    rig.until("it has ended", |out| out.has("ended 130"));
}

#[test]
fn as_dumb_init_the_childs_session_has_the_terminal_and_no_hangup() {
    let terminal = Terminal::new();
    let rig = Rig::new(&[]).called("dumb-init").fixture("state signals").stdin(terminal.line()).through(&IN_FRONT);
    let rig = rig.start();
    let mut terminal = terminal;
    rig.until("it is up", |out| out.has("up "));
    assert_eq!(state(&rig, 0, "sid"), state(&rig, 0, "pid"));
    assert_eq!(state(&rig, 0, "foreground"), state(&rig, 0, "pid"));
    terminal.press(CTRL_C);
    rig.until("it reached the child", |out| out.has("got SIGINT"));
    send_and_await_two_signals(&rig, rig.pid());
    assert_eq!((said(&rig, "got SIGHUP"), said(&rig, "got SIGCONT"), said(&rig, "got SIGINT")), (0, 0, 1));
    rig.signal("HUP");
    rig.until("a later hangup is passed on", |out| out.has("got SIGHUP"));
}

#[test]
fn as_dumb_init_below_a_shell_that_keeps_the_terminal_it_works() {
    let terminal = Terminal::new();
    let rig = Rig::new(&[]).called("dumb-init").fixture("state exit=6");
    let rig = below_a_shell(rig, &terminal, "\"$0\" \"$@\"; echo ended $?");
    rig.until("it has ended", |out| out.has("ended 6"));
    assert_eq!(state(&rig, 0, "sid"), state(&rig, 0, "pid"));
    assert_eq!(state(&rig, 1, "foreground"), state(&rig, 1, "pgid"));
}
