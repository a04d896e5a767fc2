//! Starts a process: fork, the child's set-up, exec.
//!
//! Everything that needs memory is made ready before the fork. The child makes only calls that `signal-safety(7)`
//! allows, with every signal blocked until its handlers are gone, and reports a failure through a pipe. A pipe that closes
//! without a report means that the program runs. The parent never waits for that: it reads the pipe when it is readable.

use super::exec_error::Stage;
pub use super::exec_error::{ExecError, why_not_now, why_not_started};
use super::signals::{Inherited, block_all, set_mask};
use super::tty;
use super::user::Credentials;
use crate::core::Signal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// The search path of a child without `PATH`, as Docker sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A placeholder for the child's own number, which is known only after the fork: room for its ten digits.
pub const PID_PLACEHOLDER: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";

/// A program to run: the files that it may be, its arguments and its environment.
pub struct Program {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<Vec<u8>>,
}

/// The set-up of a child.
pub struct Setup<'a> {
    /// Descriptors for 0, 1 and 2; `None` leaves rinit's own.
    pub stdio: [Option<RawFd>; 3],
    /// Further descriptors and the numbers they are to have.
    pub pass: &'a [(RawFd, RawFd)],
    /// A group or session of its own.
    pub session: Session,
    /// Its user; `None`: rinit's.
    pub user: Option<&'a Credentials>,
    /// Its blocked and ignored signals.
    pub signals: Inherited,
    /// It gets the terminal's foreground.
    pub foreground: bool,
    /// Its score for the out-of-memory killer (`proc_pid_oom_score_adj(5)`); `None`: rinit's.
    pub oom_score_adj: Option<i32>,
    /// The signal that it gets when rinit dies.
    pub parent_death: Option<Signal>,
    /// What else is not as rinit's own.
    pub properties: &'a Properties,
}

/// Properties of a child; rinit's own where nothing is given.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// The working directory, which the child's user must be able to enter.
    pub cwd: Option<CString>,
    /// The mask of file modes (umask(2)).
    pub umask: Option<libc::mode_t>,
    /// The nice value (setpriority(2)).
    pub nice: Option<i32>,
    /// Resources with their soft and hard limits (setrlimit(2)).
    pub limits: Vec<(Resource, u64, u64)>,
}

/// The child's group or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A process group of its own.
    Group,
    /// A session of its own, with standard input as its terminal if it is one that no session has.
    New,
}

/// A child whose exec is under way.
pub struct Child {
    /// Its number, and that of its group.
    pub pid: Pid,
    /// Becomes readable when the program runs or could not be run: see [`exec_result`].
    pub outcome: OwnedFd,
}

impl Program {
    /// The program that `arguments[0]` names, looked for in the `PATH` of `environment` (`KEY=VALUE` each) as
    /// `execvp(3)` does.
    ///
    /// # Errors
    /// A word with a NUL byte, or no word at all.
    pub fn new(arguments: &[OsString], environment: &[OsString]) -> Result<Program, String> {
        let word = |word: &OsStr| CString::new(word.as_bytes()).map_err(|_| format!("{word:?} has a NUL byte"));
        let name = arguments.first().ok_or("no command")?;
        let path = environment.iter().find_map(|pair| pair.as_bytes().strip_prefix(b"PATH="));
        let candidates = match name.is_empty() || name.as_bytes().contains(&b'/') {
            true => vec![word(name)?],
            false => path
                .unwrap_or(DEFAULT_PATH.as_bytes())
                .split(|byte| *byte == b':')
                .map(|folder| if folder.is_empty() { &b"."[..] } else { folder })
                .map(|folder| word(OsStr::from_bytes(&[folder, b"/", name.as_bytes()].concat())))
                .collect::<Result<_, _>>()?,
        };
        let arguments = arguments.iter().map(|argument| word(argument)).collect::<Result<_, _>>()?;
        let environment =
            environment.iter().map(|pair| word(pair).map(CString::into_bytes_with_nul)).collect::<Result<_, _>>()?;
        Ok(Program { candidates, arguments, environment })
    }
}

