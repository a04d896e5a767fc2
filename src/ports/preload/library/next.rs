//! Calls the C library's own functions, of which this library has the names.
//!
//! These are cancellation points (`pthreads(7)`), and another preloaded library may interpose them too. They are looked up
//! when the library is loaded: `dlsym` takes locks, which a signal handler and the child of a threaded program must not.
//! Where a function is not found (a program of glibc before 2.34 without libdl) it is the system call.

use crate::client::Message;
use crate::syscalls::*;
use core::ffi::{c_char, c_int, c_uint, c_void};
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

/// The address of the next library's function of that name, or 0. The name ends with a NUL.
fn look_up(name: &str) -> usize {
    const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;
    // SAFETY: written by the loader only.
    match unsafe { rinit_dlsym } {
        // SAFETY: as `dlsym(3)`.
        Some(dlsym) => unsafe { dlsym(RTLD_NEXT, name.as_ptr().cast()) },
        None => 0,
    }
}

/// The functions: each with its types, and the system call in its place.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty { $call:expr })*) => {
        /// Looks the functions up.
        pub fn resolve() {
            $(address::$name.store(look_up(concat!(stringify!($name), "\0")), Relaxed);)*
        }

        #[expect(non_upper_case_globals, reason = "they have the functions' names")]
        mod address {
            $(pub static $name: super::AtomicUsize = super::AtomicUsize::new(0);)*
        }

        $(
            /// # Safety
            /// As the function of the C library.
            pub unsafe fn $name($($argument: $type),*) -> $result {
                match address::$name.load(Relaxed) {
                    // SAFETY: the caller's promise.
                    0 => unsafe { returned($call) as $result },
                    // SAFETY: that is the function's type.
                    found => unsafe {
                        let found: unsafe extern "C" fn($($type),*) -> $result = core::mem::transmute(found);
                        found($($argument),*)
                    },
                }
            }
        )*
    };
}

functions! {
    accept(fd: c_int, address: *mut u8, length: *mut c_uint) -> c_int {
        call(SYS_ACCEPT, [word(fd), address as usize, length as usize])
    }
    accept4(fd: c_int, address: *mut u8, length: *mut c_uint, flags: c_int) -> c_int {
        call(SYS_ACCEPT4, [word(fd), address as usize, length as usize, word(flags)])
    }
    connect(fd: c_int, address: *const u8, length: c_uint) -> c_int {
        call(SYS_CONNECT, [word(fd), address as usize, length as usize])
    }
    recvmsg(fd: c_int, message: *mut Message, flags: c_int) -> isize {
        call(SYS_RECVMSG, [word(fd), message as usize, word(flags)])
    }
    fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        call(SYS_FCNTL, [word(fd), word(command), argument])
    }
    fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
        call(SYS_FCNTL, [word(fd), word(command), argument])
    }
    ioctl(fd: c_int, request: usize, argument: usize) -> c_int {
        call(SYS_IOCTL, [word(fd), request, argument])
    }
    poll(all: *mut Poll, count: usize, milliseconds: c_int) -> c_int {
        call_with_time(SYS_PPOLL, [all as usize, count, 0, 0, SIGNAL_SET], 2, time_of(milliseconds))
    }
    ppoll(all: *mut Poll, count: usize, time: *const Time, mask: *const u64) -> c_int {
        call_with_time(SYS_PPOLL, [all as usize, count, 0, mask as usize, SIGNAL_SET], 2, time.as_ref().copied())
    }
    __poll_chk(all: *mut Poll, count: usize, milliseconds: c_int, _size: usize) -> c_int {
        call_with_time(SYS_PPOLL, [all as usize, count, 0, 0, SIGNAL_SET], 2, time_of(milliseconds))
    }
    __ppoll_chk(all: *mut Poll, count: usize, time: *const Time, mask: *const u64, _size: usize) -> c_int {
        call_with_time(SYS_PPOLL, [all as usize, count, 0, mask as usize, SIGNAL_SET], 2, time.as_ref().copied())
    }
    select(end: c_int, read: *mut u64, write: *mut u64, except: *mut u64, time: *mut Time) -> c_int {
        select_by_call(end, [read, write, except], time)
    }
    pselect(end: c_int, read: *mut u64, write: *mut u64, except: *mut u64, time: *const Time, mask: *const u64) -> c_int {
        {
            let signals = [mask as usize, SIGNAL_SET];
            let sets = [read as usize, write as usize, except as usize];
            let arguments = [word(end), sets[0], sets[1], sets[2], 0, &raw const signals as usize];
            call_with_time(SYS_PSELECT6, arguments, 4, time.as_ref().copied())
        }
    }
}

/// A time in milliseconds; `None`: without an end.
fn time_of(milliseconds: c_int) -> Option<Time> {
    let part = i64::from(milliseconds);
    (part >= 0).then_some([part / 1000, part % 1000 * 1_000_000])
}

/// Makes a system call that has the time for its argument `at`, and writes there what is left, which the program does not
/// expect.
///
/// # Safety
/// As `call`.
unsafe fn call_with_time<const N: usize>(
    number: usize,
    mut arguments: [usize; N],
    at: usize,
    time: Option<Time>,
) -> isize {
    let mut left = time;
    if let (Some(left), Some(argument)) = (&mut left, arguments.get_mut(at)) {
        *argument = left as *mut Time as usize;
    }
    // SAFETY: the caller's promise; the time is here until the call is over.
    unsafe { call(number, arguments) }
}

/// # Safety
/// As `select(2)`.
unsafe fn select_by_call(end: c_int, sets: [*mut u64; 3], time: *mut Time) -> isize {
    // SAFETY: the caller's promise.
    let given = unsafe { time.as_mut() };
    let mut left = match &given {
        Some([seconds, micros]) if *seconds < 0 || *micros < 0 => return -(EINVAL as isize),
        Some([seconds, micros]) => [seconds.saturating_add(micros / 1_000_000), micros % 1_000_000 * 1000],
        None => [0, 0],
    };
    let left_at = if given.is_some() { &raw mut left as usize } else { 0 };
    let [read, write, except] = sets.map(|set| set as usize);
    // SAFETY: the caller's promise.
    let result = unsafe { call(SYS_PSELECT6, [word(end), read, write, except, left_at, 0]) };
    if let Some(given) = given {
        *given = [left[0], left[1] / 1000];
    }
    result
}
