//! Turns keys, signals, rinit's answers, its events and its log lines into messages for the model.

use super::model::{Call, Line, Message};
use super::screen;
use crate::client::{Client, ClientError, Part, read_json};
use crate::control::encoded;
use crate::control::types::{Done, Error, Event, History, LogLine, Missed, ScaleRequest, Status};
use crate::core::Signal;
use crate::sys;
use hyper::Method;
use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEventKind, KeyModifiers, read};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::select;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// The most messages that wait for the next frame. An input with more to say waits, and so rinit's side learns that this
/// reader is slow.
const MAX_QUEUED_MESSAGES: usize = 1024;
/// The time between two questions for the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two questions for the history of usage.
const HISTORY_INTERVAL: Duration = Duration::from_secs(15);
/// The number of values for an hour, and for the first quarter of one.
const POINTS: usize = 60;
const POINTS_AT_FIRST: usize = 240;
/// The most refusals in a row that are waited out, such as "too many connections".
const MAX_REFUSALS: u32 = 5;
/// The number of lines that a log begins with.
const FIRST_LINES: usize = 200;
/// The length in bytes to which a line is cut.
const MAX_LINE_BYTES: usize = 4096;

/// The inputs: two threads for keys and signals, and a task for each connection to rinit.
pub struct Inputs {
    client: Arc<Client>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    tasks: JoinSet<()>,
    log: Option<AbortHandle>,
    refresh: Arc<Notify>,
}

impl Inputs {
    /// Starts the inputs that go on until the end: keys, signals and the status.
    ///
    /// # Errors
    /// The limit on processes is reached.
    pub fn start(client: Client) -> Result<Inputs, String> {
        let (sender, messages) = channel(MAX_QUEUED_MESSAGES);
        let start = |name, run: fn(&Sender<Message>)| {
            let sender = sender.clone();
            sys::spawn_thread(name, move || run(&sender)).map_err(|error| format!("cannot start a thread: {error}"))
        };
        start("keys", send_keys)?;
        start("signals", send_signals)?;
        let (client, refresh) = (Arc::new(client), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(send_status(client.clone(), sender.clone(), refresh.clone()));
        tasks.spawn(send_history(client.clone(), sender.clone()));
        Ok(Inputs { client, sender, messages, tasks, log: None, refresh })
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Message {
        loop {
            select! {
                message = self.messages.recv() => {
                    // The sender here is one, so there is always one.
                    return message.unwrap_or(Message::End(Ok(())));
                }
                Some(ended) = self.tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        let why = "monit has failed, please report the error above; the workers are not affected";
                        return Message::End(Err(why.into()));
                    }
                }
            }
        }
    }

    /// The next message, if one is waiting.
    pub fn next_now(&mut self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// Has the status asked for at once.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Follows the log of workers in place of the one before. Its messages carry the number.
    pub fn follow_log(&mut self, number: u64, workers: &str) {
        if let Some(log) = self.log.take() {
            log.abort();
        }
        let path = format!("/v1/logs?follow=true&lines={FIRST_LINES}&worker={}", encoded(workers));
        let (client, sender) = (self.client.clone(), self.sender.clone());
        self.log = Some(self.tasks.spawn(async move {
            let why = match send_lines(&client, &path, number, &sender).await {
                Ok(()) => "no more lines for now".into(),
                Err(error) => api_error(error).error,
            };
            let _ = sender.send(Message::LinesEnded(number, why)).await;
        }));
    }

    /// Follows rinit's events, from a number on or from the last ones.
    pub fn follow_events(&mut self, since: Option<u64>) {
        let since = since.map_or(String::new(), |since| format!("?since={since}"));
        let (client, sender) = (self.client.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            // Why they end does not matter: they are asked for again.
            let _ = send_events(&client, &format!("/v1/events{since}"), &sender).await;
            let _ = sender.send(Message::EventsEnded).await;
        });
    }

    /// Asks rinit for a change. The answer is a message.
    pub fn call(&mut self, call: Call) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let (path, body) = request(&call);
            let answer = client.change::<Done>(&path, body).await.map_err(api_error);
            let _ = sender.send(Message::Answer(call, answer)).await;
        });
    }
}

fn request(call: &Call) -> (String, Option<String>) {
    let of_worker = |id: &str, action: &str| (format!("/v1/workers/{}/{action}", encoded(id)), None);
    match call {
        Call::Restart(id) => of_worker(id, "restart"),
        Call::Stop(id) => of_worker(id, "stop"),
        Call::Start(id) => of_worker(id, "start"),
        Call::Reload(app) => of_worker(app, "reload"),
        Call::Scale(app, by) => {
            let request = ScaleRequest { app: Some(app.clone()), to: (*by).into() };
            ("/v1/scale".into(), serde_json::to_string(&request).ok())
        }
    }
}

/// Sends what the terminal says, until it is gone. A thread of its own, for reading blocks.
fn send_keys(sender: &Sender<Message>) {
    loop {
        let message = match read() {
            Ok(event) => message_of(&event),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => Some(Message::End(Err(format!("the terminal is gone: {error}")))),
        };
        let Some(message) = message else { continue };
        let is_end = matches!(message, Message::End(_));
        if sender.blocking_send(message).is_err() || is_end {
            return;
        }
    }
}