/// Starts the program.
///
/// # Errors
/// The kernel has no room: `EAGAIN` (process limit), `ENOMEM`, `EMFILE`, `ENFILE`.
pub fn spawn(program: &mut Program, setup: &Setup) -> Result<Child, Errno> {
    let (outcome, mut report) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let null = std::ptr::null();
    let arguments: Vec<_> = program.arguments.iter().map(|word| word.as_ptr()).chain([null]).collect();
    // A file without `#!` is run by the shell, as execvp(3) does: sh FILE ARGUMENTS.
    let shell = c"/bin/sh".as_ptr();
    let script: Vec<_> = [shell, shell].into_iter().chain(arguments.iter().skip(1).copied()).collect();
    let placeholders = program.environment.iter_mut().filter_map(|pair| {
        let at = memchr::memmem::find(pair, PID_PLACEHOLDER.as_bytes())?;
        let place = pair.get_mut(at..)?;
        Some((place.as_mut_ptr(), place.len() - PID_PLACEHOLDER.len()))
    });
    let placeholders = placeholders.collect();
    let environment: Vec<_> =
        program.environment.iter_mut().map(|pair| pair.as_mut_ptr()).chain([std::ptr::null_mut()]).collect();
    let stdio = setup.stdio.iter().zip(0..).filter_map(|(from, to)| from.map(|from| (from, to)));
    let descriptors: Vec<(RawFd, RawFd)> = stdio.chain(setup.pass.iter().copied()).collect();
    let above_all = descriptors.iter().map(|(_, to)| to + 1).fold(3, i32::max);
    if report.as_raw_fd() < above_all {
        // Out of the way of the child's descriptors; here, where a failure can still be reported.
        report = move_up(report.as_raw_fd(), above_all)?;
    }
    let mut prepared = Prepared {
        candidates: program.candidates.iter().map(|path| path.as_ptr()).collect(),
        above_all,
        descriptors,
        oom_score_adj: setup.oom_score_adj.map(|score| score.to_string()),
        arguments,
        script,
        environment,
        placeholders,
    };

    let before = block_all();
    // SAFETY: the child calls nothing but `run`, which keeps to what `signal-safety(7)` allows.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        run(setup, &mut prepared, report.as_raw_fd());
    }
    set_mask(before);
    match forked? {
        ForkResult::Parent { child } => {
            // The child does the same: whichever comes first, a signal to the group finds it.
            if setup.session == Session::Group {
                let _ = nix::unistd::setpgid(child, child);
            }
            Ok(Child { pid: child, outcome })
        }
        ForkResult::Child => Err(Errno::ECHILD),
    }
}

/// The result of the exec: `None` while it is under way. Never blocks.
pub fn exec_result(outcome: &OwnedFd) -> Option<Result<(), ExecError>> {
    let mut word = [0u8; 5];
    match nix::unistd::read(outcome, &mut word) {
        Ok(0) => Some(Ok(())),
        Ok(_) => {
            let [stage, errno @ ..] = word;
            let stage = match stage {
                1 => Stage::Descriptors,
                2 => Stage::Session,
                3 => Stage::User,
                4 => Stage::Limits,
                5 => Stage::Directory,
                _ => Stage::Exec,
            };
            Some(Err(ExecError { stage, errno: Errno::from_raw(i32::from_ne_bytes(errno)) }))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        // The pipe is broken, which says nothing of the child; its exit will.
        Err(_) => Some(Ok(())),
    }
}

/// `kill(2)`: to a process, to a group if negative, or to all if -1.
///
/// # Errors
/// `ESRCH`: no such process; `EPERM`: this process may signal none of them.
pub fn kill(target: Pid, signal: Signal) -> nix::Result<()> {
    // SAFETY: no memory is passed. Not nix's kill, which knows no real-time signals.
    Errno::result(unsafe { libc::kill(target.as_raw(), signal.number()) }).map(drop)
}

/// Everything that the child needs and must not allocate.
struct Prepared {
    candidates: Vec<*const libc::c_char>,
    arguments: Vec<*const libc::c_char>,
    script: Vec<*const libc::c_char>,
    environment: Vec<*mut u8>,
    /// The placeholders for the child's number, each with the number of bytes that follow it.
    placeholders: Vec<(*mut u8, usize)>,
    /// Each descriptor, and the number that it is to have.
    descriptors: Vec<(RawFd, RawFd)>,
    /// Higher than every number that a descriptor is to have.
    above_all: RawFd,
    oom_score_adj: Option<String>,
}

/// The child, from fork to exec.
fn run(setup: &Setup, prepared: &mut Prepared, report: RawFd) -> ! {
    let (stage, errno) = become_program(setup, prepared);
    let [a, b, c, d] = (errno as i32).to_ne_bytes();
    let word = [stage as u8, a, b, c, d];
    // SAFETY: five bytes are readable there, and `_exit` runs nothing of the parent's.
    unsafe {
        libc::write(report, word.as_ptr().cast(), word.len());
        libc::_exit(127)
    }
}

/// Sets the calling process up and becomes the program. Returns only when something failed.
fn become_program(setup: &Setup, prepared: &mut Prepared) -> (Stage, Errno) {
    match setup.session {
        Session::Group => {
            // It fails only when the parent has done it already.
            let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
        }
        Session::New => {
            if let Err(errno) = nix::unistd::setsid() {
                return (Stage::Session, errno);
            }
            tty::take_terminal();
        }
    }
    if setup.foreground {
        tty::give_foreground_to_self();
    }
    if let Err(errno) = place_descriptors(prepared) {
        return (Stage::Descriptors, errno);
    }
    if let Some(score) = &prepared.oom_score_adj {
        raise_oom_score(score);
    }
    super::fd_limit::restore_limit();
    if let Err(errno) = set_limits(setup.properties) {
        return (Stage::Limits, errno);
    }
    if let Some(user) = setup.user
        && let Err(errno) = become_user(user)
    {
        return (Stage::User, errno);
    }
    if let Some(umask) = setup.properties.umask {
        // SAFETY: no memory is passed.
        unsafe { libc::umask(umask) };
    }
    if let Some(cwd) = &setup.properties.cwd
        // SAFETY: the path ends with a NUL.
        && let Err(errno) = Errno::result(unsafe { libc::chdir(cwd.as_ptr()) })
    {
        return (Stage::Directory, errno);
    }
    if let Some(signal) = setup.parent_death {
        // SAFETY: prctl(2) with plain numbers. After the change of user, which would clear it.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) };
    }
    prepared.placeholders.iter().for_each(|(place, tail)| write_own_pid(*place, *tail));
    setup.signals.restore();
    (Stage::Exec, exec(prepared))
}

/// Moves descriptors out of each other's places, then each to its own.
fn place_descriptors(prepared: &mut Prepared) -> Result<(), Errno> {
    for at in 0..prepared.descriptors.len() {
        let places = &prepared.descriptors;
        let Some((from, _)) = places.get(at).copied() else { break };
        if places.iter().any(|(_, to)| *to == from) {
            // SAFETY: no memory is passed.
            let moved = Errno::result(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, prepared.above_all) })?;
            prepared.descriptors.iter_mut().filter(|(other, _)| *other == from).for_each(|(other, _)| *other = moved);
        }
    }
    for (from, to) in &prepared.descriptors {
        // SAFETY: no memory is passed; the file at `to` is not used by this process any more.
        Errno::result(unsafe { libc::dup2(*from, *to) })?;
    }
    Ok(())
}

