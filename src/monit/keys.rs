//! What the terminal sends, as keys.

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as they are called on a keyboard
pub enum Key {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Tab,
    Backspace,
    Escape,
    CtrlC,
}

/// Puts together what arrives in pieces.
#[derive(Default)]
pub struct Keys {
    pending: Vec<u8>,
}

/// A sequence that is longer is none.
const LONGEST: usize = 32;

impl Keys {
    /// The keys that these bytes complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = self.pending.as_slice();
        while let Some((key, length)) = first(rest) {
            keys.extend(key);
            rest = rest.get(length..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        keys
    }

    /// Whether more bytes may follow: an escape key is also how an arrow begins.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing has followed.
    pub fn give_up(&mut self) -> Option<Key> {
        let was = std::mem::take(&mut self.pending);
        (was == [ESCAPE]).then_some(Key::Escape)
    }
}

const ESCAPE: u8 = 0x1b;

/// The first key and how many bytes it is; no key for what has no meaning here. `None`: it is not complete.
fn first(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match *bytes {
        [] | [ESCAPE] | [ESCAPE, b'O'] => None,
        [ESCAPE, b'[', ref rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                return (rest.len() > LONGEST).then_some((None, bytes.len()));
            };
            let (parameters, last) = (rest.get(..end)?, *rest.get(end)?);
            Some((sequence(parameters, last), 2 + end + 1))
        }
        [ESCAPE, b'O', last, ..] => Some((sequence(&[], last), 3)),
        [ESCAPE, ESCAPE, ..] => Some((Some(Key::Escape), 1)),
        // With Alt: not what the key means alone.
        [ESCAPE, ..] => Some((None, 2)),
        [3, ..] => Some((Some(Key::CtrlC), 1)),
        [b'\r' | b'\n', ..] => Some((Some(Key::Enter), 1)),
        [b'\t', ..] => Some((Some(Key::Tab), 1)),
        [8 | 0x7f, ..] => Some((Some(Key::Backspace), 1)),
        [0..0x20, ..] => Some((None, 1)),
        [0x20..0x7f, ..] => Some((bytes.first().map(|byte| Key::Char(char::from(*byte))), 1)),
        [lead, ..] => {
            let length = match lead {
                0xc2..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf5 => 4,
                _ => return Some((None, 1)),
            };
            let text = bytes.get(..length)?;
            match std::str::from_utf8(text).ok().and_then(|text| text.chars().next()) {
                Some(char) => Some((Some(Key::Char(char)), length)),
                None => Some((None, 1)),
            }
        }
    }
}

/// `ESC [ parameters last`, as xterm and what imitates it have them.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    Some(match (parameters, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (_, b'M') => Key::Enter,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pieces: &[&[u8]]) -> Vec<Key> {
        let mut keys = Keys::default();
        pieces.iter().flat_map(|piece| keys.feed(piece)).collect()
    }

    #[test]
    fn keys_are_read_however_they_are_cut() {
        let sent = "jé€🦀\x1b[A\x1bOB\x1b[5~\x1b[1;5C\r\x7f\x03".as_bytes();
        use Key::*;
        let expected = [Char('j'), Char('é'), Char('€'), Char('🦀'), Up, Down, PageUp, Right, Enter, Backspace, CtrlC];
        assert_eq!(keys(&[sent]), expected);
        let one_by_one: Vec<&[u8]> = sent.chunks(1).collect();
        assert_eq!(keys(&one_by_one), expected);
    }

    #[test]
    fn an_escape_alone_is_the_escape_key_once_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1b"), []);
        assert!(keys.is_waiting());
        assert_eq!(keys.give_up(), Some(Key::Escape));
        assert!(!keys.is_waiting());
        assert_eq!(keys.feed(b"\x1b["), []);
        assert_eq!(keys.give_up(), None);
    }

    #[test]
    fn what_has_no_meaning_is_passed_over_and_what_follows_is_read() {
        assert_eq!(keys(&[b"\x1b[200~\x1b[31;1H\x01\xff\xc3(\x1bqx"]), [Key::Home, Key::Char('('), Key::Char('x')]);
        let long = [b"\x1b[".as_slice(), &[b'1'; 40]].concat();
        assert_eq!(keys(&[&long, b"y"]), [Key::Char('y')]);
    }
}
