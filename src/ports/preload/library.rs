//! What `LD_PRELOAD` puts into a worker, so that N copies of a program share a port without a change to them.
//!
//! `build.rs` makes a shared library of this file alone; it is no module of the crate. It stands in front of the C
//! library's `bind`, `listen`, `connect` and `shutdown`, and asks rinit through its *door*, the abstract unix socket of
//! type `SOCK_SEQPACKET` that `RINIT_PORTS=@NAME` names. Without a door, and wherever it fails, each of the four is the
//! plain system call. Sockets are known by their `SO_COOKIE`, never used twice and the same in every process.
//!
//! It runs inside programs of others, so it brings no C library, allocates nothing, keeps only atomics, and touches
//! `errno` only to report. It makes system calls itself and wants from the C library, glibc or musl, only `environ` and
//! `__errno_location`. Threads, forks and signal handlers may call it at any time.
//!
//! Numbers are those of Linux for x86_64 and aarch64 (`asm/unistd.h`, `asm-generic/socket.h`, `asm-generic/fcntl.h`).

#![no_std]
// No loop is to become a call of memcpy or memset, which this library does not have.
#![no_builtins]

use core::ffi::{c_int, c_uint, c_void};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a packet to the door begins with. BIND: then `IPV6_V6ONLY` and the address, rinit answers. LISTENING: nothing
/// more, no answer. FORGET: nothing more, rinit answers. All have the socket attached.
const BIND: u8 = 1;
const LISTENING: u8 = 2;
const FORGET: u8 = 3;

/// How long the door may take, in seconds, for each of: to let in, to take a packet, to answer.
const PATIENCE: i64 = 5;

const DOOR: &[u8] = b"RINIT_PORTS=@";

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: c_int = 1;
const SOCK_SEQPACKET: c_int = 5;
const SOL_SOCKET: c_int = 1;
const SO_TYPE: c_int = 3;
const SO_RCVTIMEO: c_int = 20;
const SO_SNDTIMEO: c_int = 21;
const SO_ACCEPTCONN: c_int = 30;
const SO_DOMAIN: c_int = 39;
const SO_COOKIE: c_int = 57;
const IPPROTO_IPV6: c_int = 41;
const IPV6_V6ONLY: c_int = 26;
const SCM_RIGHTS: c_int = 1;
const MSG_CTRUNC: c_int = 0x8;
const MSG_NOSIGNAL: c_int = 0x4000;
const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
const F_GETFD: c_int = 1;
const F_GETFL: c_int = 3;
const F_SETFL: c_int = 4;
const FD_CLOEXEC: isize = 1;
const O_NONBLOCK: isize = 0x800;
/// Also `SOCK_CLOEXEC`.
const O_CLOEXEC: c_int = 0x8_0000;
const CLOCK_MONOTONIC: c_int = 1;
const EINTR: isize = 4;
const EMFILE: c_int = 24;

/// The number of a system call.
const fn number(x86_64: usize, aarch64: usize) -> usize {
    if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
}

const SYS_CLOSE: usize = number(3, 57);
const SYS_SOCKET: usize = number(41, 198);
const SYS_CONNECT: usize = number(42, 203);
const SYS_SENDMSG: usize = number(46, 211);
const SYS_RECVMSG: usize = number(47, 212);
const SYS_SHUTDOWN: usize = number(48, 210);
const SYS_BIND: usize = number(49, 200);
const SYS_LISTEN: usize = number(50, 201);
const SYS_SETSOCKOPT: usize = number(54, 208);
const SYS_GETSOCKOPT: usize = number(55, 209);
const SYS_FCNTL: usize = number(72, 25);
const SYS_CLOCK_GETTIME: usize = number(228, 113);
const SYS_DUP3: usize = number(292, 24);

unsafe extern "C" {
    static mut environ: *const *const u8;
    safe fn __errno_location() -> *mut c_int;
}

/// Takes the port's shared socket where rinit has one.
///
/// # Safety
/// As `bind(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    // SAFETY: as `bind(2)`, by the caller's promise.
    let plain = || unsafe { call(SYS_BIND, [word(fd), address as usize, length as usize, 0, 0]) };
    // SAFETY: the caller's promise.
    returned(unsafe { share(fd, address, length) }.unwrap_or_else(plain))
}

