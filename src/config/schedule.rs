//! Parses the times of `--cron`, and finds the next one in local time.

use super::reader::{Show, Value};
use chrono::{DateTime, FixedOffset, Local, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::path::Path;
use std::time::SystemTime;

/// The times of a timetable in the form of cron: minute, hour, day of the month, month, day of the week; with seconds in
/// front if there are six; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
///
/// The times are local: by `TZ`, else `/etc/localtime`, else UTC. When the clocks go forward, a fixed time that is left out
/// comes at the first moment after the gap, and an interval goes on after it. When they go back, a fixed time comes once, at
/// its first occurrence, and an interval in both hours.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    text: String,
    cron: Cron,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.text == other.text
    }
}

impl Schedule {
    /// The first time after that one; `None`: there is none any more.
    pub(crate) fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let time = DateTime::<Utc>::from(time).with_timezone(&LocalZone);
        self.cron.find_next_occurrence(&time, false).ok().map(SystemTime::from)
    }
}

/// Returns that local time, for people.
pub(crate) fn local_text(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).with_timezone(&LocalZone).to_rfc3339()
}

/// The folders in which the C library and chrono look for time zones.
const ZONE_FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo"];

/// Returns the name of a time zone, the value of `TZ`, if this image has no such zone: times are in UTC then.
pub(crate) fn missing_zone(tz: &str) -> Option<&str> {
    let name = tz.strip_prefix(':').unwrap_or(tz);
    // A rule in the form of POSIX, such as CET-1CEST,M3.5.0,M10.5.0/3, needs no file.
    let offset = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let is_rule = name.starts_with('<') || offset.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
    let is_known = is_rule || ["", "UTC", "localtime"].contains(&name);
    let has_file = || ZONE_FOLDERS.iter().any(|folder| Path::new(folder).join(name).is_file());
    (!is_known && !has_file()).then_some(name)
}

/// The local time zone. `Local` of chrono 0.4.45 gives the two moments of a time that comes twice in the wrong order: the
/// first one is that with the larger offset.
#[derive(Clone, Copy, Debug)]
struct LocalZone;

impl TimeZone for LocalZone {
    type Offset = FixedOffset;

    fn from_offset(_: &FixedOffset) -> LocalZone {
        LocalZone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<FixedOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<FixedOffset> {
        match Local.offset_from_local_datetime(local) {
            MappedLocalTime::Ambiguous(one, other) if one.local_minus_utc() < other.local_minus_utc() => {
                MappedLocalTime::Ambiguous(other, one)
            }
            mapped => mapped,
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
        Local.offset_from_utc_datetime(utc)
    }
}

impl Value for Schedule {
    const FORM: &'static str = "SPEC";
    fn parse(text: &str) -> Result<Schedule, String> {
        const ALLOWED: &str = "allowed: five fields as in crontab, such as '0 3 * * *', or @hourly, @daily, @weekly";
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| format!("{error}; {ALLOWED}"))?;
        let schedule = Schedule { text: text.to_owned(), cron };
        // Such as 30 February.
        match schedule.next_after(SystemTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(format!("that time never comes; {ALLOWED}")),
        }
    }
}

impl Show for Schedule {
    fn show(&self) -> String {
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn timetables_are_five_or_six_fields_or_a_nickname() {
        for text in ["0 3 * * *", "*/5 * * * *", "30 0 3 * * *", "@daily", "0 9-17 * * MON-FRI", "0 0 1 JAN *"] {
            assert_eq!(Schedule::parse(text).unwrap().show(), text);
        }
        for text in ["", "* * * *", "60 * * * *", "0 0 30 2 *", "soon", "0 0 0 * * * *"] {
            let why = Schedule::parse(text).unwrap_err();
            assert!(why.contains("allowed: five fields"), "{text}: {why}");
        }
    }

    /// In a process of its own, whose time zone is that of central Europe: on 29 March 2026 two o'clock becomes three, and on
    /// 25 October three becomes two.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test itself, in another time zone")]
    fn times_are_local_and_come_once_where_the_clocks_change() {
        const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
        if std::env::var("TZ").as_deref() != Ok(ZONE) {
            let name = "config::schedule::tests::times_are_local_and_come_once_where_the_clocks_change";
            let mut child = Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name]).env("TZ", ZONE).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        }
        let following = |text: &str, from: &str| -> Vec<String> {
            let schedule = Schedule::parse(text).unwrap();
            let mut time = SystemTime::from(DateTime::parse_from_rfc3339(from).unwrap());
            let mut next = || {
                time = schedule.next_after(time).unwrap();
                DateTime::<Local>::from(time).to_rfc3339()
            };
            (0..3).map(|_| next()).collect()
        };
        assert_eq!(
            following("30 2 * * *", "2026-03-28T00:00:00+01:00"),
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        );
        assert_eq!(
            following("*/30 * * * *", "2026-03-29T01:00:00+01:00"),
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]
        );
        assert_eq!(
            following("30 2 * * *", "2026-10-25T00:00:00+02:00"),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]
        );
        assert_eq!(
            following("*/30 * * * *", "2026-10-25T02:00:00+02:00"),
            ["2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"]
        );
    }

    #[test]
    fn a_zone_that_the_image_has_not_is_told_from_a_rule() {
        for known in ["", "UTC", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT", "<+03>-3", ":localtime"] {
            assert_eq!(missing_zone(known), None, "{known}");
        }
        for missing in ["Nowhere/Land", "Etc/Nowhere+5", "NOWHERE"] {
            assert_eq!(missing_zone(missing), Some(missing));
        }
        assert_eq!(missing_zone(":Nowhere/Land"), Some("Nowhere/Land"));
    }

    #[test]
    fn the_next_time_is_after_the_given_one() {
        let schedule = Schedule::parse("* * * * *").unwrap();
        let minute = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * 60_000_000 / 60);
        assert_eq!(schedule.next_after(minute), Some(minute + Duration::from_secs(60)));
    }
}
