//! Implements `rinit logs`.

use super::client::read_json;
use super::log_filter::{LogFilter, Since, stream_of};
use super::output::{DIM, harmless, is_unread, visible};
use super::{Call, Failure, MAX_IDS, Opt, Outcome, Verb};
use crate::client::Part;
use crate::control::encoded;
use crate::control::types::{LogLine, LogLines, Missed};
use crate::logs::{Format, Fragment, Labels, LogFormat};
use crate::units;
use hyper::Method;
use std::collections::BTreeMap;
use std::time::SystemTime;

pub(super) static VERB: Verb = Verb {
    names: &["logs"],
    arguments: "[ID]...",
    takes: 0..=MAX_IDS,
    summary: "print the workers' last lines; -f: and those to come",
    help: "Prints the last lines of every worker, or of those named, as the container's log has them: their\n\
           stdout on stdout, their stderr on stderr, with the worker's name in front. rinit keeps the last\n\
           lines of each worker; a reload or a restart does not end them. With --json every line is an\n\
           object, as --log json writes it. A line's level is the one that it names itself, as JSON or as\n\
           a word at its beginning; else lines on stderr are errors, and others info. On a terminal control\n\
           characters are shown as cat -v does.",
    options: &[
        Opt { letter: Some('f'), names: &["follow"], value: "", help: "print the lines to come too, until Ctrl-C" },
        Opt {
            letter: Some('n'),
            names: &["lines", "tail"],
            value: "N",
            help: "the last N lines, 10000 at most (default: 100; with --since: all)",
        },
        Opt { letter: Some('t'), names: &["timestamps"], value: "", help: "print the time in front of each line" },
        Opt { letter: None, names: &["stdout"], value: "", help: "only lines on stdout" },
        Opt { letter: None, names: &["stderr"], value: "", help: "only lines on stderr" },
        Opt {
            letter: None,
            names: &["since"],
            value: "TIME",
            help: "only later lines: 10m ago, or 2026-01-31T12:00:00Z",
        },
        Opt { letter: None, names: &["until"], value: "TIME", help: "only earlier lines" },
        Opt { letter: None, names: &["grep"], value: "RE", help: "only lines that match the regular expression" },
        Opt {
            letter: None,
            names: &["level"],
            value: "LEVEL",
            help: "only lines of error, warn, info, debug or trace, and worse",
        },
    ],
    run,
};

/// The number of lines when none is given, as the API has it.
const DEFAULT_LINES: usize = 100;

/// A number of lines that is more than rinit keeps.
const ALL_LINES: usize = 1_000_000;

fn run(call: &Call) -> Outcome {
    let filter = LogFilter::of(call)?;
    let query = Query::of(call)?;
    let mut printer = Printer { call, id_width: "rinit".len(), buffer: String::new(), is_stderr: false };
    let get = |path: &str| call.client.get::<LogLines>(path).map_err(|failure| about_worker(call, failure));
    let follow =
        |path: &str| call.client.stream(Method::GET, path, None).map_err(|failure| about_worker(call, failure));
    if filter.is_empty() && call.has("follow") {
        return printer.follow(follow(&query.path(query.lines, true))?, &|_| true);
    }
    // The last lines that pass are among the last ones of all.
    let lines = get(&query.path(if filter.is_empty() { query.lines } else { Some(ALL_LINES) }, false))?.lines;
    let last_seq = lines.iter().fold(BTreeMap::new(), |mut last, line| {
        last.insert(line.worker.clone(), line.seq);
        last
    });
    let passing: Vec<&LogLine> = lines.iter().filter(|line| filter.passes(line)).collect();
    let count = if filter.is_empty() { passing.len() } else { query.lines.unwrap_or(DEFAULT_LINES) };
    printer.print(passing.get(passing.len().saturating_sub(count)..).unwrap_or_default())?;
    if !call.has("follow") || filter.has_end() {
        return Ok(());
    }
    // What was written meanwhile comes as the first lines of the stream, together with some that are printed already.
    let is_new = |line: &LogLine| last_seq.get(&line.worker).is_none_or(|seq| line.seq > *seq);
    printer.follow(follow(&query.path(Some(ALL_LINES), true))?, &|line| is_new(line) && filter.passes(line))
}

/// The part of the conditions that the API knows.
struct Query {
    lines: Option<usize>,
    others: Vec<String>,
}

impl Query {
    fn of(call: &Call) -> Result<Query, Failure> {
        let number = |text: &str| text.parse().map_err(|_| Failure::Usage(format!("-n {text}: not a number of lines")));
        let lines = call.option("lines").map(number).transpose()?;
        let mut others = vec![];
        if !call.values.is_empty() && !call.values.iter().any(|id| id == "all") {
            others.push(format!("worker={}", encoded(&call.values.join(","))));
        }
        match (call.has("stdout"), call.has("stderr")) {
            (true, false) => others.push("stream=stdout".into()),
            (false, true) => others.push("stream=stderr".into()),
            (true, true) | (false, false) => {}
        }
        if let Some(since) = call.option("since") {
            Since::read("--since", since)?;
            others.push(format!("since={}", encoded(since)));
        }
        Ok(Query { lines: lines.or(call.has("since").then_some(ALL_LINES)), others })
    }

