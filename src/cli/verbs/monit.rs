//! `rinit monit`: the terminal UI.

use super::{Call, Failure, Outcome, Verb};

pub(super) static VERB: Verb = Verb {
    names: &["monit"],
    arguments: "",
    takes: 0..=0,
    summary: "workers, graphs and logs live on the terminal",
    help: "Shows the workers with their CPU and memory as live graphs, the log of the one that is selected, and\n\
           events, and has keys for restart, stop, scale and reload.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    crate::monit::run(call.client.place()?).map_err(Failure::failed)
}
