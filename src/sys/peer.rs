//! Checks the process at the other end of a socket.

use nix::errno::Errno;
use nix::sys::socket::UnixCredentials;
use nix::unistd::{Pid, getpgid};
use std::ffi::OsStr;
use std::io::ErrorKind;

/// The senders that may speak for a worker: its process group, its user, and root, in this PID namespace. A process outside
/// of it has no number here, and is not trusted.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The worker's process, which leads its group.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
}

impl Identity {
    /// True if the sender may speak for the worker.
    pub fn is_trusted(&self, sender: &UnixCredentials) -> bool {
        let is_in_group = || getpgid(Some(Pid::from_raw(sender.pid()))) == Ok(self.pid);
        sender.pid() > 0 && (sender.uid() == self.uid || sender.uid() == 0 || is_in_group())
    }
}

/// True if a process has one of these sockets open, given by their inodes (`proc_pid_fd(5)`). `None`: rinit may not look, as
/// at another user's process without `CAP_SYS_PTRACE`.
pub fn holds(pid: Pid, sockets: &[u64]) -> Option<bool> {
    let names: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    has_file(pid, |name| names.iter().any(|wanted| name == wanted.as_str()))
}

/// True if a process has an io_uring open: it may wait for connections without a call that anybody sees. `None` as for
/// [`holds`].
pub fn has_io_uring(pid: Pid) -> Option<bool> {
    has_file(pid, |name| name == "anon_inode:[io_uring]")
}

/// True if a process has a file open that `proc_pid_fd(5)` shows by such a name.
fn has_file(pid: Pid, is_it: impl Fn(&OsStr) -> bool) -> Option<bool> {
    let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(false),
        files => files.ok()?,
    };
    for file in files.flatten() {
        match std::fs::read_link(file.path()) {
            Ok(link) if is_it(link.as_os_str()) => return Some(true),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            // Another file, or one that was closed meanwhile.
            _ => {}
        }
    }
    Some(false)
}

/// True if there is a process of that number, be it a zombie.
pub fn exists(pid: Pid) -> bool {
    nix::sys::signal::kill(pid, None) != Err(Errno::ESRCH)
}