/// Tells rinit that this worker now takes connections from the shared socket.
#[unsafe(no_mangle)]
pub extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: no pointers.
    let result = unsafe { call(SYS_LISTEN, [word(fd), word(backlog), 0, 0, 0]) };
    if result == 0 && known(fd).is_some() {
        // Nothing is lost to the program when rinit does not hear it.
        let _ = ask(&[LISTENING], &[], fd);
    }
    returned(result)
}

/// Gives back to the program a socket that it does not listen on: the port was only where it connects from.
///
/// # Safety
/// As `connect(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    if let Some(cookie) = known(fd) {
        for place in SHARED.iter().filter(|place| place.load(Relaxed) == cookie) {
            place.store(0, Relaxed);
        }
        // Whatever the answer: when it comes rinit has let go of the socket.
        let _ = ask(&[FORGET], &[], fd).and_then(|door| answer(&door));
    }
    // SAFETY: as `connect(2)`, by the caller's promise.
    returned(unsafe { call(SYS_CONNECT, [word(fd), address as usize, length as usize, 0, 0]) })
}

/// Leaves the shared socket alone: to shut it down would end it for every worker.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if known(fd).is_some() && option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) == Some(1) {
        return 0;
    }
    // SAFETY: no pointers.
    returned(unsafe { call(SYS_SHUTDOWN, [word(fd), word(how), 0, 0, 0]) })
}

/// What rinit makes of a `bind`: 0 or a negative error number as from the kernel. `None`: it is not rinit's business.
///
/// # Safety
/// As `bind`.
unsafe fn share(fd: c_int, address: *const u8, length: c_uint) -> Option<isize> {
    if address.is_null() || length < 16 {
        return None;
    }
    // SAFETY: the address has at least 16 bytes; family and port are its first two 16-bit words (`ip(7)`, `ipv6(7)`).
    let [family, port] = unsafe { address.cast::<[u16; 2]>().read_unaligned() };
    let length = match family {
        AF_INET => 16,
        AF_INET6 if length >= 28 => 28,
        _ => return None,
    };
    let stream = option::<c_int>(fd, SOL_SOCKET, SO_TYPE)? == SOCK_STREAM;
    let fits = option::<c_int>(fd, SOL_SOCKET, SO_DOMAIN)? == c_int::from(family);
    // A socket that is bound already stays what it is, and the kernel says so.
    if port == 0 || !stream || !fits || known(fd).is_some() {
        return None;
    }
    let ipv6_only = family == AF_INET6 && option::<c_int>(fd, IPPROTO_IPV6, IPV6_V6ONLY)? != 0;
    // SAFETY: the address has `length` bytes, which the program leaves alone during its call of `bind`.
    let address = unsafe { core::slice::from_raw_parts(address, length) };
    let door = ask(&[BIND, u8::from(ipv6_only)], address, fd)?;
    let result = match answer(&door)? {
        // The first asker's own socket is the shared one.
        (0, None) => 0,
        (0, Some(shared)) => replace(fd, &shared),
        (error @ 1.., _) => -(error as isize),
        _ => return None,
    };
    if result == 0 {
        remember(fd);
    }
    Some(result)
}

/// Puts the shared socket where the program's own was: under its number, closed on exec if that was.
fn replace(fd: c_int, shared: &Descriptor) -> isize {
    // SAFETY: these commands have no pointers.
    let fcntl = |fd, command, argument| unsafe { call(SYS_FCNTL, [word(fd), word(command), argument, 0, 0]) };
    // O_NONBLOCK is of the socket, not of the number, so of all who share it: who relies on it must have it, and who
    // does not rely on it can have it from the others.
    let (own, common) = (fcntl(fd, F_GETFL, 0), fcntl(shared.0, F_GETFL, 0));
    if own >= 0 && common >= 0 && own & !common & O_NONBLOCK != 0 {
        fcntl(shared.0, F_SETFL, (common | O_NONBLOCK) as usize);
    }
    let flags = if fcntl(fd, F_GETFD, 0) == FD_CLOEXEC { O_CLOEXEC } else { 0 };
    // SAFETY: the number stays the program's, who asked for another socket there.
    unsafe { call(SYS_DUP3, [word(shared.0), word(fd), word(flags), 0, 0]) }.min(0)
}

