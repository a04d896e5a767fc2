//! Implements `rinit delete`.

use super::{Call, MAX_IDS, Outcome, Verb};
use crate::control::encoded;
use hyper::Method;

pub(super) static VERB: Verb = Verb {
    names: &["delete"],
    arguments: "ID|all...",
    takes: 1..=MAX_IDS,
    summary: "remove workers and their slots; all: end the container",
    help: "Stops workers and removes their slots: fewer are wanted from then on. `rinit delete all` stops all\n\
           workers and ends the container.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.for_each(&call.values, |id| call.change(Method::DELETE, &format!("/v1/workers/{}", encoded(id)), None))
}
