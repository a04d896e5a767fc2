//! Makes system calls without the C library.
//!
//! Numbers are those of Linux for x86_64 and aarch64 (`asm/unistd.h`, `asm-generic/socket.h`, `asm-generic/fcntl.h`).

use core::ffi::{c_int, c_uint};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const SOCK_STREAM: c_int = 1;
pub const SOCK_DGRAM: c_int = 2;
pub const SOCK_SEQPACKET: c_int = 5;
pub const SOL_SOCKET: c_int = 1;
pub const SO_REUSEADDR: c_int = 2;
pub const SO_TYPE: c_int = 3;
pub const SO_REUSEPORT: c_int = 15;
pub const SO_RCVTIMEO: c_int = 20;
pub const SO_SNDTIMEO: c_int = 21;
pub const SO_ACCEPTCONN: c_int = 30;
pub const SO_PROTOCOL: c_int = 38;
pub const SO_DOMAIN: c_int = 39;
pub const SO_COOKIE: c_int = 57;
pub const IPPROTO_IPV6: c_int = 41;
pub const IPPROTO_UDP: c_int = 17;
pub const IPPROTO_SCTP: c_int = 132;
pub const IPV6_V6ONLY: c_int = 26;
pub const SCM_RIGHTS: c_int = 1;
pub const MSG_PEEK: c_int = 0x2;
pub const MSG_DONTWAIT: c_int = 0x40;
pub const MSG_CTRUNC: c_int = 0x8;
pub const MSG_NOSIGNAL: c_int = 0x4000;
pub const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
pub const AT_FDCWD: c_int = -100;
pub const F_DUPFD: c_int = 0;
pub const F_GETFD: c_int = 1;
pub const F_DUPFD_CLOEXEC: c_int = 1030;
pub const F_GETFL: c_int = 3;
pub const F_SETFL: c_int = 4;
pub const FD_CLOEXEC: isize = 1;
pub const O_NONBLOCK: c_int = 0x800;
/// Also `SOCK_CLOEXEC`.
pub const O_CLOEXEC: c_int = 0x8_0000;
/// `O_DIRECTORY` and `O_CLOEXEC`.
pub const O_FOLDER: usize = O_CLOEXEC as usize | if cfg!(target_arch = "x86_64") { 0x1_0000 } else { 0x4000 };
pub const FIONBIO: usize = 0x5421;
pub const CLOCK_MONOTONIC: c_int = 1;
pub const POLLIN: i16 = 0x1;
pub const POLLRDNORM: i16 = 0x40;
/// The events that tell of a connection.
pub const READ: i16 = POLLIN | POLLRDNORM;
pub const EPOLL_CTL_ADD: c_int = 1;
pub const EPOLL_CTL_DEL: c_int = 2;
pub const EINTR: c_int = 4;
pub const EBADF: c_int = 9;
pub const EAGAIN: c_int = 11;
pub const EINVAL: c_int = 22;
pub const EMFILE: c_int = 24;
pub const ENOTSOCK: c_int = 88;
pub const EOPNOTSUPP: c_int = 95;
pub const ECONNABORTED: c_int = 103;
pub const ENOTCONN: c_int = 107;
pub const ECONNREFUSED: c_int = 111;

/// The number of a system call.
const fn number(x86_64: usize, aarch64: usize) -> usize {
    if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
}

