//! The server: sockets, connections, and what holds for every request before its route is looked at.
//!
//! Each connection is a task and carries one request. What fails in it ends it, and nothing else.

use super::Endpoints;
use super::access::Origin;
use super::api::Api;
use super::handle::SupervisorHandle;
use super::response::{Answer, Lasts};
use crate::sys::{spawn_thread_with, watch};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Pid, getuid};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::select;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

/// Connections at once, by each way; who comes then waits.
const CONNECTIONS: usize = 64;
/// A request's head must be there within this, and be no longer than that.
const HEAD: Duration = Duration::from_secs(10);
const LONGEST_HEAD: usize = 16 * 1024;
/// A request must be over within this, unless it is a stream or waits for something to come about.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a failure to accept or to start, it is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// The thread's stack: the futures of an unoptimised build are large.
const STACK: usize = 1024 * 1024;

/// Gives the server its thread when somebody comes for the first time. To be run beside the loop.
pub async fn start_when_needed(gate: Endpoints, rinit: SupervisorHandle) {
    let gate = Arc::new(gate);
    if let Err(error) = knock(&gate).await {
        tracing::error!("no control: the kernel does not watch its sockets: {error}");
        return;
    }
    loop {
        let (gate, rinit) = (gate.clone(), rinit.clone());
        match spawn_thread_with("control", STACK, move || run(&gate, &rinit)) {
            Ok(()) => return,
            Err(error) => tracing::warn!("no thread for the control plane: {error}; tried again in {AGAIN:?}"),
        }
        sleep(AGAIN).await;
    }
}

/// Waits until somebody comes.
async fn knock(gate: &Arc<Endpoints>) -> io::Result<()> {
    let watched = |by_web| match (by_web, &gate.socket, &gate.web) {
        (false, Some(_), _) | (true, _, Some(_)) => watch(Knocks { gate: gate.clone(), by_web }).map(Some),
        _ => Ok(None),
    };
    let (socket, web) = (watched(false)?, watched(true)?);
    let comes = async |door: Option<AsyncFd<Knocks>>| match door {
        Some(door) => door.readable().await.map(drop),
        None => std::future::pending().await,
    };
    select! {
        knocked = comes(socket) => knocked,
        knocked = comes(web) => knocked,
    }
}

/// A listening socket, to be watched without a descriptor more.
struct Knocks {
    gate: Arc<Endpoints>,
    by_web: bool,
}

impl AsFd for Knocks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.gate.socket, &self.gate.web) {
            (_, Some(web)) if self.by_web => web.as_fd(),
            (Some((socket, _)), _) => socket.as_fd(),
            _ => crate::sys::stdout(),
        }
    }
}

impl AsRawFd for Knocks {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// For ever. A fault in here ends the connections, not the server.
fn run(gate: &Arc<Endpoints>, rinit: &SupervisorHandle) {
    loop {
        let ran = catch_unwind(AssertUnwindSafe(|| serve(gate, rinit)));
        let why = match ran {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a fault of its own (above), please report it".into(),
        };
        tracing::error!("the control plane failed: {why}; it starts again");
        crate::sys::pause(AGAIN);
    }
}

fn serve(gate: &Arc<Endpoints>, rinit: &SupervisorHandle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let api = Rc::new(Api::new(rinit.clone(), gate.clone()));
        let mut doors = Vec::new();
        if let Some((socket, _)) = &gate.socket {
            let listener = UnixListener::from_std(socket.try_clone()?)?;
            doors.push(spawn_local(by_socket(listener, api.clone())));
        }
        if let Some(web) = &gate.web {
            let listener = TcpListener::from_std(web.try_clone()?)?;
            doors.push(spawn_local(by_web(listener, api.clone())));
        }
        for door in doors {
            door.await.map_err(io::Error::other)?;
        }
        Ok(())
    })
}

async fn by_socket(listener: UnixListener, api: Rc<Api>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == 0 || peer.uid() == getuid().as_raw() => {
                    let client = peer.pid().filter(|pid| *pid > 0).map(Pid::from_raw);
                    attend(Box::new(stream), Origin::Socket(client), api.clone(), seat);
                }
                Ok(peer) => tracing::warn!("user {} may not use the control socket", peer.uid()),
                Err(error) => tracing::debug!("somebody at the control socket is nobody: {error}"),
            },
            Err(error) => refused(&error).await,
        }
    }
}

async fn by_web(listener: TcpListener, api: Rc<Api>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => attend(Box::new(stream), Origin::Web, api.clone(), seat),
            Err(error) => refused(&error).await,
        }
    }
}

async fn refused(error: &io::Error) {
    tracing::debug!("the control plane accepts nobody for a moment: {error}");
    sleep(AGAIN).await;
}

/// A fault, for the test that shows what becomes of one; not in what is shipped.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is the point")]
fn provoke(path: &str) {
    if path == "/provoke/panic" {
        panic!("provoked");
    }
}

/// A connection, of either kind: one HTTP server is enough in the binary.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Serves one connection in a task of its own.
fn attend(stream: Box<dyn Duplex>, way: Origin, api: Rc<Api>, seat: tokio::sync::OwnedSemaphorePermit) {
    let task = spawn_local(async move {
        let _seat = seat;
        let _client = Client::of(&api.rinit.clients);
        let lasts = Lasts::default();
        let service = service_fn(|request| {
            let (api, lasts) = (api.clone(), lasts.clone());
            async move { Ok::<_, Infallible>(answer(&api, way, request, &lasts).await) }
        });
        let mut server = http1::Builder::new();
        server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        loop {
            match timeout(PATIENCE, &mut connection).await {
                Ok(_) => return,
                Err(_) if lasts.get() => {}
                Err(_) => return,
            }
        }
    });
    spawn_local(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!("the control plane failed on a request (above), please report it; it goes on");
        }
    });
}

/// Counts while it lives.
struct Client(Arc<AtomicUsize>);

impl Client {
    fn of(all: &Arc<AtomicUsize>) -> Client {
        all.fetch_add(1, Ordering::Relaxed);
        Client(all.clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(api: &Api, way: Origin, request: Request<Incoming>, lasts: &Lasts) -> Answer {
    #[cfg(debug_assertions)]
    provoke(request.uri().path());
    match api.answer(way, request, lasts).await {
        Ok(answer) => answer,
        Err(failure) => {
            if failure.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!("control: {}", failure.error.error);
            }
            failure.answer()
        }
    }
}
