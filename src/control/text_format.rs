//! Parses Prometheus' text format 0.0.4, as apps write it. Pure.

use super::exposition::Kind;

/// A family: its kind and its samples.
#[derive(Debug, PartialEq)]
pub(super) struct ParsedFamily<'a> {
    /// The name in its `TYPE` line, or of its only sample.
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) help: &'a str,
    pub(super) samples: Vec<Sample<'a>>,
}

/// A sample, without its timestamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    /// The labels as they are written, without braces and without a comma at the end.
    pub(super) labels: &'a str,
    pub(super) value: f64,
}

/// Parses a page. Lines that are no valid samples are counted and left out.
pub(super) fn parse(page: &str) -> (Vec<ParsedFamily<'_>>, usize) {
    let mut families: Vec<ParsedFamily> = Vec::new();
    let (mut help, mut invalid) = (("", ""), 0);
    for line in page.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            match comment.trim_start().split_once(' ') {
                Some(("HELP", rest)) => help = rest.split_once(' ').unwrap_or((rest, "")),
                Some(("TYPE", rest)) => {
                    let Some((name, kind)) = rest.trim().split_once(' ').filter(|(name, _)| is_name(name)) else {
                        continue;
                    };
                    let help = if help.0 == name { help.1 } else { "" };
                    families.push(ParsedFamily { name, kind: kind_of(name, kind.trim()), help, samples: Vec::new() });
                }
                _ => {}
            }
            continue;
        }
        if line.is_empty() {
            continue;
        }
        match sample(line) {
            Some(sample) => match families.last_mut().filter(|family| family.has(sample.name)) {
                Some(family) => family.samples.push(sample),
                None => {
                    let help = if help.0 == sample.name { help.1 } else { "" };
                    families.push(ParsedFamily { name: sample.name, kind: Kind::Unknown, help, samples: vec![sample] });
                }
            },
            None => invalid += 1,
        }
    }
    families.retain(|family| !family.samples.is_empty());
    (families, invalid)
}

impl ParsedFamily<'_> {
    fn has(&self, sample: &str) -> bool {
        let Some(suffix) = sample.strip_prefix(self.name) else { return false };
        match self.kind {
            Kind::Counter | Kind::Gauge | Kind::Info | Kind::Unknown => suffix.is_empty(),
            Kind::Histogram => matches!(suffix, "_bucket" | "_sum" | "_count"),
            Kind::Summary => matches!(suffix, "" | "_sum" | "_count"),
        }
    }
}

/// A counter without `_total` would not be one in OpenMetrics.
fn kind_of(name: &str, kind: &str) -> Kind {
    match kind {
        "counter" if name.ends_with("_total") => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        "summary" => Kind::Summary,
        _ => Kind::Unknown,
    }
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at_checked(end).filter(|(name, _)| is_name(name))?;
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => rest.split_at_checked(end_of_labels(rest)?)?,
        None => ("", rest),
    };
    let value = rest.strip_prefix('}').unwrap_or(rest).split_ascii_whitespace().next()?;
    Some(Sample { name, labels: labels.trim().trim_end_matches(',').trim_end(), value: value.parse().ok()? })
}

/// The place of the brace that ends the labels; none where they are not valid.
fn end_of_labels(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '}' if !is_quoted => return are_labels(text.get(..at)?).then_some(at),
            _ => {}
        }
    }
    None
}

/// True if each label is `name="value"`.
fn are_labels(text: &str) -> bool {
    let mut rest = text.trim();
    while !rest.is_empty() {
        match first_label(rest) {
            Some((_, _, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// Takes the first label off a list: its name, its value as it is written, and the rest.
pub(super) fn first_label(text: &str) -> Option<(&str, &str, &str)> {
    let (name, after) = text.split_once("=\"")?;
    let name = name.trim();
    let mut is_escaped = false;
    let end = after.find(|letter| {
        let is_end = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    })?;
    let rest = after.get(end + 1..)?.trim_start();
    let rest = match rest.strip_prefix(',') {
        Some(rest) => rest.trim_start(),
        None if rest.is_empty() => rest,
        None => return None,
    };
    (is_name(name) && !name.contains(':')).then_some((name, after.get(..end)?, rest))
}

/// The names that Prometheus allows.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '_' | ':'))
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_family_by_family() {
        let page = "# HELP requests_total All, by \\\"path\\\".\n# TYPE requests_total counter\n\
            requests_total{path=\"/a}\\\"b\",} 3 1700000000000\nrequests_total 1e3\n\
            # TYPE took histogram\ntook_bucket{le=\"+Inf\"} 4\ntook_sum 0.5\ntook_count 4\n\n\
            # a comment\nalone{a=\"b\"} NaN\n# TYPE old counter\nold 7\n";
        let (families, invalid) = parse(page);
        let shown: Vec<_> = families.iter().map(|one| (one.name, one.kind, one.samples.len())).collect();
        assert_eq!(
            shown,
            [
                ("requests_total", Kind::Counter, 2),
                ("took", Kind::Histogram, 3),
                ("alone", Kind::Unknown, 1),
                ("old", Kind::Unknown, 1)
            ]
        );
        assert_eq!((invalid, families[0].help), (0, "All, by \\\"path\\\"."));
        let first = Sample { name: "requests_total", labels: "path=\"/a}\\\"b\"", value: 3.0 };
        assert_eq!((families[0].samples[0], families[0].samples[1].value), (first, 1000.0));
        assert!(families[2].samples[0].value.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_counted_and_left_out() {
        let page = "<html>\nx{a=b} 1\nx{a=\"b\" 1\nx{a=\"b\"c=\"d\"} 1\n1x 1\nx one\nx\nx{a=\"\\\"} 1\ngood 1\nx{a:b=\"c\"} 1\n";
        let (families, invalid) = parse(page);
        assert_eq!((families.len(), families[0].name, invalid), (1, "good", 9));
    }
}
