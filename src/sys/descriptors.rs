//! How many descriptors there may be: for rinit as many as the hard limit allows, for its children as many as it was given.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

static GIVEN: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process' own soft limit to the hard one (`RLIMIT_NOFILE`, getrlimit(2)). Each worker costs rinit some, and
/// each address that workers share costs it one and two for each worker.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && GIVEN.set((soft, hard)).is_ok()
    {
        // It stays as it is where that is not allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// The soft limit of a child.
pub fn childs_limit() -> u64 {
    let now = || getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    GIVEN.get().map_or_else(now, |(soft, _)| *soft)
}

/// In the child, before it becomes its program: a plain system call.
pub(super) fn restore_limit() {
    if let Some((soft, hard)) = GIVEN.get() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard);
    }
}
