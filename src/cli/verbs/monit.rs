//! Implements `rinit monit`.

use super::{Call, Failure, Outcome, Verb};
use crate::control::types::Status;

pub(super) static VERB: Verb = Verb {
    names: &["monit", "top"],
    arguments: "",
    takes: 0..=0,
    summary: "show workers, graphs and logs live on the terminal",
    help: "Shows the workers with graphs of their CPU and memory in the last hour, the log of one worker, of an\n\
           app or of all, and events; keys restart, stop, scale and reload them. ? lists the keys.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    // Where no rinit answers, that is said before the terminal is touched.
    let status: Status = call.client.get("/v1/status")?;
    crate::monit::run(call.client.asynchronous(), status).map_err(Failure::failed)
}
