//! `docker run -it`: a terminal, made by `script(1)`, with keys pressed in it.

use crate::engine::{PATIENCE, engine, run_words};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

#[test]
fn ctrl_c_reaches_the_child_in_init_mode() {
    let Some(engine) = engine() else { return };
    let app = "trap \"echo interrupted; exit 5\" INT; echo up; while :; do sleep 0.05; done";
    let mut terminal = Terminal::open(&engine.busybox, &["--", "sh", "-c", app]);
    terminal.until("up");
    terminal.press(CTRL_C);
    assert_eq!(terminal.wait(), 5);
    terminal.until("interrupted");
}

#[test]
fn ctrl_c_stops_the_supervisor_in_order() {
    let Some(engine) = engine() else { return };
    let app = "trap \"echo bye; exit 0\" TERM; echo up; while :; do sleep 0.05; done";
    let mut terminal = Terminal::open(&engine.busybox, &["-i", "1", "--", "sh", "-c", app]);
    terminal.until("| up");
    terminal.press(CTRL_C);
    assert_eq!(terminal.wait(), 0);
    terminal.until("| bye");
}

#[test]
fn a_shell_under_rinit_has_the_terminal_with_its_job_control() {
    let Some(engine) = engine() else { return };
    let mut terminal = Terminal::open(&engine.busybox, &["sh"]);
    terminal.until("# ");
    // Typed with a gap, so that the echo of what was typed is not taken for the answer.
    // Said by the program that has the foreground: the shell itself would take a Ctrl-C just before it starts one.
    terminal.type_line("sh -c \"echo 'under 'way; exec sleep 1000\"");
    terminal.until("under way");
    terminal.press(CTRL_C);
    terminal.type_line("echo 'still 'here");
    terminal.until("still here");
    assert!(!terminal.seen().contains("job control turned off"), "{}", terminal.seen());
    terminal.type_line("exit 6");
    assert_eq!(terminal.wait(), 6);
}

#[test]
fn ctrl_d_ends_a_child_that_reads_the_terminal() {
    let Some(engine) = engine() else { return };
    let mut terminal = Terminal::open(&engine.busybox, &["sh", "-c", "echo up; cat; echo 'cat 'ended"]);
    terminal.until("up");
    terminal.press(CTRL_D);
    terminal.until("cat ended");
    assert_eq!(terminal.wait(), 0);
}

/// A container with a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Terminal {
    fn open(image: &str, command: &[&str]) -> Terminal {
        let words = run_words(&["-it"], image, command);
        let quoted: Vec<_> = words.iter().map(|word| shell_words::quote(word)).collect();
        let mut child = Command::new("timeout")
            .args(["--foreground", "180", "script", "-qec", &format!("docker {}", quoted.join(" ")), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let seeing = seen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                seeing.0.lock().unwrap().extend_from_slice(&bytes[..count]);
                seeing.1.notify_all();
            }
        });
        Terminal { child, keys, seen }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap()).into_owned()
    }

    /// Waits until that is on the screen.
    fn until(&self, text: &str) {
        let seen = self.seen.0.lock().unwrap();
        let not_there = |seen: &mut Vec<u8>| !String::from_utf8_lossy(seen).contains(text);
        let (seen, timeout) = self.seen.1.wait_timeout_while(seen, PATIENCE, not_there).unwrap();
        let screen = String::from_utf8_lossy(&seen).into_owned();
        drop(seen);
        assert!(!timeout.timed_out(), "{text:?} is not on the screen:\n{screen}");
    }

    fn press(&mut self, key: u8) {
        self.keys.write_all(&[key]).unwrap();
        self.keys.flush().unwrap();
    }

    fn type_line(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// The exit code of `docker run`.
    fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The container itself goes with the others of this run.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
