//! Reads settings from flags and variables, merges them in the order of precedence, and resolves them to what runs.
//!
//! ```text
//! flags ─────┐                            ┌─ AppConfig, with the core's Policy
//! variables ─┼─ Layer::or ── parse ── resolve ─ ContainerConfig
//! (a file) ──┘  text+source  typed        └─ Config: what is in force, and why (`rinit config`)
//! ```
//!
//! Every fault is collected on the way, so that one start reports all of them.

mod advice;
mod command;
mod duration;
mod env_file;
mod environment;
mod exec_target;
mod faults;
mod given;
mod instances;
mod policy;
mod probe;
mod programs;
mod reader;
mod ready;
mod resolve;
mod settings;
mod value;

pub use crate::logs::LogFormat;
pub use advice::warnings;
pub use command::NodeCommand;
pub use duration::duration;
pub use env_file::{EnvFileError, read_env_file, read_text};
pub use environment::{HANDED_OVER, from_environment, is_kubernetes_variable, is_reserved, nearest};
pub use exec_target::exec_target;
pub use faults::{BAD_SETTINGS, Fault, Faults, Refusal};
pub use given::{Given, Source, Values};
pub use instances::scaled;
pub use probe::{LiveCheck, Probe};
pub use reader::Value;
pub use ready::ReadyCheck;
pub(crate) use resolve::{AppConfig, Liveness, LogConfig};
pub use resolve::{InitConfig, SupervisorConfig, for_init, for_supervisor};
pub use settings::{
    APP_SETTINGS, AppSpec, COMMON_SETTINGS, CONTAINER_SETTINGS, CommonSpec, ContainerSpec, INIT_SETTINGS, InitSpec,
    Layer, NO_DEFAULT, PREFIX, Scope, Setting, all, by_flag,
};
pub use value::{Rewrite, exit_code};
