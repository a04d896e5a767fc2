//! Watches how a worker becomes ready, and whether it still serves: a few small tasks for each worker.

use super::Notice;
use super::notify::{self, Message};
use super::probe::ProbeSetup;
use crate::config::{LiveCheck, Liveness, Probe, ReadyCheck};
use crate::core::{Event, ReadySignal, WorkerId};
use crate::ports::WorkerPorts;
use crate::sys::peer::Identity;
use crate::sys::process::why_not_now;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// The intervals between two probes for readiness: the first, doubled up to the last.
const MIN_READY_INTERVAL: Duration = Duration::from_millis(10);
const MAX_READY_INTERVAL: Duration = Duration::from_millis(500);
/// The time that one probe for readiness may take.
const READY_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The log has said that there is no socket for sd_notify.
static NO_NOTIFY_SOCKET: Once = Once::new();

/// rinit's ends of the ways by which a worker reports about itself.
#[derive(Default)]
pub(super) struct Channels {
    /// The socket for `sd_notify(3)`.
    notify: Option<OwnedFd>,
    /// The pipe for a newline (`--ready fd:N`).
    newline: Option<OwnedFd>,
}

/// The worker's ends, handed to it when it is started.
#[derive(Default)]
pub(super) struct WorkerEnds {
    /// The name for `NOTIFY_SOCKET`.
    pub(super) notify: Option<OsString>,
    /// A descriptor, and the number it has in the worker.
    pub(super) descriptor: Option<(OwnedFd, RawFd)>,
}

/// The facts about a worker that its messages have told.
#[derive(Clone, Default)]
pub(super) struct WorkerReport {
    /// The last `STATUS=` of sd_notify.
    pub(super) status: Rc<RefCell<Option<String>>>,
}

/// Opens the ways that this check needs; `NOTIFY_SOCKET` is there for every worker that may use it. Where it is only one way
/// of several, a worker goes without it if the kernel refuses such a socket.
///
/// # Errors
/// No descriptors left; the kernel refuses a socket that is needed.
pub(super) fn open(ready: &ReadyCheck, live: &LiveCheck) -> nix::Result<(Channels, WorkerEnds)> {
    let (mut channels, mut ends) = (Channels::default(), WorkerEnds::default());
    let is_needed = matches!(ready, ReadyCheck::Notify) || *live == LiveCheck::Watchdog;
    if is_needed || matches!(ready, ReadyCheck::Auto) {
        match notify::open() {
            Ok((socket, name)) => (channels.notify, ends.notify) = (Some(socket), Some(name)),
            Err(errno) if is_needed || why_not_now(errno).is_some() => return Err(errno),
            Err(errno) => NO_NOTIFY_SOCKET.call_once(|| {
                tracing::warn!(
                    "workers cannot report by sd_notify: the kernel refuses a unix socket: {}; see the container's seccomp profile",
                    errno.desc()
                );
            }),
        }
    }
    if let ReadyCheck::Fd(number) = ready {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        // rinit's end alone: the worker may expect to write to a pipe that blocks.
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        (channels.newline, ends.descriptor) = (Some(read), Some((write, *number)));
    }
    Ok((channels, ends))
}

/// A worker to be watched.
pub(super) struct Watched {
    pub(super) worker: WorkerId,
    pub(super) who: Identity,
    pub(super) ready: ReadyCheck,
    /// It has bound a port: what it says then counts only when somebody waits for connections there.
    pub(super) bound: watch::Receiver<bool>,
    pub(super) live: Liveness,
    pub(super) report: WorkerReport,
    pub(super) probe: ProbeSetup,
    pub(super) notices: mpsc::Sender<Notice>,
}

impl Watched {
    /// Watches the worker until its tasks are ended.
    pub(super) async fn run(self, channels: Channels) {
        let Channels { notify, newline } = channels;
        let (watchdog, pings) = watch::channel(());
        let notify = async {
            let Some(socket) = notify else { return };
            let received =
                notify::receive_all(socket, self.who, async |message| self.on_message(message, &watchdog).await);
            if let Err(error) = received.await {
                tracing::debug!("no more sd_notify messages of process {}: {error}", self.who.pid);
            }
        };
        let ready = async {
            let signal = match (&self.ready, newline) {
                (ReadyCheck::Probe(probe), _) => {
                    self.until_answered(probe).await;
                    ReadySignal::Probe
                }
                (_, Some(pipe)) => match wait_for_newline(pipe).await {
                    Ok(()) => ReadySignal::Newline,
                    Err(_) => return,
                },
                (_, None) => return,
            };
            self.send(Event::Ready(self.worker, signal)).await;
        };
        tokio::join!(notify, ready, self.watch_liveness(pings));
    }

