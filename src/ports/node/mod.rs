//! Implements Node's cluster protocol: rinit is the primary, so that `listen` in an unmodified app asks rinit.

mod channel;
mod command;
mod message;
mod script;
mod server;

pub use channel::{Broken, Channel};
pub use command::{has_cluster_worker, inspector_port, takes_option, with_inspector_port, with_option};
pub use message::{Line, NodeHealth, Query, WorkerMessage, read};
pub use script::Script;
pub use server::NodeServer;
