//! Implements `rinit events`.

use super::client::read_json;
use super::log_filter::Since;
use super::output::{DIM, colour_of_level, harmless, harmless_lines, is_unread};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::client::Part;
use crate::control::types::{Event, Missed};
use crate::units;
use hyper::Method;

pub(super) static VERB: Verb = Verb {
    names: &["events"],
    arguments: "",
    takes: 0..=0,
    summary: "print events as they happen: starts, exits, reloads",
    help: "Prints the last events and then each one as it happens, until Ctrl-C. With --json every event is an\n\
           object on a line.",
    options: &[Opt {
        letter: None,
        names: &["since"],
        value: "WHEN",
        help: "10m: ago; a time such as 2026-01-31T12:00:00Z; 17: after that event's seq",
    }],
    run,
};

fn run(call: &Call) -> Outcome {
    // A number alone is an event's; a time reaches back as far as rinit keeps events.
    let number = call.option("since").and_then(|since| since.parse::<u64>().ok());
    let (path, since) = match (call.option("since"), number) {
        (None, _) => ("/v1/events".into(), None),
        (_, Some(number)) => (format!("/v1/events?since={}", number.saturating_add(1)), None),
        (Some(since), None) => ("/v1/events?since=0".into(), Some(Since::read("--since", since)?)),
    };
    let mut events = call.client.stream(Method::GET, &path, None)?;
    while let Some(part) = events.next()? {
        match part {
            Part::Event { name, data } if name == "missed" => {
                let missed: Missed = read_json(&data)?;
                // The events before those that rinit keeps are not missed by a question for a time.
                if since.is_none() {
                    let count = units::count(missed.missed, "event");
                    call.out.print_error(&format!("rinit: {count} left out: rinit does not keep them any more\n"));
                }
            }
            Part::Event { data, .. } => {
                let event: Event = read_json(&data)?;
                if since.as_ref().is_none_or(|since| since.is_before(&event.time)) {
                    print(call, &data, &event)?;
                }
            }
            Part::KeepAlive if is_unread() => return Err(Failure::Unread),
            Part::KeepAlive => {}
        }
    }
    call.out.print_error("rinit: no more events: the container stops, or rinit has closed the connection\n");
    Ok(())
}

fn print(call: &Call, json: &str, event: &Event) -> Outcome {
    if call.out.json {
        return call.out.print_json(json);
    }
    let time = call.out.paint(DIM, &harmless(&event.time));
    let level = call.out.paint(colour_of_level(&event.level), &format!("{:5}", harmless(&event.level)));
    call.out.print(&format!("{time} {level} {}\n", harmless_lines(&event.message).replace('\n', "\n    ")))
}
