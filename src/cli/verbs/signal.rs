//! Implements `rinit signal`.

use super::{Call, Failure, MAX_IDS, Outcome, Verb};
use crate::config::nearest;
use crate::control::encoded;
use crate::control::types::SignalRequest;
use crate::core::Signal;
use hyper::Method;

pub(super) static VERB: Verb = Verb {
    names: &["signal", "kill"],
    arguments: "SIG [ID|all]...",
    takes: 1..=MAX_IDS,
    summary: "send a signal to workers",
    help: "Sends a signal, such as USR1, SIGUSR1, 10 or -HUP, to the processes of workers: those that are\n\
           named, or all. rinit takes it for no more than that: a worker that ends by it is started again.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let signal = read(call.value(0).unwrap_or_default()).map_err(Failure::Usage)?;
    let body = serde_json::to_string(&SignalRequest { signal: signal.to_string() });
    let body = body.map_err(|error| Failure::failed(error.to_string()))?;
    let all = ["all".to_owned()];
    let ids = call.values.get(1..).filter(|ids| !ids.is_empty()).unwrap_or(&all);
    call.for_each(ids, |id| {
        call.change(Method::POST, &format!("/v1/workers/{}/signal", encoded(id)), Some(body.clone()))
    })
}

fn read(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|why| {
        let names: Vec<String> = (1..=31).filter_map(Signal::new).map(|signal| signal.to_string()).collect();
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let near = nearest(&full, names.iter().map(String::as_str));
        near.map_or(why, |near| format!("{text:?} is no signal; did you mean {near}?"))
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn an_unknown_signal_is_refused_with_the_nearest() {
        assert_eq!(read("usr1").unwrap().to_string(), "SIGUSR1");
        assert!(read("TREM").unwrap_err().ends_with("did you mean SIGTERM?"));
        assert!(read("99").unwrap_err().contains("is no signal"));
    }
}
