//! Turns bytes of workers into the lines of the log: splits, formats and keeps them. Pure: no I/O, no clock.
//!
//! It is a package of its own because every byte goes through it: it is built for speed, and the rest of rinit for size
//! (`docs/figures.md`).
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod buffer;
mod ecs;
pub mod format;
mod json;
pub mod last_lines;
pub mod level;
pub mod limits;
pub mod lines;

/// The format of workers' lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The worker's name and ` | ` precede each line.
    Prefix,
    /// Lines are written as they are.
    Raw,
    /// Each line is a JSON object.
    Json,
    /// Each line is a JSON object with the names of the Elastic Common Schema.
    Ecs,
}

impl LogFormat {
    /// True if each line is a JSON object.
    pub fn is_json(self) -> bool {
        match self {
            LogFormat::Json | LogFormat::Ecs => true,
            LogFormat::Prefix | LogFormat::Raw => false,
        }
    }
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
