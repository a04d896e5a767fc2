//! Implements `rinit start`.

use super::{Call, MAX_IDS, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["start"],
    arguments: "[ID|all]...",
    takes: 0..=MAX_IDS,
    summary: "start workers that are stopped or have failed",
    help: "Starts workers that are stopped or have failed: all of them, or those that are named. Returns when\n\
           they are ready. ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    if call.values.is_empty() { call.act_on(&["all".to_owned()], "start") } else { call.act("start") }
}
