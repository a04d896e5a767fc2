//! Implements `rinit reload`.

use super::{Call, MAX_IDS, Outcome, Verb};
use hyper::Method;

pub(super) static VERB: Verb = Verb {
    names: &["reload"],
    arguments: "[APP|ID|all]...",
    takes: 0..=MAX_IDS,
    summary: "replace workers by new ones, one by one, without a gap",
    help: "Starts a new worker beside each old one, and stops the old one when the new one is ready. Returns\n\
           when all are new. When a new worker fails the reload stops there, the old ones stay, and the exit\n\
           code is 1. Ctrl-C ends this command and not the reload.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    match call.values.as_slice() {
        [] => call.change(Method::POST, "/v1/reload", None),
        [all] if all == "all" => call.change(Method::POST, "/v1/reload", None),
        _ => call.act("reload"),
    }
}
