//! Interposes `chroot`: behind it the loader does not find this library, and would say so on stderr at every `exec`.

use crate::client::{Descriptor, environ, variable};
use crate::syscalls::*;
use core::ffi::c_int;

/// Changes the root directory. Where this library is not found in the new one, it is no longer in the environment.
///
/// # Safety
/// As `chroot(2)`: the path ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chroot(path: *const u8) -> c_int {
    // SAFETY: the caller's promise.
    let result = returned(unsafe { call(SYS_CHROOT, [path as usize]) });
    if result == 0
        && let Some(word) = own_word()
        && !is_there(word)
    {
        remove(word);
    }
    result
}

/// The path of this library in `LD_PRELOAD`, where rinit has put it behind the program's own words.
fn own_word() -> Option<*mut u8> {
    let mut word = variable(LD_PRELOAD)?.cast_mut();
    let mut at = word;
    loop {
        // SAFETY: a string, read byte by byte and not beyond its NUL.
        match unsafe { *at } {
            0 => break,
            // SAFETY: as above.
            b':' => word = unsafe { at.add(1) },
            _ => {}
        }
        // SAFETY: as above.
        at = unsafe { at.add(1) };
    }
    let begins_with = |beginning: &[u8]| {
        // SAFETY: no byte is read beyond the first one that differs, as the NUL does.
        beginning.iter().zip(0..).all(|(byte, index)| unsafe { *word.add(index) } == *byte)
    };
    let is_own = PLACES.iter().any(|place| begins_with(place));
    is_own.then_some(word)
}

const LD_PRELOAD: &[u8] = b"LD_PRELOAD=";
/// The beginnings of the paths that rinit gives this library (`preload/mod.rs`).
const PLACES: [&[u8]; 6] =
    [b"/proc/", b"/dev/shm/rinit-", b"/run/rinit-", b"/tmp/rinit-", b"/var/tmp/rinit-", b"/dev/rinit-"];

fn is_there(path: *const u8) -> bool {
    // SAFETY: the path ends with a NUL.
    let file = unsafe { call(SYS_OPENAT, [word(AT_FDCWD), path as usize, word(O_CLOEXEC)]) };
    file >= 0 && {
        drop(Descriptor(file as c_int));
        true
    }
}

/// Removes the last word of `LD_PRELOAD` from the environment, and the variable where there is no other.
fn remove(word: *mut u8) {
    // SAFETY: the word is in the variable's string, behind its `=` or a `:`; the environment's strings may be changed
    // (`environ(7)`), and it is an array with a null at its end.
    unsafe {
        let before = word.sub(1);
        if *before == b':' {
            *before = 0;
            return;
        }
        let entry = word.sub(LD_PRELOAD.len()).cast_const();
        let mut place = environ.cast_mut();
        while !(*place).is_null() && *place != entry {
            place = place.add(1);
        }
        while !(*place).is_null() {
            *place = *place.add(1);
            place = place.add(1);
        }
    }
}
