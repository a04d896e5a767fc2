//! Real servers, unmodified, N copies on one port: served, reloaded and killed under load; a file for each theme.
//!
//! What they need from npm and PyPI is installed once (`setup.rs`). Tests whose servers cannot be had are skipped, and
//! say so; where the variable `CI` is set, that is a failure. All traffic stays on 127.0.0.1.

#[path = "../harness/mod.rs"]
mod harness;

mod apps;
mod channel;
mod load;
mod setup;

mod calls;
mod handover;
mod hostile;
mod node;
mod others;
mod protocol;
mod queue;
mod reload;
mod stop;
