//! Runs the asynchronous API client to completion, for verbs that do one request after the other.

use super::Failure;
use crate::cli::{Environment, variable};
use crate::client::{self, ClientError, Part};
use hyper::Method;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A client that blocks until the answer is there.
#[derive(Debug)]
pub struct Client(client::Client);

impl Client {
    /// A client for the socket in `--socket`, else in `RINIT_SOCKET`, else for the default ones.
    pub fn new(socket: Option<&str>, environment: &Environment) -> Client {
        let variable = variable(environment, "RINIT_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        Client(client::Client::new(socket, variable))
    }

    /// Gets a resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read_json(&self.get_text(path)?)
    }

    /// Gets a resource as the text that the API sends.
    pub fn get_text(&self, path: &str) -> Result<String, Failure> {
        Ok(runtime()?.block_on(self.0.get_text(path))?)
    }

    /// Asks one worker for a page. Returns the status code and the body of its answer.
    pub fn ask_worker(&self, path: &str) -> Result<(u16, Vec<u8>), Failure> {
        Ok(runtime()?.block_on(self.0.ask_worker(path))?)
    }

    /// Gets the status code and the text of a probe, such as `/readyz`.
    pub fn probe(&self, path: &str, limit: Duration) -> Result<(u16, String), Failure> {
        Ok(runtime()?.block_on(self.0.probe(path, limit))?)
    }

    /// Asks for events, which may pause for any time.
    pub fn stream(&self, method: Method, path: &str, body: Option<String>) -> Result<Stream, Failure> {
        let runtime = runtime()?;
        let stream = runtime.block_on(self.0.stream(method, path, body))?;
        Ok(Stream { stream, runtime })
    }

    /// The asynchronous client within.
    pub fn asynchronous(&self) -> client::Client {
        self.0.clone()
    }
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::failed(format!("cannot wait for rinit's answer: {error}")))
}

/// Reads the API's JSON.
pub fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    Ok(client::read_json(text)?)
}

/// Events, one after the other.
pub struct Stream {
    // Before the runtime, which its connection needs.
    stream: client::Stream,
    runtime: Runtime,
}

impl Stream {
    /// True if events follow, and not one answer.
    pub fn is_stream(&self) -> bool {
        self.stream.is_stream
    }

    /// Waits for the next part. `None` at the end of the stream.
    pub fn next(&mut self) -> Result<Option<Part>, Failure> {
        Ok(self.runtime.block_on(self.stream.next())?)
    }

    /// True if the next part has already been received.
    pub fn has_next(&self) -> bool {
        self.stream.has_next()
    }

    /// Waits for all of an answer in one piece.
    pub fn text(self) -> Result<String, Failure> {
        Ok(self.runtime.block_on(self.stream.text())?)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::NotListening(why) | ClientError::Broken(why) => Failure::NoAnswer(why),
            ClientError::Refused(error) => Failure::Failed(error),
            ClientError::Unreadable(why) => Failure::failed(why),
        }
    }
}
