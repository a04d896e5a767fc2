//! `rinit delete`: a worker less, or the end of the container.

use super::{Call, Outcome, Verb};
use crate::control::encoded;

pub(super) static VERB: Verb = Verb {
    names: &["delete"],
    arguments: "ID|all",
    takes: 1..=1,
    summary: "a worker and its slot; all: ends the container",
    help: "Stops a worker and wants one fewer from then on. `rinit delete all` stops all workers and ends the\n\
           container.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let id = call.target(0);
    let done = call.change("DELETE", &format!("/v1/workers/{}", encoded(id)), None);
    done.map_err(|failure| call.with_nearest(failure, id))
}
