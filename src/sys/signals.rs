//! Signals: caught without losing one, and the dispositions that rinit was started with.
//!
//! The kernel drops a signal to PID 1 that has neither a handler nor is blocked (pid_namespaces(7)), so rinit blocks all
//! of them first thing. Init mode leaves them blocked and takes one after the other with [`wait`]; the supervisor, which
//! waits for more than signals, gets them through a pipe, from [`Signals`].

use crate::core::Signal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

/// A set of signals as the kernel has it, one bit each. The C libraries' own sets leave out the real-time signals that
/// they keep for themselves (32 and 33, in musl 34 too), and so would lose what the child is to inherit.
type Mask = u64;

/// The kernel's `struct sigaction` of 64-bit machines, for the same reason.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Action {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: Mask,
}

/// Sets the signal's action, and returns the one before. May be called between fork and exec.
fn kernel_action(number: i32, new: Option<&Action>) -> Option<Action> {
    let mut old = Action::default();
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: rt_sigaction(2) reads one action, writes the other, and is told the size of their masks.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, number, new, &raw mut old, size_of::<Mask>()) };
    (result == 0).then_some(old)
}

/// The signals that were ignored when the process began, one bit each. Rust's runtime ignores SIGPIPE before `main`,
/// so this is read before that, by the loader's list of initialisers.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = remember_ignored;

extern "C" fn remember_ignored() {
    let is_ignored = |number: &i32| kernel_action(*number, None).is_some_and(|action| action.handler == libc::SIG_IGN);
    let ignored = (1..=64).filter(is_ignored).fold(0, |mask, number| mask | 1u64 << (number - 1));
    IGNORED_AT_START.store(ignored, Ordering::Relaxed);
}

/// How the process that started rinit left the signals, and how a child is to find them.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: Mask,
    ignored: Mask,
}

impl Inherited {
    /// Blocks every signal, and remembers what was blocked and ignored before.
    pub fn take() -> Inherited {
        Inherited { mask: block_all().0, ignored: IGNORED_AT_START.load(Ordering::Relaxed) }
    }

    /// What a child finds that is to have nothing blocked or ignored.
    pub fn clean() -> Inherited {
        Inherited { mask: 0, ignored: 0 }
    }

    /// Blocks no more than was blocked before: for whoever is no init after all.
    pub fn let_through(&self) {
        set_mask(Blocked(self.mask));
    }

    /// Gives this state to the calling process. For a child between fork and exec: every call in it may be made there
    /// (`signal-safety(7)`).
    pub(super) fn restore(&self) {
        for number in 1..=64 {
            let handler = if self.ignored & 1 << (number - 1) != 0 { libc::SIG_IGN } else { libc::SIG_DFL };
            // SIGKILL and SIGSTOP are refused, and stay what they are.
            kernel_action(number, Some(&Action { handler, ..Action::default() }));
        }
        set_mask(Blocked(self.mask));
    }
}

/// Which signals are blocked.
#[derive(Clone, Copy)]
pub struct Blocked(Mask);

/// Blocks every signal and returns what was blocked before.
pub fn block_all() -> Blocked {
    set_mask(Blocked(!0))
}

/// Blocks exactly these, and returns what was blocked before. For the calling thread.
pub fn set_mask(blocked: Blocked) -> Blocked {
    change_mask(Some(blocked))
}

fn change_mask(new: Option<Blocked>) -> Blocked {
    let mut before: Mask = 0;
    let new = new.as_ref().map_or(std::ptr::null(), |blocked| &raw const blocked.0);
    // SAFETY: rt_sigprocmask(2) reads one mask, if there is one, writes the other, and is told their size.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, &raw mut before, size_of::<Mask>()) };
    Blocked(before)
}

/// Takes the next signal that is pending, of all that are blocked; waits for one until the time is up, or for ever.
/// Signals of one number that were sent several times come once, real-time signals as often as they were sent.
pub fn wait(timeout: Option<Duration>) -> Option<Signal> {
    take(change_mask(None).0, timeout)
}

/// Forgets the signal if it is pending.
pub fn discard(signal: Signal) {
    while take(1 << (signal.number() - 1), Some(Duration::ZERO)).is_some() {}
}