/// The cookies of sockets that came from rinit, or 0. Each is stored at its descriptor's number modulo the table's
/// size, so that two threads do not want the same place and plain stores do: on aarch64 `core`'s other atomic
/// operations look up the machine's features when the program starts. What is overwritten is mostly closed already.
/// Nothing is ordered with other memory: a thread that takes a socket from another has ordered the two itself.
static SHARED: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// Whether there has been a cookie. Until then nothing is looked up.
static ANY: AtomicBool = AtomicBool::new(false);

fn remember(fd: c_int) {
    // Before Linux 4.12 there are no cookies: nothing is remembered.
    if let Some(cookie) = option(fd, SOL_SOCKET, SO_COOKIE) {
        SHARED[fd as usize % SHARED.len()].store(cookie, Relaxed);
        ANY.store(true, Relaxed);
    }
}

/// The cookie of a socket that came from rinit.
fn known(fd: c_int) -> Option<u64> {
    let cookie = if ANY.load(Relaxed) { option(fd, SOL_SOCKET, SO_COOKIE)? } else { return None };
    SHARED.iter().any(|place| place.load(Relaxed) == cookie).then_some(cookie)
}

/// A descriptor of ours, closed when done with.
struct Descriptor(c_int);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: nobody else knows the number.
        unsafe { call(SYS_CLOSE, [word(self.0), 0, 0, 0, 0]) };
    }
}

/// `struct timeval`, `struct timespec`: seconds and a part of a second.
type Time = [i64; 2];

/// `struct iovec`: where and how much.
#[repr(C)]
struct Buffer(*const c_void, usize);

/// `struct msghdr` (`recvmsg(2)`): a name and its length, buffers and their count, control and its length, flags.
#[repr(C)]
struct Message(*const c_void, c_uint, *const Buffer, usize, *mut Control, usize, c_int);

/// `struct cmsghdr` with a descriptor (`cmsg(3)`): length, level and type, the descriptor.
#[repr(C)]
struct Control(usize, [c_int; 2], c_int);

/// The length of a `Control` without the bytes that fill it up: with them there would be room for two descriptors.
const CONTROL_LENGTH: usize = 20;

/// A packet to the door, head and body, with the socket attached.
fn ask(head: &[u8], body: &[u8], fd: c_int) -> Option<Descriptor> {
    let door = open()?;
    let buffers = [Buffer(head.as_ptr().cast(), head.len()), Buffer(body.as_ptr().cast(), body.len())];
    let mut control = Control(CONTROL_LENGTH, [SOL_SOCKET, SCM_RIGHTS], fd);
    let (sent, _) = pass(SYS_SENDMSG, &door, &buffers, &mut control, MSG_NOSIGNAL);
    (sent == (head.len() + body.len()) as isize).then_some(door)
}

/// What rinit says, and the descriptor that comes with it.
fn answer(door: &Descriptor) -> Option<(c_int, Option<Descriptor>)> {
    let mut code: c_int = 0;
    let buffer = Buffer((&raw mut code).cast(), size_of::<c_int>());
    let mut control = Control(0, [0, 0], -1);
    let (received, flags) = pass(SYS_RECVMSG, door, &[buffer], &mut control, MSG_CMSG_CLOEXEC);
    let descriptor = (received >= 0 && control.2 >= 0).then(|| Descriptor(control.2));
    if descriptor.is_none() && flags & MSG_CTRUNC != 0 {
        // There was one, and this process had no number free for it.
        code = EMFILE;
    }
    (received == size_of::<c_int>() as isize).then_some((code, descriptor))
}

/// `sendmsg(2)` or `recvmsg(2)`: its result, and the flags that the message then has.
fn pass(number: usize, door: &Descriptor, data: &[Buffer], control: &mut Control, flags: c_int) -> (isize, c_int) {
    let mut message = Message(core::ptr::null(), 0, data.as_ptr(), data.len(), control, CONTROL_LENGTH, 0);
    let arguments = [word(door.0), &raw mut message as usize, word(flags), 0, 0];
    // SAFETY: the message and what it points to are here until the call is over, and of the lengths that it says.
    let result = again_if_interrupted(|| unsafe { call(number, arguments) });
    (result, message.6)
}

