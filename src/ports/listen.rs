//! Opens the sockets of `--listen`, which workers inherit as `sd_listen_fds(3)` describes. They block, as systemd's do by
//! default: a program that wants them otherwise sets that itself.

use super::sockets::{self, SocketOptions};
use crate::sys::socket::{MOST, listen, take_listen_fds};
use nix::sys::socket::UnixAddr;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// An address of `--listen`, and its name in `LISTEN_FDNAMES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Its name; by default the port, or the file's name.
    pub name: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// Every address of the machine, IPv6 and IPv4.
    Port(u16),
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A socket that rinit's own service manager has opened.
    Inherited,
}

/// An open socket of `--listen`. Connections wait in its queue while no worker accepts them.
pub struct ListenSocket {
    socket: OwnedFd,
    address: ListenAddress,
}

impl ListenAddress {
    /// Reads `[NAME=]` and `PORT`, `HOST:PORT`, `[HOST6]:PORT`, `/PATH` or `unix:PATH`.
    ///
    /// # Errors
    /// Anything else; a host must be an address, not a name, except `localhost`.
    pub fn parse(text: &str) -> Result<ListenAddress, String> {
        const ALLOWED: &str = "allowed: PORT, ADDRESS:PORT, [ADDRESS6]:PORT or /PATH, with NAME= in front or without";
        let (name, text) = match text.split_once('=') {
            Some((name, rest)) => (Some(name), rest),
            None => (None, text),
        };
        if name.is_some_and(|name| name.is_empty() || name.contains(|c: char| c == ':' || !c.is_ascii_graphic())) {
            return Err("a name has letters, digits and marks, but no colon or space".into());
        }
        let path = text.strip_prefix("unix:").or(text.starts_with('/').then_some(text));
        let target = match path {
            Some(path) => {
                UnixAddr::new(Path::new(path)).map_err(|_| "the path is longer than a socket's can be (107 bytes)")?;
                Target::Unix(path.into())
            }
            None => {
                let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
                let text = local.as_deref().unwrap_or(text);
                match (text.trim_start_matches(':').parse(), text.parse()) {
                    (Ok(port), _) => Target::Port(port),
                    (_, Ok(address)) => Target::Tcp(address),
                    _ => return Err(ALLOWED.into()),
                }
            }
        };
        let default = match &target {
            Target::Port(port) => port.to_string(),
            Target::Tcp(address) => address.port().to_string(),
            Target::Unix(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().replace(':', "_"),
            Target::Inherited => "unknown".into(),
        };
        Ok(ListenAddress { name: name.map_or(default, str::to_owned), target })
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The address and the reason, such as an address that is in use.
    pub fn open(&self) -> Result<ListenSocket, String> {
        let socket = match &self.target {
            Target::Port(port) => sockets::any(*port, SocketOptions::default()),
            Target::Tcp(address) => sockets::tcp(*address, SocketOptions::default()),
            Target::Unix(path) => sockets::unix(path),
            Target::Inherited => Err(nix::errno::Errno::EADDRNOTAVAIL),
        };
        let socket = socket.and_then(|socket| listen(socket.as_fd(), MOST).map(|()| socket));
        let socket = socket.map_err(|errno| format!("cannot listen on {self}: {}", errno.desc()))?;
        Ok(ListenSocket { socket, address: self.clone() })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Port(port) => write!(f, "port {port}"),
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
            Target::Inherited => write!(f, "socket {} of the service manager", self.name),
        }
    }
}

impl ListenSocket {
    /// The sockets that rinit's own service manager handed to it (`sd_listen_fds(3)`): its workers get them as they are.
    /// To be called once, at start.
    pub fn inherited() -> Vec<ListenSocket> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
        let names = names.chain(std::iter::repeat("unknown".to_owned()));
        let sockets = take_listen_fds().into_iter().zip(names);
        let with_name =
            |(socket, name)| ListenSocket { socket, address: ListenAddress { name, target: Target::Inherited } };
        sockets.map(with_name).collect()
    }

    /// Its address and name.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ListenSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for ListenSocket {
    fn drop(&mut self) {
        if let Target::Unix(path) = &self.address.target {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::SockaddrStorage;

    #[test]
    fn addresses_are_read_in_every_form() {
        let read = |text: &str| ListenAddress::parse(text).map(|address| (address.name.clone(), address.to_string()));
        let is = |name: &str, shown: &str| Ok((name.to_owned(), shown.to_owned()));
        assert_eq!(read("8080"), is("8080", "port 8080"));
        assert_eq!(read(":8080"), is("8080", "port 8080"));
        assert_eq!(read("127.0.0.1:80"), is("80", "127.0.0.1:80"));
        assert_eq!(read("localhost:80"), is("80", "127.0.0.1:80"));
        assert_eq!(read("web=[::1]:80"), is("web", "[::1]:80"));
        assert_eq!(read("/run/app.sock"), is("app.sock", "/run/app.sock"));
        assert_eq!(read("api=unix:x.sock"), is("api", "x.sock"));
        for text in ["", "70000", "example.org:80", "a:b=80", "=80", "127.0.0.1"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read(&format!("/{}", "x".repeat(200))).unwrap_err().contains("107"));
    }

    #[test]
    fn a_socket_file_that_was_left_over_is_taken_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = ListenAddress::parse(path.to_str().unwrap()).unwrap();
        let listener = address.open().unwrap();
        assert!(address.open().err().unwrap().contains("in use"));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_port_is_open_to_both_protocols() {
        let listener = ListenAddress::parse("0").unwrap().open().unwrap();
        let bound: SockaddrStorage = nix::sys::socket::getsockname(listener.as_raw_fd()).unwrap();
        let port = bound.as_sockaddr_in6().map(|address| address.port()).or(bound.as_sockaddr_in().map(|a| a.port()));
        assert!(std::net::TcpStream::connect(("127.0.0.1", port.unwrap())).is_ok());
    }
}
