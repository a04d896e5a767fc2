//! Interposes the functions by which a program waits for connections: `accept`, `poll` and others. `registry.rs` says why.
//!
//! Each calls the C library's own function: these are cancellation points (`pthreads(7)`), and another preloaded library may
//! interpose them too. Where that function is not found (a program of glibc before 2.34 without libdl) it is the system call.

use crate::accept_queue;
use crate::registry::{known, on_accept, on_poll};
use crate::syscalls::*;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

// `dlsym`, or null where the program has none: `extern` alone would keep such a program from starting.
core::arch::global_asm!(
    ".weak dlsym",
    ".pushsection .data.rel.ro.rinit_dlsym, \"aw\"",
    ".balign 8",
    ".hidden rinit_dlsym",
    ".globl rinit_dlsym",
    "rinit_dlsym: .quad dlsym",
    ".popsection"
);

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> usize;

unsafe extern "C" {
    static rinit_dlsym: Option<Dlsym>;
}

/// The address of the next library's function of that name, or 0.
#[inline(never)]
fn next(cache: &AtomicUsize, name: &CStr) -> usize {
    let mut found = cache.load(Relaxed);
    // SAFETY: written by the loader only.
    if let (0, Some(dlsym)) = (found, unsafe { rinit_dlsym }) {
        const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;
        // SAFETY: as `dlsym(3)`.
        found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
        cache.store(found, Relaxed);
    }
    found
}

/// Calls the C library's function, or makes the system call that is given after `else`.
macro_rules! next {
    ($name:ident ( $($argument:expr => $type:ty),* ) else $call:expr) => {{
        static CACHE: AtomicUsize = AtomicUsize::new(0);
        const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => unreachable!(),
        };
        match next(&CACHE, NAME) {
            0 => returned($call),
            // SAFETY: that is the function's type.
            found => unsafe {
                let found: unsafe extern "C" fn($($type),*) -> c_int = core::mem::transmute(found);
                found($($argument),*)
            },
        }
    }};
}

/// # Safety
/// As `accept(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise.
    if let Some(taken) = unsafe { accept_queue::take(fd, address, length, 0) } {
        return returned(taken);
    }
    accept_with(fd, || {
        // SAFETY: as `accept(2)`, by the caller's promise.
        let plain = || unsafe { call(SYS_ACCEPT, [word(fd), address as usize, length as usize]) };
        next!(accept(fd => c_int, address => *mut u8, length => *mut c_uint) else plain())
    })
}

/// # Safety
/// As `accept(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    if let Some(taken) = unsafe { accept_queue::take(fd, address, length, flags) } {
        return returned(taken);
    }
    accept_with(fd, || {
        // SAFETY: as `accept(2)`, by the caller's promise.
        let plain = || unsafe { call(SYS_ACCEPT4, [word(fd), address as usize, length as usize, word(flags)]) };
        next!(accept4(fd => c_int, address => *mut u8, length => *mut c_uint, flags => c_int) else plain())
    })
}

/// Accepts a connection, and blocks if the program expects that.
fn accept_with(fd: c_int, attempt: impl Fn() -> c_int) -> c_int {
    on_accept(fd);
    let before = errno();
    let mut has_waited = false;
    loop {
        let result = attempt();
        if result >= 0 {
            set_errno(before);
        }
        if result >= 0 || errno() != EAGAIN || has_waited || !known(fd).is_some_and(|entry| entry.accept_blocks()) {
            return result;
        }
        let limit = option::<Time>(fd, SOL_SOCKET, SO_RCVTIMEO).filter(|limit| *limit != [0, 0]);
        let interrupts = is_interrupted();
        let time = limit.map(|[seconds, micros]| [seconds, micros * 1000]);
        let time = time.as_ref().map_or(core::ptr::null(), |time| time as *const Time);
        let mut readable = Poll(fd, POLLIN, 0);
        // SAFETY: the pointers are valid until the call is over.
        match unsafe { wait(&mut readable, 1, time, core::ptr::null()) } {
            0 => {
                set_errno(EAGAIN);
                return -1;
            }
            // A program that has set a timeout expects EAGAIN: if another worker is faster now, that comes somewhat early.
            1.. => has_waited = limit.is_some(),
            _ if errno() != EINTR || limit.is_some() || interrupts || is_interrupted() => return -1,
            _ => {}
        }
    }
}