/// Returns the message for an event of the terminal. A key with Ctrl or Alt does not mean what it means alone.
fn message_of(event: &TerminalEvent) -> Option<Message> {
    match event {
        TerminalEvent::Key(key) if key.kind == KeyEventKind::Release => None,
        TerminalEvent::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => {
            (key.code == KeyCode::Char('c')).then_some(Message::End(Ok(())))
        }
        TerminalEvent::Key(key) if key.modifiers.contains(KeyModifiers::ALT) => None,
        TerminalEvent::Key(key) => Some(Message::Key(key.code)),
        TerminalEvent::Resize(..) => Some(Message::Resized(screen::size())),
        TerminalEvent::FocusGained | TerminalEvent::FocusLost | TerminalEvent::Mouse(_) | TerminalEvent::Paste(_) => {
            None
        }
    }
}

/// Sends the signals that concern monit: all of them are blocked, and taken one after the other here.
fn send_signals(sender: &Sender<Message>) {
    loop {
        let signal = match sys::signals::wait(None) {
            Ok(Some(caught)) => caught.signal,
            Ok(None) => continue,
            Err(error) => {
                let _ = sender.blocking_send(Message::End(Err(format!("cannot wait for signals: {error}"))));
                return;
            }
        };
        let message = match signal {
            Signal::INT => Message::End(Ok(())),
            Signal::TERM | Signal::HUP | Signal::QUIT => Message::End(Err(format!("ended by {signal}"))),
            Signal::CONT => Message::Continued,
            _ if signal.number() == nix::libc::SIGWINCH => Message::Resized(screen::size()),
            _ => continue,
        };
        if sender.blocking_send(message).is_err() {
            return;
        }
    }
}

/// Sends the status once a second, and at once when it is to be refreshed.
async fn send_status(client: Arc<Client>, sender: Sender<Message>, refresh: Arc<Notify>) {
    let mut refusals = 0;
    loop {
        let _ = timeout(STATUS_INTERVAL, refresh.notified()).await;
        let message = match client.get::<Status>("/v1/status").await {
            Ok(status) => {
                refusals = 0;
                Message::Status(status)
            }
            Err(ClientError::Refused(_)) if refusals < MAX_REFUSALS => {
                refusals += 1;
                continue;
            }
            Err(ClientError::NotListening(why)) => Message::End(Err(format!("rinit has ended: {why}"))),
            Err(error) => Message::End(Err(api_error(error).error)),
        };
        let is_end = matches!(message, Message::End(_));
        if sender.send(message).await.is_err() || is_end {
            return;
        }
    }
}

/// Sends the history of usage again and again. While it is short, it has more values: a graph shows a quarter of an hour.
async fn send_history(client: Arc<Client>, sender: Sender<Message>) {
    let mut points = POINTS_AT_FIRST;
    loop {
        if let Ok(history) = client.get::<History>(&format!("/v1/history?points={points}")).await {
            if history.apps.iter().any(|app| app.memory_bytes.len() > POINTS) && points > POINTS {
                points = POINTS;
                continue;
            }
            if sender.send(Message::History(history)).await.is_err() {
                return;
            }
        }
        sleep(HISTORY_INTERVAL).await;
    }
}

async fn send_lines(client: &Client, path: &str, number: u64, sender: &Sender<Message>) -> Result<(), ClientError> {
    let mut stream = client.stream(Method::GET, path, None).await?;
    while let Some(part) = stream.next().await? {
        let Part::Event { name, data } = part else { continue };
        let line = match name.as_str() {
            "line" => Line::Log(shortened(read_json(&data)?)),
            "missed" => Line::Missed(read_json::<Missed>(&data)?.missed),
            _ => continue,
        };
        if sender.send(Message::Line(number, line)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn shortened(mut line: LogLine) -> LogLine {
    if line.line.len() > MAX_LINE_BYTES {
        let end = (0..=MAX_LINE_BYTES).rev().find(|end| line.line.is_char_boundary(*end)).unwrap_or(0);
        line.line.truncate(end);
        line.line.push('…');
        line.line.shrink_to_fit();
    }
    line
}

async fn send_events(client: &Client, path: &str, sender: &Sender<Message>) -> Result<(), ClientError> {
    let mut stream = client.stream(Method::GET, path, None).await?;
    while let Some(part) = stream.next().await? {
        let Part::Event { data, .. } = part else { continue };
        // A later rinit may send something else beside events.
        let Ok(event) = read_json::<Event>(&data) else { continue };
        if sender.send(Message::Event(event)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn api_error(error: ClientError) -> Error {
    match error {
        ClientError::Refused(error) => error,
        ClientError::NotListening(why) | ClientError::Broken(why) | ClientError::Unreadable(why) => {
            Error { error: why, worker: None, last_lines: vec![] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::{KeyEvent, KeyEventState};

    #[test]
    fn a_key_is_a_message_and_ctrl_c_the_end() {
        let message = |code, modifiers, kind| {
            let key = KeyEvent { code, modifiers, kind, state: KeyEventState::NONE };
            message_of(&TerminalEvent::Key(key))
        };
        let (none, press) = (KeyModifiers::NONE, KeyEventKind::Press);
        assert!(matches!(message(KeyCode::Up, none, press), Some(Message::Key(KeyCode::Up))));
        assert!(matches!(
            message(KeyCode::Char('R'), KeyModifiers::SHIFT, press),
            Some(Message::Key(KeyCode::Char('R')))
        ));
        assert!(matches!(message(KeyCode::Char('c'), KeyModifiers::CONTROL, press), Some(Message::End(Ok(())))));
        for modifiers in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            assert!(message(KeyCode::Char('q'), modifiers, press).is_none(), "{modifiers:?}");
        }
        assert!(message(KeyCode::Char('q'), none, KeyEventKind::Release).is_none());
    }
}
