//! Parses the number of an app's workers, and counts the CPUs where it follows them.

use super::reader::{Show, Value};
use crate::sys::cgroup;
use std::fmt;
use std::path::Path;

/// The largest number of an app's workers.
pub const MAX_INSTANCES: u32 = 1024;

/// The number of an app's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// That many.
    Count(u32),
    /// As many as CPUs, less this many.
    Cpus {
        /// The number of workers fewer than CPUs.
        less: u32,
    },
}

impl Value for Instances {
    const FORM: &'static str = "N";
    fn parse(text: &str) -> Result<Instances, String> {
        const ALLOWED: &str = "allowed: 1 to 1024, 0 or max (as many as CPUs), -1, -2… (that many fewer)";
        if text == "max" {
            return Ok(Instances::Cpus { less: 0 });
        }
        match text.parse::<i64>() {
            Ok(count @ 1..=1024) => Ok(Instances::Count(count as u32)),
            Ok(less @ -1024..=0) => Ok(Instances::Cpus { less: less.unsigned_abs() as u32 }),
            Ok(_) => Err(format!("out of range; {ALLOWED}")),
            Err(_) => Err(format!("not a number; {ALLOWED}")),
        }
    }
}

impl Show for Instances {
    fn show(&self) -> String {
        match self {
            Instances::Count(count) => count.to_string(),
            Instances::Cpus { less: 0 } => "0".into(),
            Instances::Cpus { less } => format!("-{less}"),
        }
    }
}

/// A bound on the number of an app's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCount(pub u32);

impl Value for WorkerCount {
    const FORM: &'static str = "N";
    fn parse(text: &str) -> Result<WorkerCount, String> {
        let count = text.parse().ok().filter(|count| (1..=MAX_INSTANCES).contains(count));
        count.map(WorkerCount).ok_or("allowed: 1 to 1024".into())
    }
}

impl Show for WorkerCount {
    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Returns the number of workers that `text` asks for when there are `now`: a number, `+N`, `-N`, `0` or `max` for as
/// many as CPUs.
///
/// # Errors
/// Anything else, and less than one.
pub fn scaled(text: &str, now: u32) -> Result<u32, String> {
    const ALLOWED: &str = "allowed: 1 to 1024, +N, -N, 0 or max (as many as CPUs)";
    let by = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number; {ALLOWED}"));
    let count = if let Some(more) = text.strip_prefix('+') {
        now.saturating_add(by(more)?)
    } else if let Some(fewer) = text.strip_prefix('-') {
        now.saturating_sub(by(fewer)?)
    } else if matches!(text, "0" | "max") {
        cgroup::cpus(Path::new("/"))
    } else {
        by(text)?
    };
    match count {
        1..=MAX_INSTANCES => Ok(count),
        0 => Err("the last worker stays; `stop` stops it, `delete all` ends the container".into()),
        _ => Err(format!("{count} workers are too many; {ALLOWED}")),
    }
}

/// The number of workers that an app starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceCount {
    /// The number, at least 1.
    pub(crate) count: u32,
    /// The setting and what it follows, where it is not the number itself: `0: of 1.5 CPUs by quota`.
    pub(crate) why: Option<String>,
}

impl fmt::Display for InstanceCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InstanceCount { count, why } = self;
        match why {
            Some(why) => write!(f, "{count} ({why})"),
            None => write!(f, "{count}"),
        }
    }
}

impl InstanceCount {
    /// Counts the CPUs that this container may use, where the setting asks for that. `root` is `/` but in tests.
    pub(super) fn of(instances: Instances, root: &Path) -> InstanceCount {
        match instances {
            Instances::Count(count) => InstanceCount { count, why: None },
            Instances::Cpus { less } => {
                let cpus = cgroup::cpus(root);
                let quota = cgroup::cpu_quota(root).filter(|quota| quota.ceil() as u32 <= cpus);
                let available = match quota {
                    Some(quota) => format!("of {} CPUs by quota", (quota * 100.0).round() / 100.0),
                    None if cpus == 1 => "of 1 CPU".into(),
                    None => format!("of {cpus} CPUs"),
                };
                let why = Some(format!("{}: {available}", instances.show()));
                InstanceCount { count: cpus.saturating_sub(less).max(1), why }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_counts_or_relative_to_the_cpus() {
        assert_eq!(Instances::parse("4"), Ok(Instances::Count(4)));
        assert_eq!(Instances::parse("max"), Ok(Instances::Cpus { less: 0 }));
        assert_eq!(Instances::parse("-2"), Ok(Instances::Cpus { less: 2 }));
        assert!(["1025", "two", ""].iter().all(|text| Instances::parse(text).is_err()));
        assert_eq!(["0", "4", "-2"].map(|text| Instances::parse(text).unwrap().show()), ["0", "4", "-2"]);
    }
}