/// A copy of the descriptor with a number from `least` on.
fn move_up(descriptor: RawFd, least: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed; the new descriptor has no other owner.
    unsafe {
        let moved = Errno::result(libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, least))?;
        Ok(OwnedFd::from_raw_fd(moved))
    }
}

/// A process may raise its own score without a privilege. Without /proc it stays.
fn raise_oom_score(score: &str) {
    // SAFETY: the path ends with a NUL, and the score is readable for its length.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, score.as_ptr().cast(), score.len());
            libc::close(file);
        }
    }
}

/// Sets the nice value and the limits, while the child may still raise them.
fn set_limits(properties: &Properties) -> Result<(), Errno> {
    if let Some(nice) = properties.nice {
        // SAFETY: no memory is passed.
        Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    }
    properties.limits.iter().try_for_each(|(resource, soft, hard)| setrlimit(*resource, *soft, *hard))
}

/// The raw system calls: the C library's functions would first talk to its other threads, which the child has not.
fn become_user(user: &Credentials) -> Result<(), Errno> {
    let groups: *const nix::unistd::Gid = user.groups.as_ptr();
    // SAFETY: `Gid` is a transparent wrapper of the kernel's gid_t, and the list lives in the parent's memory.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, user.groups.len(), groups))?;
        Errno::result(libc::syscall(libc::SYS_setgid, user.gid.as_raw()))?;
        Errno::result(libc::syscall(libc::SYS_setuid, user.uid.as_raw()))?;
    }
    Ok(())
}

/// Writes the caller's number into a [`PID_PLACEHOLDER`], and moves the rest of the variable up.
fn write_own_pid(place: *mut u8, tail: usize) {
    let mut number = std::process::id();
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    for at in (0..digits).rev() {
        // SAFETY: a process number has at most ten digits, and so has the placeholder.
        unsafe { *place.add(at) = b'0' + (number % 10) as u8 };
        number /= 10;
    }
    // SAFETY: `tail` bytes follow the placeholder, the NUL among them.
    unsafe { std::ptr::copy(place.add(PID_PLACEHOLDER.len()), place.add(digits), tail) };
}

/// Tries each file as `execvp(3)` does, and skips directories that are missing, on a dead mount, or too long a name. Returns
/// only when none can be run.
fn exec(prepared: &mut Prepared) -> Errno {
    let environment = prepared.environment.as_ptr().cast::<*const libc::c_char>();
    let mut denied = false;
    for candidate in &prepared.candidates {
        // SAFETY: the vectors end with a null pointer and point to strings that end with a NUL, all of them alive.
        unsafe { libc::execve(*candidate, prepared.arguments.as_ptr(), environment) };
        let mut errno = Errno::last();
        if errno == Errno::ENOEXEC
            && let Some(file) = prepared.script.get_mut(1)
        {
            *file = *candidate;
            // SAFETY: as above.
            unsafe { libc::execve(c"/bin/sh".as_ptr(), prepared.script.as_ptr(), environment) };
            errno = Errno::ENOEXEC;
        }
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT | Errno::ENOTCONN | Errno::EHOSTDOWN => {}
            Errno::ENAMETOOLONG if prepared.candidates.len() > 1 => {}
            Errno::EACCES => denied = true,
            other => return other,
        }
    }
    if denied { Errno::EACCES } else { Errno::ENOENT }
}
