//! `rinit reload`: new workers in the place of the old ones.

use super::{Call, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["reload"],
    arguments: "",
    takes: 0..=0,
    summary: "new workers in the place of the old ones, one by one",
    help: "Starts a new worker beside each old one, and stops the old one when the new one is ready. Returns when all\n\
           are new. When a new worker fails the reload stops there, the old ones stay, and the exit code is 1.\n\
           Ctrl-C ends this command and not the reload.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    call.change("POST", "/v1/reload", None)
}
