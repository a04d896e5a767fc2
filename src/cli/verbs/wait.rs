//! Implements `rinit wait`.

use super::health::{missing, print_ready, probe_path};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::config::duration;
use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

pub(super) static VERB: Verb = Verb {
    names: &["wait"],
    arguments: "",
    takes: 0..=0,
    summary: "wait until the workers are ready",
    help: "Returns when every wanted worker is ready, or as many as --min says. After the timeout: exit code 1,\n\
           and which workers are not ready. A container that has just been started is given 5s until its rinit\n\
           answers.",
    options: &[
        Opt {
            letter: None,
            names: &["timeout"],
            value: "D",
            help: "wait no longer than that: 30s, 2m (default: for ever)",
        },
        super::health::MIN,
    ],
    run,
};

/// The time that rinit has to open its socket, and to answer.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// The pause between two probes, in milliseconds. A probe costs rinit some microseconds.
const PROBE_INTERVAL_MS: u16 = 100;

fn run(call: &Call) -> Outcome {
    let read = |text: &str| duration(text).map_err(|why| Failure::Usage(format!("--timeout {text}: {why}")));
    let timeout = call.option("timeout").map(read).transpose()?;
    let path = probe_path(call, "100%")?;
    let start = now();
    let mut answered = start;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        // The last probe needs some time too.
        let limit = left.unwrap_or(ANSWER_GRACE).clamp(ANSWER_GRACE / 5, ANSWER_GRACE);
        let is_over = left.is_some_and(|left| left.is_zero());
        match call.client.probe(&path, limit) {
            Ok((200, _)) => return print_ready(call),
            Ok((_, text)) => {
                answered = now();
                if is_over {
                    return Err(Failure::failed(missing(&call.client, &text)));
                }
            }
            Err(failure) if is_over || answered.elapsed() > ANSWER_GRACE => return Err(failure),
            Err(_) => {}
        }
        // A poll of nothing is a pause.
        let _ = poll(&mut [], PollTimeout::from(PROBE_INTERVAL_MS));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a verb is a process of its own: there is no loop whose clock this could be"
)]
fn now() -> Instant {
    Instant::now()
}
