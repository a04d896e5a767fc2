//! Starting a process: fork, the child's set-up, exec.
//!
//! Everything that needs memory is made ready before the fork. The child makes only calls that `signal-safety(7)`
//! allows, with every signal blocked until its handlers are gone, and tells through a pipe what failed; the pipe's end
//! without a word means that the program runs. The parent never waits for that: it reads the pipe when it has
//! something to say.

use super::signals::{Inherited, block_all, set_mask};
use super::tty;
use super::user::Credentials;
use crate::core::Signal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Where programs are looked for when the child has no `PATH`, as Docker sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Stands in a variable for the child's own number, which is known only after the fork: room for its ten digits.
pub const PID_ROOM: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";

/// A program to run: where it may be, its arguments and its environment.
pub struct Program {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<Vec<u8>>,
}

/// What the child is to find.
pub struct Setup<'a> {
    /// Descriptors for 0, 1 and 2; `None` leaves rinit's own.
    pub stdio: [Option<RawFd>; 3],
    /// Further descriptors and the numbers they are to have.
    pub pass: &'a [(RawFd, RawFd)],
    /// A group or session of its own.
    pub session: Session,
    /// Who it runs as; `None`: as rinit.
    pub user: Option<&'a Credentials>,
    /// Its signals.
    pub signals: Inherited,
    /// Whether it gets the terminal's foreground.
    pub foreground: bool,
    /// Its score for the out-of-memory killer (`proc_pid_oom_score_adj(5)`); `None`: rinit's.
    pub oom_score_adj: Option<i32>,
    /// What it gets when rinit dies.
    pub parent_death: Option<Signal>,
}

/// The child's group or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A process group of its own.
    Group,
    /// A session of its own, with standard input as its terminal if it is one and nobody else's.
    New,
}

/// A child whose exec is under way.
pub struct Child {
    /// Its number, and that of its group.
    pub pid: Pid,
    /// Becomes readable when the program runs or could not be run: see [`exec_result`].
    pub outcome: OwnedFd,
}

/// Why the child could not become the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecError {
    stage: Stage,
    errno: Errno,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Descriptors = 1,
    Session,
    User,
    Exec,
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
    let rooms = program.environment.iter_mut().filter_map(|pair| {
        let at = memchr::memmem::find(pair, PID_ROOM.as_bytes())?;
        let room = pair.get_mut(at..)?;
        Some((room.as_mut_ptr(), room.len() - PID_ROOM.len()))
    });
    let rooms = rooms.collect();
    let environment: Vec<_> =
        program.environment.iter_mut().map(|pair| pair.as_mut_ptr()).chain([std::ptr::null_mut()]).collect();
    let stdio = setup.stdio.iter().zip(0..).filter_map(|(from, to)| from.map(|from| (from, to)));
    let descriptors: Vec<(RawFd, RawFd)> = stdio.chain(setup.pass.iter().copied()).collect();
    let above_all = descriptors.iter().map(|(_, to)| to + 1).fold(3, i32::max);
    if report.as_raw_fd() < above_all {
        // Out of the way of what the child is to have; here, where a failure can still be told.
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
        rooms,
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
            // The child does the same; whoever is first, a signal to the group finds it.
            if setup.session == Session::Group {
                let _ = nix::unistd::setpgid(child, child);
            }
            Ok(Child { pid: child, outcome })
        }
        ForkResult::Child => Err(Errno::ECHILD),
    }
}

/// What came of the exec: `None` while it is under way. Never blocks.
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
                _ => Stage::Exec,
            };
            Some(Err(ExecError { stage, errno: Errno::from_raw(i32::from_ne_bytes(errno)) }))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        // The pipe is broken in a way that says nothing of the child, whose exit will tell.
        Err(_) => Some(Ok(())),
    }
}

/// `kill(2)`: to a process, to a group if negative, or to all if -1.
///
/// # Errors
/// `ESRCH`: nobody is there; `EPERM`: nobody there may be signalled.
pub fn kill(target: Pid, signal: Signal) -> nix::Result<()> {
    // SAFETY: no memory is passed. Not nix's kill, which knows no real-time signals.
    Errno::result(unsafe { libc::kill(target.as_raw(), signal.number()) }).map(drop)
}

