//! `rinit stop`: workers end, the container goes on.

use super::{Call, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["stop"],
    arguments: "[ID|all]",
    takes: 0..=1,
    summary: "a worker, or all; the container goes on",
    help: "Stops the worker, or all of them: the stop signal, and SIGKILL when its time is up. They stay stopped until\n\
           `rinit start`, and the container goes on. (`rinit delete all` ends the container.)",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.act(call.target(0), "stop")
}
