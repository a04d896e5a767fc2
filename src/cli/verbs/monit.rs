//! Implements `rinit monit`.

use super::{Call, Failure, Outcome, Verb};
use crate::control::types::Status;

pub(super) static VERB: Verb = Verb {
    names: &["monit", "top"],
    arguments: "",
    takes: 0..=0,
    summary: "show workers, graphs and logs live on the terminal",
    help: "Shows the workers with their CPU and memory as live graphs, the log of the selected one, and events;\n\
           keys restart, stop, scale and reload them.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    // Where no rinit answers, that is said before the terminal is touched.
    let status: Status = call.client.get("/v1/status")?;
    crate::monit::run(call.client.asynchronous(), status).map_err(Failure::failed)
}
