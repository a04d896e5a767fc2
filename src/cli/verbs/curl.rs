//! Implements `rinit curl`.

use super::{Call, Failure, Outcome, Verb};
use crate::control::encoded;

pub(super) static VERB: Verb = Verb {
    names: &["curl"],
    arguments: "ID [:PORT]PATH",
    takes: 2..=2,
    summary: "ask one worker for a page, also where all share a port",
    help: "Sends GET to that worker and no other, and prints the body of its answer: /healthz, or\n\
           :9100/metrics where it listens on several ports. After a status of 400 or more, which is printed\n\
           on stderr, the exit code is 1. ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let (id, target) = (call.value(0).unwrap_or_default(), call.value(1).unwrap_or_default());
    let path = target.strip_prefix('/').or(target.starts_with(':').then_some(target));
    let Some(path) = path else {
        return Err(Failure::Usage(format!("{target:?} is no path: it begins with / or :PORT/")));
    };
    let (status, body) = call.client.ask_worker(&format!("/v1/workers/{}/http/{path}", encoded(id)))?;
    call.out.print_bytes(&body)?;
    match status {
        ..400 => Ok(()),
        status => Err(Failure::failed(format!("{id} answered with status {status}"))),
    }
}
