//! Tests the API, the dashboard and their description as the real binary serves them; a file for each theme.

#[path = "../harness/mod.rs"]
mod harness;

mod client;
mod schema;
mod started;

mod access;
mod browser;
mod conflicts;
mod faults;
mod fuzz;
mod health;
mod history;
mod limits;
mod metrics;
mod one_worker;
mod openapi;
mod schemathesis;
mod socket;
