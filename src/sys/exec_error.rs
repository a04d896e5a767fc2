//! Explains why a program could not be started.

use nix::errno::Errno;

/// The reason why the child could not become the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecError {
    pub(super) stage: Stage,
    pub(super) errno: Errno,
}

/// The step of the child's set-up that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Descriptors = 1,
    Session,
    User,
    Limits,
    Directory,
    Exec,
}

/// The limit of the container or the user that keeps a process from starting now, but perhaps not later; `None`: the
/// error is of another kind.
pub fn why_not_now(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EAGAIN => Some("the limit on processes is reached (docker run --pids-limit, ulimit -u)"),
        Errno::EMFILE | Errno::ENFILE => Some("the limit on open files is reached (ulimit -n)"),
        Errno::ENOMEM => Some("there is no memory left for a process (docker run --memory)"),
        Errno::ETXTBSY => Some("the program's file is still being written"),
        _ => None,
    }
}

/// The reason why that step of a start failed: a limit, or a refusal of the kernel, for which a seccomp filter is the usual
/// cause.
pub fn why_not_started(step: &str, errno: Errno) -> String {
    match why_not_now(errno) {
        Some(limit) => limit.into(),
        None => format!("rinit cannot {step}: {}; the container's seccomp profile may forbid it", errno.desc()),
    }
}

impl ExecError {
    /// The limit that was reached, if that is what failed.
    pub fn not_now(&self) -> Option<&'static str> {
        why_not_now(self.errno)
    }

    /// The exit status that a shell would give: 127 when there is no such program, else 126.
    pub fn status(&self) -> u8 {
        if self.is_missing() { 127 } else { 126 }
    }

    fn is_missing(&self) -> bool {
        self.stage == Stage::Exec && matches!(self.errno, Errno::ENOENT | Errno::ENOTDIR)
    }

    /// A message: what failed, on what, why, and what to do.
    pub fn explain(&self, program: &str) -> String {
        let why = self.not_now().unwrap_or(self.errno.desc());
        match self.stage {
            Stage::Exec if self.is_missing() && program.contains('/') => {
                format!(
                    "cannot run {program}: no such file, or the interpreter or loader that it names is not in this image (in a script with \
                     CRLF line ends, the name ends with CR)"
                )
            }
            Stage::Exec if self.is_missing() => {
                format!(
                    "cannot run {program}: not found in PATH, or the interpreter or loader that it names is not in this image"
                )
            }
            Stage::Exec if self.errno == Errno::EACCES => {
                format!(
                    "cannot run {program}: it, or the interpreter that it names, is not executable for this user: chmod +x, or see the \
                     mount's noexec"
                )
            }
            Stage::Exec => format!("cannot run {program}: {why}"),
            Stage::Descriptors => format!("cannot hand {program} its files and sockets: {why}"),
            Stage::Session => format!("cannot give {program} a session of its own: {why}"),
            Stage::Limits => {
                format!(
                    "cannot start {program} with its nice value and limits: {why}: to raise them takes CAP_SYS_NICE and CAP_SYS_RESOURCE"
                )
            }
            Stage::Directory => format!("cannot start {program} in its working directory (cwd): {why}"),
            Stage::User => format!("cannot run {program} as another user: {why}: it needs CAP_SETUID and CAP_SETGID"),
        }
    }
}
