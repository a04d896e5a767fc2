//! Numbers and lines, as they are shown.

/// `42s`, `12m 3s`, `3h 12m`, `4d 3h`.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// `512 B`, `45.3 MiB`, `120 MiB`.
pub fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1000.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" || size >= 100.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

/// `3.2`, `120`.
pub fn percent(percent: f64) -> String {
    if percent < 99.95 { format!("{percent:.1}") } else { format!("{percent:.0}") }
}

/// `12:03:04` of an RFC 3339 time.
pub fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or("")
}

/// What a worker wrote, so that it can do nothing to the terminal: without escape sequences, control characters and marks
/// that change the direction of writing; a tab up to the next eighth column. At most `limit` characters.
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
    fn numbers_are_short() {
        let hour = 3_600_000;
        assert_eq!([0, 59_999, 723_000].map(duration), ["0s", "59s", "12m 3s"]);
        assert_eq!([3 * hour + 12 * 60_000, 99 * hour].map(duration), ["3h 12m", "4d 3h"]);
        assert_eq!(
            [0, 999, 1000, 47_500_000, 1_072_693_248].map(bytes),
            ["0 B", "999 B", "1.0 KiB", "45.3 MiB", "1.0 GiB"]
        );
        assert_eq!(bytes(125_829_120), "120 MiB");
        assert_eq!([0.0, 3.21, 99.96, 234.5].map(percent), ["0.0", "3.2", "100", "234"]);
        assert_eq!(time_of_day("2026-08-01T12:03:04.567Z"), "12:03:04");
        assert_eq!(time_of_day("soon"), "");
    }

    #[test]
    fn a_line_of_a_worker_cannot_steer_the_terminal() {
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
