//! Ports that unmodified apps share: N workers that call `listen(8080)`, and a reload that loses no connection.
//!
//! | app | way | where |
//! |---|---|---|
//! | Node | rinit is the primary of its cluster module, accepts, and fills each worker's queue | `node/`, `primary.rs`, `queue.rs` |
//! | any dynamically linked program | a preloaded library asks rinit for the socket in `bind` | `preload/`, `door.rs` |
//! | one that takes sockets | `LISTEN_FDS` | `listen.rs` |
//!
//! rinit opens and keeps every listening socket, so connections wait in the kernel's queue while workers come and go. All
//! of it runs on a thread of its own (`hub.rs`), which begins when the first worker speaks; the loop talks to it through
//! [`Ports`].

mod address;
mod calls;
mod dispatch;
mod door;
mod events;
mod handle;
mod handout;
mod hub;
mod listen;
mod listener;
mod member;
pub mod node;
mod open;
mod pace;
mod preload;
mod primary;
mod queue;
mod way;

pub use address::Address;
pub use handle::{DrainRequest, Ports, WorkerEndpoints, WorkerPorts};
pub use listen::{ListenAddress, Listener};
pub use node::inspector_moved;
pub use way::{Balance, Share, Way, Ways};

use crate::core::AppId;
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

/// The first descriptor of `LISTEN_FDS` (`sd_listen_fds(3)`).
pub const FIRST_SOCKET: RawFd = 3;

/// What the hub must know of an app.
pub struct AppPorts {
    /// Its number.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// How connections reach its workers.
    pub balance: Balance,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The sockets of `--listen`.
    pub inherited: Vec<Arc<OwnedFd>>,
}

/// A listener's number, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ListenerId(u32);
