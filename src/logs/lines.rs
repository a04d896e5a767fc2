//! Splitting a stream of bytes into lines. Pure.

/// A line longer than this is passed on in parts.
pub(super) const LONGEST: usize = 64 * 1024;

/// A piece of a stream: bytes without their newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether the line begins here.
    pub(super) first: bool,
    /// Whether the line ends here.
    pub(super) last: bool,
}

/// The unfinished line of a stream.
#[derive(Debug, Default)]
pub(super) struct Lines {
    kept: Vec<u8>,
    /// Part of the line is passed on already.
    midway: bool,
}

impl Lines {
    /// Takes the next bytes of the stream and gives every line that ends in them, and parts of one that grows too long.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut give: impl FnMut(Piece)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
            let first = !std::mem::take(&mut self.midway);
            if self.kept.is_empty() {
                give(Piece { bytes: line, first, last: true });
            } else {
                self.kept.extend_from_slice(line);
                give(Piece { bytes: &self.kept, first, last: true });
                self.kept.clear();
                self.kept.shrink_to(LONGEST / 16);
            }
            bytes = rest;
        }
        self.kept.extend_from_slice(bytes);
        if self.kept.len() >= LONGEST {
            let (part, rest) = self.kept.split_at(whole_characters(&self.kept));
            give(Piece { bytes: part, first: !self.midway, last: false });
            self.midway = true;
            self.kept = rest.to_vec();
        }
    }

    /// Ends the line that is unfinished, if there is one: the stream has ended, or others have waited long enough.
    pub(super) fn end(&mut self, mut give: impl FnMut(Piece)) {
        let midway = std::mem::take(&mut self.midway);
        if midway || !self.kept.is_empty() {
            give(Piece { bytes: &self.kept, first: !midway, last: true });
        }
        self.kept = Vec::new();
    }

    /// Whether part of a line is passed on, and the rest is not.
    pub(super) fn is_midway(&self) -> bool {
        self.midway
    }
}

/// Where to cut, so that a character of UTF-8 at the end is not cut in two.
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

    fn run(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut lines = Lines::default();
        let mut pieces = Vec::new();
        let mut give = |piece: Piece| pieces.push((piece.bytes.to_vec(), piece.first, piece.last));
        chunks.iter().for_each(|chunk| lines.feed(chunk, &mut give));
        lines.end(&mut give);
        pieces
    }

    #[test]
    fn lines_are_put_together_across_reads() {
        let whole = |text: &str| (text.as_bytes().to_vec(), true, true);
        assert_eq!(run(&[b"a\nb", b"c\n\n", b"d"]), [whole("a"), whole("bc"), whole(""), whole("d")]);
        assert_eq!(run(&[b""]), []);
        assert_eq!(run(&[b"\xff\x00\n"]), [(vec![0xff, 0], true, true)]);
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let part = vec![b'x'; LONGEST];
        let pieces = run(&[&part, &part, b"end\nnext\n"]);
        let shape: Vec<_> = pieces.iter().map(|(bytes, first, last)| (bytes.len(), *first, *last)).collect();
        assert_eq!(shape, [(LONGEST, true, false), (LONGEST, false, false), (3, false, true), (4, true, true)]);
    }

    #[test]
    fn a_long_line_is_not_cut_inside_a_character() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"€".repeat(LONGEST / 2);
            let pieces = run(&[text.as_bytes()]);
            assert!(pieces.iter().all(|(bytes, ..)| std::str::from_utf8(bytes).is_ok()), "shifted by {shift}");
        }
        assert_eq!(whole_characters(&[b'x', 0x80, 0x80, 0x80, 0x80]), 5, "no UTF-8 at all");
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
            let mut together = Vec::new();
            for (bytes, _, last) in run(&chunks) {
                together.extend_from_slice(&bytes);
                if last { together.push(b'\n'); }
            }
            let mut expected = text.clone();
            if !expected.is_empty() && !expected.ends_with(b"\n") { expected.push(b'\n'); }
            prop_assert_eq!(together, expected);
        }
    }
}
