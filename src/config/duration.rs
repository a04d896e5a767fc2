//! Parses times.

use super::reader::{Show, Value};
use std::time::Duration;

/// The longest time that a setting can hold.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses a time with its unit, such as `500ms`, `10s`, `1m30s`, or `0`.
///
/// # Errors
/// Anything else, and more than a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "allowed: a number with a unit, such as 500ms, 10s, 1m, or 0";
    if text.chars().all(|c| c.is_ascii_digit()) && text != "0" && !text.is_empty() {
        return Err(format!("the unit is missing; did you mean {text}s or {text}ms? {ALLOWED}"));
    }
    let duration = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    match duration {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("longer than a year".into()),
        Err(_) => Err(format!("not a duration; {ALLOWED}")),
    }
}

impl Value for Duration {
    const FORM: &'static str = "D";
    fn parse(text: &str) -> Result<Duration, String> {
        duration(text)
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        match self.is_zero() {
            true => "0".into(),
            false => humantime::format_duration(*self).to_string().replace(' ', ""),
        }
    }
}

/// A time in which a worker becomes ready: more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositiveDuration(pub Duration);

impl Value for PositiveDuration {
    const FORM: &'static str = "D";
    fn parse(text: &str) -> Result<PositiveDuration, String> {
        match duration(text)? {
            Duration::ZERO => Err("no worker is ready in no time; allowed: more than 0, such as 30s".into()),
            time => Ok(PositiveDuration(time)),
        }
    }
}

impl Show for PositiveDuration {
    fn show(&self) -> String {
        self.0.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("10").unwrap_err().contains("10s"));
        for text in ["", "s", "-1s", "1y1d", "9999999999999999999s", "1.5", "ten seconds"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_written() {
        for text in ["0", "1s500ms", "8s", "1m30s"] {
            assert_eq!(duration(text).unwrap().show(), text);
        }
    }
}
