//! Serves the control plane: one HTTP API over a unix socket and, with `--web`, over TCP. It has a thread of its own, which
//! starts with the first connection. The event loop answers its calls between two turns, and never waits for it.
//!
//! ```text
//! client ─▶ server (connections) ─▶ access, limits ─▶ routes ─┬─ handle: calls to the event loop
//!                                                             ├─ journal: events and counters (the loop writes)
//!                                                             └─ logs: lines of the workers (the log's hub writes)
//! ```

mod access;
mod api;
mod app_metrics;
mod dashboard;
mod endpoints;
mod exposition;
mod handle;
mod health;
mod history;
mod journal;
mod limits;
mod logs;
mod metrics;
mod open_connections;
mod operations;
mod progress;
mod redact;
mod refusals;
mod response;
mod routes;
mod server;
mod socket;
mod text_format;
pub mod types;
mod usage;
mod worker_http;

pub use access::Permission;
pub use app_metrics::MetricsPage;
pub use endpoints::{EndpointSetting, EndpointSettings, Endpoints, SOCKET_PATHS};
pub use handle::{Accepted, Action, Call, Holder, SharedConfig, SupervisorHandle};
pub use history::{UsageHistory, record_usage};
pub use journal::{Entry, Journal, JournalState, time_text};
pub use limits::Class;
pub use redact::redacted_command;
pub use routes::{ROUTES, Route, encoded};
pub use server::start_when_needed;
pub use socket::{SocketFile, SocketGroup, SocketMode, check_server};
pub use usage::usage as worker_usage;
pub use worker_http::WORKER_HEADER;
