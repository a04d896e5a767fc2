//! Writes the script that rinit adds to its Node workers (`worker.cjs`) to a file: all versions of Node load modules from
//! files only.

use crate::embedded::{Embedded, embedded};
use nix::fcntl::{Flock, FlockArg};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions, read_dir, remove_file, set_permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const TEXT: Embedded = embedded!("worker.cjs");
/// The directories for it; the first that can be written to is used. /dev/shm is memory.
const DIRECTORIES: [&str; 3] = ["/dev/shm", "/run", "/tmp"];
const PREFIX: &str = "rinit-";
const SUFFIX: &str = ".cjs";
/// The maximum number of names that are tried until one is free.
const MAX_ATTEMPTS: u32 = 16;

/// The file, which is removed when this is dropped. A lock on it tells a later rinit, with which this one may share the
/// directory, that it is in use: one that was killed removes nothing.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Script {
    /// Writes the file.
    ///
    /// # Errors
    /// No directory can be written to.
    pub fn write() -> io::Result<Script> {
        let mut last = io::Error::other("no directory for it");
        for directory in DIRECTORIES {
            match write_to(Path::new(directory)) {
                Ok(script) => return Ok(script),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The option of Node that loads it.
    pub fn option(&self) -> String {
        format!("--require={}", self.path.display())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = remove_file(&self.path);
    }
}

fn write_to(directory: &Path) -> io::Result<Script> {
    remove_unused(directory);
    let mut result = Err(io::Error::other("every name is taken"));
    for attempt in 0..MAX_ATTEMPTS {
        // Containers of a pod may share /dev/shm, and each of them has a process 1.
        let number = RandomState::new().hash_one(attempt);
        let path = directory.join(format!("{PREFIX}{number:016x}{SUFFIX}"));
        result = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).and_then(|file| {
            let mut file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno)?;
            file.write_all(&TEXT.unpack())?;
            // Workers of other users read it too, whatever the umask is.
            set_permissions(&path, Permissions::from_mode(0o444))?;
            Ok(Script { path, _lock: file })
        });
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}

/// Removes the files of processes that were killed: nobody has a lock on them.
fn remove_unused(directory: &Path) {
    let is_script = |name: &OsStr| {
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        name.is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for entry in read_dir(directory).into_iter().flatten().flatten().filter(|entry| is_script(&entry.file_name())) {
        // Links and pipes that somebody puts there are left alone.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(entry.path());
        let is_unused = file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok());
        if is_unused {
            let _ = remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_killed_processes_are_removed_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let kept = write_to(folder.path()).unwrap();
        let left = folder.path().join("rinit-0123456789abcdef.cjs");
        let other = folder.path().join("rinit-mine.cjs");
        std::fs::write(&left, "").unwrap();
        std::fs::write(&other, "").unwrap();
        let second = write_to(folder.path()).unwrap();
        assert!(kept.path.exists() && second.path.exists() && other.exists() && !left.exists());
        drop(kept);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
