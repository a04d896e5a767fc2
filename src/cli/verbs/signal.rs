//! `rinit signal`: a signal to workers.

use super::{Call, Failure, Outcome, Verb};
use crate::config::nearest;
use crate::control::encoded;
use crate::control::types::SignalRequest;
use crate::core::Signal;

pub(super) static VERB: Verb = Verb {
    names: &["signal"],
    arguments: "SIG [ID|all]",
    takes: 1..=2,
    summary: "a signal to a worker, or to all",
    help: "Sends a signal, such as USR1, SIGUSR1 or 10, to a worker's process, or to those of all. rinit does not\n\
           take it for more than that: a worker that ends by it is started again.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let signal = read(call.value(0).unwrap_or_default()).map_err(Failure::Usage)?;
    let body = serde_json::to_string(&SignalRequest { signal: signal.to_string() });
    let body = body.map_err(|error| Failure::failed(error.to_string()))?;
    let id = call.target(1);
    let done = call.change("POST", &format!("/v1/workers/{}/signal", encoded(id)), Some(&body));
    done.map_err(|failure| call.with_nearest(failure, id))
}

fn read(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|why| {
        let names: Vec<String> = (1..=31).filter_map(Signal::new).map(|signal| signal.to_string()).collect();
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let meant = nearest(&full, names.iter().map(String::as_str));
        meant.map_or(why, |meant| format!("{text:?} is no signal; did you mean {meant}?"))
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_signal_that_is_none_is_refused_with_the_nearest() {
        assert_eq!(read("usr1").unwrap().to_string(), "SIGUSR1");
        assert!(read("TREM").unwrap_err().ends_with("did you mean SIGTERM?"));
        assert!(read("99").unwrap_err().contains("is no signal"));
    }
}
