//! Finds the io_urings of this process: by one of them it may wait for connections without a call that this library sees.

use crate::syscalls::*;
use core::ffi::c_int;

/// The number of descriptors that are searched.
const MAX_SEARCHED: c_int = 256;

/// The target of the link in /proc/self/fd (`proc_pid_fd(5)`).
const LINK: &[u8] = b"anon_inode:[io_uring]";

/// Returns true if this process has an io_uring.
pub fn is_used() -> bool {
    (0..MAX_SEARCHED).any(|fd| {
        let digits = [fd / 100, fd / 10 % 10, fd % 10].map(|digit| b'0' + digit as u8);
        let leading_zeros = usize::from(fd < 100) + usize::from(fd < 10);
        let text = b"/proc/self/fd/".iter().copied().chain(digits.into_iter().skip(leading_zeros));
        let mut path = [0u8; 20];
        for (place, byte) in path.iter_mut().zip(text) {
            *place = byte;
        }
        let mut link = [0u8; 32];
        let [path, target] = [&raw const path as usize, &raw mut link as usize];
        // SAFETY: the path ends with a NUL, and there is room for the target.
        let length = unsafe { call(SYS_READLINKAT, [word(AT_FDCWD), path, target, size_of_val(&link)]) };
        length == LINK.len() as isize && LINK.iter().zip(link).all(|(byte, read)| *byte == read)
    })
}
