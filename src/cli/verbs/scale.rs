//! Implements `rinit scale`.

use super::{Call, Failure, Outcome, Verb};
use crate::control::types::ScaleRequest;
use hyper::Method;

pub(super) static VERB: Verb = Verb {
    names: &["scale"],
    arguments: "[APP] N|+N|-N|0|max",
    takes: 1..=2,
    summary: "set the number of workers; 0, max: one per CPU",
    help: "Runs N workers, or N more, or N fewer; 0 or max: as many as the CPUs that the container may use.\n\
           Returns when the new ones are ready, or the old ones gone. APP is needed only where there are\n\
           several.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let (app, to) = match call.values.as_slice() {
        [app, to] => (Some(app.clone()), to),
        [to] => (None, to),
        _ => return Err(Failure::Usage("the number of workers is missing".into())),
    };
    let digits = to.strip_prefix(['+', '-']).unwrap_or(to);
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if !is_number && to != "max" {
        return Err(Failure::Usage(format!(
            "{to:?}: not a number of workers; allowed: 4, +1, -1, 0 or max (one per CPU)"
        )));
    }
    let request = ScaleRequest { app, to: to.clone() };
    let body = serde_json::to_string(&request).map_err(|error| Failure::failed(error.to_string()))?;
    call.change(Method::POST, "/v1/scale", Some(body))
}
