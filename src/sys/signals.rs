//! Signals as bytes in a pipe, in the order of their arrival, and the dispositions that rinit was started with.
//!
//! The kernel drops a signal to PID 1 that has neither a handler nor is blocked (`signal(7)`, pid_namespaces(7)), so
//! rinit blocks all of them first, then installs a handler for each, then lets them through.

use crate::core::Signal;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, sigaction, sigprocmask};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The signals that were ignored when the process began, one bit each. Rust's runtime ignores SIGPIPE before `main`,
/// so this is read before that, by the loader's list of initialisers.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = remember_ignored;

extern "C" fn remember_ignored() {
    let mut ignored = 0;
    for number in 1..=64 {
        // SAFETY: a zeroed `sigaction` is a valid value to be written to, and asking changes nothing.
        let asked = unsafe {
            let mut current: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(number, std::ptr::null(), &mut current) == 0).then_some(current.sa_sigaction)
        };
        if asked == Some(libc::SIG_IGN) {
            ignored |= 1u64 << (number - 1);
        }
    }
    IGNORED_AT_START.store(ignored, Ordering::Relaxed);
}

/// How the process that started rinit left the signals, and how a child is to find them.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: SigSet,
    ignored: u64,
}

impl Inherited {
    /// Blocks every signal, and remembers what was blocked and ignored before.
    pub fn take() -> Inherited {
        Inherited { mask: block_all(), ignored: IGNORED_AT_START.load(Ordering::Relaxed) }
    }

    /// What a child finds that is to have nothing blocked or ignored.
    pub fn clean() -> Inherited {
        Inherited { mask: SigSet::empty(), ignored: 0 }
    }

    /// Gives this state to the calling process. For a child between fork and exec: every call in it may be made there
    /// (`signal-safety(7)`).
    pub(super) fn restore(&self) {
        for number in 1..=64 {
            let handler = if self.ignored & 1 << (number - 1) != 0 { libc::SIG_IGN } else { libc::SIG_DFL };
            // SAFETY: zeroed flags and mask are valid; a signal that cannot be changed is refused and stays.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler;
                libc::sigaction(number, &action, std::ptr::null_mut());
            }
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}

/// Blocks every signal and returns what was blocked before.
pub fn block_all() -> SigSet {
    let mut before = SigSet::empty();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before));
    before
}

/// Blocks exactly these.
pub fn set_mask(mask: &SigSet) {
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
}

/// Ignores the signal from now on.
pub fn ignore(signal: Signal) {
    set_handler(signal, libc::SIG_IGN);
}

/// Forgets the signal if it is pending: setting it to be ignored throws it away (POSIX, sigaction).
pub fn discard(signal: Signal) {
    set_handler(signal, libc::SIG_IGN);
    set_handler(signal, libc::SIG_DFL);
}

fn set_handler(signal: Signal, handler: libc::sighandler_t) {
    // SAFETY: neither of the two values that are passed here is a function.
    unsafe { libc::signal(signal.number(), handler) };
}

/// The pipe's writing end for [`note_fault`].
static FAULTS_TO: AtomicI32 = AtomicI32::new(-1);

/// The signals that reach rinit. A burst longer than the pipe (64 KiB) is cut; SIGCHLD needs no count.
pub struct Signals {
    read: OwnedFd,
    _write: OwnedFd,
}

impl Signals {
    /// Catches these signals from now on, and lets every signal through.
    ///
    /// # Errors
    /// When the kernel has no pipe left, or refuses a handler.
    pub fn catch(which: impl Iterator<Item = Signal>) -> io::Result<Signals> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        FAULTS_TO.store(write.as_raw_fd(), Ordering::Relaxed);
        for signal in which {
            match signal.is_fault() {
                true => catch_fault(signal)?,
                false => catch(signal, write.as_raw_fd())?,
            }
        }
        set_mask(&SigSet::empty());
        Ok(Signals { read, _write: write })
    }

    /// The next signal that has arrived. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock`: none has.
    pub fn next(&self) -> io::Result<Signal> {
        let mut number = [0u8];
        nix::unistd::read(&self.read, &mut number)?;
        Signal::new(i32::from(number[0])).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }
}

fn catch(signal: Signal, to: RawFd) -> io::Result<()> {
    let number = signal.number();
    // SAFETY: the action makes one write(2) and touches nothing else. The descriptor lives as long as `Signals`, and
    // after that a write to it fails.
    unsafe { signal_hook::low_level::register(number, move || write_byte(to, number)) }.map(drop)
}

/// A fault signal can be sent by a process, or raised by the kernel because the program itself is broken; signal-hook
/// refuses these, since returning from the latter would raise it again for ever.
fn catch_fault(signal: Signal) -> io::Result<()> {
    let number = nix::sys::signal::Signal::try_from(signal.number())?;
    let action = SigAction::new(SigHandler::SigAction(note_fault), SaFlags::SA_RESTART, SigSet::all());
    // SAFETY: the handler makes only calls that `signal-safety(7)` allows.
    unsafe { sigaction(number, &action) }?;
    Ok(())
}

extern "C" fn note_fault(number: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let from_a_process = unsafe { info.as_ref() }.is_some_and(|info| info.si_code <= 0);
    if from_a_process {
        write_byte(FAULTS_TO.load(Ordering::Relaxed), number);
    } else {
        // SAFETY: back to the default; on return the faulting instruction runs again and ends the program.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// For a signal handler: writes the number and leaves `errno` as it was.
fn write_byte(to: RawFd, number: i32) {
    let byte = number as u8;
    // SAFETY: `errno` is this thread's own, and one byte is readable at that address.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(to, (&raw const byte).cast(), 1);
        *errno = before;
    }
}
