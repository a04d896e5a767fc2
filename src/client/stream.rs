//! Reads server-sent events.

use super::{ClientError, body_text, broken};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The bytes that are kept of a line whose end has not come.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Server-sent events, or an answer in one piece where the API had nothing to wait for.
#[derive(Debug)]
pub struct Stream {
    /// True if events follow, and not one answer.
    pub is_stream: bool,
    body: Incoming,
    lines: Lines,
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// One event.
    Event {
        /// Its type.
        name: String,
        /// Its JSON.
        data: String,
    },
    /// A comment, which rinit sends when there is no event for a while.
    KeepAlive,
}

impl Stream {
    pub(super) fn new(is_stream: bool, body: Incoming) -> Stream {
        Stream { is_stream, body, lines: Lines::default() }
    }

    /// Reads the next part. `None` at the end of the stream.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Part>, ClientError> {
        loop {
            if let Some(part) = self.lines.next_part() {
                return Ok(Some(part));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.lines.push(&frame.into_data().unwrap_or_default())?,
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(None),
            }
        }
    }

    /// True if the next part has already been received.
    pub fn has_next(&self) -> bool {
        self.lines.has_part()
    }

    /// Reads all of an answer in one piece.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(self) -> Result<String, ClientError> {
        body_text(self.body).await
    }
}

/// Received text that is not yet a part, and the fields of the event that it belongs to.
#[derive(Debug, Default)]
struct Lines {
    received: Vec<u8>,
    /// The number of bytes of `received` that are taken already.
    taken: usize,
    name: String,
    data: Option<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.received.drain(..self.taken);
        self.taken = 0;
        self.received.extend_from_slice(bytes);
        if self.received.len() > MAX_LINE_BYTES {
            return Err(ClientError::Broken(format!(
                "rinit sent a line of more than {MAX_LINE_BYTES} bytes, which no version does"
            )));
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.received.get(self.taken..).unwrap_or_default()
    }

    fn has_part(&self) -> bool {
        self.rest().windows(2).any(|pair| pair == b"\n\n")
    }

    /// Takes the next part (HTML, 9.2.6). A last event without an empty line after it is none.
    fn next_part(&mut self) -> Option<Part> {
        while let Some(length) = self.rest().iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(self.rest().get(..length).unwrap_or_default()).into_owned();
            self.taken += length + 1;
            let line = line.trim_end_matches('\r');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.starts_with(':') => return Some(Part::KeepAlive),
                "" => {
                    let name = std::mem::take(&mut self.name);
                    if let Some(data) = self.data.take() {
                        return Some(Part::Event { name, data });
                    }
                }
                "event" => self.name = value.to_owned(),
                "data" => match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    none => *none = Some(value.to_owned()),
                },
                // `id`, and fields of later versions.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": keep-alive\n\nid: 7\r\nevent: line\r\ndata: {\"a\":1}\r\n\r\nevent: empty\n\ndata: x\ndata:y\n\nevent: cut";
        let event = |name: &str, data: &str| Part::Event { name: name.into(), data: data.into() };
        let expected = [Part::KeepAlive, event("line", "{\"a\":1}"), event("", "x\ny")];
        for size in [1, 7, text.len()] {
            let mut lines = Lines::default();
            let mut parts = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk).unwrap();
                parts.extend(std::iter::from_fn(|| lines.next_part()));
            }
            assert_eq!(parts, expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_a_limit() {
        let mut lines = Lines::default();
        let chunk = [b'x'; 64 * 1024];
        assert!((0..100).any(|_| lines.push(&chunk).is_err()));
    }
}
