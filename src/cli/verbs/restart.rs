//! Implements `rinit restart`.

use super::{Call, MAX_IDS, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["restart"],
    arguments: "ID|all...",
    takes: 1..=MAX_IDS,
    summary: "stop workers and start them again (without a gap: reload)",
    help: "Stops each worker and starts it again. Between the two it serves nothing: `rinit reload` starts the\n\
           new worker first, and loses no request. Returns when the new workers are ready.\n\
           ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.act("restart")
}
