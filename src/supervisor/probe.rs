//! Asks a worker whether it serves: by a connection, a request or a program, for readiness and for liveness.

use super::helper::HelperSetup;
use super::on_a_thread;
use crate::config::{Probe, ProbeTarget};
use crate::core::WorkerId;
use crate::ports::Ports;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The rest of a probe's answer is read up to this size in bytes, and within this time.
const MAX_REST: u64 = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_millis(500);

/// The last answer of a worker that was not ready.
pub(super) type LastAnswer = Rc<RefCell<Option<String>>>;

/// The setting in which a worker's probes run: as the worker itself.
pub(super) struct ProbeSetup {
    pub(super) worker: WorkerId,
    pub(super) pid: Pid,
    pub(super) ports: Ports,
    pub(super) helper: HelperSetup,
    pub(super) null: Rc<OwnedFd>,
    pub(super) last_answer: LastAnswer,
}

impl ProbeSetup {
    /// Asks once. The answer that was no is returned as text, as is none within `patience`.
    pub(super) async fn ask(&self, probe: &Probe, patience: Duration) -> Result<(), String> {
        // Allocated while a probe lasts: every worker has room for one otherwise.
        let answer = Box::pin(async {
            match probe {
                Probe::Tcp(ProbeTarget::Address(address)) => connect(address).await.map(drop),
                Probe::Tcp(ProbeTarget::Worker(port)) => wait_for_accept(self.connect_to_worker(*port).await?).await,
                Probe::Http { target: ProbeTarget::Address(address), path } => {
                    get(connect(address).await?, address, path).await
                }
                Probe::Http { target: ProbeTarget::Worker(port), path } => {
                    get(self.connect_to_worker(*port).await?, "localhost", path).await
                }
                Probe::Exec(command) => self.helper.start(command, [self.null.as_raw_fd(); 3])?.finish().await,
            }
        });
        match timeout(patience, answer).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("none within {patience:?}")),
        }
    }

    /// Connects to the worker itself, whether it shares its port or not.
    async fn connect_to_worker(&self, port: Option<u16>) -> io::Result<TcpStream> {
        self.ports.connect_to_process(self.worker, self.pid, port).await
    }
}

/// Waits until the worker has taken the connection: it answers the end of the client's side by something, or by its own end.
async fn wait_for_accept(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    stream.read(&mut [0]).await.map(drop)
}

/// Connects to `HOST:PORT`, by the first of its addresses that answers.
async fn connect(address: &str) -> io::Result<TcpStream> {
    let addresses = match address.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let name = address.to_owned();
            on_a_thread(move || name.to_socket_addrs().map(|found| found.collect::<Vec<SocketAddr>>())).await??
        }
    };
    TcpStream::connect(&addresses[..]).await
}

/// Sends a `GET`; 200 to 399 is a yes, as for a Kubernetes probe.
async fn get(mut stream: TcpStream, host: &str, path: &str) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rinit\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200": nothing more is needed.
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    // But a worker whose answer is not read would report a broken connection.
    let mut rest = Vec::new();
    let _ = timeout(REST_TIMEOUT, stream.take(MAX_REST).read_to_end(&mut rest)).await;
    match &status {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2' | b'3', _, _] => Ok(()),
        _ => Err(io::Error::other(String::from_utf8_lossy(&status).into_owned())),
    }
}
