//! Decides what a client may do: by the endpoint that it came through, the host name it used and its token.

use super::endpoints::EndpointSettings;
use super::response::Failure;
use hyper::StatusCode;
use nix::unistd::Pid;
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The least length of a token, in bytes: a shorter one can be guessed.
const MIN_TOKEN: usize = 16;
/// The greatest size of a token file, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;

/// A request's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The control socket, which only root and rinit's own user may use.
    Socket {
        /// The client's user.
        uid: u32,
        /// The client's process, if rinit can see it.
        pid: Option<Pid>,
    },
    /// The network.
    Web(SocketAddr),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Origin::Socket { uid, pid: Some(pid) } => write!(out, "uid {uid} pid {pid}"),
            Origin::Socket { uid, pid: None } => write!(out, "uid {uid}"),
            Origin::Web(address) => write!(out, "{address}"),
        }
    }
}

/// A permission over the web; each includes the ones before it. Clients of the control socket may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Probes, metrics, and the states, counts and usage of workers.
    Public,
    /// Everything that can be read: log lines, events, commands, settings.
    Read,
    /// Changes.
    Change,
}

impl Permission {
    /// The name in `openapi.json`.
    pub fn name(self) -> &'static str {
        match self {
            Permission::Public => "public",
            Permission::Read => "read",
            Permission::Change => "change",
        }
    }
}

/// The access rules of the web.
#[derive(Default)]
pub(super) struct Access {
    change: Tokens,
    read: Tokens,
    /// True if everybody may read.
    is_public: bool,
    /// Names by which the web may be called, beside addresses and `localhost`.
    hosts: Vec<String>,
}

impl Access {
    /// Reads the token files.
    ///
    /// # Errors
    /// The setting that cannot be followed, and why.
    pub(super) fn open(settings: &EndpointSettings) -> Result<Access, (&'static str, String)> {
        let tokens = |name: &'static str, path: &Option<PathBuf>| match path {
            Some(path) => Tokens::open(path).map_err(|why| (name, format!("{}: {why}", path.display()))),
            None => Ok(Tokens::default()),
        };
        Ok(Access {
            change: tokens("--web-token-file", &settings.token_file)?,
            read: tokens("--web-read-token-file", &settings.read_token_file)?,
            is_public: settings.is_public,
            hosts: settings.hosts.clone(),
        })
    }

    /// The permissions for which a token is configured.
    pub(super) fn permissions_with_token(&self) -> impl Iterator<Item = Permission> {
        let tokens = [(Permission::Read, &self.read), (Permission::Change, &self.change)];
        tokens.into_iter().filter(|(_, tokens)| tokens.is_set()).map(|(permission, _)| permission)
    }

    /// True if everybody may read.
    pub(super) fn is_public(&self) -> bool {
        self.is_public
    }

    /// Reads the token files again. Where one cannot be used, its old tokens stay.
    pub(super) fn reload(&self) {
        for tokens in [&self.change, &self.read] {
            if let Err(why) = tokens.reload() {
                let path = tokens.path.as_deref().unwrap_or(Path::new(""));
                tracing::warn!("{}: {why}; the tokens of before stay valid", path.display());
            }
        }
    }

    /// Refuses a foreign host name, under which a browser may have been led here (DNS rebinding).
    pub(super) fn check_host(&self, host: Option<&str>) -> Result<(), Failure> {
        let host = host.unwrap_or_default();
        let name = host_name(host).unwrap_or_default();
        let is_own = || nix::unistd::gethostname().is_ok_and(|own| own.to_str().is_some_and(|own| own == name));
        let is_known = !name.is_empty()
            && (name.parse::<IpAddr>().is_ok()
                || name.eq_ignore_ascii_case("localhost")
                || self.hosts.iter().any(|one| one.eq_ignore_ascii_case(name))
                || is_own());
        if is_known {
            return Ok(());
        }
        let advice = if name.is_empty() { String::new() } else { format!(", or add --web-host {name}") };
        let error = format!("the host {host:?} is not a name of this server: use its address{advice}");
        Err(Failure::new(StatusCode::FORBIDDEN, error))
    }

    /// Returns the permission that the `Authorization` header gives, if that is enough for what is needed.
    pub(super) fn authorize(&self, needed: Permission, header: Option<&str>) -> Result<Permission, Failure> {
        let anonymous = if self.is_public { Permission::Read } else { Permission::Public };
        let has_tokens = self.change.is_set() || self.read.is_set();
        let granted = match header.and_then(bearer_token).filter(|_| has_tokens) {
            None => anonymous,
            Some(token) if self.change.contain(token) => Permission::Change,
            Some(token) if self.read.contain(token) => Permission::Read.max(anonymous),
            Some(_) => return Err(Failure::new(StatusCode::UNAUTHORIZED, "the token is wrong")),
        };
        if granted >= needed {
            return Ok(granted);
        }
        let (status, error) = match needed {
            Permission::Change if !self.change.is_set() => (
                StatusCode::FORBIDDEN,
                "changes over the web need --web-token-file; `docker exec` and the control socket work without",
            ),
            Permission::Change if granted == Permission::Read && header.is_some() => {
                (StatusCode::FORBIDDEN, "this token is for reading; changes need a token of --web-token-file")
            }
            Permission::Change => (
                StatusCode::UNAUTHORIZED,
                "this call needs the header `Authorization: Bearer TOKEN` with a token of --web-token-file",
            ),
            Permission::Read | Permission::Public if !has_tokens => (
                StatusCode::FORBIDDEN,
                "over the web this needs --web-read-token-file or --web-token-file (or --web-public, for everybody); \
                 `docker exec` and the control socket work without",
            ),
            Permission::Read | Permission::Public => (
                StatusCode::UNAUTHORIZED,
                "this call needs the header `Authorization: Bearer TOKEN` with a token of --web-read-token-file or \
                 --web-token-file",
            ),
        };
        Err(Failure::new(status, error))
    }
}

