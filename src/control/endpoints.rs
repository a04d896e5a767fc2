//! Opens the control socket and the web's address.

use super::access::Access;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown, geteuid};
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Paths of the control socket, the first that can be made.
pub const SOCKET_PATHS: [&str; 3] = ["/run/rinit.sock", "/dev/shm/rinit.sock", "/tmp/rinit.sock"];

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// The endpoints, open but not served yet.
#[derive(Default)]
pub struct Endpoints {
    pub(super) socket: Option<ControlSocket>,
    pub(super) web: Option<TcpListener>,
    pub(super) access: Access,
}

/// A listening unix socket and its file, which is removed with it.
pub(super) struct ControlSocket {
    pub(super) listener: UnixListener,
    /// Users other than root and rinit's own may connect, and read.
    pub(super) serves_others: bool,
    file: SocketFile,
}

/// The file of the control socket.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Its device and inode.
    id: Option<(u64, u64)>,
}

impl SocketFile {
    /// Removes the file; but not another one that has come to its path.
    pub fn remove(&self) {
        if self.id.is_some() && file_id(&self.path) == self.id {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Settings of the endpoints.
#[derive(Clone, Debug, Default)]
pub struct EndpointSettings {
    /// The control socket.
    pub socket: EndpointSetting,
    /// Its file mode.
    pub socket_mode: Option<SocketMode>,
    /// Its group.
    pub socket_group: Option<SocketGroup>,
    /// The web's address.
    pub web: Option<SocketAddr>,
    /// The file with the tokens for changes.
    pub token_file: Option<PathBuf>,
    /// The file with the tokens for reading.
    pub read_token_file: Option<PathBuf>,
    /// True if everybody may read over the web.
    pub is_public: bool,
    /// Names by which the web may be called.
    pub hosts: Vec<String>,
}

/// `--socket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EndpointSetting {
    /// The first of [`SOCKET_PATHS`] that can be made.
    #[default]
    Anywhere,
    /// This path.
    At(PathBuf),
    /// None.
    Off,
}

/// `--socket-mode`: the permission bits of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// The owner alone.
    const OWNER: SocketMode = SocketMode(0o600);
    /// The owner and the group.
    const GROUP: SocketMode = SocketMode(0o660);

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

impl Endpoints {
    /// Opens the endpoints. That no default path can be written to is no error.
    ///
    /// # Errors
    /// The setting that cannot be followed, and why.
    pub fn open(settings: &EndpointSettings) -> Result<Endpoints, (&'static str, String)> {
        let group = settings.socket_group;
        let default_mode = if group.is_some() { SocketMode::GROUP } else { SocketMode::OWNER };
        let mode = settings.socket_mode.unwrap_or(default_mode);
        let socket = match &settings.socket {
            EndpointSetting::Off => None,
            EndpointSetting::At(path) => {
                let opened = ControlSocket::open(path, mode, group);
                Some(opened.map_err(|error| ("--socket", format!("{}: {error}", path.display())))?)
            }
            EndpointSetting::Anywhere => {
                SOCKET_PATHS.iter().find_map(|path| ControlSocket::open(Path::new(path), mode, group).ok())
            }
        };
        let web = match settings.web {
            Some(address) => {
                let listener = TcpListener::bind(address).and_then(|web| web.set_nonblocking(true).map(|()| web));
                Some(listener.map_err(|error| ("--web", format!("cannot listen on {address}: {error}")))?)
            }
            None => None,
        };
        Ok(Endpoints { socket, web, access: Access::open(settings)? })
    }

    /// True if there is any endpoint.
    pub fn is_open(&self) -> bool {
        self.socket.is_some() || self.web.is_some()
    }

    /// The control socket's path.
    pub fn path(&self) -> Option<&Path> {
        self.socket_file().map(|file| file.path.as_path())
    }

    /// The control socket's file.
    pub fn socket_file(&self) -> Option<&SocketFile> {
        self.socket.as_ref().map(|socket| &socket.file)
    }
}

impl ControlSocket {
    /// Makes a socket that only its owner may use from the start on. A socket without a server is replaced; any
    /// other file is left alone.
    fn open(path: &Path, mode: SocketMode, group: Option<SocketGroup>) -> io::Result<ControlSocket> {
        let address = UnixAddr::new(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let new = || socket(AddressFamily::Unix, SockType::Stream, flags, None);
        let client = new()?;
        let listener = new()?;
        let make = || {
            let before = umask(Mode::from_bits_truncate(0o177));
            let bound = bind(listener.as_raw_fd(), &address);
            umask(before);
            bound
        };
        match make() {
            Err(Errno::EADDRINUSE) => {
                let there = std::fs::symlink_metadata(path)?;
                if !there.file_type().is_socket() {
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
        setsockopt(&listener, sockopt::PassCred, &false)?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        let file = SocketFile { path: path.into(), id: file_id(path) };
        let socket =
            ControlSocket { listener: UnixListener::from(listener), file, serves_others: mode.lets_others_in() };
        if let Some(SocketGroup(group)) = group {
            chown(path, None, Some(group))?;
        }
        if mode != SocketMode::OWNER {
            std::fs::set_permissions(path, Permissions::from_mode(mode.0))?;
        }
        Ok(socket)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// The device and inode of the socket at that path.
fn file_id(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    file.file_type().is_socket().then(|| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(endpoints.socket.as_ref().unwrap().serves_others);
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