    fn path(&self, lines: Option<usize>, follow: bool) -> String {
        let follow = follow.then(|| "follow=true".to_owned());
        let lines = lines.map(|lines| format!("lines={lines}"));
        let query: Vec<String> = follow.into_iter().chain(lines).chain(self.others.iter().cloned()).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/v1/logs{mark}{}", query.join("&"))
    }
}

fn about_worker(call: &Call, failure: Failure) -> Failure {
    match call.value(0) {
        Some(id) => call.with_nearest(failure, id),
        None => failure,
    }
}

/// The line as `--log json` writes it.
fn as_json(line: &LogLine) -> String {
    let format = Format { format: LogFormat::Json, time: false, width: 0 };
    let pid = i32::try_from(line.pid).unwrap_or_default();
    let mut start = format.line_start(&Labels { app: line.app.clone(), index: line.slot, pid }, stream_of(line));
    let time = format.timestamp(humantime::parse_rfc3339(&line.time).unwrap_or(SystemTime::UNIX_EPOCH));
    format.refresh(&mut start, &time);
    let mut json = Vec::new();
    let text = Fragment::Part { bytes: line.line.as_bytes(), is_first: true, is_last: true };
    format.write(&mut json, &start, &time, text);
    String::from_utf8_lossy(&json).into_owned()
}

/// Writes lines in batches: in their order, though some go to stdout and some to stderr.
struct Printer<'a> {
    call: &'a Call,
    /// The width of the column of IDs.
    id_width: usize,
    buffer: String,
    /// True if the buffer is for stderr.
    is_stderr: bool,
}

const MAX_BATCH_BYTES: usize = 64 * 1024;

impl Printer<'_> {
    fn print(&mut self, lines: &[&LogLine]) -> Outcome {
        self.id_width = lines.iter().map(|line| line.worker.len()).max().unwrap_or_default().max(self.id_width);
        lines.iter().try_for_each(|line| self.line(line))?;
        self.flush()
    }

    fn follow(&mut self, mut stream: super::client::Stream, passes: &dyn Fn(&LogLine) -> bool) -> Outcome {
        while let Some(part) = stream.next()? {
            match part {
                Part::Event { name, data } if name == "missed" => self.missed(&data)?,
                Part::Event { data, .. } => {
                    let line: LogLine = read_json(&data)?;
                    if passes(&line) {
                        self.line(&line)?;
                    }
                }
                Part::KeepAlive if is_unread() => return Err(Failure::Unread),
                Part::KeepAlive => {}
            }
            if !stream.has_next() {
                self.flush()?;
            }
        }
        self.flush()?;
        self.call.out.print_error("rinit: no more lines: the container stops, or rinit has closed the connection\n");
        Ok(())
    }

    fn missed(&mut self, data: &str) -> Outcome {
        self.flush()?;
        if self.call.out.json {
            self.call.out.print_json(data)?;
        }
        let missed: Missed = read_json(data)?;
        let of = missed.worker.map_or(String::new(), |worker| format!(" of {worker}"));
        let count = units::count(missed.missed, "line");
        self.call.out.print_error(&format!("rinit: {count}{of} left out: they came faster than they were read\n"));
        Ok(())
    }

    fn line(&mut self, line: &LogLine) -> Outcome {
        let out = &self.call.out;
        if out.json {
            self.buffer.push_str(&as_json(line));
        } else {
            let is_stderr = line.stream == "stderr";
            if is_stderr != self.is_stderr {
                self.flush()?;
                self.is_stderr = is_stderr;
            }
            if self.call.has("timestamps") {
                self.buffer.push_str(&format!("{} ", out.paint(DIM, &harmless(&line.time))));
            }
            self.id_width = self.id_width.max(line.worker.len());
            self.buffer.push_str(&format!("{:width$} | ", line.worker, width = self.id_width));
            // A file gets what the worker wrote.
            match if is_stderr { out.stderr_is_terminal } else { out.stdout_is_terminal } {
                true => self.buffer.push_str(&visible(&line.line, out.colour)),
                false => self.buffer.push_str(&line.line),
            }
            self.buffer.push('\n');
        }
        if self.buffer.len() > MAX_BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome {
        let text = std::mem::take(&mut self.buffer);
        match self.is_stderr {
            _ if text.is_empty() => Ok(()),
            true => {
                self.call.out.print_error(&text);
                Ok(())
            }
            false => self.call.out.print(&text),
        }
    }
}
