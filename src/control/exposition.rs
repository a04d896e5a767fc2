//! Writes metrics in Prometheus' text format 0.0.4 and in OpenMetrics 1.0. Pure.
//!
//! A counter's family has no suffix here; its samples end in `_total`, and an info's in `_info`, as OpenMetrics has them.

use crate::histogram::Histogram;
use std::fmt::Write;

/// One of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The content type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that an `Accept` header prefers (RFC 9110, 12.5.1): OpenMetrics only if it is named, and not ranked
    /// below plain text.
    pub(super) fn accepted(header: &str) -> Format {
        let quality = |kind: &str| {
            let quality_of = |range: &str| {
                let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
                let quality = parameters.split(';').find_map(|one| one.trim().strip_prefix("q=")?.parse::<f32>().ok());
                name.trim().eq_ignore_ascii_case(kind).then_some(quality.unwrap_or(1.0))
            };
            header.split(',').filter_map(quality_of).fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") { Format::OpenMetrics } else { Format::Text }
    }
}

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Info,
    /// A family of an app whose kind is not known.
    Unknown,
}

/// All samples of one name.
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    /// The samples' lines.
    pub(super) samples: String,
}

impl Family {
    pub(super) fn new(kind: Kind, name: &str, help: &str) -> Family {
        Family { name: name.into(), kind, help: help.into(), samples: String::new() }
    }

    /// Adds a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram | Kind::Summary | Kind::Unknown => "",
        };
        self.line(suffix, labels, value);
    }

    /// Adds a histogram's samples.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".into() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, count as f64);
        }
        self.line("_sum", labels, histogram.sum().as_secs_f64());
        self.line("_count", labels, histogram.count() as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let out = &mut self.samples;
        out.push_str(&self.name);
        out.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            let _ = write!(out, "{label}=\"{}\"", escaped(value, true));
        }
        let _ = writeln!(out, "{}{value}", if labels.is_empty() { " " } else { "} " });
    }

    /// Writes the family with its head, if it has samples.
    pub(super) fn write(&self, out: &mut String, format: Format) {
        let Family { name, kind, help, samples } = self;
        if samples.is_empty() {
            return;
        }
        let (suffix, kind) = match (format, kind) {
            (Format::Text, Kind::Counter) => ("_total", "counter"),
            (Format::Text, Kind::Info) => ("_info", "gauge"),
            (Format::Text, Kind::Unknown) => ("", "untyped"),
            (Format::OpenMetrics, Kind::Unknown) => ("", "unknown"),
            (_, Kind::Summary) => ("", "summary"),
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
            (_, Kind::Gauge) => ("", "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
        };
        let help = escaped(help, format == Format::OpenMetrics);
        let _ = write!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n{samples}");
    }
}

/// Writes all families.
pub(super) fn write(families: &[Family], format: Format) -> String {
    let mut out = String::new();
    families.iter().for_each(|family| family.write(&mut out, format));
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// A label's value or a help text with its escapes.
pub(super) fn escaped(text: &str, has_quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if has_quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_accept_header_chooses_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let refusing = "application/openmetrics-text;q=0,text/plain";
        let preferring_text = "text/plain, application/openmetrics-text; q=0.5";
        for (header, expected) in [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("*/*", Format::Text),
            ("", Format::Text),
            (refusing, Format::Text),
            (preferring_text, Format::Text),
            ("text/html, */*", Format::Text),
        ] {
            assert_eq!(Format::accepted(header), expected, "{header}");
        }
    }

    #[test]
    fn a_family_is_written_in_both_formats() {
        let mut requests = Family::new(Kind::Counter, "requests", "Requests, \"all\".");
        requests.sample(&[("path", "/a\"b\\c\nd")], 3.0);
        let mut build = Family::new(Kind::Info, "build", "Version.");
        build.sample(&[("version", "1")], 1.0);
        let mut took = Family::new(Kind::Histogram, "took_seconds", "Time.");
        let mut histogram = Histogram::new(&[500]);
        histogram.record(Duration::from_millis(250));
        took.histogram(&[], &histogram);
        let families = [requests, build, Family::new(Kind::Gauge, "empty", "Nothing."), took];
        let text = "# HELP requests_total Requests, \"all\".\n# TYPE requests_total counter\n\
            requests_total{path=\"/a\\\"b\\\\c\\nd\"} 3\n\
            # HELP build_info Version.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
            # HELP took_seconds Time.\n# TYPE took_seconds histogram\ntook_seconds_bucket{le=\"0.5\"} 1\n\
            took_seconds_bucket{le=\"+Inf\"} 1\ntook_seconds_sum 0.25\ntook_seconds_count 1\n";
        assert_eq!(write(&families, Format::Text), text);
        let open = text
            .replace("# HELP requests_total Requests, \"all\"", "# HELP requests Requests, \\\"all\\\"")
            .replace("# TYPE requests_total", "# TYPE requests")
            .replace("# HELP build_info", "# HELP build")
            .replace("# TYPE build_info gauge", "# TYPE build info");
        assert_eq!(write(&families, Format::OpenMetrics), open + "# EOF\n");
    }
}
