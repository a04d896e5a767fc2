//! Blocks and catches signals, and keeps the dispositions that rinit was started with for its children.
//!
//! The kernel drops a signal to PID 1 that has neither a handler nor is blocked (pid_namespaces(7)), so rinit blocks all
//! of them first thing. Init mode leaves them blocked and takes one after the other with [`wait`]; the supervisor, which
//! waits for more than signals, gets them through a pipe, from [`Signals`].

use super::process::kill;
use super::tty;
use crate::core::Signal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

/// A signal that has reached rinit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The signal.
    pub signal: Signal,
    /// Its sender.
    pub sender: Sender,
}

/// The sender of a signal, by its `si_code` and `si_pid` (sigaction(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Another process, of this PID namespace or of one above it: kill(2), sigqueue(3), tgkill(2).
    Process,
    /// The kernel or the terminal; the shell that passes on the terminal's hang-up; or a call of rinit's own that raises a
    /// signal (SIGPIPE, SIGXFSZ).
    Kernel,
}

impl Caught {
    fn new(info: &libc::siginfo_t) -> Option<Caught> {
        let is_sent = matches!(info.si_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
        // SAFETY: these codes come with the sender's number, which is 0 for one outside of this namespace. getpid(2) may
        // be called in a signal handler.
        let by_other = is_sent && unsafe { info.si_pid() != libc::getpid() };
        let sender = if by_other && !passes_on_hang_up(info) { Sender::Process } else { Sender::Kernel };
        Some(Caught { signal: Signal::new(info.si_signo)?, sender })
    }
}

/// True if this is the SIGHUP by which a shell tells its jobs that their terminal is gone. The kernel sends one to the job in
/// the foreground too, when the shell has ended; but two that come together are one, with the first one's sender.
fn passes_on_hang_up(info: &libc::siginfo_t) -> bool {
    // SAFETY: as above; getsid(2) may be called in a signal handler too.
    info.si_signo == libc::SIGHUP && unsafe { info.si_pid() == libc::getsid(0) } && tty::is_hung_up()
}

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

/// The signals that were ignored and blocked when the process began, one bit each.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);
static BLOCKED_AT_START: AtomicU64 = AtomicU64::new(0);

/// Reads the ignored and the blocked signals. Rust's runtime ignores SIGPIPE, and musl unblocks 33 and 34 with the first handler
/// that is set, so this is called before both.
pub(super) fn remember_inherited() {
    let is_ignored = |number: &i32| kernel_action(*number, None).is_some_and(|action| action.handler == libc::SIG_IGN);
    let ignored = (1..=64).filter(is_ignored).fold(0, |mask, number| mask | 1u64 << (number - 1));
    IGNORED_AT_START.store(ignored, Ordering::Relaxed);
    BLOCKED_AT_START.store(change_mask(None).0, Ordering::Relaxed);
}

/// The signals that are blocked and ignored in a new child: by default those that rinit was started with.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: Mask,
    ignored: Mask,
}

impl Inherited {
    /// Blocks every signal, and returns what was blocked and ignored when the process began.
    pub fn take() -> Inherited {
        block_all();
        let at_start = |signals: &AtomicU64| signals.load(Ordering::Relaxed);
        Inherited { mask: at_start(&BLOCKED_AT_START), ignored: at_start(&IGNORED_AT_START) }
    }

    /// No signal blocked and none ignored.
    pub fn clean() -> Inherited {
        Inherited { mask: 0, ignored: 0 }
    }

    /// True if the signal was ignored when rinit started, as by nohup(1).
    pub fn is_ignored(&self, signal: Signal) -> bool {
        self.ignored & bit(signal) != 0
    }

    /// Unblocks what was not blocked before, for a process that is no init.
    pub fn unblock(&self) {
        set_mask(Blocked(self.mask));
    }

    /// Gives this state to the calling process. For a child between fork and exec: every call in it may be made there
    /// (`signal-safety(7)`).
    pub(super) fn restore(&self) {
        for number in 1..=64 {
            let is_ignored = self.ignored & 1 << (number - 1) != 0;
            let handler = if is_ignored { libc::SIG_IGN } else { libc::SIG_DFL };
            // SIGKILL and SIGSTOP are refused, and stay what they are.
            kernel_action(number, Some(&Action { handler, ..Action::default() }));
        }
        set_mask(Blocked(self.mask));
    }
}

/// A thread's blocked signals.
#[derive(Clone, Copy)]
pub struct Blocked(Mask);

fn bit(signal: Signal) -> Mask {
    1 << (signal.number() - 1)
}

/// Blocks every signal and returns what was blocked before.
pub fn block_all() -> Blocked {
    set_mask(Blocked(!0))
}

/// Blocks exactly these signals in the calling thread, and returns what was blocked before.
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

/// Takes the next pending signal of all that are blocked; waits for one until the timeout, or for ever. `None`: the time
/// is up, or the wait was interrupted. A standard signal that was sent several times comes once, a real-time signal as
/// often as it was sent.
///
/// # Errors
/// The kernel refuses rt_sigtimedwait(2), as under a seccomp filter.
pub fn wait(timeout: Option<Duration>) -> io::Result<Option<Caught>> {
    take(change_mask(None).0, timeout)
}

/// Drops the signal if it is pending.
pub fn discard(signal: Signal) {
    while let Ok(Some(_)) = take(bit(signal), Some(Duration::ZERO)) {}
}

