//! Tells the service manager that started rinit (systemd, podman) when the container is ready, stops and is alive.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// The service manager's socket, as `sd_notify(3)` has it. Without one, nothing is told.
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The interval of the watchdog's pings, if it is on (`sd_watchdog_enabled(3)`).
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` name.
    pub(super) fn from_environment() -> ServiceManager {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| open(&name));
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let period = number("WATCHDOG_USEC").filter(|period| is_meant && *period > 0);
        // Twice within the period, as the manual advises.
        ServiceManager { socket, watchdog: period.map(|period| Duration::from_micros(period) / 2) }
    }

    /// Every app has a ready worker.
    pub(super) fn announce_ready(&self) {
        self.send("READY=1");
    }

    /// The container stops.
    pub(super) fn announce_stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Pings the watchdog from the event loop's own thread: when the loop hangs, the pings end.
    pub(super) async fn ping_watchdog(self: Rc<ServiceManager>) {
        let Some(interval) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        loop {
            self.send("WATCHDOG=1");
            sleep(interval).await;
        }
    }

    /// Sends a message without waiting. A service manager that does not read is not waited for.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!("cannot tell the service manager {message}: {error}");
        }
    }
}

fn open(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    match address.and_then(|address| Ok((socket?, address))) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!("NOTIFY_SOCKET={name:?} cannot be used: {error}: the service manager is told nothing");
            None
        }
    }
}
