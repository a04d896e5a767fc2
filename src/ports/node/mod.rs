//! Implements Node's cluster protocol: rinit is the primary, so that `listen` in an unmodified app asks rinit.

mod channel;
mod command;
mod message;
mod script;
mod server;

pub use channel::{Broken, Channel};
pub use command::{has_cluster_worker, inspector_port, with_inspector_port};
pub use message::{Line, NodeHealth, Query, WorkerMessage, read};
pub use script::Script;
pub use server::NodeServer;
