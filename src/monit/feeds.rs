//! What feeds the model: threads that wait for keys, signals and rinit, and say what came.

use super::api::{Api, Stream, Trouble, json};
use super::keys::Keys;
use super::model::{Call, Line, Message};
use super::screen;
use crate::control::encoded;
use crate::control::types::{Done, Error, Event, LogLine, Missed, ScaleRequest, Status};
use crate::core::Signal;
use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where messages go. The queue has a bound: who has more to say than can be drawn waits, and so rinit's side learns that
/// this reader is slow.
pub type Sender = SyncSender<Message>;

/// How long the rest of a key's bytes may take.
const KEY: u16 = 50;
/// How often rinit is asked how things are.
const TICK: Duration = Duration::from_secs(1);
/// So many refusals in a row (too many connections, say) are waited out.
const REFUSALS: u32 = 5;
/// Lines of the log to begin with.
const LINES: usize = 200;

/// What a thread does.
type Work = Box<dyn FnOnce(&Sender) + Send>;

/// Starts a thread. If it panics, that is the end of monit: what it waits for would be missing silently.
fn start(name: &str, sender: &Sender, work: Work) -> Result<(), String> {
    struct Watch(Sender);
    impl Drop for Watch {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ =
                    self.0.send(Message::End(Err("monit has a fault, see above; the workers noticed nothing".into())));
            }
        }
    }
    let watch = Watch(sender.clone());
    // All of `watch`, and not its field alone, goes with the thread.
    let run = move || {
        let watch = watch;
        work(&watch.0);
    };
    sys::spawn_thread(name, run).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Keys.
///
/// # Errors
/// The limit on processes is reached.
pub fn keys(sender: &Sender) -> Result<(), String> {
    start(
        "keys",
        sender,
        Box::new(|sender| {
            let why = read_keys(sender)
                .map_or_else(|error| format!("the terminal is gone: {error}"), |()| "the terminal is gone".into());
            let _ = sender.send(Message::End(Err(why)));
        }),
    )
}

fn read_keys(sender: &Sender) -> io::Result<()> {
    let mut stdin = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut keys = Keys::default();
    let mut bytes = [0; 256];
    loop {
        let patience = if keys.is_waiting() { PollTimeout::from(KEY) } else { PollTimeout::NONE };
        let ready = match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], patience) {
            Err(nix::errno::Errno::EINTR) => continue,
            ready => ready?,
        };
        let pressed = if ready == 0 {
            keys.give_up().into_iter().collect()
        } else {
            match stdin.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => keys.feed(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
        };
        if pressed.into_iter().any(|key| sender.send(Message::Key(key)).is_err()) {
            return Ok(());
        }
    }
}

