//! `rinit logs`: the workers' last lines, and those to come.

use super::client::{Part, read_json};
use super::output::is_unread;
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::config::duration;
use crate::control::encoded;
use crate::control::types::{LogLine, LogLines, Missed};

pub(super) static VERB: Verb = Verb {
    names: &["logs"],
    arguments: "[ID]...",
    takes: 0..=64,
    summary: "the workers' last lines; -f: and those to come",
    help: "Prints the last lines of every worker, or of those named, as the container's log has them: their stdout\n\
           on stdout, their stderr on stderr, with the worker's name in front. rinit keeps the last lines of\n\
           each worker; a reload or a restart does not end them. With --json every line is an object.",
    options: &[
        Opt { letter: Some('f'), name: "follow", value: "", help: "go on with the lines to come, until Ctrl-C" },
        Opt {
            letter: Some('n'),
            name: "lines",
            value: "N",
            help: "so many of the last lines, 10000 at the most (default: 100; with --since: all of them)",
        },
        Opt { letter: None, name: "stdout", value: "", help: "only what they write there" },
        Opt { letter: None, name: "stderr", value: "", help: "only what they write there" },
        Opt {
            letter: None,
            name: "since",
            value: "TIME",
            help: "only lines since then: 10m ago, or 2026-01-31T12:00:00Z",
        },
    ],
    run,
};

/// As good as all: more than rinit keeps.
const ALL: &str = "1000000";

fn run(call: &Call) -> Outcome {
    let mut printer = Printer { call, width: "rinit".len(), buffer: String::new(), is_stderr: false };
    if !call.has("follow") {
        let lines: LogLines = call.client.get(&query(call)?).map_err(|failure| about_worker(call, failure))?;
        printer.width = lines.lines.iter().map(|line| line.worker.len()).max().unwrap_or_default().max(printer.width);
        lines.lines.iter().try_for_each(|line| printer.line(line))?;
        return printer.flush();
    }
    let mut response = call.client.stream("GET", &query(call)?, None).map_err(|failure| about_worker(call, failure))?;
    while let Some(part) = response.next()? {
        match part {
            Part::Event { name, data } if name == "missed" => {
                printer.flush()?;
                if call.out.json {
                    call.out.print_json(&data)?;
                }
                let missed: Missed = read_json(&data)?;
                let whose = missed.worker.map_or(String::new(), |worker| format!(" of {worker}"));
                call.out.say(&format!(
                    "rinit: {} lines{whose} are left out: they came faster than they were read\n",
                    missed.missed
                ));
            }
            Part::Event { data, .. } => printer.line(&read_json(&data)?)?,
            Part::Beat if is_unread() => return Err(Failure::Unread),
            Part::Beat => {}
        }
        if !response.has_more() {
            printer.flush()?;
        }
    }
    printer.flush()?;
    call.out.say("rinit: these were the last lines: the container stops, or rinit has closed the connection\n");
    Ok(())
}

fn query(call: &Call) -> Result<String, Failure> {
    let mut query = vec![];
    if call.has("follow") {
        query.push("follow=true".to_owned());
    }
    let lines = call.option("lines").or(call.has("since").then_some(ALL));
    if let Some(lines) = lines {
        let count: u32 = lines.parse().map_err(|_| Failure::Usage(format!("-n {lines}: not a number of lines")))?;
        query.push(format!("lines={count}"));
    }
    if !call.values.is_empty() && !call.values.iter().any(|id| id == "all") {
        query.push(format!("worker={}", encoded(&call.values.join(","))));
    }
    match (call.has("stdout"), call.has("stderr")) {
        (true, false) => query.push("stream=stdout".into()),
        (false, true) => query.push("stream=stderr".into()),
        (true, true) | (false, false) => {}
    }
    if let Some(since) = call.option("since") {
        let is_time = humantime::parse_rfc3339_weak(since).is_ok();
        if let Err(why) = if is_time { Ok(()) } else { duration(since).map(drop) } {
            return Err(Failure::Usage(format!("--since {since}: {why}; or a time such as 2026-01-31T12:00:00Z")));
        }
        query.push(format!("since={}", encoded(since)));
    }
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("/v1/logs{mark}{}", query.join("&")))
}

fn about_worker(call: &Call, failure: Failure) -> Failure {
    match call.value(0) {
        Some(id) => call.with_nearest(failure, id),
        None => failure,
    }
}

/// Writes lines in batches, in their order though they go to two places.
struct Printer<'a> {
    call: &'a Call,
    /// Of the names in front.
    width: usize,
    buffer: String,
    /// Where the buffer goes.
    is_stderr: bool,
}

const BATCH: usize = 64 * 1024;

impl Printer<'_> {
    fn line(&mut self, line: &LogLine) -> Outcome {
        if self.call.out.json {
            let json = serde_json::to_string(line).map_err(|error| Failure::failed(error.to_string()))?;
            self.buffer.push_str(&json);
            self.buffer.push('\n');
        } else {
            let is_stderr = line.stream == "stderr";
            if is_stderr != self.is_stderr {
                self.flush()?;
                self.is_stderr = is_stderr;
            }
            self.width = self.width.max(line.worker.len());
            self.buffer.push_str(&format!("{:width$} | {}\n", line.worker, line.line, width = self.width));
        }
        if self.buffer.len() > BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome {
        let text = std::mem::take(&mut self.buffer);
        if text.is_empty() {
            return Ok(());
        }
        if self.is_stderr {
            self.call.out.say(&text);
            return Ok(());
        }
        self.call.out.print(&text)
    }
}
