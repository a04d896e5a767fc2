//! What `LD_PRELOAD` puts into a worker, so that N copies of a program share a port without a change to them.
//!
//! `build.rs` makes a shared library of this file and its modules alone; it is no module of the crate. It stands in front
//! of the C library's `bind`, `listen`, `connect` and their kin, and asks rinit through its *door*, the abstract unix
//! socket of type `SOCK_SEQPACKET` that `RINIT_PORTS=@NAME` names. Without a door, and wherever it fails, each of
//! these is the plain system call. Sockets are known by their `SO_COOKIE`, never used twice and the same in every process.
//! What a program then notices of sharing its socket is kept from it by what stands in front of `accept`, `poll` and
//! their kin (`library/wait.rs`).
//!
//! It runs inside programs of others, so it brings no C library, allocates nothing, keeps only atomics, and touches
//! `errno` only to report. Of the C library, glibc or musl, it wants only `environ` and `__errno_location`, and uses
//! `dlsym` if that is there. Threads, forks and signal handlers may call it at any time.

#![no_std]
// No loop is to become a call of memcpy or memset, which this library does not have.
#![no_builtins]

#[path = "library/kernel.rs"]
mod kernel;
#[path = "library/table.rs"]
mod table;
#[path = "library/wait.rs"]
mod wait;

use core::ffi::{c_int, c_uint, c_void};
use kernel::*;
use table::known;

/// What a packet to the door begins with. BIND: then `IPV6_V6ONLY` and the address, rinit answers. LISTENING: nothing
/// more, no answer. FORGET: nothing more, rinit answers. All have the socket attached.
const BIND: u8 = 1;
const LISTENING: u8 = 2;
const FORGET: u8 = 3;

/// How long the door may take, in seconds, for each of: to let in, to take a packet, to answer.
const PATIENCE: i64 = 5;

const DOOR: &[u8] = b"RINIT_PORTS=@";

unsafe extern "C" {
    static mut environ: *const *const u8;
}

/// Called by the loader.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    if door(&mut [0; 110]).is_some() {
        table::inherit();
    }
}

/// Takes the port's shared socket where rinit has one.
///
/// # Safety
/// As `bind(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    // SAFETY: as `bind(2)`, by the caller's promise.
    let plain = || unsafe { call(SYS_BIND, [word(fd), address as usize, length as usize]) };
    // SAFETY: the caller's promise.
    returned(unsafe { share(fd, address, length) }.unwrap_or_else(plain))
}

/// Tells rinit that this worker now takes connections from the shared socket.
#[unsafe(no_mangle)]
pub extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: no pointers.
    let result = unsafe { call(SYS_LISTEN, [word(fd), word(backlog)]) };
    if result == 0
        && let Some(place) = known(fd)
    {
        place.has_called_listen();
        // Nothing is lost to the program when rinit does not hear it.
        let _ = ask(&[LISTENING], &[], fd);
    }
    returned(result)
}

/// Says of a shared socket that it does not listen yet, until the program itself has called `listen`: some call it only
/// then (gunicorn), and rinit would not hear of it.
///
/// # Safety
/// As `getsockopt(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_int,
    length: *mut c_uint,
) -> c_int {
    let arguments = [word(fd), word(level), word(name), value as usize, length as usize];
    // SAFETY: as `getsockopt(2)`, by the caller's promise.
    let result = unsafe { call(SYS_GETSOCKOPT, arguments) };
    if result == 0 && (level, name) == (SOL_SOCKET, SO_ACCEPTCONN) && known(fd).is_some_and(|place| !place.listens()) {
        // SAFETY: the kernel has written as many bytes as `length` then says.
        unsafe {
            if *length as usize == size_of::<c_int>() {
                value.write_unaligned(0);
            }
        }
    }
    returned(result)
}

/// Gives back to the program a socket that it does not listen on: the port was only where it connects from.
///
/// # Safety
/// As `connect(2)`: `address` has `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const u8, length: c_uint) -> c_int {
    if let Some(place) = known(fd) {
        place.forget(fd);
        // Whatever the answer: when it comes rinit has let go of the socket.
        let _ = ask(&[FORGET], &[], fd).and_then(|door| answer(&door));
    }
    // SAFETY: as `connect(2)`, by the caller's promise.
    returned(unsafe { call(SYS_CONNECT, [word(fd), address as usize, length as usize]) })
}

/// Leaves the shared socket alone: to shut it down would end it for every worker.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if known(fd).is_some() && option::<c_int>(fd, SOL_SOCKET, SO_ACCEPTCONN) == Some(1) {
        return 0;
    }
    // SAFETY: no pointers.
    returned(unsafe { call(SYS_SHUTDOWN, [word(fd), word(how)]) })
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
    // Whether the program wants to wait in `accept`: its own socket may be gone soon.
    let blocking = control(fd, F_GETFL, 0) as c_int & O_NONBLOCK == 0;
    let result = match answer(&door)? {
        // The first asker's own socket is the shared one.
        (0, None) => 0,
        (0, Some(shared)) => replace(fd, &shared),
        (error @ 1.., _) => -(error as isize),
        _ => return None,
    };
    if result == 0 {
        table::remember(fd, blocking, false);
    }
    Some(result)
}

/// Puts the shared socket where the program's own was: under its number, closed on exec if that was.
fn replace(fd: c_int, shared: &Descriptor) -> isize {
    let flags = if control(fd, F_GETFD, 0) == FD_CLOEXEC { O_CLOEXEC } else { 0 };
    // SAFETY: the number stays the program's, who asked for another socket there.
    unsafe { call(SYS_DUP3, [word(shared.0), word(fd), word(flags)]) }.min(0)
}

/// A descriptor of ours, closed when done with.
struct Descriptor(c_int);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: nobody else knows the number.
        unsafe { call(SYS_CLOSE, [word(self.0)]) };
    }
}

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
    let arguments = [word(door.0), &raw mut message as usize, word(flags)];
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
    let socket = unsafe { call(SYS_SOCKET, [usize::from(AF_UNIX), word(kind)]) };
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
    let arguments = [word(socket.0), &raw const address as usize, length];
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
        if result != -(EINTR as isize) || seconds() - *since.get_or_insert_with(seconds) > PATIENCE {
            return result;
        }
    }
}

fn seconds() -> i64 {
    let mut time: Time = [0, 0];
    // SAFETY: there is room for a `struct timespec`.
    unsafe { call(SYS_CLOCK_GETTIME, [word(CLOCK_MONOTONIC), &raw mut time as usize]) };
    time[0]
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
