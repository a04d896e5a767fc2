//! Reads settings from flags, variables and a file, merges them in the order of precedence, and resolves them to what runs.
//!
//! ```text
//! flags ─────┐                            ┌─ AppConfig for each app, with the core's Policy
//! variables ─┼─ Layer::or ── parse ── resolve ─ ContainerConfig
//! file ──────┘  text+source  typed        └─ Config: what is in force, and why (`rinit config`)
//! ```
//!
//! Every fault is collected on the way, so that one start reports all of them.

mod advice;
mod app;
mod changes;
mod command;
mod dependencies;
mod duration;
mod env_file;
mod environment;
mod exec_target;
mod faults;
mod file;
mod given;
mod hooks;
mod instances;
mod layer;
mod memory;
mod policy;
mod probe;
mod process;
mod programs;
mod reader;
mod ready;
mod resolve;
mod schedule;
mod schema;
mod settings;
mod shell;
mod value;
mod watch;

pub use crate::logs::LogFormat;
pub use advice::warnings;
pub(crate) use app::ReloadTriggers;
pub(crate) use app::{AppConfig, Liveness, ProcessConfig};
pub(crate) use changes::{AppChange, Changes};
pub use command::NodeCommand;
pub use duration::duration;
pub use env_file::{EnvFileError, read_env_file, read_text};
pub use environment::{HANDED_OVER, from_environment, is_kubernetes_variable, is_reserved, nearest};
pub use exec_target::exec_target;
pub use faults::{BAD_SETTINGS, Fault, Faults, Refusal};
pub use file::{ConfigFile, DEFAULT_FILE, FileApp, file_of, parse_file, read_file};
pub use given::{Given, Place, Source, Values};
pub(crate) use hooks::Moment;
pub use instances::scaled;
pub use layer::Layer;
pub use probe::{LiveCheck, Probe, ProbeTarget};
pub(crate) use reader::Show;
pub use reader::Value;
pub use ready::ReadyCheck;
pub(crate) use resolve::{ConfigSource, LogConfig};
pub use resolve::{InitConfig, SupervisorConfig, for_init, for_supervisor};
pub(crate) use schedule::{Schedule, local_text, missing_zone};
pub use schema::schema;
pub use settings::{
    APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, INIT_SETTINGS, NO_DEFAULT, PREFIX, PROGRAM_SETTINGS, Scope,
    Setting, all, by_flag,
};
pub use value::{Rewrite, exit_code};
pub(crate) use watch::WatchPattern;
