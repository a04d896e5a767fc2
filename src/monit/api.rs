//! What monit asks rinit: HTTP/1.0 over the unix socket, one connection for each question.

use crate::control::types::Error;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where rinit listens.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody answers there, or not as rinit does.
    Lost(io::Error),
    /// rinit says no.
    Refused(Error),
}

/// A question that is answered at once is answered within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream says at least every 15 seconds that it is alive.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);
/// No answer is longer.
const LONGEST_ANSWER: u64 = 16 << 20;
/// No line of a stream is longer: a line of a worker, as JSON.
const LONGEST_LINE: u64 = 1 << 20;

impl Api {
    /// Of the rinit that listens there.
    pub fn new(socket: PathBuf) -> Api {
        Api { socket }
    }

    /// Asks for what is there.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let stream = self.ask("GET", path, "", Some(PATIENCE))?;
        json(&body(stream)?)
    }

    /// Has something changed, and waits until it is done, however long that takes.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, question: &str) -> Result<T, Trouble> {
        let stream = self.ask("POST", path, question, None)?;
        json(&body(stream)?)
    }

    /// Server-sent events.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn stream(&self, path: &str) -> Result<Stream, Trouble> {
        Ok(Stream { reader: self.ask("GET", path, "", Some(STREAM_PATIENCE))? })
    }

    /// Sends the question and reads the answer's head. What follows is its body, up to the end.
    fn ask(
        &self,
        method: &str,
        path: &str,
        question: &str,
        patience: Option<Duration>,
    ) -> Result<BufReader<UnixStream>, Trouble> {
        let mut connection = UnixStream::connect(&self.socket)?;
        connection.set_read_timeout(patience)?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let length = question.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: rinit\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{question}"
        );
        connection.write_all(head.as_bytes())?;
        let mut reader = BufReader::new(connection);
        let first = line(&mut reader)?.ok_or_else(ended)?;
        let status =
            first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default().to_owned();
        while !line(&mut reader)?.ok_or_else(ended)?.is_empty() {}
        if status == "200" {
            return Ok(reader);
        }
        let body = body(reader)?;
        let unclear = |_| Error { error: format!("rinit answers {first:?}"), worker: None, last_lines: vec![] };
        Err(Trouble::Refused(serde_json::from_str(&body).unwrap_or_else(unclear)))
    }
}

/// Server-sent events, one after the other.
pub struct Stream {
    reader: BufReader<UnixStream>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// What kind of event.
    pub event: String,
    /// What it says.
    pub data: String,
}

impl Stream {
    /// What ends the stream from another thread: it has to be shut down.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn handle(&self) -> io::Result<UnixStream> {
        self.reader.get_ref().try_clone()
    }

    /// Waits for the next one. `None`: it has ended.
    ///
    /// # Errors
    /// Nothing came for too long, or too much.
    pub fn wait(&mut self) -> io::Result<Option<Sent>> {
        next(&mut self.reader)
    }
}

fn next(reader: &mut impl BufRead) -> io::Result<Option<Sent>> {
    let mut sent = Sent { event: String::new(), data: String::new() };
    while let Some(line) = line(reader)? {
        if line.is_empty() {
            if !sent.data.is_empty() {
                return Ok(Some(sent));
            }
            sent.event.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => sent.event = value.to_owned(),
            "data" if sent.data.is_empty() => sent.data = value.to_owned(),
            "data" => sent.data = format!("{}\n{value}", sent.data),
            // Comments, numbers, and what is not known yet.
            _ => {}
        }
    }
    Ok(None)
}

/// The next line, without its end. `None`: there is none.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer breaks off"));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn body(reader: BufReader<UnixStream>) -> io::Result<String> {
    let mut body = String::new();
    reader.take(LONGEST_ANSWER).read_to_string(&mut body)?;
    Ok(body)
}

/// Reads what rinit says. Always from a `str`, as the verbs do: a reader of bytes would be in the binary a second time.
///
/// # Errors
/// It is not what this version expects.
pub fn json<T: DeserializeOwned>(text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|error| Trouble::Lost(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Lost(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Lost(error) => Error { error: format!("no answer: {error}"), worker: None, last_lines: vec![] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::encoded;

    #[test]
    fn events_are_read_as_they_are_sent() {
        let text = ": keep-alive\n\nid: 7\r\nevent: line\r\ndata: {\"a\":1}\r\n\r\nevent: empty\n\ndata: x\ndata:y\n\nevent: cut";
        let mut reader = BufReader::new(text.as_bytes());
        let sent = |event: &str, data: &str| Sent { event: event.into(), data: data.into() };
        assert_eq!(next(&mut reader).unwrap(), Some(sent("line", "{\"a\":1}")));
        assert_eq!(next(&mut reader).unwrap(), Some(sent("", "x\ny")));
        assert!(next(&mut reader).is_err());
        assert_eq!(next(&mut BufReader::new(&b": bye\n\n"[..])).unwrap(), None);
    }

    #[test]
    fn an_odd_id_stays_one_part_of_the_path() {
        assert_eq!(encoded("web-0"), "web-0");
        assert_eq!(encoded("a/b ü?-0"), "a%2Fb%20%C3%BC%3F-0");
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert!(line(&mut endless).is_err());
    }
}
