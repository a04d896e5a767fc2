//! The control plane: one HTTP API, over a unix socket and, if asked for, TCP. On a thread of its own, which begins with the
//! first connection; the loop answers it between two turns, and never waits for it.
//!
//! ```text
//! client ─▶ gate (who) ─▶ server (connections) ─▶ routes ─▶ api ─┬─ desk: calls to the loop
//!                                                                ├─ book: what has happened (the loop writes)
//!                                                                └─ logs: what workers wrote (the log's hub writes)
//! ```

mod access;
mod api;
mod handle;
mod journal;
mod logs;
mod metrics;
mod operations;
mod progress;
mod redact;
mod response;
mod routes;
mod server;
pub mod types;
mod usage;

pub use access::{EndpointSetting, EndpointSettings, Endpoints, SOCKET_PATHS};
pub use handle::{Accepted, Action, Call, SupervisorHandle, Target};
pub use journal::{Entry, Journal, JournalState, time_text};
pub use redact::redacted_command;
pub use routes::{ROUTES, encoded};
pub use server::start_when_needed;
