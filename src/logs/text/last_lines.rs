//! Keeps the last lines of a stream for the report of an exit. Pure.

use super::limits::{LAST_LINES, MAX_LAST_LINE};
use std::collections::VecDeque;

/// The last lines of a stream, without empty ones.
#[derive(Debug, Default)]
pub struct LastLines {
    lines: VecDeque<Vec<u8>>,
    /// The last line has not ended.
    is_unfinished: bool,
}

impl LastLines {
    /// Takes bytes as they were read. The cost does not grow with the number of lines.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let newlines = memchr::memrchr_iter(b'\n', end).map(|at| at + 1).chain([0]);
        let start = newlines.take(LAST_LINES).last().unwrap_or(0);
        let mut is_continued = self.is_unfinished && start == 0;
        for line in end.get(start..).unwrap_or_default().split(|byte| *byte == b'\n') {
            match self.lines.back_mut().filter(|_| std::mem::take(&mut is_continued)) {
                Some(last) => append(last, line),
                None => self.push_line(line),
            }
        }
        if !bytes.is_empty() {
            self.is_unfinished = end.len() == bytes.len();
        }
    }

    fn push_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let mut kept = if self.lines.len() == LAST_LINES { self.lines.pop_front() } else { None }.unwrap_or_default();
        kept.clear();
        append(&mut kept, line);
        self.lines.push_back(kept);
    }

    /// The lines, oldest first.
    pub fn text(&self) -> Vec<String> {
        self.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }
}

fn append(kept: &mut Vec<u8>, line: &[u8]) {
    let room = MAX_LAST_LINE.saturating_sub(kept.len());
    kept.extend_from_slice(line.get(..room).unwrap_or(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_lines_are_kept() {
        let mut last = LastLines::default();
        last.push(b"one\n\ntwo\n");
        assert_eq!(last.text(), ["one", "two"]);
        let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
        last.push(many.as_bytes());
        assert_eq!(last.text().first().map(String::as_str), Some("line 90"));
        assert_eq!(last.text().len(), 10);
        last.push(&[b'x'; 5000]);
        assert_eq!(last.text().last().map(String::len), Some(MAX_LAST_LINE));
        last.push(b"\n");
        last.push(b"");
        assert_eq!(last.text().len(), 10);
        last.push(b"ha");
        last.push(b"lf\nwhole\n");
        assert_eq!(last.text().split_off(8), ["half", "whole"]);
    }
}
