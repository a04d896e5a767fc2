//! Formats times, sizes and shares as short words without spaces, and text of others as one line: the same in logs, verbs and
//! `rinit monit`.

use std::borrow::Cow;
use std::time::Duration;

/// Formats a time: `312ms`, `2.1s`, `12s`, `3m12s`, `2h05m`, `3d04h`. What is below the second unit is cut off.
pub fn time(time: Duration) -> String {
    let (seconds, tenths) = (time.as_secs(), time.subsec_millis() / 100);
    let two = |first: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{first}{unit}"),
        rest => format!("{first}{unit}{rest:02}{rest_unit}"),
    };
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..10 if tenths > 0 => format!("{seconds}.{tenths}s"),
        1..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86400, "d", seconds / 3600 % 24, "h"),
    }
}

/// Formats a time in milliseconds, as the API has them.
pub fn milliseconds(milliseconds: u64) -> String {
    time(Duration::from_millis(milliseconds))
}

/// Formats a size in bytes by powers of 1024, as settings have them: `512B`, `34.1M`, `1.2G`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "K";
    for next in UNITS.iter().skip(1) {
        // Not 1024.0M, which would be printed for slightly less than a gigabyte.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1}{unit}")
}

/// Formats a share of one CPU: `3.2%`, `120%`.
pub fn percent(percent: f64) -> String {
    if percent < 99.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// Formats a number of things: `1 worker`, `3 workers`.
pub fn count(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// Returns the text as one line without control characters: names and values may come from anywhere.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_shares_are_short() {
        let times = [
            (0, "0ms"),
            (999, "999ms"),
            (2000, "2s"),
            (2190, "2.1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (192_000, "3m12s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ];
        times.iter().for_each(|(given, text)| assert_eq!(milliseconds(*given), *text));
        let sizes =
            [(0, "0B"), (1023, "1023B"), (1024, "1.0K"), (35_757_000, "34.1M"), (1_048_570, "1.0M"), (1 << 30, "1.0G")];
        sizes.iter().for_each(|(bytes, text)| assert_eq!(size(*bytes), *text));
        assert_eq!([0.0, 3.21, 99.96, 234.5].map(percent), ["0.0%", "3.2%", "100%", "234%"]);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0u32, 1, 2].map(|number| count(number, "worker")), ["0 workers", "1 worker", "2 workers"]);
    }
}