/// Returns true if a signal may end the thread's `accept` (`signal(7)`): one of its handlers lacks `SA_RESTART`.
///
/// The kernel decides by the handler that has run, and this library cannot find out which one that was. But a program with
/// such a handler copes with EINTR, and may depend on it; a program without one never sees EINTR. This is called before the
/// wait too, because `SA_RESETHAND` removes the handler.
fn is_interrupted() -> bool {
    /// Signals of faults (ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS), which do not occur while a thread waits.
    const FAULTS: u64 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 30;
    let mut blocked = 0u64;
    // SAFETY: there is room for a set of signals.
    unsafe { call(SYS_RT_SIGPROCMASK, [0, 0, &raw mut blocked as usize, SIGNAL_SET]) };
    (0..64).filter(|bit| (blocked | FAULTS) >> bit & 1 == 0).any(|bit| {
        // The kernel's `struct sigaction`: handler, flags, restorer, mask.
        let mut action = [0u64; 4];
        // SAFETY: there is room for it.
        let result = unsafe { call(SYS_RT_SIGACTION, [bit + 1, 0, &raw mut action as usize, SIGNAL_SET]) };
        let [handler, flags, ..] = action;
        // 0 and 1: SIG_DFL, SIG_IGN.
        result == 0 && handler > 1 && flags & SA_RESTART == 0
    })
}

/// # Safety
/// As `poll(2)`.
unsafe fn note_polled(all: *const Poll, count: usize) {
    let is_read = |one: &&Poll| one.0 >= 0 && one.1 & (POLLIN | POLLRDNORM) != 0;
    // SAFETY: the caller's promise; a null has no entries.
    let all = if all.is_null() { &[] } else { unsafe { core::slice::from_raw_parts(all, count) } };
    on_poll(all.iter().filter(is_read).map(|one| one.0));
}

/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(all: *mut Poll, count: usize, milliseconds: c_int) -> c_int {
    let part = i64::from(milliseconds);
    let time = [part / 1000, part % 1000 * 1_000_000];
    let time = if milliseconds < 0 { core::ptr::null() } else { &raw const time };
    // SAFETY: the caller's promise.
    unsafe { note_polled(all, count) };
    // SAFETY: the caller's promise.
    let plain = || unsafe { call(SYS_PPOLL, [all as usize, count, time as usize, 0, SIGNAL_SET]) };
    next!(poll(all => *mut Poll, count => usize, milliseconds => c_int) else plain())
}

/// # Safety
/// As `ppoll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(all: *mut Poll, count: usize, time: *const Time, mask: *const u64) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { note_polled(all, count) };
    // SAFETY: the caller's promise.
    unsafe { wait(all, count, time, mask) }
}

/// # Safety
/// As `ppoll(2)`.
unsafe fn wait(all: *mut Poll, count: usize, time: *const Time, mask: *const u64) -> c_int {
    let plain = || {
        // The kernel writes what is left of the time, which this function does not.
        // SAFETY: the caller's promise.
        let mut left = unsafe { time.as_ref() }.copied();
        let left = left.as_mut().map_or(0, |left| left as *mut Time as usize);
        // SAFETY: the caller's promise.
        unsafe { call(SYS_PPOLL, [all as usize, count, left, mask as usize, SIGNAL_SET]) }
    };
    next!(ppoll(all => *mut Poll, count => usize, time => *const Time, mask => *const u64) else plain())
}

/// `poll` of a program that glibc's headers check (`_FORTIFY_SOURCE`).
///
/// # Safety
/// As `poll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(all: *mut Poll, count: usize, milliseconds: c_int, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { note_polled(all, count.min(size / size_of::<Poll>())) };
    // SAFETY: the caller's promise.
    let plain = || unsafe { poll(all, count, milliseconds) } as isize;
    next!(__poll_chk(all => *mut Poll, count => usize, milliseconds => c_int, size => usize) else plain())
}

/// # Safety
/// As `ppoll(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    all: *mut Poll,
    count: usize,
    time: *const Time,
    mask: *const u64,
    size: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { note_polled(all, count.min(size / size_of::<Poll>())) };
    // SAFETY: the caller's promise.
    let plain = || unsafe { ppoll(all, count, time, mask) } as isize;
    next!(__ppoll_chk(all => *mut Poll, count => usize, time => *const Time, mask => *const u64, size => usize)
        else plain())
}

/// # Safety
/// As `select(2)`.
unsafe fn note_selected(end: c_int, read: *const u64) {
    // SAFETY: the caller's promise: a set has a bit for each number below `end`.
    let is_in = |fd: &c_int| unsafe { *read.add(*fd as usize / 64) } >> (fd % 64) & 1 == 1;
    on_poll(if read.is_null() { 0..0 } else { 0..end }.filter(is_in));
}

