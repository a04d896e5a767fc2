//! Shows workers, their CPU and memory, logs and events on a terminal, with keys that steer them: `rinit monit`.
//!
//! The state is a [`Model`], which [`update`](update::update) changes when something happens and [`view`](view::view)
//! draws: both pure. The shell around them is the inputs (`input`: keys, signals, rinit's answers), the terminal
//! ([`screen`]) and the loop. rinit does not notice how monit ends.

mod dialogs;
mod draw;
pub mod format;
pub mod graphs;
pub mod input;
pub mod layout;
pub mod lines;
pub mod model;
pub mod screen;
mod table;
pub mod update;
pub mod view;

use crate::client::Client;
use crate::control::types::Status;
use crate::sys;
use input::Inputs;
use model::{Command, Message, Model};
use screen::Screen;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::sleep;
use update::update;

/// The most messages that are handled between two frames.
const MAX_MESSAGES_PER_FRAME: usize = 1024;
/// The time between two frames: 30 a second are smooth, and a flood of lines costs no more than that.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

/// Shows the rinit that a client talks to, until the user quits. The terminal is as it was when this returns.
///
/// # Errors
/// The reason why it ended unasked: no terminal, no rinit any more, a signal.
pub fn run(client: Client, first: Status) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for rinit: {error}"))?;
    // The thread for signals takes all of them.
    let before = sys::signals::block_all();
    let result = runtime.block_on(show(client, first));
    sys::signals::set_mask(before);
    result
}

async fn show(client: Client, first: Status) -> Result<(), String> {
    let mut screen = Screen::enter()?;
    let mut inputs = Inputs::start(client)?;
    let (mut model, commands) = Model::new(first, screen::size());
    commands.into_iter().try_for_each(|command| perform(&mut inputs, command))?;
    loop {
        screen.draw(&model)?;
        sleep(FRAME_INTERVAL).await;
        let mut next = Some(inputs.next().await);
        for _ in 0..MAX_MESSAGES_PER_FRAME {
            let Some(message) = next else { break };
            match &message {
                Message::Continued => screen.enter_again()?,
                // A change that was asked for is shown at once.
                Message::Answer(..) => inputs.refresh(),
                _ => {}
            }
            for command in update(&mut model, message) {
                match command {
                    Command::End(result) => return result,
                    command => perform(&mut inputs, command)?,
                }
            }
            next = inputs.next_now();
        }
    }
}

/// Starts what the model asks for.
fn perform(inputs: &mut Inputs, command: Command) -> Result<(), String> {
    match command {
        Command::Follow(number, worker) => inputs.follow_log(number, &worker),
        Command::Events(since) => inputs.follow_events(since),
        Command::Call(call) => inputs.call(call),
        Command::End(result) => return result,
    }
    Ok(())
}
