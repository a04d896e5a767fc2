//! rinit in real containers, by the `docker` command line: what a user of the image does and sees.
//!
//! Without an engine the tests are skipped, and say so; where the variable `CI` is set, a missing engine is a failure.

#[path = "../harness/signals.rs"]
mod signals;

mod apps;
mod engine;
mod examples;
mod image;
mod init;
mod limits;
mod logs;
mod supervise;
mod terminal;
