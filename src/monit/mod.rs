//! `rinit monit`: workers, their CPU and memory, the log and the events, in a terminal; and keys that steer them.
//!
//! What is shown is a [`Model`], which [`update`](update::update) changes when something happens and
//! [`view`](view::view) draws: both pure. Here is the shell around them: threads that wait (`feeds`), the terminal
//! ([`screen`]), and the loop. rinit goes on without noticing, however monit ends.

pub mod api;
mod dialogs;
mod feeds;
pub mod graphs;
pub mod keys;
pub mod layout;
pub mod lines;
pub mod model;
mod paint;
pub mod screen;
mod table;
pub mod update;
pub mod view;
pub mod words;

use crate::control::types::Status;
use crate::sys;
use api::Api;
use feeds::{Sender, Tap};
use model::{Command, Message, Model};
use screen::Screen;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use update::update;

/// Messages that wait to be drawn; who has more to say waits.
const QUEUE: usize = 1024;
/// Between two pictures: 30 a second are smooth, and a flood of lines costs no more than that.
const BETWEEN_PICTURES: Duration = Duration::from_millis(33);

/// Shows what goes on in the rinit that listens on this socket, until somebody has seen enough. The terminal is as it was
/// when this returns.
///
/// # Errors
/// Why it ended without being asked to: no terminal, rinit is gone, a signal.
pub fn run(socket: &Path) -> Result<(), String> {
    let api = Api::new(socket.to_owned());
    let first = api.get::<Status>("/v1/status").map_err(|trouble| feeds::lost(socket, trouble))?;
    // The thread for signals takes them all.
    let blocked = sys::signals::block_all();
    let ended = show(api, socket, first);
    sys::signals::set_mask(blocked);
    ended
}

fn show(api: Api, socket: &Path, first: Status) -> Result<(), String> {
    let mut screen = Screen::enter()?;
    let (sender, messages) = sync_channel(QUEUE);
    let (at_once, ticks) = sync_channel(1);
    feeds::signals(&sender)?;
    feeds::keys(&sender)?;
    feeds::status(&api, socket, &sender, ticks)?;
    let (mut model, commands) = Model::new(first, screen::size());
    let mut shell = Shell { api, sender, at_once, log: None };
    for command in commands {
        shell.perform(command)?;
    }
    shell.turn(&mut model, &messages, &mut screen)
}

/// Performs what the model asks for.
struct Shell {
    api: Api,
    sender: Sender,
    at_once: SyncSender<()>,
    log: Option<Tap>,
}

impl Shell {
    #[expect(clippy::disallowed_methods, reason = "monit is no init, and a picture lasts a moment")]
    fn turn(&mut self, model: &mut Model, messages: &Receiver<Message>, screen: &mut Screen) -> Result<(), String> {
        loop {
            screen.draw(model)?;
            std::thread::sleep(BETWEEN_PICTURES);
            let Ok(first) = messages.recv() else { return Ok(()) };
            for message in std::iter::once(first).chain(messages.try_iter().take(QUEUE)) {
                match &message {
                    Message::Continued => screen.again()?,
                    // What was asked for shows at once.
                    Message::Answer(..) => drop(self.at_once.try_send(())),
                    _ => {}
                }
                for command in update(model, message) {
                    match command {
                        Command::End(how) => return how,
                        command => self.perform(command)?,
                    }
                }
            }
        }
    }

    fn perform(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Follow(number, worker) => {
                if let Some(tap) = self.log.take() {
                    tap.close();
                }
                self.log = Some(feeds::lines(&self.api, &self.sender, number, &worker)?);
            }
            Command::Events(since) => feeds::events(&self.api, &self.sender, since)?,
            Command::Call(call) => feeds::call(&self.api, &self.sender, call)?,
            Command::End(how) => return how,
        }
        Ok(())
    }
}
