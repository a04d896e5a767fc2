//! Defines signals by name and number.

use std::fmt;
use std::str::FromStr;

/// A signal number of Linux, 1 to 64 (`signal(7)`).
///
/// It is read from `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-1`, in any case, and shown as `SIGTERM` or
/// `SIGRTMIN+3`. Real-time signals count from 34 to 64, as glibc counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

/// The standard signals in the order of their numbers, from 1 on. The numbers are those of x86, ARM and RISC-V;
/// SIGSTKFLT (16) has no other use than a place in the list.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const REALTIME_MIN: u8 = 34;
const MAX: u8 = 64;

impl Signal {
    /// SIGHUP.
    pub const HUP: Signal = Signal(1);
    /// SIGINT.
    pub const INT: Signal = Signal(2);
    /// SIGQUIT.
    pub const QUIT: Signal = Signal(3);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGUSR2.
    pub const USR2: Signal = Signal(12);
    /// SIGPIPE.
    pub const PIPE: Signal = Signal(13);
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGCHLD.
    pub const CHLD: Signal = Signal(17);
    /// SIGCONT.
    pub const CONT: Signal = Signal(18);
    /// SIGSTOP.
    pub const STOP: Signal = Signal(19);
    /// SIGTSTP.
    pub const TSTP: Signal = Signal(20);
    /// SIGTTIN.
    pub const TTIN: Signal = Signal(21);
    /// SIGTTOU.
    pub const TTOU: Signal = Signal(22);
    /// SIGXCPU.
    pub const XCPU: Signal = Signal(24);
    /// SIGXFSZ.
    pub const XFSZ: Signal = Signal(25);
    /// SIGWINCH.
    pub const WINCH: Signal = Signal(28);

    /// SIGRTMIN, as glibc and the kernel's users count.
    pub const RTMIN: Signal = Signal(REALTIME_MIN);

    /// The signal of that number, if there is one.
    pub fn new(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=MAX).contains(n)).map(Signal)
    }

    /// Its number, as `kill(2)` takes it.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Every signal a program can be sent and can catch: all but SIGKILL, SIGSTOP, and 32 and 33, which the C
    /// libraries keep for their threads.
    pub fn catchable() -> impl Iterator<Item = Signal> {
        (1..=MAX).filter(|n| !matches!(n, 32 | 33)).map(Signal).filter(|s| !matches!(*s, Signal::KILL | Signal::STOP))
    }

    /// True if the kernel raises it for a fault of the program itself.
    pub fn is_fault(self) -> bool {
        matches!(self.0, 4..=8 | 11 | 31)
    }
}

impl FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Signal, String> {
        let unknown =
            || format!("{text:?} is no signal: give a name such as TERM or SIGTERM, or a number from 1 to 64");
        let upper = text.trim().to_ascii_uppercase();
        if let Ok(number) = upper.parse::<i32>() {
            return Signal::new(number).ok_or_else(unknown);
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return Signal::new(index as i32 + 1).ok_or_else(unknown);
        }
        let number = match name {
            "RTMIN" => Some(REALTIME_MIN),
            "RTMAX" => Some(MAX),
            "IOT" => Some(6),
            "POLL" => Some(29),
            _ => name
                .strip_prefix("RTMIN+")
                .and_then(|up| up.parse::<u8>().ok()?.checked_add(REALTIME_MIN))
                .or_else(|| name.strip_prefix("RTMAX-").and_then(|down| MAX.checked_sub(down.parse().ok()?)))
                .filter(|number| (REALTIME_MIN..=MAX).contains(number)),
        };
        number.map(Signal).ok_or_else(unknown)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= REALTIME_MIN => write!(f, "SIGRTMIN+{}", self.0 - REALTIME_MIN),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal::new({}).unwrap()", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in (1..=64).filter(|n| !matches!(n, 32 | 33)) {
            let signal = Signal::new(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>(), Ok(signal), "{signal}");
        }
        assert_eq!("term".parse(), Ok(Signal::TERM));
        assert_eq!("SIGRTMAX-1".parse(), Ok(Signal(63)));
        assert_eq!(Signal::catchable().count(), 60);
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "-1", "SIG", "TERMINATE", "RTMIN+31", "RTMAX-40", "RTMIN+", "RTMIN+255"] {
            assert!(text.parse::<Signal>().is_err(), "{text:?}");
        }
    }
}
