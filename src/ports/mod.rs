//! Shares ports between unmodified workers: each calls `listen(8080)`, and a reload loses no connection.
//!
//! | app | mechanism | where |
//! |---|---|---|
//! | Node | rinit is the primary of its cluster module, and fills each worker's queue | `node/`, `primary.rs`, `accept_queue.rs` |
//! | any dynamically linked program | a preloaded library asks rinit for the socket in `bind`, and for the worker's queue when it waits there | `preload/`, `accept_queue.rs` |
//! | one that takes sockets | `LISTEN_FDS` | `listen.rs` |
//!
//! rinit opens and keeps every listening socket, so connections wait in the kernel's queue while workers come and go. All
//! of it runs on a thread of its own (`hub.rs`), which starts when the first worker connects. The event loop talks to it
//! through [`Ports`].

mod accept_queue;
mod address;
mod balance;
mod batching;
mod connections;
mod dispatch;
mod drain;
mod handle;
mod hub;
mod listen;
mod listener;
pub mod node;
mod open_connections;
mod overlap;
mod own_listeners;
mod placed_file;
mod poller;
mod preload;
mod primary;
mod round;
mod sharing;
mod sockets;
mod turns;
mod worker;

pub use address::Address;
pub use balance::Balance;
pub use connections::{ConnectionCounts, WorkerConnections};
pub use handle::{DrainRequest, Ports, WorkerEndpoints, WorkerPorts};
pub use listen::{ListenAddress, ListenSocket};
pub use node::{NodeHealth, takes_option, with_inspector_port, with_option};
pub use open_connections::open_connections;
pub use preload::{Library, Peer};
pub use sharing::{Injected, Share, Sharing};

use crate::core::AppId;
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// The first descriptor of `LISTEN_FDS` (`sd_listen_fds(3)`).
pub const FIRST_SOCKET: RawFd = 3;

/// The properties of an app that the hub uses.
pub struct AppPorts {
    /// Its number.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// The way in which connections reach its workers.
    pub balance: Balance,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The sockets of `--listen`.
    pub inherited: Vec<Arc<OwnedFd>>,
}

/// A listener's number, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ListenerId(u32);
