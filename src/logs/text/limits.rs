//! Defines the limits of the log path: sizes in bytes, counts and times, each with its reason.

use std::time::Duration;

/// The bytes that one read takes from a pipe: all that a pipe of the default size holds (`pipe(7)`).
pub const READ_SIZE: usize = 64 * 1024;
/// The bytes of one read under `--log json`, where an empty line becomes an object of 100 bytes.
pub const JSON_READ_SIZE: usize = 16 * 1024;
/// The length from which an unfinished line is passed on in parts, so that a line without an end does not fill the memory.
pub const MAX_PART: usize = 64 * 1024;
/// The length up to which a line that begins as a JSON object is kept until its end under `--log json`: only a whole
/// object can be merged.
pub const MAX_JSON_OBJECT: usize = 256 * 1024;
/// The memory that the buffer of an unfinished line keeps for the next one.
pub const RETAINED_LINE_BUFFER: usize = 4 * 1024;
/// The memory that the buffer of a sink keeps when it is empty: one read, with what is added to its lines.
pub const RETAINED_SINK_BUFFER: usize = 256 * 1024;
/// The bytes in a sink below which pipes are read again, so that the end of one read is written together with the next.
pub const SINK_LOW_WATER: usize = 64 * 1024;
/// The size of rinit's own lines that may wait for stderr. Later ones are counted and dropped.
pub const MAX_WAITING_DIAGNOSTICS: usize = 256 * 1024;
/// The number of pipes of dead workers that stay open for their descendants. Beyond it the oldest is closed.
pub const MAX_ORPHANED_PIPES: usize = 64;

/// The size of the history of all slots together, divided evenly among them…
pub const HISTORY_TOTAL: usize = 2 * 1024 * 1024;
/// …within these bounds for each slot. musl's allocator has a size class of 16 KiB with its own bytes included; the next one
/// is a seventh larger.
pub const HISTORY_MIN_PER_SLOT: usize = 16 * 1024 - 64;
pub const HISTORY_MAX_PER_SLOT: usize = 256 * 1024;
/// The memory of an entry of the history beside its text: twice its size, since its queue grows by doubling.
pub const HISTORY_ENTRY_OVERHEAD: usize = 96;
/// The beginning of an unfinished line that the history keeps.
pub const HISTORY_MAX_LINE: usize = 64 * 1024;

/// The number of last lines of stderr in the report of an exit…
pub const LAST_LINES: usize = 10;
/// …and the beginning of each that is kept.
pub const MAX_LAST_LINE: usize = 512;

/// The time for which others wait while a stream is in the middle of a line that is passed on in parts.
pub const PARTIAL_LINE_TIMEOUT: Duration = Duration::from_millis(500);
/// The bytes that a stream must move within that time to keep the output…
pub const PARTIAL_LINE_PROGRESS: usize = 64 * 1024;
/// …and the bytes that it may move in all: a line that never ends is ended for it.
pub const MAX_PARTIAL_LINE: usize = 16 * 1024 * 1024;

/// The time for which a stopped container waits for a reader that takes nothing. `docker stop` kills after 10 s, and the
/// workers have had their part of that.
pub const STALLED_READER_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval at which that time is checked.
pub const STALLED_READER_CHECK: Duration = Duration::from_millis(20);