/// The host of an authority, `HOST[:PORT]`; an IPv6 address is in brackets (RFC 3986, 3.2.2). A trailing dot is the root
/// domain's.
fn host_name(authority: &str) -> Option<&str> {
    let is_port =
        |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        return is_port(rest).then_some(address);
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (name, port) = authority.split_at_checked(end)?;
    is_port(port).then(|| name.strip_suffix('.').unwrap_or(name))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tokens of one file, a line each.
#[derive(Default)]
struct Tokens {
    path: Option<PathBuf>,
    tokens: Mutex<Vec<String>>,
}

impl Tokens {
    fn open(path: &Path) -> Result<Tokens, String> {
        let tokens = parse_tokens(&read_small_file(path)?)?;
        Ok(Tokens { path: Some(path.into()), tokens: Mutex::new(tokens) })
    }

    fn reload(&self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let tokens = parse_tokens(&read_small_file(path)?)?;
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(())
    }

    fn is_set(&self) -> bool {
        !self.tokens.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn contain(&self, token: &str) -> bool {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // Every token is compared, so that the time does not tell which one was near.
        tokens.iter().fold(false, |found, one| are_equal(one.as_bytes(), token.as_bytes()) | found)
    }
}

/// Reads a regular file of at most [`MAX_TOKEN_FILE`] bytes, and waits for nothing.
fn read_small_file(path: &Path) -> Result<String, String> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|file| file.is_file()) {
        return Err("it is not a regular file".into());
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_TOKEN_FILE {
        return Err(format!("it is longer than {MAX_TOKEN_FILE} bytes"));
    }
    Ok(text)
}

/// Reads tokens, a line each; a byte order mark and blanks around a token do not count.
fn parse_tokens(text: &str) -> Result<Vec<String>, String> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let tokens: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err(format!("there is no token; a token has {MIN_TOKEN} characters or more, a line each"));
    }
    for (number, token) in (1..).zip(&tokens) {
        if token.len() < MIN_TOKEN {
            return Err(format!("token {number} is too short: a token has {MIN_TOKEN} characters or more"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "token {number} cannot be sent in a header: letters, digits and marks, without blanks"
            ));
        }
    }
    Ok(tokens.into_iter().map(str::to_owned).collect())
}

