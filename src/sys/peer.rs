//! Checks the process at the other end of a socket.

use nix::errno::Errno;
use nix::sys::socket::UnixCredentials;
use nix::unistd::{Pid, getpgid};
use std::ffi::OsStr;
use std::fs::{read_dir, read_link, read_to_string};
use std::io::ErrorKind;
use std::path::Path;

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
    has_file(pid, |name, _| names.iter().any(|wanted| name == wanted.as_str()))
}

/// True if a process has an io_uring with a request that waits for connections, or maybe one: where the kernel lists no
/// requests, a ring is enough. `None` as for [`holds`].
pub fn may_accept_by_io_uring(pid: Pid) -> Option<bool> {
    has_file(pid, |name, number| {
        name == "anon_inode:[io_uring]"
            && read_to_string(Path::new(&format!("/proc/{pid}/fdinfo")).join(number))
                .is_ok_and(|info| may_accept(&info))
    })
}

/// True if a ring has a request that waits for connections, or does not list its requests, by its page in `/proc/PID/fdinfo`
/// (`io_uring_show_fdinfo` of the kernel, since 5.9).
fn may_accept(info: &str) -> bool {
    /// `IORING_OP_POLL_ADD` and `IORING_OP_ACCEPT` of linux/io_uring.h.
    const WAITS: [&str; 2] = ["op=6,", "op=13,"];
    let Some((_, requests)) = info.split_once("PollList:\n") else { return true };
    let mut operations = requests.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    operations.any(|operation| WAITS.contains(&operation))
}

/// True if a process has a file open that `is_it` knows by the name that `proc_pid_fd(5)` shows and by its number.
fn has_file(pid: Pid, is_it: impl Fn(&OsStr, &OsStr) -> bool) -> Option<bool> {
    let files = match read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(false),
        files => files.ok()?,
    };
    for file in files.flatten() {
        match read_link(file.path()) {
            Ok(link) if is_it(link.as_os_str(), &file.file_name()) => return Some(true),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_accepts_if_one_of_its_requests_waits_for_connections() {
        let page = |requests: &str| format!("SqMask:\t0x7\nUserBufs:\t0\nPollList:\n{requests}CqOverflowList:\n");
        assert!(may_accept(&page("  op=22, task_works=0\n  op=13, task_works=0\n")));
        assert!(may_accept(&page("  op=6, task_works=1\n")));
        assert!(!may_accept(&page("")), "such as libuv's, which has other uses for it");
        assert!(!may_accept(&page("  op=27, task_works=0\n")));
        assert!(may_accept("SqMask:\t0x7\n"), "a kernel that lists no requests");
    }
}
