//! Splits a stream of bytes into lines. Pure.

use super::limits::{MAX_JSON_OBJECT, MAX_PART, RETAINED_LINE_BUFFER};

/// A piece of a stream that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment<'a> {
    /// Whole lines, each with its newline.
    Lines(&'a [u8]),
    /// A line or a part of one, without its newline.
    Part {
        bytes: &'a [u8],
        /// The line begins here.
        is_first: bool,
        /// The line ends here.
        is_last: bool,
    },
}

/// The unfinished line of a stream.
#[derive(Debug, Default)]
pub struct LineSplitter {
    unfinished: Vec<u8>,
    /// Part of the line is passed on already.
    is_midway: bool,
    /// A line that begins as a JSON object is kept whole up to [`MAX_JSON_OBJECT`].
    keeps_objects: bool,
}

impl LineSplitter {
    pub fn new(keeps_objects: bool) -> LineSplitter {
        LineSplitter { unfinished: Vec::new(), is_midway: false, keeps_objects }
    }

    /// Takes the next bytes of the stream. Emits every line that ends in them, and parts of one that grows too long.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(Fragment)) {
        let mut rest = bytes;
        if (self.is_midway || !self.unfinished.is_empty())
            && let Some(end) = memchr::memchr(b'\n', bytes)
        {
            self.unfinished.extend_from_slice(bytes.get(..end).unwrap_or_default());
            let is_first = !std::mem::take(&mut self.is_midway);
            emit(Fragment::Part { bytes: &self.unfinished, is_first, is_last: true });
            self.unfinished.clear();
            self.unfinished.shrink_to(RETAINED_LINE_BUFFER);
            rest = bytes.get(end + 1..).unwrap_or_default();
        }
        let (lines, begun) = rest.split_at(memchr::memrchr(b'\n', rest).map_or(0, |at| at + 1));
        if !lines.is_empty() {
            emit(Fragment::Lines(lines));
        }
        self.unfinished.extend_from_slice(begun);
        if self.is_too_long() {
            let (part, rest) = self.unfinished.split_at(whole_characters(&self.unfinished));
            emit(Fragment::Part { bytes: part, is_first: !self.is_midway, is_last: false });
            self.is_midway = true;
            self.unfinished = rest.to_vec();
        }
    }

    /// Ends the unfinished line, if there is one: the stream has ended, or others have waited long enough.
    pub fn end(&mut self, mut emit: impl FnMut(Fragment)) {
        let is_midway = std::mem::take(&mut self.is_midway);
        if is_midway || !self.unfinished.is_empty() {
            emit(Fragment::Part { bytes: &self.unfinished, is_first: !is_midway, is_last: true });
        }
        self.unfinished = Vec::new();
    }

    /// True between the first and the last part of a line.
    pub fn is_midway(&self) -> bool {
        self.is_midway
    }

    fn is_too_long(&self) -> bool {
        let may_be_object =
            self.keeps_objects && !self.is_midway && self.unfinished.trim_ascii_start().starts_with(b"{");
        let limit = if may_be_object { MAX_JSON_OBJECT + 1 } else { MAX_PART };
        self.unfinished.len() >= limit
    }
}

/// The length of the bytes without a UTF-8 character at their end that is cut in two.
fn whole_characters(bytes: &[u8]) -> usize {
    let length = |lead: u8| match lead {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    let lead = bytes.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80);
    match lead.map(|behind| (behind + 1, bytes.len() - behind - 1)) {
        Some((there, at)) if bytes.get(at).is_some_and(|lead| length(*lead) > there) => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The parts of lines that come out: bytes, whether the line begins there, and whether it ends there.
    fn split(mut lines: LineSplitter, chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut parts = Vec::new();
        let mut emit = |fragment: Fragment| match fragment {
            Fragment::Lines(text) => {
                let whole = text.strip_suffix(b"\n").expect("whole lines end with a newline");
                parts.extend(whole.split(|byte| *byte == b'\n').map(|line| (line.to_vec(), true, true)));
            }
            Fragment::Part { bytes, is_first, is_last } => parts.push((bytes.to_vec(), is_first, is_last)),
        };
        chunks.iter().for_each(|chunk| lines.feed(chunk, &mut emit));
        lines.end(&mut emit);
        parts
    }

    fn split_text(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        split(LineSplitter::new(false), chunks)
    }

    #[test]
    fn lines_are_joined_across_reads() {
        let whole = |text: &str| (text.as_bytes().to_vec(), true, true);
        assert_eq!(split_text(&[b"a\nb", b"c\n\n", b"d"]), [whole("a"), whole("bc"), whole(""), whole("d")]);
        assert_eq!(split_text(&[b""]), []);
        assert_eq!(split_text(&[b"\xff\x00\n"]), [(vec![0xff, 0], true, true)]);
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let part = vec![b'x'; MAX_PART];
        let parts = split_text(&[&part, &part, b"end\nnext\n"]);
        let shape: Vec<_> = parts.iter().map(|(bytes, first, last)| (bytes.len(), *first, *last)).collect();
        assert_eq!(shape, [(MAX_PART, true, false), (MAX_PART, false, false), (3, false, true), (4, true, true)]);
    }

    #[test]
    fn a_long_line_is_not_cut_inside_a_character() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"€".repeat(MAX_PART / 2);
            let parts = split_text(&[text.as_bytes()]);
            assert!(parts.iter().all(|(bytes, ..)| std::str::from_utf8(bytes).is_ok()), "shifted by {shift}");
        }
        assert_eq!(whole_characters(&[b'x', 0x80, 0x80, 0x80, 0x80]), 5, "no UTF-8 at all");
    }

    #[test]
    fn a_line_that_begins_as_an_object_is_kept_whole_up_to_its_limit() {
        let shape = |length: usize, keeps_objects: bool| {
            let line = format!(" {{{}\n", "x".repeat(length - 2));
            let chunks: Vec<&[u8]> = line.as_bytes().chunks(1000).collect();
            let parts = split(LineSplitter::new(keeps_objects), &chunks);
            (parts.len(), parts.iter().map(|(bytes, ..)| bytes.len()).sum::<usize>())
        };
        assert_eq!(shape(MAX_JSON_OBJECT, true), (1, MAX_JSON_OBJECT));
        assert_eq!(shape(MAX_JSON_OBJECT + 2000, true), (2, MAX_JSON_OBJECT + 2000));
        assert_eq!(shape(MAX_JSON_OBJECT, false), (4, MAX_JSON_OBJECT));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added_however_the_bytes_are_cut(
            text in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let mut chunks = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let mut joined = Vec::new();
            for (bytes, _, is_last) in split_text(&chunks) {
                joined.extend_from_slice(&bytes);
                if is_last { joined.push(b'\n'); }
            }
            let mut expected = text.clone();
            if !expected.is_empty() && !expected.ends_with(b"\n") { expected.push(b'\n'); }
            prop_assert_eq!(joined, expected);
        }
    }
}
