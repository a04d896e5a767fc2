//! Calls that change something: sent, watched, and answered when they are done.

use super::client::{Part, read_json};
use super::output::{DIM, colour_of_level, harmless_lines, paint};
use super::{Call, Error, Failure, Outcome};
use crate::config::nearest;
use crate::control::encoded;
use crate::control::types::{Done, Event, Workers};

impl Call {
    /// Does something to a worker, or all of them: `restart`.
    pub(super) fn act(&self, id: &str, action: &str) -> Outcome {
        let done = self.change("POST", &format!("/v1/workers/{}/{action}", encoded(id)), None);
        done.map_err(|failure| self.with_nearest(failure, id))
    }

    /// Makes the call and prints its result. On a terminal, what happens meanwhile too.
    pub(super) fn change(&self, method: &str, path: &str, body: Option<&str>) -> Outcome {
        // Always as a stream: so it is known that rinit is there, however long it takes.
        let mut response = self.client.stream(method, path, body)?;
        if !response.is_stream {
            return self.done(&response.text()?);
        }
        while let Some(part) = response.next()? {
            let Part::Event { name, data } = part else { continue };
            match name.as_str() {
                "done" => return self.done(&data),
                "error" => return Err(Failure::Failed(read_json::<Error>(&data)?)),
                _ if self.out.progress => {
                    let event: Event = read_json(&data)?;
                    let colour = if event.level == "info" { DIM } else { colour_of_level(&event.level) };
                    let text = harmless_lines(&event.message).replace('\n', "\n  ");
                    self.out.say(&format!("  {}\n", paint(self.out.colour, colour, &text)));
                }
                _ => {}
            }
        }
        Err(Failure::failed(
            "the connection ended before the result: `rinit list` and `rinit events` show what has come of it",
        ))
    }

    fn done(&self, data: &str) -> Outcome {
        let done: Done = read_json(data)?;
        if !done.ok {
            return Err(Failure::failed(done.message));
        }
        if self.out.json {
            self.out.print_json(data)
        } else {
            self.out.print(&format!("{}\n", harmless_lines(&done.message)))
        }
    }

    /// Adds who may be meant to what rinit says of a worker that is not there.
    pub(super) fn with_nearest(&self, failure: Failure, id: &str) -> Failure {
        let Failure::Failed(mut error) = failure else { return failure };
        let known: Vec<String> = match self.client.get::<Workers>("/v1/workers") {
            Ok(list) => list.workers.into_iter().map(|worker| worker.id).collect(),
            Err(_) => vec![],
        };
        let is_known = id == "all" || known.iter().any(|known| known == id || known.ends_with(&format!("-{id}")));
        if !known.is_empty() && !is_known && !error.error.contains("did you mean") {
            let meant = nearest(id, known.iter().map(String::as_str));
            if let Some(meant) = meant {
                error.error.push_str(&format!("; did you mean {meant}?"));
            }
        }
        Failure::Failed(error)
    }
}
