//! `rinit wait`: until the workers are ready.

use super::health::{ready, why_not};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::config::duration;
use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

pub(super) static VERB: Verb = Verb {
    names: &["wait"],
    arguments: "",
    takes: 0..=0,
    summary: "until every worker is ready",
    help: "Returns when every worker that is wanted is ready. Not by then: exit code 1, and who is not. A container\n\
           that has just been started is given 5s until its rinit answers.",
    options: &[Opt { letter: None, name: "timeout", value: "D", help: "at most so long: 30s, 2m (default: for ever)" }],
    run,
};

/// How long rinit may take to open its socket, and not answer in between.
const GRACE: Duration = Duration::from_secs(5);

/// Between two looks. A look costs rinit some microseconds.
const PAUSE_MS: u16 = 100;

fn run(call: &Call) -> Outcome {
    let read = |text: &str| duration(text).map_err(|why| Failure::Usage(format!("--timeout {text}: {why}")));
    let timeout = call.option("timeout").map(read).transpose()?;
    let start = now();
    let mut answered = start;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        // The last look is one too.
        let patience = left.unwrap_or(GRACE).clamp(GRACE / 5, GRACE);
        let is_over = left.is_some_and(|left| left.is_zero());
        match call.client.probe("/readyz", patience) {
            Ok((200, _)) => return ready(call),
            Ok((_, words)) => {
                answered = now();
                if is_over {
                    return Err(Failure::failed(why_not(&call.client, &words)));
                }
            }
            Err(failure) if is_over || answered.elapsed() > GRACE => return Err(failure),
            Err(_) => {}
        }
        // Nothing to hear: a wait.
        let _ = poll(&mut [], PollTimeout::from(PAUSE_MS));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a verb is a process of its own: there is no loop whose clock this could be"
)]
fn now() -> Instant {
    Instant::now()
}
