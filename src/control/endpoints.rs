//! Opens the control socket and the web's address.

use super::access::Access;
use super::socket::{ControlSocket, SocketFile, SocketGroup, SocketMode};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Paths of the control socket, the first that can be made.
pub const SOCKET_PATHS: [&str; 3] = ["/run/rinit.sock", "/dev/shm/rinit.sock", "/tmp/rinit.sock"];

/// The endpoints, open but not served yet.
#[derive(Default)]
pub struct Endpoints {
    pub(super) socket: Option<ControlSocket>,
    pub(super) web: Option<Arc<TcpListener>>,
    pub(super) access: Access,
    /// Variables whose values everybody who may read sees.
    pub(super) shown_variables: Vec<String>,
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
    /// Variables of workers' environments whose values are shown to everybody who may read.
    pub shown_variables: Vec<String>,
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
                Some(Arc::new(listener.map_err(|error| ("--web", format!("cannot listen on {address}: {error}")))?))
            }
            None => None,
        };
        Ok(Endpoints {
            socket,
            web,
            access: Access::open(settings)?,
            shown_variables: settings.shown_variables.clone(),
        })
    }

    /// True if there is any endpoint.
    pub fn is_open(&self) -> bool {
        self.socket.is_some() || self.web.is_some()
    }

    /// The control socket's path.
    pub fn path(&self) -> Option<&Path> {
        self.socket_file().map(SocketFile::path)
    }

    /// The control socket's file.
    pub fn socket_file(&self) -> Option<&SocketFile> {
        self.socket.as_ref().map(ControlSocket::file)
    }
}
