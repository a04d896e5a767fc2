//! Reads and hands over a terminal's foreground group, and reads its size.

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::os::fd::{BorrowedFd, RawFd};

/// True if standard input is the session's terminal.
pub fn is_controlling() -> bool {
    foreground().is_some()
}

/// True if this process' group is the foreground of the terminal that standard input is.
pub fn owns_foreground() -> bool {
    foreground() == Some(getpgrp())
}

/// True if a standard descriptor is a terminal that has hung up. May be called in a signal handler.
pub fn is_hung_up() -> bool {
    (0..=2).any(|descriptor| {
        let mut group: libc::pid_t = 0;
        // SAFETY: one number is written to. Such a terminal answers every request with EIO, a file with ENOTTY.
        let result = unsafe { libc::ioctl(descriptor, libc::TIOCGPGRP, &raw mut group) };
        result < 0 && Errno::last() == Errno::EIO
    })
}

/// Takes the foreground for this process' group, if that group has it. SIGTTOU must be blocked.
pub fn take_foreground_from(group: Pid) {
    if foreground() == Some(group) {
        let _ = tcsetpgrp(stdin(), getpgrp());
    }
}

/// Gives this process' foreground to a group. SIGTTOU must be blocked.
pub fn give_foreground_to(group: Pid) {
    let _ = tcsetpgrp(stdin(), group);
}

/// Gives the foreground to the calling process' group: for a child between fork and exec, with SIGTTOU blocked. That
/// it fails (no terminal, one of another session, a file) is no reason not to run.
pub(super) fn give_foreground_to_self() {
    give_foreground_to(nix::unistd::getpid());
}

/// The group in the foreground; `None`: standard input is no terminal of this session.
fn foreground() -> Option<Pid> {
    tcgetpgrp(stdin()).ok()
}

/// The number of columns of the terminal that standard output is.
pub fn width() -> Option<u16> {
    size().map(|(columns, _)| columns)
}

/// Columns and rows of the terminal that standard output is (`TIOCGWINSZ`, ioctl_tty(2)).
pub fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: one winsize is written to.
    let result = unsafe { libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) };
    // A terminal that was never told its size says 0.
    (result == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Gives the controlling terminal up, for a child that makes a session of its own. True if there was one.
pub fn give_up_terminal() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::ioctl(0, libc::TIOCNOTTY) == 0 }
}

/// Makes standard input the controlling terminal of the calling process' new session.
pub(super) fn take_terminal() {
    // SAFETY: no memory is passed.
    unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
}

fn stdin() -> BorrowedFd<'static> {
    const STDIN: RawFd = 0;
    // SAFETY: rinit never closes descriptor 0; if it was closed at start, the calls fail.
    unsafe { BorrowedFd::borrow_raw(STDIN) }
}