/// A connection to the door.
fn open() -> Option<Descriptor> {
    let mut address = [0; 110];
    let length = door(&mut address)?;
    let kind = SOCK_SEQPACKET | O_CLOEXEC;
    // SAFETY: no pointers.
    let socket = unsafe { call(SYS_SOCKET, [usize::from(AF_UNIX), word(kind), 0, 0, 0]) };
    let socket = (socket >= 0).then(|| Descriptor(socket as c_int))?;
    let patience: Time = [PATIENCE, 0];
    for name in [SO_RCVTIMEO, SO_SNDTIMEO] {
        let value = &raw const patience as usize;
        let arguments = [word(socket.0), word(SOL_SOCKET), word(name), value, size_of::<Time>()];
        // SAFETY: the value is of the length that is said. It must be in force, or the program could wait forever.
        if unsafe { call(SYS_SETSOCKOPT, arguments) } != 0 {
            return None;
        }
    }
    let arguments = [word(socket.0), &raw const address as usize, length, 0, 0];
    // SAFETY: the address has at least `length` bytes.
    let connected = again_if_interrupted(|| unsafe { call(SYS_CONNECT, arguments) });
    (connected == 0).then_some(socket)
}

/// Writes the door's address, of NULs so far, and says its length (`unix(7)`): the family, a NUL, and then all that
/// the length covers is its name.
fn door(address: &mut [u8; 110]) -> Option<usize> {
    [address[0], address[1]] = AF_UNIX.to_ne_bytes();
    // SAFETY: `environ(7)` is an array of strings with a null at its end, or null itself (`clearenv(3)`). The strings
    // are read byte by byte and none beyond its NUL.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            entry = entry.add(1);
            if DOOR.iter().zip(0..).any(|(byte, index)| *text.add(index) != *byte) {
                continue;
            }
            let mut name = text.add(DOOR.len());
            for (place, length) in address.iter_mut().zip(0..).skip(3) {
                if *name == 0 {
                    return Some(length);
                }
                *place = *name;
                name = name.add(1);
            }
            // Too long for an address.
            return None;
        }
    }
    None
}

/// A socket with a timeout is not restarted after a signal handler (`signal(7)`): this does it, within the patience.
fn again_if_interrupted(attempt: impl Fn() -> isize) -> isize {
    let mut since = None;
    loop {
        let result = attempt();
        if result != -EINTR || seconds() - *since.get_or_insert_with(seconds) > PATIENCE {
            return result;
        }
    }
}

fn seconds() -> i64 {
    let mut time: Time = [0, 0];
    // SAFETY: there is room for a `struct timespec`.
    unsafe { call(SYS_CLOCK_GETTIME, [word(CLOCK_MONOTONIC), &raw mut time as usize, 0, 0, 0]) };
    time[0]
}

fn option<T: Default>(fd: c_int, level: c_int, name: c_int) -> Option<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as c_uint;
    let [value_at, length_at] = [&raw mut value as usize, &raw mut length as usize];
    // SAFETY: the kernel writes no more than `length` bytes of a plain number.
    let result = unsafe { call(SYS_GETSOCKOPT, [word(fd), word(level), word(name), value_at, length_at]) };
    (result == 0).then_some(value)
}

/// As a system call returns in C.
fn returned(result: isize) -> c_int {
    if result >= 0 {
        return result as c_int;
    }
    // SAFETY: the thread's own `errno`.
    unsafe { *__errno_location() = -result as c_int };
    -1
}

/// An `int` as the kernel takes it in a register.
fn word(number: c_int) -> usize {
    number as usize
}

/// # Safety
/// As the system call: its pointers are such that the kernel may read or write there.
#[inline(never)]
unsafe fn call(number: usize, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let result;
    // SAFETY: registers as in `syscall(2)`; memory may change, which is what `asm!` assumes unless told otherwise.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall", inlateout("rax") number as isize => result, in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0", in("x8") number, inlateout("x0") first as isize => result, in("x1") second, in("x2") third,
            in("x3") fourth, in("x4") fifth, options(nostack)
        );
    }
    result
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