/// Why a process cannot be had now, and may be later: a limit of the container or the user, named; or `None` when the
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

impl ExecError {
    /// Why the kernel had no room for it, if that is what failed.
    pub fn not_now(&self) -> Option<&'static str> {
        why_not_now(self.errno)
    }

    /// What a shell would give: 127 when there is no such program, else 126.
    pub fn status(&self) -> u8 {
        if self.is_missing() { 127 } else { 126 }
    }

    fn is_missing(&self) -> bool {
        self.stage == Stage::Exec && matches!(self.errno, Errno::ENOENT | Errno::ENOTDIR)
    }

    /// What failed, on what, why, and what to do.
    pub fn explain(&self, program: &str) -> String {
        let why = self.errno.desc();
        match self.stage {
            Stage::Exec if self.is_missing() && program.contains('/') => {
                format!(
                    "cannot run {program}: no such file, or the interpreter or loader that it names is not in this image"
                )
            }
            Stage::Exec if self.is_missing() => format!("cannot run {program}: not found in PATH"),
            Stage::Exec if self.errno == Errno::EACCES => {
                format!(
                    "cannot run {program}: not executable, or not permitted for this user: chmod +x, or see the mount's noexec"
                )
            }
            Stage::Exec => format!("cannot run {program}: {why}"),
            Stage::Descriptors => format!("cannot hand {program} its files and sockets: {why}"),
            Stage::Session => format!("cannot give {program} a session of its own: {why}"),
            Stage::User => format!("cannot run {program} as another user: {why}: it needs CAP_SETUID and CAP_SETGID"),
        }
    }
}

/// All that the child needs and must not allocate.
struct Prepared {
    candidates: Vec<*const libc::c_char>,
    arguments: Vec<*const libc::c_char>,
    script: Vec<*const libc::c_char>,
    environment: Vec<*mut u8>,
    /// Where the child writes its number, and how many bytes follow the room.
    rooms: Vec<(*mut u8, usize)>,
    /// From and to.
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

/// Makes the calling process what the set-up says; returns only when something failed, and says what.
fn become_program(setup: &Setup, prepared: &mut Prepared) -> (Stage, Errno) {
    match setup.session {
        Session::Group => {
            // It fails only where the parent has done it already.
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
    if let Some(user) = setup.user
        && let Err(errno) = become_user(user)
    {
        return (Stage::User, errno);
    }
    if let Some(signal) = setup.parent_death {
        // SAFETY: prctl(2) with plain numbers. After the change of user, which would clear it.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) };
    }
    prepared.rooms.iter().for_each(|(room, tail)| write_own_pid(*room, *tail));
    super::descriptors::restore_limit();
    setup.signals.restore();
    (Stage::Exec, exec(prepared))
}

/// First those away that are in another's place, then each to its own.
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
        // SAFETY: no memory is passed; what `to` was is not used by this process any more.
        Errno::result(unsafe { libc::dup2(*from, *to) })?;
    }
    Ok(())
}

/// A copy of the descriptor with a number from `least` on.
fn move_up(descriptor: RawFd, least: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed; the new descriptor is nobody else's.
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

/// Writes the caller's number into a [`PID_ROOM`], and moves what follows it up.
fn write_own_pid(room: *mut u8, tail: usize) {
    let mut number = std::process::id();
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    for at in (0..digits).rev() {
        // SAFETY: a process number has at most ten digits, and so has the room.
        unsafe { *room.add(at) = b'0' + (number % 10) as u8 };
        number /= 10;
    }
    // SAFETY: `tail` bytes follow the room, the NUL among them.
    unsafe { std::ptr::copy(room.add(PID_ROOM.len()), room.add(digits), tail) };
}

/// Tries each place as `execvp(3)` does. Returns only when none will do.
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
            Errno::EACCES => denied = true,
            other => return other,
        }
    }
    if denied { Errno::EACCES } else { Errno::ENOENT }
}
