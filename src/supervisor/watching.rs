//! Waits for changes of watched files and folders.
//!
//! inotify(7) only rings: what has changed is found by comparing fingerprints of all that is watched. So a file that is
//! replaced by a rename, a Kubernetes ConfigMap whose `..data` link is swapped, and a folder that goes and comes back are seen
//! alike, and a file that was only touched by its own name's loss and return is not.

use super::on_a_thread;
use crate::config::{ReloadTriggers, WatchPattern};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

/// Changes are taken together that come within this time of each other.
const SETTLE: Duration = Duration::from_millis(300);
/// Changes that never settle are taken after this.
const SETTLE_AT_MOST: Duration = Duration::from_secs(5);
/// The interval at which is looked for changes that inotify may not tell of.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of files and folders below one that is watched.
const MAX_ENTRIES: usize = 100_000;
/// The maximum depth of folders.
const MAX_DEPTH: usize = 32;

/// The events that ring. A folder's own are told of by the one above it.
fn flags() -> AddWatchFlags {
    AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVE_SELF
}

/// Files and folders that are watched.
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    ignored: Vec<WatchPattern>,
    /// The fingerprint of each path.
    seen: Vec<u64>,
}

/// A look at everything that is watched.
struct Look {
    fingerprints: Vec<u64>,
    folders: BTreeSet<PathBuf>,
    /// A path is missing, or has more entries than are looked at.
    is_incomplete: bool,
}

impl Watched {
    /// Begins to watch, if there is anything to watch. What is there now is no change. Not for the event loop: a file system
    /// may hang.
    pub(super) fn new(triggers: &ReloadTriggers) -> Option<Watched> {
        let ReloadTriggers { watch: paths, ignore_watch: ignored, cron: _ } = triggers.clone();
        let seen = look(&paths, &ignored).fingerprints;
        (!paths.is_empty()).then_some(Watched { paths, ignored, seen })
    }

    /// Waits until something has changed, and returns the path that it belongs to.
    ///
    /// # Errors
    /// No thread. inotify's limits are no error: then it is looked again and again.
    pub(super) async fn changed(&mut self) -> io::Result<PathBuf> {
        loop {
            let look = self.look().await?;
            let bell = Bell::new(&look.folders);
            // Something may have changed between the look and the bell.
            let look = self.look().await?;
            if look.fingerprints == self.seen {
                match &bell {
                    Ok(bell) if !look.is_incomplete => bell.rings().await?,
                    Ok(bell) => drop(timeout(POLL_INTERVAL, bell.rings()).await),
                    Err(_) => sleep(POLL_INTERVAL).await,
                }
            }
            if let Ok(bell) = &bell {
                let _ = timeout(SETTLE_AT_MOST, async { while timeout(SETTLE, bell.rings()).await.is_ok() {} }).await;
            }
            let now = self.look().await?.fingerprints;
            let changed = self.paths.iter().zip(self.seen.iter().zip(&now)).find(|(_, (old, new))| old != new);
            let path = changed.map(|(path, _)| path.clone());
            self.seen = now;
            if let Some(path) = path {
                return Ok(path);
            }
        }
    }

    async fn look(&self) -> io::Result<Look> {
        let (paths, ignored) = (self.paths.clone(), self.ignored.clone());
        on_a_thread(move || look(&paths, &ignored)).await
    }
}

/// Looks at everything below these paths. Not for the event loop: a file system may hang.
fn look(paths: &[PathBuf], ignored: &[WatchPattern]) -> Look {
    let mut look = Look { fingerprints: Vec::new(), folders: BTreeSet::new(), is_incomplete: false };
    for path in paths {
        // The folder above tells when it comes, goes or is replaced.
        look.folders
            .extend(path.parent().map(|parent| if parent == Path::new("") { Path::new(".") } else { parent }.into()));
        let mut hasher = DefaultHasher::new();
        let mut entries = 0;
        look.add(path, path, ignored, 0, &mut entries, &mut hasher);
        look.is_incomplete |= entries == 0 || entries >= MAX_ENTRIES;
        look.fingerprints.push(hasher.finish());
    }
    look
}

impl Look {
    fn add(
        &mut self,
        root: &Path,
        path: &Path,
        ignored: &[WatchPattern],
        depth: usize,
        entries: &mut usize,
        hasher: &mut DefaultHasher,
    ) {
        let relative = path.strip_prefix(root).unwrap_or(path);
        let is_ignored = depth > 0 && ignored.iter().any(|pattern| pattern.ignores(relative));
        if is_ignored || *entries >= MAX_ENTRIES || depth > MAX_DEPTH {
            return;
        }
        let Ok(facts) = fs::metadata(path) else { return };
        *entries += 1;
        relative.hash(hasher);
        if !facts.is_dir() {
            return hash(&facts, hasher);
        }
        // Its own times change with files that are ignored.
        facts.ino().hash(hasher);
        self.folders.insert(path.into());
        let mut names: Vec<PathBuf> =
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        names.sort_unstable();
        names.iter().for_each(|name| self.add(root, name, ignored, depth + 1, entries, hasher));
    }
}

fn hash(facts: &Metadata, hasher: &mut DefaultHasher) {
    (facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec(), facts.mode()).hash(hasher);
}

/// Rings when something happens in one of its folders.
struct Bell(AsyncFd<Descriptor>);

struct Descriptor(Inotify);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Bell {
    /// # Errors
    /// No descriptor or no watch is left (`fs.inotify.max_user_watches`).
    fn new(folders: &BTreeSet<PathBuf>) -> io::Result<Bell> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        for folder in folders {
            match inotify.add_watch(folder, flags()) {
                Ok(_) | Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Bell(crate::sys::watch(Descriptor(inotify))?))
    }

    /// Waits until it rings, and takes what has come.
    async fn rings(&self) -> io::Result<()> {
        loop {
            let mut guard = self.0.readable().await?;
            let mut has_rung = false;
            while self.0.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {
                has_rung = true;
            }
            guard.clear_ready();
            if has_rung {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Value;
    use std::os::unix::fs::symlink;

    fn fingerprint(path: &Path) -> u64 {
        let ignored = [WatchPattern::parse("*.log").unwrap()];
        look(&[path.to_owned()], &ignored).fingerprints[0]
    }

    #[test]
    fn every_way_to_change_a_file_changes_the_fingerprint_and_an_ignored_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("one")).unwrap();
        fs::create_dir(at("two")).unwrap();
        fs::write(at("one/settings"), "1").unwrap();
        fs::write(at("two/settings"), "1").unwrap();
        symlink("one", at("..data")).unwrap();
        let watched = at("..data");
        let mut seen = BTreeSet::from([fingerprint(&watched)]);
        let mut is_new = |what: &str| assert!(seen.insert(fingerprint(&watched)), "{what}");
        fs::write(at("one/settings"), "22").unwrap();
        is_new("written");
        fs::write(at("one/settings.new"), "33").unwrap();
        is_new("added");
        fs::rename(at("one/settings.new"), at("one/settings")).unwrap();
        is_new("replaced");
        symlink("two", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        is_new("the link is swapped");
        fs::remove_file(at("..data")).unwrap();
        is_new("gone");
        let before = fingerprint(&at("two"));
        fs::write(at("two/access.log"), "x").unwrap();
        assert_eq!(fingerprint(&at("two")), before);
    }
}
