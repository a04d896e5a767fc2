//! Tests `rinit monit`: its model and frames without a terminal, and the whole program in one.

#[path = "../harness/signals.rs"]
mod signals;

mod fixtures;
mod frames;
mod picture;
mod real;
mod server;
mod state;
mod terminal;
