//! Implements `rinit help`, and the help texts of the verbs: short for `-h`, in full for `--help`.

use super::{Call, Failure, Outcome, VERBS, Verb, all_names, named};
use crate::config::nearest;

pub(super) static VERB: Verb = Verb {
    names: &["help"],
    arguments: "[VERB]",
    takes: 0..=1,
    summary: "print this help, or the help of a verb",
    help: "Prints the help of a verb, or that of rinit.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let text = match call.value(0) {
        None => crate::cli::help::rinit(),
        Some(name) => named(name).map(Verb::full_help).ok_or_else(|| Failure::Usage(no_such_verb(name)))?,
    };
    call.out.print(&text)
}

fn no_such_verb(name: &str) -> String {
    let advice = nearest(name, all_names()).map_or("see rinit --help".into(), |near| format!("did you mean {near}?"));
    format!("{name:?} is no verb; {advice}")
}

impl Verb {
    /// The text of `rinit VERB -h`.
    pub(super) fn short_help(&self) -> String {
        format!("{}\n\n{}\n\n{}", self.usage(), sentence(self.summary), self.option_table())
    }

    /// The text of `rinit VERB --help`.
    pub(super) fn full_help(&self) -> String {
        let others = match self.names {
            [_, others @ ..] if !others.is_empty() => format!("\nOther names: {}\n", others.join(", ")),
            _ => String::new(),
        };
        format!("{}\n\n{}\n\n{}{others}", self.usage(), self.help, self.option_table())
    }

    fn option_table(&self) -> String {
        table(self.all_options().map(|option| (option.written(), option.help)))
    }
}

/// A summary as a sentence: with a capital letter.
fn sentence(summary: &str) -> String {
    let mut letters = summary.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect::<String>() + ".")
}

/// The number of names that the table of verbs has for each.
const MAX_LISTED_NAMES: usize = 3;

/// The table of verbs, for rinit's own help.
pub fn overview() -> String {
    table(VERBS.iter().map(|verb| {
        // The verb's own help has all of its names.
        let names = verb.names.get(..MAX_LISTED_NAMES).unwrap_or(verb.names).join(", ");
        (format!("{names} {}", verb.arguments).trim_end().to_owned(), verb.summary)
    }))
}

fn table(rows: impl Iterator<Item = (String, &'static str)>) -> String {
    let rows: Vec<(String, &str)> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, text)| format!("  {name:width$}  {text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_fits_a_hundred_columns_and_ends_its_lines() {
        let texts = VERBS.iter().flat_map(|verb| [verb.short_help(), verb.full_help()]).chain([overview()]);
        let texts: Vec<String> = texts.collect();
        assert!(texts.iter().all(|text| text.ends_with('\n')));
        let long: Vec<&str> =
            texts.iter().flat_map(|text| text.lines()).filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{long:#?}");
    }

    #[test]
    fn the_short_help_is_shorter() {
        assert!(VERBS.iter().all(|verb| verb.short_help().len() < verb.full_help().len()));
    }
}
