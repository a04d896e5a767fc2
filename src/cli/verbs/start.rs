//! `rinit start`: what was stopped, or has failed, runs again.

use super::{Call, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["start"],
    arguments: "[ID|all]",
    takes: 0..=1,
    summary: "what is stopped or has failed runs again",
    help: "Starts what is stopped or has failed. Returns when it is ready.\n\
           ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.act(call.target(0), "start")
}
