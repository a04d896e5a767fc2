//! Lists the descriptors of this process.

use crate::client::Descriptor;
use crate::syscalls::*;
use core::ffi::c_int;

/// Calls `each` with every descriptor of this process.
pub fn for_each(each: impl Fn(c_int)) {
    const ROOM: usize = 1024;
    // SAFETY: the path ends with a NUL.
    let folder = unsafe { call(SYS_OPENAT, [word(AT_FDCWD), c"/proc/self/fd".as_ptr() as usize, O_FOLDER]) };
    if folder < 0 {
        return;
    }
    let folder = Descriptor(folder as c_int);
    loop {
        let mut entries = [0u64; ROOM / 8];
        // SAFETY: there is that much room.
        let count = unsafe { call(SYS_GETDENTS64, [word(folder.0), &raw mut entries as usize, ROOM]) };
        if count <= 0 {
            return;
        }
        let mut at = 0;
        while at < count as usize {
            let entry = (&raw const entries).cast::<u8>();
            // SAFETY: the kernel has written whole entries (`struct linux_dirent64`, getdents(2)): at 16 the length, at 19
            // the name.
            let (length, mut name) = unsafe { (entry.add(at + 16).cast::<u16>().read_unaligned(), entry.add(at + 19)) };
            let mut number = 0;
            // SAFETY: a string, read byte by byte and not beyond its NUL.
            while let digit @ b'0'..=b'9' = unsafe { *name } {
                number = number * 10 + c_int::from(digit - b'0');
                // SAFETY: as above.
                name = unsafe { name.add(1) };
            }
            each(number);
            at += usize::from(length);
        }
    }
}
