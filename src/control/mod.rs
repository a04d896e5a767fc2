//! The control plane: one HTTP API, over a unix socket and, if asked for, TCP. On a thread of its own, which begins with the
//! first connection; the loop answers it between two turns, and never waits for it.

mod book;
pub mod types;

pub use book::{Book, Note};
