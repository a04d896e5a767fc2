//! Writes the script that rinit adds to its Node workers (`worker.cjs`) to a file: all versions of Node load modules from
//! files only.

use std::fs::{OpenOptions, Permissions, set_permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const TEXT: &str = include_str!("worker.cjs");
/// The directories for it; the first that can be written to is used. /dev/shm is memory.
const DIRECTORIES: [&str; 3] = ["/dev/shm", "/run", "/tmp"];
/// The maximum number of names that are tried until one is free.
const MAX_ATTEMPTS: u32 = 16;

/// The file, which is removed when this is dropped.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
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
                Ok(path) => return Ok(Script { path }),
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
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write_to(directory: &Path) -> io::Result<PathBuf> {
    let mut result = Err(io::Error::other("every name is taken"));
    for attempt in 0..MAX_ATTEMPTS {
        // Containers of a pod may share /dev/shm, and each of them has a process 1.
        let number = RandomState::new().hash_one(attempt);
        let path = directory.join(format!("rinit-{number:016x}.cjs"));
        result = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).and_then(|mut file| {
            file.write_all(TEXT.as_bytes())?;
            // Workers of other users read it too, whatever the umask is.
            set_permissions(&path, Permissions::from_mode(0o444))?;
            Ok(path)
        });
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}
