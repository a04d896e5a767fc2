//! Makes the control socket and its file, and makes them again when the file has been removed.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, setsockopt, socket,
    sockopt,
};
use nix::unistd::{Gid, Group, chown, geteuid};
use std::fs::{Permissions, symlink_metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// The interval at which the socket's file is looked for: cleaners of /tmp remove old files.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The listening unix socket and its file, which is removed with it.
pub(super) struct ControlSocket {
    listener: Mutex<Arc<UnixListener>>,
    file: SocketFile,
    mode: SocketMode,
    group: Option<SocketGroup>,
}

/// The file of the control socket.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: Arc<Mutex<FileId>>,
}

/// A file's device and inode.
type FileId = (u64, u64);

impl SocketFile {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file; but not another one that has come to its path.
    pub fn remove(&self) {
        if file_id(&self.path) == Some(*locked(&self.id)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// True if nothing is at the path any more.
    fn is_gone(&self) -> bool {
        symlink_metadata(&self.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

/// `--socket-mode`: the permission bits of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// The owner alone.
    pub(super) const OWNER: SocketMode = SocketMode(0o600);
    /// The owner and the group.
    pub(super) const GROUP: SocketMode = SocketMode(0o660);

    /// Parses an octal mode.
    ///
    /// # Errors
    /// The modes that are allowed.
    pub fn parse(text: &str) -> Result<SocketMode, String> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & 0o600 == 0o600 && *mode <= 0o777);
        mode.map(SocketMode).ok_or("allowed: an octal mode from 0600 to 0777 that lets the owner read and write".into())
    }

    fn lets_others_in(self) -> bool {
        self.0 & 0o022 != 0
    }
}

/// `--socket-group`: the group of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketGroup(pub Gid);

impl SocketGroup {
    /// Parses a number or a name.
    ///
    /// # Errors
    /// A name that is not known here.
    pub fn parse(text: &str) -> Result<SocketGroup, String> {
        match (text.parse(), Group::from_name(text)) {
            (Ok(number), _) => Ok(SocketGroup(Gid::from_raw(number))),
            (Err(_), Ok(Some(group))) => Ok(SocketGroup(group.gid)),
            (Err(_), _) => Err(format!("no group {text:?} in /etc/group")),
        }
    }
}

/// Checks that a connected control socket is served by root or by this process's own user. Another user can make a socket
/// where the verbs look for one.
///
/// # Errors
/// The user that serves it.
pub fn check_server(socket: &impl AsFd) -> io::Result<()> {
    let server = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    if server.uid() == 0 || server.uid() == geteuid().as_raw() {
        return Ok(());
    }
    let why = format!("it is served by user {}, who is neither root nor you", server.uid());
    Err(io::Error::other(why))
}

impl ControlSocket {
    /// Makes the socket. One without a server is replaced; any other file is left alone.
    ///
    /// # Errors
    /// The path is in use or cannot be written, the kernel has no descriptors, or the group may not be given.
    pub(super) fn open(path: &Path, mode: SocketMode, group: Option<SocketGroup>) -> io::Result<ControlSocket> {
        let (listener, id) = make_socket(path, mode, group)?;
        Ok(ControlSocket {
            listener: Mutex::new(Arc::new(listener)),
            file: SocketFile { path: path.into(), id: Arc::new(Mutex::new(id)) },
            mode,
            group,
        })
    }

    /// The socket, until it is made again.
    pub(super) fn listener(&self) -> Arc<UnixListener> {
        locked(&self.listener).clone()
    }

    /// The file.
    pub(super) fn file(&self) -> &SocketFile {
        &self.file
    }

    /// True if users other than root and rinit's own may connect, and read.
    pub(super) fn serves_others(&self) -> bool {
        self.mode.lets_others_in()
    }

    /// Waits until the file has been removed, and makes another socket with a file.
    pub(super) async fn renewed(&self) {
        let mut is_first_try = true;
        loop {
            sleep(FILE_CHECK_INTERVAL).await;
            if !self.file.is_gone() {
                continue;
            }
            let path = self.file.path.display();
            match self.renew() {
                Ok(()) => return tracing::warn!("the control socket {path} was removed: it has been made again"),
                Err(error) if is_first_try => {
                    tracing::warn!("the control socket {path} was removed, and cannot be made again yet: {error}");
                }
                Err(_) => {}
            }
            is_first_try = false;
        }
    }

    fn renew(&self) -> io::Result<()> {
        let (listener, id) = make_socket(&self.file.path, self.mode, self.group)?;
        *locked(&self.listener) = Arc::new(listener);
        *locked(&self.file.id) = id;
        Ok(())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// Makes a socket at that path. Nobody can connect before the file has its mode and group: the socket does not listen yet.
fn make_socket(path: &Path, mode: SocketMode, group: Option<SocketGroup>) -> io::Result<(UnixListener, FileId)> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new = || socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let client = new()?;
    let listener = new()?;
    let make = || bind(listener.as_raw_fd(), &address);
    match make() {
        Err(Errno::EADDRINUSE) => {
            if !symlink_metadata(path)?.file_type().is_socket() {
                let why = "there is a file that is no socket: remove it, or name another path";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            if connect(client.as_raw_fd(), &address) != Err(Errno::ECONNREFUSED) {
                let why = "in use: another program serves this socket";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
            }
            std::fs::remove_file(path)?;
            make()?;
        }
        made => made?,
    }
    let id = file_id(path).ok_or_else(|| io::Error::other("another program has removed it"))?;
    let prepare = || {
        if let Some(SocketGroup(group)) = group {
            chown(path, None, Some(group))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode.0))?;
        setsockopt(&listener, sockopt::PassCred, &false)?;
        listen(&listener, Backlog::new(BACKLOG)?).map_err(io::Error::from)
    };
    if let Err(error) = prepare() {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok((UnixListener::from(listener), id))
}

/// The device and inode of the socket at that path.
fn file_id(path: &Path) -> Option<FileId> {
    let file = symlink_metadata(path).ok()?;
    file.file_type().is_socket().then(|| (file.dev(), file.ino()))
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::{EndpointSetting, EndpointSettings, Endpoints};
    use super::*;
    use nix::sys::stat::Mode;

    fn open(path: &Path) -> Result<Endpoints, (&'static str, String)> {
        Endpoints::open(&EndpointSettings { socket: EndpointSetting::At(path.into()), ..EndpointSettings::default() })
    }

    #[test]
    fn the_socket_is_its_owners_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rinit.sock");
        drop(UnixListener::bind(&path).unwrap());
        let endpoints = open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(open(&path).is_err_and(|(name, why)| name == "--socket" && why.contains("in use")));
        drop(endpoints);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, fifo] = ["file", "link", "fifo"].map(|name| folder.path().join(name));
        std::fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        for path in [file.as_path(), &link, &fifo, folder.path(), Path::new("/dev/null")] {
            let refused = open(path).err();
            assert!(refused.is_some_and(|(_, why)| why.contains("no socket")), "{}", path.display());
            assert!(path.symlink_metadata().is_ok(), "{} is gone", path.display());
        }
    }

    #[test]
    fn the_socket_has_the_mode_and_the_group_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rinit.sock");
        let group = nix::unistd::getgid();
        let settings = EndpointSettings {
            socket: EndpointSetting::At(path.clone()),
            socket_group: Some(SocketGroup(group)),
            ..EndpointSettings::default()
        };
        let endpoints = Endpoints::open(&settings).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!((file.permissions().mode() & 0o777, file.gid()), (0o660, group.as_raw()));
        assert!(endpoints.socket.as_ref().unwrap().serves_others());
        for text in ["", "x", "0400", "1777", "660x", "8"] {
            assert!(SocketMode::parse(text).is_err(), "{text}");
        }
        assert!(SocketGroup::parse("no-such-group").is_err());
    }

    #[test]
    fn at_the_end_only_the_socket_that_was_made_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rinit.sock");
        let endpoints = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _another = UnixListener::bind(&path).unwrap();
        drop(endpoints);
        assert!(path.exists());
    }
}
