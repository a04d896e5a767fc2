//! Parses sizes, and memory limits of a worker.

use super::reader::{Show, Value};
use crate::core::MemoryLimit;

/// The largest share of memory, in percent.
const ALL: u8 = 100;

/// Parses a size with its unit, such as `300M` or `1.5G`: powers of 1024, as Docker has them.
///
/// # Errors
/// Anything else, and 0.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const ALLOWED: &str = "allowed: a number with a unit, such as 300M or 1.5G";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let power = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
        "" if unit.is_empty() && !number.is_empty() => {
            return Err(format!("the unit is missing; did you mean {text}M? {ALLOWED}"));
        }
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(format!("not a size; {ALLOWED}")),
    };
    let number: f64 = number.parse().map_err(|_| format!("not a size; {ALLOWED}"))?;
    let bytes = number * 1024f64.powi(power);
    match bytes >= 1.0 && bytes < u64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(format!("out of range; {ALLOWED}")),
    }
}

impl Value for MemoryLimit {
    const FORM: &'static str = "SIZE|P%";
    fn parse(text: &str) -> Result<MemoryLimit, String> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok().filter(|percent| (1..=ALL).contains(percent));
                percent.map(MemoryLimit::Percent).ok_or("allowed: 1% to 100% of the container's memory".into())
            }
            None => size(text).map(MemoryLimit::Bytes),
        }
    }
}

impl Show for MemoryLimit {
    fn show(&self) -> String {
        match self {
            MemoryLimit::Bytes(bytes) => crate::units::size(*bytes),
            MemoryLimit::Percent(percent) => format!("{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_powers_of_1024() {
        for (text, bytes) in
            [("300M", 300 << 20), ("1.5g", 3 << 29), ("512KiB", 512 << 10), ("100b", 100), ("1GB", 1 << 30)]
        {
            assert_eq!(MemoryLimit::parse(text), Ok(MemoryLimit::Bytes(bytes)), "{text}");
        }
        assert!(size("300").unwrap_err().contains("did you mean 300M?"));
        for text in ["", "M", "0M", "1.2.3M", "-1M", "1X", "99999999999T", "0%", "101%", "%"] {
            assert!(MemoryLimit::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_share_is_of_the_containers_memory() {
        assert_eq!(MemoryLimit::parse("25%"), Ok(MemoryLimit::Percent(25)));
        assert_eq!(MemoryLimit::Percent(25).bytes(Some(1 << 30)), Some(1 << 28));
        assert_eq!(MemoryLimit::Bytes(5).bytes(Some(1 << 30)), Some(5));
    }
}
