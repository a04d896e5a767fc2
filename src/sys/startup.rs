//! Prepares the process before Rust's runtime starts, and gives `main` a stack that is large enough.

use super::signals;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

/// The loader calls what this section lists, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    signals::remember_ignored();
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
