//! Tests the verbs: against a server with prepared answers, and (`real`) against a rinit.

#[path = "../harness/signals.rs"]
mod signals;

mod calls;
mod fake;
mod looks;
mod real;
mod shells;
mod streams;
mod terminal;