/// # Safety
/// As `select(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    end: c_int,
    read: *mut u64,
    write: *mut u64,
    except: *mut u64,
    time: *mut Time,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { note_selected(end, read) };
    let plain = || {
        // SAFETY: the caller's promise.
        let given = unsafe { time.as_mut() };
        let mut left = match &given {
            Some([seconds, micros]) if *seconds < 0 || *micros < 0 => return -(EINVAL as isize),
            Some([seconds, micros]) => [seconds.saturating_add(micros / 1_000_000), micros % 1_000_000 * 1000],
            None => [0, 0],
        };
        let left_at = if given.is_some() { &raw mut left as usize } else { 0 };
        let sets = [read, write, except].map(|set| set as usize);
        // SAFETY: the caller's promise.
        let result = unsafe { call(SYS_PSELECT6, [word(end), sets[0], sets[1], sets[2], left_at, 0]) };
        if let Some(given) = given {
            *given = [left[0], left[1] / 1000];
        }
        result
    };
    next!(select(end => c_int, read => *mut u64, write => *mut u64, except => *mut u64, time => *mut Time)
        else plain())
}

/// # Safety
/// As `pselect(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    end: c_int,
    read: *mut u64,
    write: *mut u64,
    except: *mut u64,
    time: *const Time,
    mask: *const u64,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { note_selected(end, read) };
    let plain = || {
        // SAFETY: the caller's promise. The kernel writes what is left, which this function does not.
        let mut left = unsafe { time.as_ref() }.copied();
        let left = left.as_mut().map_or(0, |left| left as *mut Time as usize);
        let signals = [mask as usize, SIGNAL_SET];
        let sets = [read, write, except].map(|set| set as usize);
        let arguments = [word(end), sets[0], sets[1], sets[2], left, &raw const signals as usize];
        // SAFETY: the caller's promise.
        unsafe { call(SYS_PSELECT6, arguments) }
    };
    next!(pselect(end => c_int, read => *mut u64, write => *mut u64, except => *mut u64, time => *const Time,
        mask => *const u64) else plain())
}

/// # Safety
/// As `epoll_ctl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(epoll: c_int, command: c_int, fd: c_int, event: *mut c_uint) -> c_int {
    // SAFETY: the caller's promise: an event begins with what is waited for.
    if command != EPOLL_CTL_DEL && !event.is_null() && unsafe { event.read_unaligned() } & POLLIN as c_uint != 0 {
        on_poll([fd].into_iter());
    }
    // SAFETY: as `epoll_ctl(2)`, by the caller's promise.
    returned(unsafe { call(SYS_EPOLL_CTL, [word(epoll), word(command), word(fd), event as usize]) })
}

/// # Safety
/// As `fcntl(2)`: the third argument, which a caller may leave out, is read only where the command has one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    let plain = |argument| unsafe { call(SYS_FCNTL, [word(fd), word(command), argument]) };
    with_expected_flags(
        fd,
        command,
        argument,
        |argument| next!(fcntl(fd => c_int, command => c_int, argument => usize) else plain(argument)),
    )
}

/// `fcntl` of a program that is built for large files (glibc 2.28 and later).
///
/// # Safety
/// As `fcntl`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    let plain = |argument| unsafe { call(SYS_FCNTL, [word(fd), word(command), argument]) };
    with_expected_flags(
        fd,
        command,
        argument,
        |argument| next!(fcntl64(fd => c_int, command => c_int, argument => usize) else plain(argument)),
    )
}

/// `fcntl` with the flags that the program expects its socket to have.
fn with_expected_flags(fd: c_int, command: c_int, argument: usize, plain_call: impl Fn(usize) -> c_int) -> c_int {
    let entry = if command == F_GETFL || command == F_SETFL { known(fd) } else { None };
    let Some(entry) = entry else { return plain_call(argument) };
    if command == F_SETFL {
        let result = plain_call(argument | word(O_NONBLOCK));
        if result == 0 {
            entry.set_blocking(fd, argument & word(O_NONBLOCK) == 0);
        }
        return result;
    }
    let flags = plain_call(argument);
    if flags >= 0 && entry.is_blocking() { flags & !O_NONBLOCK } else { flags }
}

/// # Safety
/// As `ioctl(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: usize, argument: *mut c_int) -> c_int {
    if request as c_uint as usize == FIONBIO
        && !argument.is_null()
        && let Some(entry) = known(fd)
    {
        // SAFETY: this request has a pointer to an `int`.
        entry.set_blocking(fd, unsafe { *argument } == 0);
        return 0;
    }
    // SAFETY: the caller's promise.
    let plain = || unsafe { call(SYS_IOCTL, [word(fd), request, argument as usize]) };
    next!(ioctl(fd => c_int, request => usize, argument => *mut c_int) else plain())
}
