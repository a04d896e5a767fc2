//! Node: rinit is the primary of its cluster module, so that `listen` in an unmodified app asks rinit.

mod channel;
mod command;
mod message;
mod script;

pub use channel::{Broken, Channel};
pub use command::{has_cluster_worker, inspector_moved, inspector_port};
pub use message::{Line, Query, Said, read};
pub use script::Script;