/// Signals: all of them are blocked, and taken one after the other.
///
/// # Errors
/// The limit on processes is reached.
pub fn signals(sender: &Sender) -> Result<(), String> {
    start(
        "signals",
        sender,
        Box::new(|sender| {
            loop {
                let Ok(caught) = sys::signals::wait(None) else { return };
                let Some(signal) = caught.map(|caught| caught.signal) else { continue };
                let message = match signal {
                    Signal::INT => Message::End(Ok(())),
                    Signal::TERM | Signal::HUP | Signal::QUIT => Message::End(Err(format!("ended by {signal}"))),
                    Signal::CONT => Message::Continued,
                    _ if signal.number() == nix::libc::SIGWINCH => Message::Resized(screen::size()),
                    _ => continue,
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        }),
    )
}

/// Asks rinit once a second how things are, and at once when told to.
///
/// # Errors
/// The limit on processes is reached.
pub fn status(api: &Api, socket: &Path, sender: &Sender, at_once: Receiver<()>) -> Result<(), String> {
    let (api, socket) = (api.clone(), socket.to_owned());
    start(
        "status",
        sender,
        Box::new(move |sender| {
            let mut refusals = 0;
            while at_once.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
                let message = match api.get::<Status>("/v1/status") {
                    Ok(status) => {
                        refusals = 0;
                        Message::Status(status)
                    }
                    Err(Trouble::Refused(_)) if refusals < REFUSALS => {
                        refusals += 1;
                        continue;
                    }
                    Err(Trouble::Lost(error)) if is_nobody(&error) => {
                        Message::End(Err(format!("rinit has ended: nobody listens on {} any more", socket.display())))
                    }
                    Err(trouble) => Message::End(Err(lost(&socket, trouble))),
                };
                let is_end = matches!(message, Message::End(_));
                if sender.send(message).is_err() || is_end {
                    return;
                }
            }
        }),
    )
}

/// Why nothing can be shown.
pub fn lost(socket: &Path, trouble: Trouble) -> String {
    let socket = socket.display();
    match trouble {
        Trouble::Refused(error) => error.error,
        Trouble::Lost(error) if is_nobody(&error) => format!("no rinit answers on {socket}: {error}"),
        Trouble::Lost(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("rinit on {socket} has not answered for 10 s")
            }
            io::ErrorKind::InvalidData => {
                format!("rinit on {socket} answers what this version does not understand: {error}")
            }
            _ => format!("the connection to rinit on {socket} was lost: {error}"),
        },
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// A stream that can be ended from outside.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<Faucet>>);

#[derive(Default)]
struct Faucet {
    is_closed: bool,
    connection: Option<UnixStream>,
}

impl Tap {
    /// Ends the stream; if there is none yet, as soon as there is.
    pub fn close(&self) {
        let mut faucet = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        faucet.is_closed = true;
        if let Some(connection) = faucet.connection.take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn open(&self, stream: &Stream) -> io::Result<()> {
        let handle = stream.handle()?;
        let mut faucet = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if faucet.is_closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
        faucet.connection = Some(handle);
        Ok(())
    }
}

/// A worker's log, as long as it goes on. What is sent carries this number.
///
/// # Errors
/// The limit on processes is reached.
pub fn lines(api: &Api, sender: &Sender, number: u64, worker: &str) -> Result<Tap, String> {
    let tap = Tap::default();
    let (api, path) = (api.clone(), format!("/v1/logs?follow=true&lines={LINES}&worker={}", encoded(worker)));
    let its_tap = tap.clone();
    start(
        "lines",
        sender,
        Box::new(move |sender| {
            let why = match follow_lines(&api, &path, &its_tap, number, sender) {
                Ok(()) => "no more lines for now".into(),
                Err(trouble) => Error::from(trouble).error,
            };
            let _ = sender.send(Message::LinesEnded(number, why));
        }),
    )?;
    Ok(tap)
}

fn follow_lines(api: &Api, path: &str, tap: &Tap, number: u64, sender: &Sender) -> Result<(), Trouble> {
    let mut stream = api.stream(path)?;
    tap.open(&stream)?;
    while let Some(sent) = stream.wait()? {
        let line = match sent.event.as_str() {
            "line" => Line::Log(shortened(json(&sent.data)?)),
            "missed" => Line::Missed(json::<Missed>(&sent.data)?.missed),
            _ => continue,
        };
        if sender.send(Message::Line(number, line)).is_err() {
            break;
        }
    }
    Ok(())
}

/// More of a line is not kept, in bytes.
const LONGEST: usize = 4096;

fn shortened(mut line: LogLine) -> LogLine {
    if line.line.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| line.line.is_char_boundary(*end)).unwrap_or(0);
        line.line.truncate(end);
        line.line.push('…');
        line.line.shrink_to_fit();
    }
    line
}

/// rinit's events, as long as they go on.
///
/// # Errors
/// The limit on processes is reached.
pub fn events(api: &Api, sender: &Sender, since: Option<u64>) -> Result<(), String> {
    let since = since.map_or(String::new(), |since| format!("?since={since}"));
    let (api, path) = (api.clone(), format!("/v1/events{since}"));
    start(
        "events",
        sender,
        Box::new(move |sender| {
            let _ = follow_events(&api, &path, sender);
            let _ = sender.send(Message::EventsEnded);
        }),
    )
}

fn follow_events(api: &Api, path: &str, sender: &Sender) -> Result<(), Trouble> {
    let mut stream = api.stream(path)?;
    while let Some(sent) = stream.wait()? {
        // What a later rinit may send beside events is passed over.
        let Ok(event) = json::<Event>(&sent.data) else { continue };
        if sender.send(Message::Event(event)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Has rinit do it, and says how that went.
///
/// # Errors
/// The limit on processes is reached.
pub fn call(api: &Api, sender: &Sender, call: Call) -> Result<(), String> {
    let api = api.clone();
    start(
        "call",
        sender,
        Box::new(move |sender| {
            let of = |id: &str, what: &str| (format!("/v1/workers/{}/{what}", encoded(id)), String::new());
            let (path, question) = match &call {
                Call::Restart(id) => of(id, "restart"),
                Call::Stop(id) => of(id, "stop"),
                Call::Start(id) => of(id, "start"),
                Call::Reload => ("/v1/reload".into(), String::new()),
                Call::Scale(app, by) => {
                    let request = ScaleRequest { app: Some(app.clone()), to: (*by).into() };
                    ("/v1/scale".into(), serde_json::to_string(&request).unwrap_or_default())
                }
            };
            let answer = api.post::<Done>(&path, &question).map_err(Error::from);
            let _ = sender.send(Message::Answer(call, answer));
        }),
    )
}
