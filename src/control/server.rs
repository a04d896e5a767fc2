//! Serves connections: accepts them, gives each a seat, and checks every request before its handler runs.
//!
//! Each connection is a task and carries one request. A panic in it ends it, and nothing else.

use super::access::{Origin, Permission};
use super::api::{Api, Request as ApiRequest, now};
use super::endpoints::Endpoints;
use super::handle::SupervisorHandle;
use super::limits::{Class, Limits, Seat};
use super::refusals::REFUSAL_DELAY;
use super::response::{Answer, AnswerBody, Failure};
use super::routes::{Found, find};
use super::socket::ControlSocket;
use crate::sys::process::why_not_now;
use crate::sys::{spawn_thread_with, watch};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, HOST, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::unistd::{Pid, getuid};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::select;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

/// A request's head must have come within this time, and be no longer than that, in bytes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 * 1024;
/// A request must be over within this time, unless it is a stream or a change in progress.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time after which a connection whose client has gone is looked at again, while no stream or call has begun.
const HANG_UP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The pause after a failure to accept or to start.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// One in this many failures to start is logged: every ten seconds.
const LOGGED_FAILURES: u32 = 50;
/// The thread's stack, in bytes: the futures of an unoptimised build are large.
const STACK: usize = 1024 * 1024;

/// Starts the server's thread when the first client connects. To be run beside the event loop.
pub async fn start_when_needed(endpoints: Endpoints, rinit: SupervisorHandle) {
    let endpoints = Arc::new(endpoints);
    if endpoints.web.is_some() && endpoints.access.is_public() {
        tracing::warn!(
            "--web-public: everybody who can connect to --web can read log lines, events, commands and settings"
        );
    }
    if let Err(error) = first_connection(&endpoints).await {
        tracing::error!("no control plane: the kernel does not watch its sockets: {error}");
        return;
    }
    let mut failures = 0u32;
    loop {
        let (endpoints, rinit) = (endpoints.clone(), rinit.clone());
        let Err(error) = spawn_thread_with("control", STACK, move || run(&endpoints, &rinit)) else { return };
        if failures.is_multiple_of(LOGGED_FAILURES) {
            tracing::warn!("no thread for the control plane: {}; clients wait", why(&error));
        }
        failures = failures.wrapping_add(1);
        sleep(RETRY_INTERVAL).await;
    }
}

/// Waits until a client connects. No socket has another descriptor for that.
async fn first_connection(endpoints: &Endpoints) -> io::Result<()> {
    async fn connection(listener: Option<impl AsFd + AsRawFd + 'static>) -> io::Result<()> {
        match listener {
            Some(listener) => watch(listener)?.readable().await.map(drop),
            None => std::future::pending().await,
        }
    }
    loop {
        let socket = endpoints.socket.as_ref();
        select! {
            connected = connection(socket.map(ControlSocket::listener)) => return connected,
            connected = connection(endpoints.web.clone()) => return connected,
            () = renewed(socket) => {}
        }
    }
}

/// Waits until the control socket had to be made again.
async fn renewed(socket: Option<&ControlSocket>) {
    match socket {
        Some(socket) => socket.renewed().await,
        None => std::future::pending().await,
    }
}

/// Serves for ever. A failure ends the connections, not the server.
fn run(endpoints: &Arc<Endpoints>, rinit: &SupervisorHandle) {
    let mut failures = 0u32;
    loop {
        let ran = catch_unwind(AssertUnwindSafe(|| serve(endpoints, rinit)));
        let why = match ran {
            Ok(Ok(())) => return,
            Ok(Err(_)) if !failures.is_multiple_of(LOGGED_FAILURES) => None,
            Ok(Err(error)) => Some(why(&error)),
            Err(_) => Some("a fault of its own (above), please report it".into()),
        };
        if let Some(why) = why {
            tracing::error!("the control plane failed: {why}; it starts again");
        }
        failures = failures.wrapping_add(1);
        crate::sys::pause(RETRY_INTERVAL);
    }
}

/// The limit that an error comes from, or the error.
fn why(error: &io::Error) -> String {
    let limit = error.raw_os_error().and_then(|number| why_not_now(Errno::from_raw(number)));
    limit.map_or_else(|| error.to_string(), str::to_owned)
}

