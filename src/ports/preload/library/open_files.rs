//! Lists the descriptors of this process, and finds its io_urings.
//!
//! By an io_uring it may wait for connections without a call that this library sees.

use crate::client::Descriptor;
use crate::syscalls::*;
use core::ffi::c_int;

/// Returns true if that is so of one of this process's descriptors. `is_it` is called with the folder of their links and a
/// name in it, a string that ends with a NUL.
fn any(is_it: impl Fn(&Descriptor, *const u8) -> bool) -> bool {
    const ROOM: usize = 1024;
    // SAFETY: the path ends with a NUL.
    let folder = unsafe { call(SYS_OPENAT, [word(AT_FDCWD), c"/proc/self/fd".as_ptr() as usize, O_FOLDER]) };
    if folder < 0 {
        return false;
    }
    let folder = Descriptor(folder as c_int);
    loop {
        let mut entries = [0u64; ROOM / 8];
        // SAFETY: there is that much room.
        let count = unsafe { call(SYS_GETDENTS64, [word(folder.0), &raw mut entries as usize, ROOM]) };
        if count <= 0 {
            return false;
        }
        let mut at = 0;
        while at < count as usize {
            let entry = (&raw const entries).cast::<u8>();
            // SAFETY: the kernel has written whole entries (`struct linux_dirent64`, getdents(2)): at 16 the length, at 19
            // the name.
            let (length, name) = unsafe { (entry.add(at + 16).cast::<u16>().read_unaligned(), entry.add(at + 19)) };
            if is_it(&folder, name) {
                return true;
            }
            at += usize::from(length);
        }
    }
}

/// Calls `each` with every descriptor of this process.
pub fn for_each(each: impl Fn(c_int)) {
    any(|_, mut name| {
        let mut number = 0;
        // SAFETY: a string, read byte by byte and not beyond its NUL.
        while let digit @ b'0'..=b'9' = unsafe { *name } {
            number = number * 10 + c_int::from(digit - b'0');
            // SAFETY: as above.
            name = unsafe { name.add(1) };
        }
        each(number);
        false
    });
}

/// Returns true if this process has an io_uring.
pub fn has_io_uring() -> bool {
    /// The target of the link (`proc_pid_fd(5)`).
    const LINK: &[u8] = b"anon_inode:[io_uring]";
    any(|folder, name| {
        let mut link = [0u8; 32];
        let arguments = [word(folder.0), name as usize, &raw mut link as usize, size_of_val(&link)];
        // SAFETY: the name ends with a NUL, and there is room for the target.
        let length = unsafe { call(SYS_READLINKAT, arguments) };
        length == LINK.len() as isize && LINK.iter().zip(link).all(|(byte, read)| *byte == read)
    })
}
