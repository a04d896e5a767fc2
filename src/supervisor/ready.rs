//! How a worker says that it is ready, or how it is asked. Each way is a small task that ends with one word.

use super::{Notice, on_a_thread};
use crate::config::ReadyCheck;
use crate::core::{Event, Exit, ReadySignal, WorkerId};
use crate::ports::WorkerPorts;
use crate::sys::peer::Identity;
use crate::sys::process::{Program, Session, Setup, exec_result, kill, spawn};
use crate::sys::signals::Inherited;
use crate::sys::user::Credentials;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind, getsockname,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::unistd::{Pid, pipe2};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// A probe is tried again after this, and then more and more rarely, up to [`RARELY`].
const OFTEN: Duration = Duration::from_millis(10);
const RARELY: Duration = Duration::from_millis(500);
/// One try of a probe may take this long.
const TRY: Duration = Duration::from_secs(5);
/// The longest datagram that is read; sd_notify's are lines of a few words.
const DATAGRAM: usize = 4096;
/// So many descriptors can come with one at the most (`SCM_MAX_FD`, unix(7)).
const SENT: usize = 253;

/// rinit's end of the way by which a worker speaks.
pub(super) enum Channel {
    /// There is none.
    None,
    /// A datagram socket.
    Notify(OwnedFd),
    /// A pipe.
    Newline(OwnedFd),
}

/// The worker's end, handed to it when it is started.
#[derive(Default)]
pub(super) struct Far {
    /// The name for `NOTIFY_SOCKET`.
    pub(super) notify: Option<OsString>,
    /// A descriptor, and the number it has there.
    pub(super) descriptor: Option<(OwnedFd, RawFd)>,
}

/// Probes that run, by their process.
pub(super) type Probes = Rc<RefCell<HashMap<Pid, oneshot::Sender<Exit>>>>;

/// What came of a worker's last probe, when it was not ready.
pub(super) type LastAnswer = Rc<RefCell<Option<String>>>;

/// What a probe of `exec:` needs to be run as the worker is.
pub(super) struct ProbeSetup {
    pub(super) environment: Vec<OsString>,
    pub(super) user: Option<Credentials>,
    pub(super) signals: Inherited,
    pub(super) null: Rc<OwnedFd>,
    pub(super) probes: Probes,
    pub(super) last_answer: LastAnswer,
}

/// Makes what this way of readiness needs.
///
/// # Errors
/// No descriptors left.
pub(super) fn open(ready: &ReadyCheck) -> nix::Result<(Channel, Far)> {
    match ready {
        ReadyCheck::Auto | ReadyCheck::Notify => {
            let (socket, name) = open_notify_socket()?;
            Ok((Channel::Notify(socket), Far { notify: Some(name), descriptor: None }))
        }
        ReadyCheck::Fd(number) => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            // rinit's end alone: the worker may expect to write to a pipe that blocks.
            fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok((Channel::Newline(read), Far { notify: None, descriptor: Some((write, *number)) }))
        }
        ReadyCheck::Spawn
        | ReadyCheck::Uptime
        | ReadyCheck::Message
        | ReadyCheck::Listen
        | ReadyCheck::Tcp(_)
        | ReadyCheck::Http { .. }
        | ReadyCheck::Exec(_) => Ok((Channel::None, Far::default())),
    }
}

/// A socket in the abstract namespace needs no writable folder, and is gone with its owner. The kernel picks a name that
/// is free (`unix(7)`, autobind).
fn open_notify_socket() -> nix::Result<(OwnedFd, OsString)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    let mut name = b"@".to_vec();
    name.extend_from_slice(address.as_abstract().unwrap_or_default());
    Ok((socket, OsString::from_vec(name)))
}

/// Waits for the worker's word, or asks until it answers, and tells the loop. Ends without a word when there will be
/// none: `--ready-timeout` is the fleet's.
pub(super) async fn watch(
    worker: WorkerId,
    who: Identity,
    ready: ReadyCheck,
    channel: Channel,
    probe: ProbeSetup,
    notices: mpsc::Sender<Notice>,
) {
    let sign = match (&ready, channel) {
        (_, Channel::Notify(socket)) => wait_for_notify(socket, who).await.map(|()| ReadySignal::Notify),
        (_, Channel::Newline(pipe)) => wait_for_newline(pipe).await.map(|()| ReadySignal::Probe),
        (ReadyCheck::Tcp(address), Channel::None) => {
            until(&probe.last_answer, async || connect(address).await.map(drop)).await;
            Ok(ReadySignal::Probe)
        }
        (ReadyCheck::Http { host, path }, Channel::None) => {
            until(&probe.last_answer, async || get(host, path).await).await;
            Ok(ReadySignal::Probe)
        }
        (ReadyCheck::Exec(command), Channel::None) => {
            until(&probe.last_answer, async || run_probe(command, &probe).await).await;
            Ok(ReadySignal::Probe)
        }
        (
            ReadyCheck::Auto
            | ReadyCheck::Notify
            | ReadyCheck::Fd(_)
            | ReadyCheck::Spawn
            | ReadyCheck::Uptime
            | ReadyCheck::Message
            | ReadyCheck::Listen,
            Channel::None,
        ) => return,
    };
    match sign {
        Ok(signal) => drop(notices.send(Notice::Event(Event::Ready(worker, signal))).await),
        Err(error) => tracing::debug!("worker {worker:?} will not say that it is ready: {error}"),
    }
}

