//! rinit: a container's init that also runs, reloads and scales the app. `ARCHITECTURE.md` is the map.
#![warn(missing_docs)]
#![warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod core;
mod embedded;
pub mod histogram;
pub mod init;
pub mod logs;
pub mod monit;
pub mod ordered;
pub mod ports;
pub mod supervisor;
pub mod sys;
pub mod units;