/// Compares in a time that depends on the lengths alone.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Tokens {
        Tokens { path: None, tokens: Mutex::new(parse_tokens(text).unwrap()) }
    }

    #[test]
    fn a_foreign_host_name_is_refused() {
        let access = Access { hosts: vec!["app.example".into()], ..Access::default() };
        for host in
            ["127.0.0.1:9615", "[::1]:9615", "[::1]", "localhost", "localhost.", "APP.example:80", "app.example.:80"]
        {
            assert!(access.check_host(Some(host)).is_ok(), "{host}");
        }
        let foreign = [
            "",
            "evil.example:9615",
            "127.0.0.1.evil.example",
            "[::1].evil.com",
            "[::1]x",
            "localhost:80:evil",
            "[::1",
        ];
        for host in foreign.map(Some).into_iter().chain([None]) {
            assert!(access.check_host(host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn a_token_gives_its_permission_and_no_more() {
        let access = Access {
            change: tokens("\u{feff}0123456789abcdef\r\nnext-0123456789abcdef\n"),
            read: tokens("read-0123456789abcdef"),
            ..Access::default()
        };
        use Permission::{Change, Public, Read};
        for (header, granted) in [
            (None, Public),
            (Some("Basic YTpi"), Public),
            (Some("Bearer 0123456789abcdef"), Change),
            (Some("bEARER  next-0123456789abcdef "), Change),
            (Some("Bearer read-0123456789abcdef"), Read),
        ] {
            for needed in [Public, Read, Change] {
                let expected = (needed <= granted).then_some(granted);
                assert_eq!(access.authorize(needed, header).ok(), expected, "{header:?} for {needed:?}");
            }
        }
        for header in ["Bearer x", "Bearer 0123456789abcde", "Bearer 0123456789abcdeff", "Bearer read-0123456789abcdeF"]
        {
            let failure = access.authorize(Public, Some(header)).unwrap_err();
            assert_eq!(failure.status, StatusCode::UNAUTHORIZED, "{header}");
        }
    }

    #[test]
    fn without_tokens_reading_and_changes_are_refused_with_the_settings_that_allow_them() {
        let refused = |access: &Access, needed| access.authorize(needed, None).unwrap_err();
        let closed = Access::default();
        let failure = refused(&closed, Permission::Change);
        assert!(failure.status == StatusCode::FORBIDDEN && failure.error.error.contains("--web-token-file"));
        assert!(refused(&closed, Permission::Read).error.error.contains("--web-read-token-file"));
        let public = Access { is_public: true, ..Access::default() };
        assert_eq!(public.authorize(Permission::Read, None).ok(), Some(Permission::Read));
        assert_eq!(refused(&public, Permission::Change).status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_token_file_that_cannot_be_used_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Tokens::open(&path).err().unwrap()
        };
        assert!(refused("\n").contains("no token"));
        assert!(refused("0123456789abcdef\nshort\n").contains("token 2 is too short"));
        assert!(refused("0123456789 abcdef").contains("header"));
        assert!(refused("0123456789abcdéf").contains("header"));
        assert!(refused(&"x".repeat(70_000)).contains("longer"));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(Tokens::open(&path).err().unwrap().contains("regular file"));
        assert!(Tokens::open(Path::new("/dev/zero")).err().unwrap().contains("regular file"));
    }

    #[test]
    fn tokens_are_read_again_and_stay_when_the_file_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "old-0123456789abcdef").unwrap();
        let access = Access { change: Tokens::open(&path).unwrap(), ..Access::default() };
        let can_change = |token: &str| access.authorize(Permission::Change, Some(&format!("Bearer {token}"))).is_ok();
        std::fs::write(&path, "old-0123456789abcdef\nnew-0123456789abcdef").unwrap();
        access.reload();
        assert!(can_change("old-0123456789abcdef") && can_change("new-0123456789abcdef"));
        std::fs::write(&path, "new-0123456789abcdef").unwrap();
        access.reload();
        assert!(!can_change("old-0123456789abcdef") && can_change("new-0123456789abcdef"));
        std::fs::write(&path, "").unwrap();
        access.reload();
        assert!(can_change("new-0123456789abcdef"));
    }
}
