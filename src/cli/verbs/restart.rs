//! `rinit restart`: new processes, now.

use super::{Call, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["restart"],
    arguments: "[ID|all]",
    takes: 0..=1,
    summary: "a worker, or all, anew",
    help: "Replaces the worker, or all of them. Returns when the new ones are ready.\n\
           ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.act(call.target(0), "restart")
}
