//! Writes rinit's own lines, its tracing events, in the workers' format to stderr.

use super::format::Format;
use super::handle::Logs;
use crate::units::harmless;
use std::fmt::{self, Write};
use std::io;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Sends every tracing event of that level and above to the log.
pub fn install(logs: &Logs, format: Format, level: tracing::Level) {
    let logs = logs.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .event_format(EventFormat(format))
        .with_writer(move || LogWriter(logs.clone()))
        .finish();
    // It fails only when there is one already, which then writes.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct EventFormat(Format);

impl<S, N> FormatEvent<S, N> for EventFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = EventText::default();
        event.record(&mut text);
        // Names of programs and files may hold anything. A new line is the message's own.
        let lines: Vec<_> = text.message.split('\n').map(harmless).collect();
        let text = lines.join("\n") + &text.fields;
        let line = self.0.diagnostic(*event.metadata().level(), &text, SystemTime::now());
        writer.write_str(&String::from_utf8_lossy(&line))
    }
}

/// The message, and `key=value` for each field.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

struct LogWriter(Logs);

impl io::Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_diagnostic(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
