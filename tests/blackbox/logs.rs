//! Tests of the log: every line is whole, in order and marked, under floods, deaths and readers that do not read.

mod endings;
mod formats;
mod lines;
mod pressure;

use crate::harness::eventually;
use rinit::sys::bytes_waiting;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Reads a stream to its end in a thread of its own, byte for byte.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn of(mut stream: impl Read + Send + 'static) -> Reader {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut chunk = vec![0; 1 << 16];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                into.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Reader { bytes, thread }
    }

    /// What has come so far.
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// How much has come so far.
    fn len(&self) -> usize {
        self.bytes.lock().unwrap().len()
    }

    /// All of it, once rinit has ended.
    fn all(self) -> Vec<u8> {
        self.thread.join().unwrap();
        self.bytes.lock().unwrap().clone()
    }

    /// All of it as lines.
    fn lines(self) -> Vec<String> {
        lines_of(&self.all())
    }
}

/// Waits until nobody can write there. By the kernel's way with pages, a full pipe may hold but half of its 64 KiB.
fn eventually_full(pipe: impl AsFd) {
    eventually("so much waits there", || (bytes_waiting(pipe.as_fd()) > 30_000).then_some(()));
}

/// The lines of a text that ends with a newline.
fn lines_of(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end: {:?}", text.lines().last());
    text.lines().map(str::to_owned).collect()
}

/// Asserts that each worker's lines are `line 0`, `line 1`, … up to `count`, whole, and that there is nothing else.
fn assert_counted(lines: &[String], workers: u32, count: u64) {
    let mut next = vec![0; workers as usize];
    for line in lines {
        let worker = (0..workers).find(|worker| line.starts_with(&format!("fixture-{worker} | ")));
        let worker = worker.unwrap_or_else(|| panic!("no whole line: {line:?}")) as usize;
        assert_eq!(line, &format!("fixture-{worker} | line {}", next[worker]));
        next[worker] += 1;
    }
    assert_eq!(next, vec![count; workers as usize]);
}
