//! Finds programs and computes medians for the benches.

use std::path::{Path, PathBuf};

/// The static binary if it was built, else what cargo built.
pub fn rinit() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_rinit"));
    let target = built.parent().unwrap().parent().unwrap();
    let name = format!("{}-unknown-linux-musl/release/rinit", std::env::consts::ARCH);
    Some(target.join(name)).filter(|path| path.exists()).unwrap_or(built.into())
}

pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.exists())
}

pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