/// Tells the loop what a worker says by its port or its channel, as far as it counts.
pub(super) async fn watch_ports(
    worker: WorkerId,
    ready: ReadyCheck,
    hearing: WorkerPorts,
    notices: mpsc::Sender<Notice>,
) {
    let WorkerPorts { mut listens, says_ready, signalled, finished } = hearing;
    let tell = async |what: oneshot::Receiver<()>, counts: bool, event: Event| {
        if what.await.is_ok() && counts {
            let _ = notices.send(Notice::Event(event)).await;
        }
    };
    let listening = async {
        while let Some(address) = listens.recv().await {
            if matches!(ready, ReadyCheck::Auto | ReadyCheck::Listen) {
                let _ = notices.send(Notice::Event(Event::Listens(worker, address))).await;
            }
        }
    };
    let message = tell(
        says_ready,
        matches!(ready, ReadyCheck::Auto | ReadyCheck::Message),
        Event::Ready(worker, ReadySignal::Message),
    );
    let signalled = tell(signalled, true, Event::Signalled(worker));
    let finished = tell(finished, true, Event::Drained(worker));
    tokio::join!(listening, message, signalled, finished);
}

/// Tries until it succeeds.
async fn until(last_answer: &LastAnswer, attempt: impl AsyncFn() -> io::Result<()>) {
    let mut pause = OFTEN;
    loop {
        let answer = match timeout(TRY, attempt()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("none within {TRY:?}"),
        };
        last_answer.replace(Some(answer));
        sleep(pause).await;
        pause = (pause * 2).min(RARELY);
    }
}

/// `READY=1` from the worker's process group, or from a process of its user or of root, in this PID namespace: a process
/// outside of it has no number here, and is not believed.
async fn wait_for_notify(socket: OwnedFd, who: Identity) -> io::Result<()> {
    let socket = crate::sys::watch(socket)?;
    loop {
        let mut guard = socket.readable().await?;
        let Ok(received) = guard.try_io(|socket| Ok(receive(socket.as_raw_fd())?)) else { continue };
        let (text, sender) = received?;
        let is_known = sender.is_some_and(|sender| who.is_trusted(&sender));
        match text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            true if is_known => return Ok(()),
            true => tracing::debug!("READY=1 for process {} from a stranger: {sender:?}", who.pid),
            false => {}
        }
    }
}

/// A datagram and who sent it. Descriptors that come with it are closed.
fn receive(socket: RawFd) -> nix::Result<(Vec<u8>, Option<UnixCredentials>)> {
    let mut text = vec![0; DATAGRAM];
    let mut space = nix::cmsg_space!(UnixCredentials, [RawFd; SENT]);
    let (count, sender) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut sender = None;
        // What did not fit is an error here, and makes it a datagram from nobody.
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
                // BARRIER=1 wants its descriptor closed.
                ControlMessageOwned::ScmRights(sent) => {
                    for descriptor in sent {
                        let _ = nix::unistd::close(descriptor);
                    }
                }
                _ => {}
            }
        }
        (message.bytes, sender)
    };
    text.truncate(count);
    Ok((text, sender))
}

async fn wait_for_newline(pipe: OwnedFd) -> io::Result<()> {
    let pipe = crate::sys::watch(pipe)?;
    loop {
        let mut guard = pipe.readable().await?;
        let mut bytes = [0; 64];
        let Ok(count) = guard.try_io(|pipe| Ok(nix::unistd::read(pipe.get_ref(), &mut bytes)?)) else { continue };
        match count? {
            0 => return Err(io::Error::other("its end of the readiness pipe is closed")),
            count if bytes.iter().take(count).any(|byte| *byte == b'\n') => return Ok(()),
            _ => {}
        }
    }
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

/// `GET`: 200 to 399 is ready, as for a Kubernetes probe.
async fn get(host: &str, path: &str) -> io::Result<()> {
    let mut stream = connect(host).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rinit\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200": nothing more is needed.
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    match &status {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2' | b'3', _, _] => Ok(()),
        _ => Err(io::Error::other(String::from_utf8_lossy(&status).into_owned())),
    }
}

/// Runs the probe's program once; exit code 0 is ready.
async fn run_probe(command: &[String], probe: &ProbeSetup) -> io::Result<()> {
    let ProbeSetup { environment, user, signals, null, probes, last_answer: _ } = probe;
    let name = command.first().cloned().unwrap_or_default();
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    let mut program = Program::new(&command, environment).map_err(io::Error::other)?;
    let null = null.as_raw_fd();
    let setup = Setup {
        stdio: [Some(null); 3],
        pass: &[],
        session: Session::Group,
        user: user.as_ref(),
        signals: *signals,
        foreground: false,
        oom_score_adj: None,
        parent_death: None,
    };
    let child = spawn(&mut program, &setup)?;
    let (ended, end) = oneshot::channel();
    probes.borrow_mut().insert(child.pid, ended);
    let running = UnderWay { pid: child.pid, probes: probes.clone() };
    let exit = end.await.map_err(io::Error::other)?;
    drop(running);
    match exec_result(&child.outcome) {
        Some(Err(error)) => Err(io::Error::other(error.explain(&name))),
        _ if exit.status() == 0 => Ok(()),
        _ => Err(io::Error::other(exit.to_string())),
    }
}

/// A probe that nobody waits for any more is killed, and forgotten; the loop collects it as any orphan.
struct UnderWay {
    pid: Pid,
    probes: Probes,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.probes.borrow_mut().remove(&self.pid).is_some() {
            let _ = kill(Pid::from_raw(-self.pid.as_raw()), crate::core::Signal::KILL);
        }
    }
}
