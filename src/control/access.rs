//! Who comes in: the socket that only root and rinit's own user may use, and the web, which may read, and write with a token.

use super::response::Failure;
use hyper::StatusCode;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the control socket is made, the first that can be.
pub const SOCKET_PATHS: [&str; 3] = ["/run/rinit.sock", "/dev/shm/rinit.sock", "/tmp/rinit.sock"];

/// Which way a request came, which decides what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// By the socket, from root or rinit's own user; from that process, if rinit can see it.
    Socket(Option<Pid>),
    /// From the network.
    Web,
}

/// The ways in, open but not served yet.
#[derive(Default)]
pub struct Endpoints {
    pub(super) socket: Option<(UnixListener, SocketFile)>,
    pub(super) web: Option<TcpListener>,
    token: Option<String>,
    /// Names by which the web may be called, beside addresses and `localhost`.
    hosts: Vec<String>,
}

/// A socket's file; gone when this is dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What is to be opened.
#[derive(Clone, Debug, Default)]
pub struct EndpointSettings {
    /// The control socket.
    pub socket: EndpointSetting,
    /// The web's address.
    pub web: Option<SocketAddr>,
    /// Where its token is.
    pub token_file: Option<PathBuf>,
    /// Names by which it may be called.
    pub hosts: Vec<String>,
}

/// `--socket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EndpointSetting {
    /// The first of [`SOCKET_PATHS`] that can be made.
    #[default]
    Anywhere,
    /// There.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl Endpoints {
    /// Opens the ways in. That no default place can be written to is no fault.
    ///
    /// # Errors
    /// The setting that cannot be followed, and why.
    pub fn open(wanted: &EndpointSettings) -> Result<Endpoints, (&'static str, String)> {
        let socket = match &wanted.socket {
            EndpointSetting::Off => None,
            EndpointSetting::At(path) => {
                let opened = open_socket(path).map_err(|error| ("--socket", format!("{}: {error}", path.display())))?;
                Some((opened, SocketFile(path.clone())))
            }
            EndpointSetting::Anywhere => {
                let mut opened = SOCKET_PATHS
                    .iter()
                    .map(Path::new)
                    .filter_map(|path| Some((open_socket(path).ok()?, SocketFile(path.into()))));
                opened.next()
            }
        };
        let web = match wanted.web {
            Some(address) => {
                let listener = TcpListener::bind(address).and_then(|web| web.set_nonblocking(true).map(|()| web));
                Some(listener.map_err(|error| ("--web", format!("cannot listen on {address}: {error}")))?)
            }
            None => None,
        };
        let token = match &wanted.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| ("--web-token-file", format!("{}: {error}", path.display())))?;
                let text = text.trim().to_owned();
                if text.len() < SHORTEST_TOKEN {
                    let why = format!("{}: a token has {SHORTEST_TOKEN} characters or more", path.display());
                    return Err(("--web-token-file", why));
                }
                Some(text)
            }
            None => None,
        };
        Ok(Endpoints { socket, web, token, hosts: wanted.hosts.clone() })
    }

    /// Whether there is any way in.
    pub fn is_open(&self) -> bool {
        self.socket.is_some() || self.web.is_some()
    }

    /// The control socket's path.
    pub fn path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|(_, file)| file.0.as_path())
    }

    /// Whether a browser may have been led here under a foreign name (DNS rebinding).
    pub(super) fn check_host(&self, host: Option<&str>) -> Result<(), Failure> {
        let host = host.unwrap_or_default();
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let own = nix::unistd::gethostname().is_ok_and(|own| own.to_str() == Some(name));
        let known = own
            || name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|one| one.eq_ignore_ascii_case(name));
        if known {
            return Ok(());
        }
        let error = format!("{name:?} is no name of this host: use its address, or add --web-host {name}");
        Err(Failure::new(StatusCode::FORBIDDEN, error))
    }

    /// Whether a changing call has the token.
    pub(super) fn check_token(&self, header: Option<&str>) -> Result<(), Failure> {
        let Some(token) = &self.token else {
            let error = "changes over the web need --web-token-file; `docker exec` and the control socket work without";
            return Err(Failure::new(StatusCode::FORBIDDEN, error));
        };
        let given = header.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default();
        if are_equal(given.trim().as_bytes(), token.as_bytes()) {
            return Ok(());
        }
        let error = "this call needs the header `Authorization: Bearer TOKEN` with the token of --web-token-file";
        Err(Failure::new(StatusCode::UNAUTHORIZED, error))
    }
}

/// Anything shorter is guessed.
const SHORTEST_TOKEN: usize = 16;

/// Compares in a time that depends on the lengths alone.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0 && one.len() == other.len()
}

/// A socket that only its owner may use from the start on. A file that was left over there is replaced.
fn open_socket(path: &Path) -> io::Result<UnixListener> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new = || socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let caller = new()?;
    let is_left_over = || connect(caller.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED);
    let listener = new()?;
    let make = || {
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = bind(listener.as_raw_fd(), &address);
        umask(before);
        bound
    };
    match make() {
        Err(Errno::EADDRINUSE) if is_left_over() => {
            std::fs::remove_file(path)?;
            make()?;
        }
        made => made?,
    }
    setsockopt(&listener, sockopt::PassCred, &false)?;
    listen(&listener, Backlog::new(64)?)?;
    Ok(UnixListener::from(listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_its_owners_and_one_that_was_left_over_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rinit.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let wanted = EndpointSettings { socket: EndpointSetting::At(path.clone()), ..EndpointSettings::default() };
        let gate = Endpoints::open(&wanted).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Endpoints::open(&wanted).is_err_and(|(name, why)| name == "--socket" && why.contains("in use")));
        drop(gate);
        assert!(!path.exists());
    }

    #[test]
    fn a_foreign_name_is_refused_and_a_token_is_needed_for_changes() {
        let gate = Endpoints {
            hosts: vec!["app.example".into()],
            token: Some("0123456789abcdef".into()),
            ..Endpoints::default()
        };
        for host in ["127.0.0.1:9615", "[::1]:9615", "localhost", "APP.example:80"] {
            assert!(gate.check_host(Some(host)).is_ok(), "{host}");
        }
        for host in [None, Some(""), Some("evil.example:9615"), Some("127.0.0.1.evil.example")] {
            assert!(gate.check_host(host).is_err(), "{host:?}");
        }
        assert!(gate.check_token(Some("Bearer 0123456789abcdef")).is_ok());
        for header in [
            None,
            Some("Bearer "),
            Some("Bearer 0123456789abcde"),
            Some("0123456789abcdef"),
            Some("Bearer 0123456789abcdeff"),
        ] {
            assert!(gate.check_token(header).is_err(), "{header:?}");
        }
        let error = Endpoints::default().check_token(None).unwrap_err().error.error;
        assert!(error.contains("--web-token-file"), "{error}");
    }
}
