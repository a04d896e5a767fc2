//! Formats workers' lines and times for the screen.

/// The time of day in an RFC 3339 time: `12:03:04`.
pub fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or("")
}

/// Cleans a worker's text for the terminal: no escape sequences, no control characters and no marks that change the
/// direction of writing; a tab becomes spaces up to the next eighth column. At most `limit` characters.
pub fn clean(line: &str, limit: usize) -> String {
    let mut cleaned = String::new();
    let mut length = 0;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if length >= limit {
            cleaned.push('…');
            break;
        }
        match char {
            '\x1b' => match chars.next() {
                // Up to its last character: `ESC [ 1 ; 31 m`.
                Some('[') => while chars.next().is_some_and(|char| !('\x40'..='\x7e').contains(&char)) {},
                // A title or link, up to BEL or `ESC \`.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(char) = chars.next() {
                        if char == '\x07' || (char == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => {
                let width = 8 - length % 8;
                cleaned.extend(std::iter::repeat_n(' ', width));
                length += width;
            }
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {}
            _ if char.is_control() => {}
            _ => {
                cleaned.push(char);
                length += 1;
            }
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_that_of_the_event() {
        assert_eq!(time_of_day("2026-08-01T12:03:04.567Z"), "12:03:04");
        assert_eq!(time_of_day("soon"), "");
    }

    #[test]
    fn a_workers_line_cannot_control_the_terminal() {
        assert_eq!(
            clean("\x1b[1;31mred\x1b[0m\ttab\r\x07\x1b]0;title\x07!\x1b]8;;u\x1b\\link", 99),
            "red     tab!link"
        );
        assert_eq!(clean("a\u{202e}b\u{200b}c\x1b", 99), "abc");
        assert_eq!(clean("\x1b]never ends", 99), "");
        assert_eq!(clean("\u{9b}31mé", 99), "31mé");
        assert_eq!(clean("abcdef", 3), "abc…");
    }
}
