//! The last lines of a stream, for the report of an exit. Pure.

use std::collections::VecDeque;

const LINES: usize = 10;
/// Of a longer line, the beginning is kept.
const LONGEST: usize = 512;

/// The last ten lines.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    /// The last line goes on.
    open: bool,
}

impl Tail {
    /// Takes bytes as they were read. Costs the same for any number of lines.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let newlines = memchr::memrchr_iter(b'\n', end).map(|at| at + 1).chain([0]);
        let start = newlines.take(LINES).last().unwrap_or(0);
        let mut goes_on = self.open && start == 0;
        for line in end.get(start..).unwrap_or_default().split(|byte| *byte == b'\n') {
            match self.lines.back_mut().filter(|_| std::mem::take(&mut goes_on)) {
                Some(last) => append(last, line),
                None => self.push(line),
            }
        }
        if !bytes.is_empty() {
            self.open = end.len() == bytes.len();
        }
    }

    fn push(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let mut kept = if self.lines.len() == LINES { self.lines.pop_front() } else { None }.unwrap_or_default();
        kept.clear();
        append(&mut kept, line);
        self.lines.push_back(kept);
    }

    /// The lines, oldest first.
    pub(super) fn text(&self) -> Vec<String> {
        self.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }
}

fn append(kept: &mut Vec<u8>, line: &[u8]) {
    let room = LONGEST.saturating_sub(kept.len());
    kept.extend_from_slice(line.get(..room).unwrap_or(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_lines_are_kept() {
        let mut tail = Tail::default();
        tail.take(b"one\n\ntwo\n");
        assert_eq!(tail.text(), ["one", "two"]);
        let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
        tail.take(many.as_bytes());
        assert_eq!(tail.text().first().map(String::as_str), Some("line 90"));
        assert_eq!(tail.text().len(), 10);
        tail.take(&[b'x'; 5000]);
        assert_eq!(tail.text().last().map(String::len), Some(LONGEST));
        tail.take(b"\n");
        tail.take(b"");
        assert_eq!(tail.text().len(), 10);
        tail.take(b"ha");
        tail.take(b"lf\nwhole\n");
        assert_eq!(tail.text().split_off(8), ["half", "whole"]);
    }
}
