//! The log path: workers' pipes → whole lines → rinit's stdout and stderr.
//!
//! One thread, the hub, moves all bytes, so that a flood of lines never delays a signal and a stdout that nobody reads
//! never blocks PID 1. There is no queue in between: while a sink is full its pipes are not read, and the workers feel
//! it as they would with any full pipe.
//!
//! ```text
//! worker's pipe → lines (split) → format (prefix, json) → sink (stdout, stderr)
//! rinit's own lines (tracing) → own ────────────────────────┘
//! ```

mod diagnostics;
mod format;
mod handle;
mod history;
mod hub;
mod last_lines;
mod lines;
mod output;
mod sink;
mod source;

pub use diagnostics::install;
pub use format::{Format, Source};
pub use handle::{Logs, Pipes};
pub use history::{Line, LogHistory, News, Passed, Slot};
pub use hub::start;

use crate::core::WorkerId;

/// Which stream of which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StreamId {
    worker: WorkerId,
    stream: Stream,
}

/// The two streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}
