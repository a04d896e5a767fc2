//! Gives every process that a test starts the default signals and no descriptors beyond 2, however the tests themselves were
//! started, and ends a test program that hangs.
//!
//! Under `nohup`, in a script's background or below a supervisor some signals are ignored, and what is ignored stays so across
//! fork and exec. This runs before `main`, for the whole test program: each ignored signal gets a handler that does nothing. The
//! tests then survive it as before, and exec resets it to its default.
//!
//! Programs such as flock(1) leave a descriptor open in what they start. rinit would take it for a socket that was handed to it.
//!
//! Waits for a condition have a bound of their own. The bound here is for all others: reads, accepts, ends of children.
#![allow(unsafe_code)] // signals can be inspected and changed by system calls only

use nix::libc;

/// The longest that a whole test program may take, in seconds, also on a busy machine. SIGALRM ends it then; libtest has named
/// the tests that were still running.
const MAX_RUN: libc::c_uint = 25 * 60;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = prepare;

extern "C" fn prepare() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: sigaction(2) fills the structure that it is given, and reads the one that is zeroed and has a handler.
        // Numbers that cannot be caught are refused. Nothing else runs yet.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(number, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN {
                action = std::mem::zeroed();
                action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(number, &raw const action, std::ptr::null_mut());
            }
        }
    }
    // SAFETY: as above; a blocked signal is inherited like an ignored one. alarm(2) takes a number.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::alarm(MAX_RUN);
    }
    // SAFETY: no memory is passed, and nothing is closed before exec. A kernel before 5.11 refuses the flag.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

extern "C" fn do_nothing(_: libc::c_int) {}
