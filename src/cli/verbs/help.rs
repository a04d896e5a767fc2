//! `rinit help`.

use super::{Call, Failure, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["help"],
    arguments: "[VERB]",
    takes: 0..=1,
    summary: "this, or a verb's own help",
    help: "Prints the help of a verb, or rinit's own.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let text = match call.value(0) {
        None => crate::cli::help::rinit(),
        Some(name) => super::arguments::help_of(name).map_err(Failure::Usage)?,
    };
    call.out.print(&text)
}
