//! `rinit events`: what happens, as it happens.

use super::client::{Part, read_json};
use super::output::{DIM, colour_of_level, harmless_lines, is_unread};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::control::types::Event;

pub(super) static VERB: Verb = Verb {
    names: &["events"],
    arguments: "",
    takes: 0..=0,
    summary: "what happens, as it happens: starts, exits, reloads",
    help: "Prints the last events and then each one as it happens, until Ctrl-C. With --json every event is an\n\
           object on a line.",
    options: &[Opt { letter: None, name: "since", value: "SEQ", help: "only those after the event of that number" }],
    run,
};

fn run(call: &Call) -> Outcome {
    let path = match call.option("since") {
        None => "/v1/events".into(),
        Some(since) => match since.parse::<u64>() {
            Ok(number) => format!("/v1/events?since={}", number.saturating_add(1)),
            Err(_) => {
                return Err(Failure::Usage(format!("--since {since}: not the number of an event (seq in --json)")));
            }
        },
    };
    let mut response = call.client.stream("GET", &path, None)?;
    while let Some(part) = response.next()? {
        match part {
            Part::Event { data, .. } if call.out.json => call.out.print_json(&data)?,
            Part::Event { data, .. } => {
                let event: Event = read_json(&data)?;
                let time = call.out.paint(DIM, &event.time);
                let level = call.out.paint(colour_of_level(&event.level), &format!("{:5}", event.level));
                call.out
                    .print(&format!("{time} {level} {}\n", harmless_lines(&event.message).replace('\n', "\n    ")))?;
            }
            Part::Beat if is_unread() => return Err(Failure::Unread),
            Part::Beat => {}
        }
    }
    call.out.say("rinit: these were the last events: the container stops, or rinit has closed the connection\n");
    Ok(())
}
