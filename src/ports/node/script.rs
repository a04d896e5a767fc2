//! The script that rinit adds to its Node workers (`worker.cjs`), as a file: Node loads a module from nowhere else in all
//! of its versions.

use std::fs::{OpenOptions, Permissions, set_permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const TEXT: &str = include_str!("worker.cjs");
/// Where it may be written, the first that will do. /dev/shm is memory.
const FOLDERS: [&str; 3] = ["/dev/shm", "/run", "/tmp"];
/// Names are tried until one is free.
const TRIES: u32 = 16;

/// The file; gone when this is dropped.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
}

impl Script {
    /// Writes it.
    ///
    /// # Errors
    /// No folder can be written to.
    pub fn write() -> io::Result<Script> {
        let mut last = io::Error::other("no folder for it");
        for folder in FOLDERS {
            match write_to(Path::new(folder)) {
                Ok(path) => return Ok(Script { path }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Node's option that loads it.
    pub fn option(&self) -> String {
        format!("--require={}", self.path.display())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write_to(folder: &Path) -> io::Result<PathBuf> {
    let mut result = Err(io::Error::other("every name is taken"));
    for attempt in 0..TRIES {
        // Containers of a pod share /dev/shm, and each of them has a process 1.
        let number = RandomState::new().hash_one(attempt);
        let path = folder.join(format!("rinit-{number:016x}.cjs"));
        result = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).and_then(|mut file| {
            file.write_all(TEXT.as_bytes())?;
            // Whatever the umask is: workers of other users read it too.
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
