//! The control plane: one HTTP API, over a unix socket and, if asked for, TCP. On a thread of its own, which begins with the
//! first connection; the loop answers it between two turns, and never waits for it.
//!
//! ```text
//! client ─▶ gate (who) ─▶ server (connections) ─▶ routes ─▶ api ─┬─ desk: calls to the loop
//!                                                                ├─ book: what has happened (the loop writes)
//!                                                                └─ logs: what workers wrote (the log's hub writes)
//! ```

mod api;
mod body;
mod book;
mod course;
mod desk;
mod gate;
mod logs;
mod mask;
mod metrics;
mod operate;
mod routes;
mod sample;
mod server;
pub mod types;

pub use book::{Book, Note, Pages, time_text};
pub use desk::{Accepted, Action, Call, Rinit, Target};
pub use gate::{Entrance, Entrances, Gate, SOCKETS};
pub use mask::masked_command;
pub use routes::{ROUTES, encoded};
pub use server::start_when_needed;
