//! Interposes the functions by which a descriptor comes to another number: `dup` and others, and `recvmsg`.
//! `fcntl` is in `options.rs`.

use crate::client::Message;
use crate::descriptors::{on_arrival, on_duplicate};
use crate::next;
use crate::syscalls::*;
use core::ffi::c_int;

#[unsafe(no_mangle)]
pub extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: no pointers.
    let result = returned(unsafe { call(SYS_DUP, [word(fd)]) });
    on_duplicate(fd, result);
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        // aarch64 has no system call `dup2`, and `dup3` takes no equal numbers.
        let flags = control(fd, F_GETFD, 0);
        return if flags < 0 { returned(flags) } else { fd };
    }
    dup3(fd, to, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: no pointers.
    let result = returned(unsafe { call(SYS_DUP3, [word(fd), word(to), word(flags)]) });
    on_duplicate(fd, result);
    result
}

/// Receives a message. Descriptors that come with it may be sockets of rinit.
///
/// # Safety
/// As `recvmsg(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut Message, flags: c_int) -> isize {
    // SAFETY: the caller's promise.
    let result = unsafe { next::recvmsg(fd, message, flags) };
    if result >= 0 {
        // SAFETY: after a call that succeeds the kernel has written that many bytes of control data.
        unsafe { find_received((*message).control.cast(), (*message).control_length) };
    }
    result
}

/// # Safety
/// There are that many bytes of control data (`cmsg(3)`).
unsafe fn find_received(mut at: *const u8, mut left: usize) {
    const HEAD: usize = size_of::<usize>() + size_of::<[c_int; 2]>();
    while !at.is_null() && left >= HEAD {
        // SAFETY: the head is within the control data: a length, the level and the type.
        let (length, [level, kind]) = unsafe {
            (at.cast::<usize>().read_unaligned(), at.add(size_of::<usize>()).cast::<[c_int; 2]>().read_unaligned())
        };
        if length < HEAD || length > left {
            return;
        }
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS) {
            for step in 0..(length - HEAD) / size_of::<c_int>() {
                // SAFETY: within this part, as its length says.
                on_arrival(unsafe { at.add(HEAD).cast::<c_int>().add(step).read_unaligned() });
            }
        }
        let whole = length.next_multiple_of(size_of::<usize>());
        if whole >= left {
            return;
        }
        // SAFETY: within the control data.
        at = unsafe { at.add(whole) };
        left -= whole;
    }
}
