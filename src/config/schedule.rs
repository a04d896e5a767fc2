//! Parses the times of `--cron`, and finds the next one in local time.

use super::reader::{Show, Value};
use chrono::{DateTime, Local, TimeZone};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
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
        self.next_in(DateTime::<Local>::from(time)).map(SystemTime::from)
    }

    fn next_in<Zone: TimeZone>(&self, time: DateTime<Zone>) -> Option<DateTime<Zone>> {
        self.cron.find_next_occurrence(&time, false).ok()
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
