//! Carries workers' lines from their pipes to rinit's stdout and stderr.
//!
//! One thread, the hub, moves all bytes. So a flood of lines never delays a signal, and a stdout that has no reader never
//! blocks PID 1. There is no queue in between: while a sink is full its pipes are not read, and the workers feel it as
//! they would with any full pipe.
//!
//! ```text
//! worker's pipe → source → lines (split) → format (prefix, json) → output → sink (stdout, stderr)
//!                      └─→ history (rinit logs, the report of an exit)
//! rinit's own lines (tracing) → diagnostics ─────────────────────────┘
//! ```

mod diagnostics;
mod handle;
mod history;
mod hub;
mod output;
mod sink;
mod source;

pub use diagnostics::install;
pub use handle::{Logs, Patience, Pipes};
pub use history::{Line, LogHistory, NewLines, Slot, SlotTotals};
pub use hub::start;
pub use rinit_log_text::format::{Format, Labels};
pub use rinit_log_text::level::Level;
pub use rinit_log_text::lines::Fragment;
pub use rinit_log_text::{LogFormat, Stream};
use rinit_log_text::{format, last_lines, limits, lines};

use crate::core::WorkerId;

/// One stream of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StreamId {
    worker: WorkerId,
    stream: Stream,
}
