//! The real binary with real processes, as PID 1 of a PID namespace; a file for each behaviour.

#[path = "../harness/mod.rs"]
mod harness;

mod apps;
mod config_file;
mod environment;
mod hooks;
mod init;
mod jobs;
mod limits;
mod linger;
mod listen;
mod liveness;
mod logs;
mod ready;
mod reaping;
mod reload;
mod restart;
mod restricted;
mod settings;
mod signals;
mod supervise;
mod terminal;
mod triggers;
