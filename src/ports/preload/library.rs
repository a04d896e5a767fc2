//! Interposes socket functions in a worker (`LD_PRELOAD`), so that N copies of a program share a port without a change.
//!
//! `build.rs` makes a shared library of this file and its modules alone; it is no module of the crate. It sends requests to
//! rinit's *broker*, the abstract unix socket of type `SOCK_SEQPACKET` that `RINIT_PORTS=@NAME` names (`protocol.rs`). Without
//! a broker, and wherever a request fails, each function is the plain call.
//!
//! | step | what stands under the socket's number |
//! |---|---|
//! | `bind` | the listening socket that all workers share; the first one's own is that |
//! | the program makes it non-blocking, or waits for connections (`library/wait.rs`) | the worker's accept queue (`library/accept_queue.rs`) |
//!
//! A program that accepts by an io_uring does neither, so it keeps the listening socket. `library/descriptors.rs` records
//! both kinds. Calls that ask about a listening socket get its answers (`library/options.rs`).
//!
//! The library runs inside programs of others, so it brings no C library, allocates nothing, keeps only atomics, and touches
//! `errno` only to report. Of the C library, glibc or musl, it wants only `environ` and `__errno_location`, and uses
//! `dlsym` if that is there. Threads, forks and signal handlers may call it at any time.

#![no_std]
// No loop is to become a call of memcpy or memset, which this library does not have.
#![no_builtins]

#[path = "library/accept_queue.rs"]
mod accept_queue;
#[path = "library/chroot.rs"]
mod chroot;
#[path = "library/client.rs"]
mod client;
#[path = "library/connect.rs"]
mod connect;
#[path = "library/descriptors.rs"]
mod descriptors;
#[path = "library/duplicates.rs"]
mod duplicates;
#[path = "library/epoll_instances.rs"]
mod epoll_instances;
#[path = "library/listeners.rs"]
mod listeners;
#[path = "library/next.rs"]
mod next;
#[path = "library/open_files.rs"]
mod open_files;
#[path = "library/options.rs"]
mod options;
#[expect(dead_code, reason = "rinit's end uses the other half")]
mod protocol;
#[path = "library/syscalls.rs"]
mod syscalls;
#[path = "library/wait.rs"]
mod wait;

use accept_queue::{is_blocking, is_cluster_worker, take_place};
use client::ask;
use core::ffi::{c_int, c_uint};
use descriptors::{Kind, find, name_of, record, replace};
use epoll_instances::Registrations;
use protocol::{Reply, Request};
use syscalls::*;

/// Runs when the loader has loaded the library.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    next::resolve();
    if client::find_broker() {
        // Those that the program has inherited are looked at when it uses them.
        open_files::for_each(descriptors::on_arrival);
        accept_queue::announce();
    }
}

/// Binds a socket; takes the port's shared socket where rinit has one.
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

/// Makes a socket listen. rinit does it for a shared one.
#[unsafe(no_mangle)]
pub extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    let Some(known) = find(fd) else {
        // SAFETY: no pointers.
        return returned(unsafe { call(SYS_LISTEN, [word(fd), word(backlog)]) });
    };
    // Node's cluster module has taken this socket from its channel.
    if is_cluster_worker() && known.kind == Kind::Shared {
        take_place(fd, true);
    }
    match ask(&Request::Listen { backlog }, fd) {
        Some((Reply::Done | Reply::DoneWithoutQueue, _)) => {
            known.set_listening();
            // The program may have registered the socket before it was bound.
            if Registrations::of(fd).wait_to_read() {
                wait::on_epoll(fd);
            }
            0
        }
        Some((Reply::Failed(errno), _)) => returned(-(errno as isize)),
        // rinit is gone, or has forgotten the socket.
        // SAFETY: no pointers.
        Some((Reply::NotShared, _)) | None => returned(unsafe { call(SYS_LISTEN, [word(fd), word(backlog)]) }),
    }
}

/// Shuts a socket down, but not one that all workers share: that would end it for every worker.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if find(fd).is_some_and(|known| known.kind != Kind::Queue && option(fd, SOL_SOCKET, SO_ACCEPTCONN) == Some(1)) {
        return 0;
    }
    // SAFETY: no pointers.
    returned(unsafe { call(SYS_SHUTDOWN, [word(fd), word(how)]) })
}

/// Asks rinit to bind a socket: 0 or a negative error number as from the kernel. `None`: the socket is not shared.
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
    let protocol = option::<c_int>(fd, SOL_SOCKET, SO_PROTOCOL)?;
    let is_kind_shared = match option::<c_int>(fd, SOL_SOCKET, SO_TYPE)? {
        SOCK_STREAM => protocol != IPPROTO_SCTP,
        // The kernel allows each worker a socket of its own with one of these, as for multicast.
        SOCK_DGRAM => {
            let has = |name| option::<c_int>(fd, SOL_SOCKET, name) != Some(0);
            protocol == IPPROTO_UDP && !has(SO_REUSEADDR) && !has(SO_REUSEPORT)
        }
        _ => false,
    };
    let fits = option::<c_int>(fd, SOL_SOCKET, SO_DOMAIN)? == c_int::from(family);
    // A socket that is bound already goes to the kernel, which reports that.
    if port == 0 || !is_kind_shared || !fits || !descriptors::has_room(fd) || find(fd).is_some() {
        return None;
    }
    // rinit takes a listening socket that this process has open for one that the program uses.
    listeners::release_unused();
    let v6_only = family == AF_INET6 && option::<c_int>(fd, IPPROTO_IPV6, IPV6_V6ONLY)? != 0;
    // SAFETY: the address has `length` bytes, which the program leaves alone during its call of `bind`.
    let address = unsafe { core::slice::from_raw_parts(address, length) };
    // After this request the socket may be the one that all share, whose mode others change, or it is replaced.
    let nonblocking = !is_blocking(fd);
    let timeout = accept_queue::timeout(fd);
    let (reply, shared) = ask(&Request::Bind { v6_only, address }, fd)?;
    let kind = match reply {
        Reply::Done => Kind::Shared,
        Reply::DoneWithoutQueue => Kind::Own,
        Reply::Failed(errno) => return Some(-(errno as isize)),
        Reply::NotShared => return None,
    };
    // The first program's own socket is the shared one.
    if let Some(shared) = shared {
        let result = replace(fd, &shared);
        if result != 0 {
            return Some(result);
        }
        if kind == Kind::Own {
            control(fd, F_SETFL, if nonblocking { O_NONBLOCK } else { 0 });
        }
    }
    record(fd, kind, name_of(fd), false);
    if kind == Kind::Shared && (nonblocking || timeout.is_some()) && take_place(fd, nonblocking) {
        timeout.iter().for_each(|timeout| accept_queue::set_timeout(fd, timeout));
    }
    Some(0)
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
