//! The real binary with real processes, as PID 1 of a PID namespace; a file for each behaviour.

#[path = "../harness/mod.rs"]
mod harness;

mod supervise;