fn serve(endpoints: &Arc<Endpoints>, rinit: &SupervisorHandle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let api = Rc::new(Api::new(rinit.clone(), endpoints.clone()));
        if endpoints.web.is_some() {
            spawn_local(follow_reloads(api.clone()));
        }
        // Clients of the web and other users cannot take the seats of root and rinit's own user.
        let (owners, others) = (Limits::new(), Limits::new());
        let mut listeners = Vec::new();
        if endpoints.socket.is_some() {
            listeners.push(spawn_local(serve_sockets(api.clone(), owners, others.clone())));
        }
        if let Some(web) = &endpoints.web {
            let listener = TcpListener::from_std(web.try_clone()?)?;
            listeners.push(spawn_local(serve_web(listener, api.clone(), others)));
        }
        for listener in listeners {
            listener.await.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

/// Reads the token files again with every reload (SIGHUP).
async fn follow_reloads(api: Rc<Api>) {
    let journal = &api.rinit.journal;
    let mut from = 0;
    loop {
        let mut changed = std::pin::pin!(journal.changed.notified());
        changed.as_mut().enable();
        let has_reloaded = {
            let state = journal.lock();
            let (_, mut events) = state.since(from);
            from = state.next_seq();
            events.any(|event| event.kind == "reloading")
        };
        if has_reloaded {
            api.endpoints.access.reload();
        }
        changed.await;
    }
}

/// Serves the control socket, and the one that is made when its file has been removed.
async fn serve_sockets(api: Rc<Api>, owners: Rc<Limits>, others: Rc<Limits>) -> io::Result<()> {
    let Some(socket) = &api.endpoints.socket else { return Ok(()) };
    loop {
        let listener = UnixListener::from_std(socket.listener().try_clone()?)?;
        select! {
            () = serve_socket(&listener, &api, &owners, &others) => {}
            () = socket.renewed() => {}
        }
    }
}

async fn serve_socket(listener: &UnixListener, api: &Rc<Api>, owners: &Rc<Limits>, others: &Rc<Limits>) {
    let serves_others = api.endpoints.socket.as_ref().is_some_and(ControlSocket::serves_others);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if is_owner(peer.uid()) || serves_others => {
                    let pid = peer.pid().filter(|pid| *pid > 0).map(Pid::from_raw);
                    let (uid, limits) = (peer.uid(), if is_owner(peer.uid()) { owners } else { others });
                    start_connection(Box::new(stream), Origin::Socket { uid, pid }, api, limits).await;
                }
                Ok(peer) => tracing::warn!("user {} may not use the control socket", peer.uid()),
                Err(error) => tracing::debug!("a client of the control socket has no credentials: {error}"),
            },
            Err(error) => on_accept_error(&error, owners).await,
        }
    }
}

/// Root and rinit's own user may do everything by the control socket.
fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == getuid().as_raw()
}

async fn serve_web(listener: TcpListener, api: Rc<Api>, limits: Rc<Limits>) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => start_connection(Box::new(stream), Origin::Web(address), &api, &limits).await,
            Err(error) => on_accept_error(&error, &limits).await,
        }
    }
}

/// Makes room where descriptors have run out, or pauses.
async fn on_accept_error(error: &io::Error, limits: &Rc<Limits>) {
    tracing::debug!("the control plane cannot accept a connection: {error}");
    if !limits.drop_oldest_waiting() {
        sleep(RETRY_INTERVAL).await;
    }
    yield_now().await;
}

/// A fault, for the test that shows what it does; not in a release.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is the point")]
fn provoke(path: &str) {
    if path == "/provoke/panic" {
        panic!("provoked");
    }
}

/// A connection of either kind: one HTTP server is enough in the binary.
trait Duplex: AsyncRead + AsyncWrite + AsFd + Unpin {}

impl<T: AsyncRead + AsyncWrite + AsFd + Unpin> Duplex for T {}

/// Serves one connection in a task of its own, which has its first turn before the next connection is accepted: a request that
/// is there already does not wait beside those that are not.
async fn start_connection(stream: Box<dyn Duplex>, origin: Origin, api: &Rc<Api>, limits: &Rc<Limits>) {
    let (seat, api) = (limits.seat(), api.clone());
    let connection_seat = seat.clone();
    let socket = stream.as_fd().try_clone_to_owned().and_then(watch);
    let task = spawn_local(async move {
        let seat = connection_seat;
        let _connection = Connection::of(&api.rinit.connections);
        let service = service_fn(|request| {
            let (api, seat) = (api.clone(), seat.clone());
            async move { Ok::<_, Infallible>(respond(&api, origin, request, &seat).await) }
        });
        let mut server = http1::Builder::new();
        server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let mut abandoned = std::pin::pin!(abandoned(socket, &seat));
        loop {
            let is_over = select! {
                biased;
                served = timeout(REQUEST_TIMEOUT, &mut connection) => served.is_ok() || !seat.is_in_progress(),
                () = &mut abandoned => true,
            };
            if is_over {
                return;
            }
        }
    });
    seat.occupy(task.abort_handle());
    spawn_local(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!("the control plane failed on a request (above), please report it; it goes on");
        }
    });
    yield_now().await;
}

