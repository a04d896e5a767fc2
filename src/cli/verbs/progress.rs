//! Sends calls that change something, shows their progress, and prints their result.

use super::client::read_json;
use super::output::{DIM, colour_of_level, harmless_lines, paint};
use super::{Call, Error, Failure, Outcome};
use crate::client::Part;
use crate::config::nearest;
use crate::control::encoded;
use crate::control::types::{Done, Event, Workers};
use hyper::Method;

impl Call {
    /// Applies an action such as `restart` to every worker that is named, one after the other.
    pub(super) fn act(&self, action: &str) -> Outcome {
        self.act_on(&self.values, action)
    }

    /// Applies an action to workers, one after the other.
    pub(super) fn act_on(&self, ids: &[String], action: &str) -> Outcome {
        self.for_each(ids, |id| self.change(Method::POST, &format!("/v1/workers/{}/{action}", encoded(id)), None))
    }

    /// Makes a call for each ID in turn. One that fails does not keep the others from their turn.
    pub(super) fn for_each(&self, ids: &[String], change: impl Fn(&str) -> Outcome) -> Outcome {
        if ids.len() > 1 && ids.iter().any(|id| id == "all") {
            return Err(Failure::Usage("all is every worker already: name no other beside it".into()));
        }
        let mut failed: Option<Error> = None;
        for id in ids {
            let result = change(id).map_err(|failure| self.with_nearest(failure, id));
            let Err(failure) = result else { continue };
            if let Some(earlier) = failed.take() {
                self.out.print_failure(&earlier);
            }
            match failure {
                Failure::Failed(error) => failed = Some(error),
                other => return Err(other),
            }
        }
        failed.map_or(Ok(()), |error| Err(Failure::Failed(error)))
    }

    /// Makes the call and prints its result; on a terminal also the events until then.
    pub(super) fn change(&self, method: Method, path: &str, body: Option<String>) -> Outcome {
        // Always as a stream: only so it is known, however long it takes, that rinit is there.
        let mut response = self.client.stream(method, path, body)?;
        if !response.is_stream() {
            return self.done(&response.text()?);
        }
        while let Some(part) = response.next()? {
            let Part::Event { name, data } = part else { continue };
            match name.as_str() {
                "done" => return self.done(&data),
                "error" => return Err(Failure::Failed(read_json::<Error>(&data)?)),
                _ if self.out.stderr_is_terminal && !self.out.json => {
                    let event: Event = read_json(&data)?;
                    let colour = if event.level == "info" { DIM } else { colour_of_level(&event.level) };
                    let text = harmless_lines(&event.message).replace('\n', "\n  ");
                    self.out.print_error(&format!("  {}\n", paint(self.out.colour, colour, &text)));
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

    /// Adds the nearest ID to rinit's refusal of an ID that does not exist.
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