pub const SYS_READ: usize = number(0, 63);
pub const SYS_CLOSE: usize = number(3, 57);
pub const SYS_IOCTL: usize = number(16, 29);
pub const SYS_DUP: usize = number(32, 23);
pub const SYS_SOCKET: usize = number(41, 198);
pub const SYS_CONNECT: usize = number(42, 203);
pub const SYS_ACCEPT: usize = number(43, 202);
pub const SYS_SENDTO: usize = number(44, 206);
pub const SYS_SENDMSG: usize = number(46, 211);
pub const SYS_RECVMSG: usize = number(47, 212);
pub const SYS_SHUTDOWN: usize = number(48, 210);
pub const SYS_BIND: usize = number(49, 200);
pub const SYS_LISTEN: usize = number(50, 201);
pub const SYS_GETSOCKNAME: usize = number(51, 204);
pub const SYS_GETPEERNAME: usize = number(52, 205);
pub const SYS_SETSOCKOPT: usize = number(54, 208);
pub const SYS_GETSOCKOPT: usize = number(55, 209);
pub const SYS_FCNTL: usize = number(72, 25);
pub const SYS_CLOCK_GETTIME: usize = number(228, 113);
pub const SYS_EPOLL_CTL: usize = number(233, 21);
pub const SYS_CHROOT: usize = number(161, 51);
pub const SYS_GETDENTS64: usize = number(217, 61);
pub const SYS_OPENAT: usize = number(257, 56);
pub const SYS_READLINKAT: usize = number(267, 78);
pub const SYS_PSELECT6: usize = number(270, 72);
pub const SYS_PPOLL: usize = number(271, 73);
pub const SYS_ACCEPT4: usize = number(288, 242);
pub const SYS_DUP3: usize = number(292, 24);

/// The size of the kernel's signal sets, in bytes.
pub const SIGNAL_SET: usize = 8;

unsafe extern "C" {
    safe fn __errno_location() -> *mut c_int;
}

/// `struct timeval`, `struct timespec`: seconds and a part of a second.
pub type Time = [i64; 2];

/// `struct pollfd` (poll(2)).
#[repr(C)]
pub struct Poll {
    pub fd: c_int,
    pub events: i16,
    pub returned: i16,
}

/// # Safety
/// As the system call: its pointers are such that the kernel may read or write there.
pub unsafe fn call<const N: usize>(number: usize, arguments: [usize; N]) -> isize {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = argument;
    }
    // SAFETY: the caller's promise.
    unsafe { call_with(number, &all) }
}

/// # Safety
/// As `call`.
#[inline(never)]
unsafe fn call_with(number: usize, arguments: &[usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = *arguments;
    let result;
    // SAFETY: registers as in `syscall(2)`; memory may change, which is what `asm!` assumes unless told otherwise.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall", inlateout("rax") number as isize => result, in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, in("r9") sixth, lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0", in("x8") number, inlateout("x0") first as isize => result, in("x1") second, in("x2") third,
            in("x3") fourth, in("x4") fifth, in("x5") sixth, options(nostack)
        );
    }
    result
}

pub fn option<T: Default>(fd: c_int, level: c_int, name: c_int) -> Option<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as c_uint;
    let [value_at, length_at] = [&raw mut value as usize, &raw mut length as usize];
    // SAFETY: the kernel writes no more than `length` bytes of plain numbers.
    let result = unsafe { call(SYS_GETSOCKOPT, [word(fd), word(level), word(name), value_at, length_at]) };
    (result == 0).then_some(value)
}

/// `fcntl(2)` with a command that has a number for its argument.
pub fn control(fd: c_int, command: c_int, argument: c_int) -> isize {
    // SAFETY: no pointers.
    unsafe { call(SYS_FCNTL, [word(fd), word(command), word(argument)]) }
}

/// The result of a system call as in C: -1, and the number in `errno`.
#[inline(never)]
pub fn returned(result: isize) -> c_int {
    if result >= 0 {
        return result as c_int;
    }
    set_errno(-result as c_int);
    -1
}

pub fn errno() -> c_int {
    // SAFETY: the thread's own `errno`.
    unsafe { *__errno_location() }
}

pub fn set_errno(errno: c_int) {
    // SAFETY: the thread's own `errno`.
    unsafe { *__errno_location() = errno };
}

/// An `int` as the kernel takes it in a register.
pub fn word(number: c_int) -> usize {
    number as usize
}
