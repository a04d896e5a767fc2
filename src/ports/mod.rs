//! The listening sockets that rinit opens for the workers and keeps while they come and go.

mod listen;

pub use listen::{ListenAddress, Listener};
