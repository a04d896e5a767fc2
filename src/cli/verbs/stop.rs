//! Implements `rinit stop`.

use super::{Call, MAX_IDS, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["stop"],
    arguments: "ID|all...",
    takes: 1..=MAX_IDS,
    summary: "stop workers; the container goes on",
    help: "Stops workers: the stop signal, and SIGKILL after the stop timeout. They stay stopped until\n\
           `rinit start`, and the container goes on. (`rinit delete all` ends the container.)",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.act("stop")
}