/// Waits until a stream or a call is in progress whose client has gone. hyper sees that too, but not behind bytes that the client
/// has sent after its request.
async fn abandoned(socket: io::Result<AsyncFd<OwnedFd>>, seat: &Seat) {
    let Ok(socket) = socket else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = socket.readable().await else { return std::future::pending().await };
        if ready.ready().is_read_closed() {
            break;
        }
        ready.clear_ready();
    }
    while !seat.is_in_progress() {
        sleep(HANG_UP_CHECK_INTERVAL).await;
    }
}

/// Counts a connection while it lives.
struct Connection(Arc<AtomicUsize>);

impl Connection {
    fn of(all: &Arc<AtomicUsize>) -> Connection {
        all.fetch_add(1, Ordering::Relaxed);
        Connection(all.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a request.
async fn respond(api: &Rc<Api>, origin: Origin, request: Request<Incoming>, seat: &Rc<Seat>) -> Answer {
    #[cfg(debug_assertions)]
    provoke(request.uri().path());
    match handle(api, origin, request, seat).await {
        Ok(answer) => answer,
        Err(failure) => {
            if failure.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!("control: {}", failure.error.error);
            }
            failure.answer()
        }
    }
}

/// Finds the request's route, applies what follows from its class and permission, and runs its handler. The bytes of its
/// answer are counted until they are sent.
async fn handle(api: &Rc<Api>, origin: Origin, request: Request<Incoming>, seat: &Rc<Seat>) -> Result<Answer, Failure> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let (route, id, rest) = match find(head.method.as_str(), path) {
        Found::Route(route, id, rest) => (route, id, rest),
        Found::WrongMethod(methods) => {
            let methods = methods.join(", ");
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {methods}"));
            let mut answer = failure.answer();
            answer.headers_mut().extend(HeaderValue::from_str(&methods).ok().map(|methods| (ALLOW, methods)));
            return Ok(answer);
        }
        Found::Nothing => {
            let error = format!("there is no {path}; /openapi.json lists what there is");
            return Err(Failure::new(StatusCode::NOT_FOUND, error));
        }
    };
    let class = route.class_of(head.uri.query());
    let header = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let permission = match origin {
        Origin::Socket { uid, .. } if is_owner(uid) => Permission::Change,
        Origin::Socket { .. } if route.permission <= Permission::Read => Permission::Read,
        Origin::Socket { uid, .. } => {
            let error =
                format!("user {uid} may read by this socket; changes are for root and rinit's own user, as is this");
            return Err(Failure::new(StatusCode::FORBIDDEN, error));
        }
        // Orchestrators and Prometheus use names of their own, and have no token.
        Origin::Web(_) if class == Class::Probe => Permission::Public,
        Origin::Web(address) => {
            // The request's target may name the host too, and then counts (RFC 9112, 3.2.2).
            let host = head.uri.authority().map(Authority::as_str).or_else(|| header(HOST));
            if head.headers.get_all(HOST).iter().nth(1).is_some() {
                return Err(Failure::new(StatusCode::FORBIDDEN, "the request has more than one Host (RFC 9112, 3.2)"));
            }
            api.endpoints.access.check_host(host)?;
            let has_token = head.headers.contains_key(AUTHORIZATION);
            match api.endpoints.access.authorize(route.permission, header(AUTHORIZATION)) {
                Ok(permission) => permission,
                Err(failure) => {
                    if has_token {
                        api.on_refusal(address);
                        if !api.refusals.can_wait(address.ip(), now()) {
                            let error = "too many wrong tokens at once from this address";
                            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, error));
                        }
                        sleep(REFUSAL_DELAY).await;
                    }
                    return Err(failure);
                }
            }
        }
    };
    seat.enter(class)?;
    let request = ApiRequest {
        origin,
        permission,
        id,
        rest,
        text: head.uri.query().map(str::to_owned),
        accept: header(ACCEPT).unwrap_or_default().to_owned(),
        body: Some(body),
        seat: seat.clone(),
    };
    let room = seat.answer_room().await?;
    let (head, body) = (route.handler)(api.clone(), request).await?.into_parts();
    let body = match body {
        AnswerBody::Whole(Some(bytes)) => AnswerBody::Whole(Some(seat.hold(bytes, room).await)),
        body => body,
    };
    Ok(Answer::from_parts(head, body))
}
