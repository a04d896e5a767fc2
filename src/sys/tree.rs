//! Finds the processes below this one in /proc.

use super::process::kill;
use crate::core::Signal;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::{read_dir, read_to_string};

/// A live process below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its number.
    pub pid: Pid,
    /// Its program's name, of at most 15 bytes (`proc_pid_comm(5)`).
    pub name: String,
}

/// Returns the live processes below this one, in the order of their numbers: its children, their children, and so on. None
/// where /proc is not mounted.
pub fn descendants() -> Vec<Descendant> {
    let entries = read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let stat = |pid: i32| parse(&read_to_string(format!("/proc/{pid}/stat")).ok()?);
    let all: HashMap<i32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let own = nix::unistd::getpid().as_raw();
    let is_below = |pid: i32| {
        // No longer a chain than there are processes, whatever was read while parents ended.
        let chain = std::iter::successors(all.get(&pid), |stat| all.get(&stat.parent));
        chain.take(all.len()).any(|stat| stat.parent == own)
    };
    let live = all.iter().filter(|(pid, stat)| !stat.is_ending && is_below(**pid));
    let mut live: Vec<_> =
        live.map(|(pid, stat)| Descendant { pid: Pid::from_raw(*pid), name: stat.name.clone() }).collect();
    live.sort_unstable_by_key(|process| process.pid);
    live
}

/// Sends each of them the signal. Those that have ended meanwhile, or may not be signalled, get none.
pub fn signal_all(processes: &[Descendant], signal: Signal) {
    for process in processes {
        let _ = kill(process.pid, signal);
    }
}

/// The fields that are read of `/proc/PID/stat` (`proc_pid_stat(5)`).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    /// It is a zombie, or will be: it is exiting, or SIGKILL is pending.
    is_ending: bool,
    parent: i32,
}

/// The kernel's flag of a task that exits (linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// The name is in parentheses and may hold any character, parentheses and spaces too.
fn parse(text: &str) -> Option<Stat> {
    let (start, end) = (text.find('(')?, text.rfind(')')?);
    let mut fields = text.get(end + 1..)?.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    // Fields 9 and 31; the state is the third.
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    let pending: u64 = fields.nth(21)?.parse().ok()?;
    let is_killed = pending & 1 << (Signal::KILL.number() - 1) != 0;
    let name = text.get(start + 1..end)?.to_owned();
    Some(Stat { name, is_ending: is_zombie || is_killed || flags & PF_EXITING != 0, parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "19 20 20 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9 2768896 240 0 1 1 0 0 0";

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let stat = Stat { name: "a) S 1 (b".into(), is_ending: true, parent: 19 };
        assert_eq!(parse(&format!("20 (a) S 1 (b) Z {REST} 0 0")), Some(stat));
        assert_eq!(parse("12"), None);
    }

    #[test]
    fn a_process_that_is_exiting_or_has_sigkill_pending_is_ending() {
        let is_ending = |text: &str| parse(text).unwrap().is_ending;
        assert!(!is_ending(&format!("20 (sh) S {REST} 2 0")));
        assert!(is_ending(&format!("20 (sh) S {REST} 256 0")));
        assert!(is_ending(&format!("20 (sh) R {} 0 0", REST.replace("4194560", "4194564"))));
    }
}