fn take(which: Mask, timeout: Option<Duration>) -> io::Result<Option<Caught>> {
    let time = timeout.map(|time| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a zeroed siginfo is a valid value to be written to; rt_sigtimedwait(2) reads a mask, of the size that it is
    // told, and a time.
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let size = size_of::<Mask>();
        (libc::syscall(libc::SYS_rt_sigtimedwait, &raw const which, &raw mut info, time, size), info)
    };
    match Errno::result(result) {
        Ok(_) => Ok(Caught::new(&info)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(refused("rt_sigtimedwait", errno)),
    }
}

/// The error of a system call without which rinit cannot work.
pub(super) fn refused(call: &str, errno: Errno) -> io::Error {
    let text = format!("the kernel refuses {call}(2): {}; see the container's seccomp profile", errno.desc());
    io::Error::new(io::Error::from(errno).kind(), text)
}

/// Takes the default action of SIGTSTP, SIGTTIN or SIGTTOU: stops `target`, which is this process or its group, until
/// SIGCONT. The kernel does not stop a group that no shell could continue (setpgid(2), "orphaned"), nor PID 1.
pub fn suspend(target: Pid, signal: Signal) {
    let before = kernel_action(signal.number(), Some(&Action::default()));
    let mask = block_all();
    let _ = kill(target, signal);
    // It is pending, and is delivered here.
    set_mask(Blocked(!bit(signal)));
    set_mask(mask);
    kernel_action(signal.number(), before.as_ref());
}

/// Gives the signals of a fault their default action: they end this process, but never reach PID 1.
pub fn leave_faults_to_the_kernel() {
    let faults = Signal::catchable().filter(|signal| signal.is_fault());
    let unblocked = faults.fold(0, |mask: Mask, signal| {
        kernel_action(signal.number(), Some(&Action::default()));
        mask | bit(signal)
    });
    set_mask(Blocked(!unblocked));
}

/// Makes ended children wait to be collected: while SIGCHLD is ignored the kernel collects them itself (wait(2)).
pub fn keep_zombies() {
    kernel_action(Signal::CHLD.number(), Some(&Action::default()));
}

/// The writing end of the pipe from [`note`] to [`Signals`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that found the pipe full, one bit each: first those of the kernel, then those of processes. None is lost.
static OVERFLOW: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// In the pipe, marks a signal that a process has sent.
const SENT_BY_PROCESS: u8 = 0x80;

/// The signals that reach rinit.
pub struct Signals {
    read: OwnedFd,
    _write: OwnedFd,
}

impl Signals {
    /// Catches every signal that can be caught, and unblocks them.
    ///
    /// # Errors
    /// The kernel has no pipe left, or refuses a handler.
    pub fn catch_all() -> io::Result<Signals> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
        for signal in Signal::catchable() {
            if signal == KEPT_BY_MUSL { catch_kept()? } else { catch(signal)? }
        }
        set_mask(Blocked(0));
        Ok(Signals { read, _write: write })
    }

    /// Returns the next signal that has arrived. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock`: none has.
    pub fn next(&self) -> io::Result<Caught> {
        for (overflow, sender) in OVERFLOW.iter().zip([Sender::Kernel, Sender::Process]) {
            let missed = overflow.load(Ordering::Relaxed);
            if let Some(signal) = Signal::new(missed.trailing_zeros() as i32 + 1).filter(|_| missed != 0) {
                overflow.fetch_and(!bit(signal), Ordering::Relaxed);
                return Ok(Caught { signal, sender });
            }
        }
        let mut byte = [0u8];
        nix::unistd::read(&self.read, &mut byte)?;
        let [byte] = byte;
        let sender = if byte & SENT_BY_PROCESS == 0 { Sender::Kernel } else { Sender::Process };
        let signal = Signal::new(i32::from(byte & !SENT_BY_PROCESS)).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Caught { signal, sender })
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

fn catch(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigAction(note), SaFlags::SA_RESTART | SaFlags::SA_ONSTACK, SigSet::all());
    let raw: libc::sigaction = action.into();
    // SAFETY: the handler makes only calls that `signal-safety(7)` allows. Not nix's call, which has no real-time signals.
    Errno::result(unsafe { libc::sigaction(signal.number(), &raw, std::ptr::null_mut()) })?;
    Ok(())
}

/// musl refuses a handler for 34, which it would use to change the user of all threads at once, and rinit never does. To
/// all other programs it is the first real-time signal. The kernel takes for it the action that musl made for another
/// signal, with the restorer that every handler needs to return. All signals are blocked meanwhile.
fn catch_kept() -> io::Result<()> {
    let lender = Signal::USR2;
    let before = kernel_action(lender.number(), None);
    catch(lender)?;
    let made = kernel_action(lender.number(), before.as_ref());
    let caught = made.and_then(|action| kernel_action(KEPT_BY_MUSL.number(), Some(&action)));
    caught.map(drop).ok_or_else(io::Error::last_os_error)
}

/// The handler: leaves `errno` as it was.
extern "C" fn note(number: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let errno = Errno::last();
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    if let Some(caught) = unsafe { info.as_ref() }.and_then(Caught::new) {
        take_note(number, caught);
    }
    errno.set();
}

fn take_note(number: i32, caught: Caught) {
    if caught.signal.is_fault() && caught.sender == Sender::Kernel {
        // Back to the default; on return the faulting instruction runs again and ends the program.
        kernel_action(number, Some(&Action::default()));
    } else {
        write_to_pipe(caught);
    }
}

/// Writes the signal, or notes that it could not.
fn write_to_pipe(Caught { signal, sender }: Caught) {
    let number = signal.number() as u8;
    let (byte, overflow) = match sender {
        Sender::Kernel => (number, &OVERFLOW[0]),
        Sender::Process => (number | SENT_BY_PROCESS, &OVERFLOW[1]),
    };
    // SAFETY: one byte is readable at that address.
    if unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) } != 1 {
        overflow.fetch_or(bit(signal), Ordering::Relaxed);
    }
}