fn take(which: Mask, timeout: Option<Duration>) -> Option<Signal> {
    let time = timeout.map(|time| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: rt_sigtimedwait(2) reads a mask, of the size that it is told, and a time; it may be given no siginfo.
    let number = unsafe {
        let none = std::ptr::null_mut::<libc::siginfo_t>();
        libc::syscall(libc::SYS_rt_sigtimedwait, &raw const which, none, time, size_of::<Mask>())
    };
    Signal::new(number as i32)
}

/// Lets the signals of a fault end this process, whoever sends them: PID 1 never gets them.
pub fn leave_faults_to_the_kernel() {
    let faults = Signal::catchable().filter(|signal| signal.is_fault());
    let unblocked = faults.fold(0, |mask: Mask, signal| {
        kernel_action(signal.number(), Some(&Action::default()));
        mask | 1 << (signal.number() - 1)
    });
    set_mask(Blocked(!unblocked));
}

/// Makes sure that ended children wait to be collected: while SIGCHLD is ignored the kernel throws them away (wait(2)).
pub fn keep_zombies() {
    kernel_action(Signal::CHLD.number(), Some(&Action::default()));
}

/// The pipe's writing end for [`note`].
static NOTES_TO: AtomicI32 = AtomicI32::new(-1);

/// The signals that found the pipe full, one bit each: none is lost, however many others there are.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// The signals that reach rinit.
pub struct Signals {
    read: OwnedFd,
    _write: OwnedFd,
}

impl Signals {
    /// Catches every signal that can be caught, and lets them through.
    ///
    /// # Errors
    /// When the kernel has no pipe left, or refuses a handler.
    pub fn catch_all() -> io::Result<Signals> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        NOTES_TO.store(write.as_raw_fd(), Ordering::Relaxed);
        for signal in Signal::catchable() {
            match signal {
                _ if ACTED_ON.contains(&signal) => catch(signal, write.as_raw_fd())?,
                KEPT_BY_MUSL => catch_kept()?,
                _ => catch_to_pass_on(signal)?,
            }
        }
        set_mask(Blocked(0));
        Ok(Signals { read, _write: write })
    }

    /// The next signal that has arrived. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock`: none has.
    pub fn next(&self) -> io::Result<Signal> {
        let missed = MISSED.load(Ordering::Relaxed);
        if missed != 0 {
            MISSED.fetch_and(!(1 << missed.trailing_zeros()), Ordering::Relaxed);
            return Signal::new(missed.trailing_zeros() as i32 + 1).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
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

const KEPT_BY_MUSL: Signal = Signal::RTMIN;

/// The signals that mean something to the supervisor.
const ACTED_ON: [Signal; 7] =
    [Signal::CHLD, Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::TTIN, Signal::TTOU];

fn catch(signal: Signal, to: RawFd) -> io::Result<()> {
    let number = signal.number();
    // SAFETY: the action makes one write(2) and touches nothing else. The descriptor lives as long as `Signals`, and
    // after that a write to it fails.
    unsafe { signal_hook::low_level::register(number, move || write_byte(to, number)) }.map(drop)
}

/// The others are passed on. Not by signal-hook: it copies its whole table with each signal that is added, and refuses
/// the signals of a fault, which can also be sent by a process and then mean no fault of rinit's.
fn catch_to_pass_on(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigAction(note), SaFlags::SA_RESTART | SaFlags::SA_ONSTACK, SigSet::all());
    let raw: libc::sigaction = action.into();
    // SAFETY: the handler makes only calls that `signal-safety(7)` allows. Not nix's call, which has no real-time signals.
    Errno::result(unsafe { libc::sigaction(signal.number(), &raw, std::ptr::null_mut()) })?;
    Ok(())
}

/// musl refuses to have anybody handle 34, which it would use to change the user of all threads at once, and rinit
/// never does. It is the first real-time signal to everybody else. The kernel takes for it what musl made for another
/// signal, with the way back from a handler that every action needs. All signals are blocked meanwhile.
fn catch_kept() -> io::Result<()> {
    let lender = Signal::USR2.number();
    let before = kernel_action(lender, None);
    catch_to_pass_on(Signal::USR2)?;
    let made = kernel_action(lender, before.as_ref());
    let caught = made.and_then(|action| kernel_action(KEPT_BY_MUSL.number(), Some(&action)));
    caught.map(drop).ok_or_else(io::Error::last_os_error)
}

extern "C" fn note(number: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let from_a_process = unsafe { info.as_ref() }.is_some_and(|info| info.si_code <= 0);
    let is_fault = Signal::new(number).is_some_and(Signal::is_fault);
    if from_a_process || !is_fault {
        write_byte(NOTES_TO.load(Ordering::Relaxed), number);
    } else {
        // Back to the default; on return the faulting instruction runs again and ends the program.
        kernel_action(number, Some(&Action::default()));
    }
}

/// For a signal handler: writes the number, or notes that it could not, and leaves `errno` as it was.
fn write_byte(to: RawFd, number: i32) {
    let byte = number as u8;
    // SAFETY: `errno` is this thread's own, and one byte is readable at that address.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        if libc::write(to, (&raw const byte).cast(), 1) != 1 {
            MISSED.fetch_or(1 << (number - 1), Ordering::Relaxed);
        }
        *errno = before;
    }
}
