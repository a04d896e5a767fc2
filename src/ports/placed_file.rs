//! Places a file that workers load into a directory, and again when somebody has removed it.

use crate::embedded::Embedded;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions, metadata, read_dir, remove_file, set_permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The directories for it; the first that fits is used. /dev/shm is memory. In a read-only container of Docker root
/// may write to /dev, and only there run what it has written.
const DIRECTORIES: [&str; 5] = ["/dev/shm", "/run", "/tmp", "/var/tmp", "/dev"];
const PREFIX: &str = "rinit-";
/// The maximum number of names that are tried until one is free.
const MAX_ATTEMPTS: u32 = 16;

/// A file of rinit, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct PlacedFile {
    contents: Embedded,
    suffix: &'static str,
    fits: fn(&Path) -> bool,
    placed: Mutex<Placed>,
}

/// The file where it is now. A lock on it tells a later rinit, with which this one may share the directory, that it is in use:
/// one that was killed removes nothing.
#[derive(Debug)]
struct Placed {
    path: PathBuf,
    file: Flock<File>,
}

impl PlacedFile {
    /// Writes the file to the first directory that fits.
    ///
    /// # Errors
    /// No directory fits and can be written to.
    pub(super) fn place(contents: Embedded, suffix: &'static str, fits: fn(&Path) -> bool) -> io::Result<PlacedFile> {
        let placed = Mutex::new(place(contents, suffix, fits)?);
        Ok(PlacedFile { contents, suffix, fits, placed })
    }

    /// The file's path. The file is written again if it was removed.
    ///
    /// # Errors
    /// As for [`PlacedFile::place`].
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if !placed.is_there() {
            *placed = place(self.contents, self.suffix, self.fits)?;
        }
        Ok(placed.path.clone())
    }
}

impl Placed {
    fn is_there(&self) -> bool {
        let identity = |file: &std::fs::Metadata| (file.dev(), file.ino());
        let own = self.file.metadata().map(|file| identity(&file));
        own.is_ok_and(|own| std::fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == own))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = remove_file(&self.path);
        }
    }
}

/// Returns true if no other user can replace a file in that directory.
pub(super) fn is_protected(directory: &Path) -> bool {
    let is_trusted = |uid: u32| uid == 0 || uid == geteuid().as_raw();
    let is_closed = |mode: u32| mode & 0o022 == 0 || mode & 0o1000 != 0;
    metadata(directory).is_ok_and(|directory| is_trusted(directory.uid()) && is_closed(directory.mode()))
}

/// Returns true if programs may execute what is in a file of that directory.
pub(super) fn is_executable(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|filesystem| !filesystem.flags().contains(FsFlags::ST_NOEXEC))
}

fn place(contents: Embedded, suffix: &str, fits: fn(&Path) -> bool) -> io::Result<Placed> {
    let mut last = io::Error::other("no directory for it");
    for directory in DIRECTORIES.map(Path::new).into_iter().filter(|directory| fits(directory)) {
        match place_in(directory, contents, suffix) {
            Ok(placed) => return Ok(placed),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn place_in(directory: &Path, contents: Embedded, suffix: &str) -> io::Result<Placed> {
    remove_unused(directory, suffix);
    let mut last = io::Error::other("every name is taken");
    for attempt in 0..MAX_ATTEMPTS {
        // Containers of a pod may share /dev/shm, and each of them has a process 1.
        let number = RandomState::new().hash_one(attempt);
        let path = directory.join(format!("{PREFIX}{number:016x}{suffix}"));
        match write(path, contents) {
            Ok(placed) if placed.is_there() => return Ok(placed),
            // Another rinit took it for one that is not in use.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::WouldBlock) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn write(path: PathBuf, contents: Embedded) -> io::Result<Placed> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path)?;
    let file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno)?;
    let mut placed = Placed { path, file };
    placed.file.write_all(&contents.unpack())?;
    // Workers of other users read it too, whatever the umask is.
    set_permissions(&placed.path, Permissions::from_mode(0o444))?;
    Ok(placed)
}

/// Removes the files of processes that were killed: nobody has a lock on them.
fn remove_unused(directory: &Path, suffix: &str) {
    let is_ours = |name: &OsStr| {
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(suffix));
        name.is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for entry in read_dir(directory).into_iter().flatten().flatten().filter(|entry| is_ours(&entry.file_name())) {
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
    use crate::embedded::embedded;

    const CONTENTS: Embedded = embedded!("worker.cjs");

    #[test]
    fn files_of_killed_processes_are_removed_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let kept = place_in(folder.path(), CONTENTS, ".cjs").unwrap();
        let left = folder.path().join("rinit-0123456789abcdef.cjs");
        let other = folder.path().join("rinit-mine.cjs");
        std::fs::write(&left, "").unwrap();
        std::fs::write(&other, "").unwrap();
        let second = place_in(folder.path(), CONTENTS, ".cjs").unwrap();
        assert!(kept.path.exists() && second.path.exists() && other.exists() && !left.exists());
        drop(kept);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_was_removed_is_written_again() {
        let file = PlacedFile::place(CONTENTS, ".test", is_protected).unwrap();
        let first = file.path().unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), CONTENTS.unpack());
        assert_eq!(file.path().unwrap(), first, "as long as it is there");
        std::fs::remove_file(&first).unwrap();
        let second = file.path().unwrap();
        assert_eq!(std::fs::read(&second).unwrap(), CONTENTS.unpack());
        drop(file);
        assert!(!second.exists());
    }

    #[test]
    fn a_directory_where_others_can_replace_files_is_not_protected() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, expected) in [(0o700, true), (0o755, true), (0o1777, true), (0o777, false), (0o775, false)] {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_protected(folder.path()), expected, "{mode:o}");
        }
    }
}