    async fn send(&self, event: Event) {
        send(&self.notices, event).await;
    }

    async fn on_message(&self, message: Message, watchdog: &watch::Sender<()>) {
        match message {
            Message::Ready if matches!(self.ready, ReadyCheck::Auto | ReadyCheck::Notify) => {
                // `watch_ports` reports that too, and may come later than a word that the worker said later.
                if self.ready == ReadyCheck::Auto && *self.bound.borrow() {
                    self.send(Event::Bound(self.worker)).await;
                }
                self.send(Event::Ready(self.worker, ReadySignal::Notify)).await;
            }
            Message::Ready => {}
            Message::Status(text) => drop(self.report.status.replace(Some(text).filter(|text| !text.is_empty()))),
            Message::Watchdog => drop(watchdog.send(())),
            Message::WatchdogTrigger if self.live.check == LiveCheck::Watchdog => {
                self.send(Event::Probed(self.worker, Err("WATCHDOG=trigger".into()))).await;
            }
            Message::WatchdogTrigger => {}
        }
    }

    /// Asks until the answer is yes.
    async fn until_answered(&self, probe: &Probe) {
        let mut pause = MIN_READY_INTERVAL;
        while let Err(answer) = self.probe.ask(probe, READY_PROBE_TIMEOUT).await {
            self.probe.last_answer.replace(Some(answer));
            sleep(pause).await;
            pause = (pause * 2).min(MAX_READY_INTERVAL);
        }
    }

    /// Asks again and again whether the worker still serves. The fleet counts the answers, once the worker is ready.
    async fn watch_liveness(&self, mut pings: watch::Receiver<()>) {
        let Liveness { check, interval, timeout: patience } = &self.live;
        loop {
            let answer = match check {
                LiveCheck::Off => return,
                LiveCheck::Watchdog => match timeout(*interval, pings.changed()).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) => return,
                    Err(_) => Err(format!("no WATCHDOG=1 within {interval:?}")),
                },
                LiveCheck::Probe(probe) => {
                    sleep(*interval).await;
                    self.probe.ask(probe, *patience).await
                }
            };
            self.send(Event::Probed(self.worker, answer)).await;
        }
    }
}

/// Tells the loop what a worker shows by its ports or its channel, as far as it counts.
pub(super) async fn watch_ports(
    worker: WorkerId,
    ready: ReadyCheck,
    ports: WorkerPorts,
    notices: mpsc::Sender<Notice>,
) {
    let WorkerPorts { mut bound, mut listens, says_ready, signalled, finished } = ports;
    let tell = async |what: oneshot::Receiver<()>, counts: bool, event: fn(WorkerId) -> Event| {
        if what.await.is_ok() && counts {
            send(&notices, event(worker)).await;
        }
    };
    let listening = async {
        while let Some(address) = listens.recv().await {
            if matches!(ready, ReadyCheck::Auto | ReadyCheck::Listen) {
                send(&notices, Event::Listens(worker, address)).await;
            }
        }
    };
    let bound = async {
        if bound.wait_for(|is_bound| *is_bound).await.is_ok() && ready == ReadyCheck::Auto {
            send(&notices, Event::Bound(worker)).await;
        }
    };
    let message = tell(says_ready, matches!(ready, ReadyCheck::Auto | ReadyCheck::Message), |worker| {
        Event::Ready(worker, ReadySignal::Message)
    });
    let signalled = tell(signalled, true, Event::Signalled);
    let finished = tell(finished, true, Event::Drained);
    tokio::join!(bound, listening, message, signalled, finished);
}

/// Sends an event to the loop. Allocated while it waits for room, so that each of a worker's tasks is small.
fn send(notices: &mpsc::Sender<Notice>, event: Event) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move { drop(notices.send(Notice::Event(event)).await) })
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
