//! Raises rinit's own limit on open files, and restores it for children.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// The soft and hard limit before it was raised.
static BEFORE: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process' own soft limit to the hard one (`RLIMIT_NOFILE`, getrlimit(2)). Each worker costs rinit some
/// descriptors, and each shared address one, and two for each worker.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && BEFORE.set((soft, hard)).is_ok()
    {
        // It stays as it is where that is not allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Returns a child's soft limit.
pub fn childs_limit() -> u64 {
    let now = || getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    BEFORE.get().map_or_else(now, |(soft, _)| *soft)
}

/// Restores the limit in a child before exec: a plain system call.
pub(super) fn restore_limit() {
    if let Some((soft, hard)) = BEFORE.get() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard);
    }
}
