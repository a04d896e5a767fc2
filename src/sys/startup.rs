//! Prepares the process before Rust's runtime starts, and gives `main` a stack that is large enough.

use super::signals;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

/// The loader calls what this section lists, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    signals::remember_inherited();
    open_standard_descriptors();
}

/// Opens /dev/null in the place of each standard descriptor that is closed, so that no other file gets its number. Rust's
/// runtime does so too, but aborts in an image without /dev/null. There `/` takes the place: it cannot be read or written,
/// as a closed descriptor, and is closed again in children.
fn open_standard_descriptors() {
    for number in 0..3 {
        // SAFETY: no memory is passed but two paths that end with a NUL. open(2) takes the lowest free number, this one.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) < 0 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) < 0 {
                libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            }
        }
    }
}

/// Gives back the pages of code and constants that are mapped: those that only the start has needed do not count as resident
/// any more. Those that are used come back from the page cache, or from the file.
pub fn release_code_pages() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    for line in maps.lines() {
        // proc_pid_maps(5): range, permissions, offset, device, inode, path.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [range, permissions, offset, _, _, path] = fields[..] else { continue };
        // The constants stand at the file's beginning; what else is read-only was relocated, and so written to.
        let is_clean = permissions == "r-xp" || permissions == "r--p" && offset.bytes().all(|digit| digit == b'0');
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        let range = range.split_once('-').and_then(|(from, to)| Some((number(from)?, number(to)?)));
        if let Some((start, end)) = range.filter(|_| is_clean && std::path::Path::new(path) == program) {
            // SAFETY: a private mapping of a file that was never written to: the code is position-independent. Its pages come
            // back as they are in the file (madvise(2), MADV_DONTNEED).
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

/// The stack that every mode can do with, and of the thread that stands in for a smaller one.
const ENOUGH_STACK: usize = 512 * 1024;

/// Runs the program on this thread, or where its stack is too small (`ulimit -s`) on one with a larger stack. Children keep
/// the limit either way.
pub fn with_enough_stack<T: Send + 'static>(program: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let is_small = getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(soft, _)| soft < ENOUGH_STACK as u64);
    if !is_small {
        return Some(program());
    }
    std::thread::Builder::new().stack_size(ENOUGH_STACK).spawn(program).ok()?.join().ok()
}
