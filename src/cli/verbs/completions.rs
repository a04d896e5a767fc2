//! Implements `rinit completions`: completion scripts for shells, from the tables of verbs and settings.

use super::{Call, Failure, Outcome, VERBS, Verb};
use crate::cli::help::summary;
use crate::config::{self, nearest};

pub(super) static VERB: Verb = Verb {
    names: &["completions"],
    arguments: "SHELL",
    takes: 1..=1,
    summary: "print a completion script for bash, zsh or fish",
    help: "Prints a script that makes a shell complete rinit's options and verbs, their options, and the IDs of\n\
           workers:\n  \
           bash  source <(rinit completions bash)\n  \
           zsh   source <(rinit completions zsh), after compinit\n  \
           fish  rinit completions fish | source",
    options: &[],
    run,
};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Flags that are no settings.
const OTHER_FLAGS: [(&str, &str); 3] =
    [("help", "print help"), ("version", "print the version"), ("license", "print the license")];

fn run(call: &Call) -> Outcome {
    let shell = call.value(0).unwrap_or_default();
    let text = match shell {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        _ => {
            let near =
                nearest(shell, SHELLS.into_iter()).map_or(String::new(), |near| format!("did you mean {near}? "));
            return Err(Failure::Usage(format!("{shell:?}: {near}allowed: {}", SHELLS.join(", "))));
        }
    };
    call.out.print(&text)
}

/// Prints the IDs of the workers, in words of every shell of sh's family: the image may lack every other program.
const IDS: &str = "rinit list -q 2>/dev/null";

/// The words that may follow a verb beside its options, and whether IDs of workers may.
fn arguments(verb: &Verb) -> (Vec<&'static str>, bool) {
    let mut words = match verb.name() {
        "scale" => vec!["max"],
        "signal" => vec!["HUP", "USR1", "USR2", "TERM", "KILL"],
        "completions" => SHELLS.to_vec(),
        "help" => VERBS.iter().map(|verb| verb.name()).collect(),
        _ => vec![],
    };
    if verb.arguments.contains("all") {
        words.push("all");
    }
    (words, verb.arguments.contains("ID"))
}

/// The words among which a value is chosen: `always|on-failure|never`. None where it is free.
fn choices(value: &str) -> Vec<&str> {
    let is_choice = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | ':'));
    if value.contains('|') { value.split('|').filter(is_choice).collect() } else { vec![] }
}

/// Options of the command line: settings, and flags that are none; each with its letter, value and summary.
fn options() -> Vec<(Option<char>, &'static str, &'static str, String)> {
    let settings = config::all().map(|setting| (setting.letter, setting.flag, setting.form, summary(setting)));
    let others = OTHER_FLAGS.iter().map(|(flag, text)| (None, *flag, "", (*text).to_owned()));
    settings.chain(others).collect()
}

/// Text between single quotes in a shell of sh's family.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn long_options(verb: &Verb) -> String {
    let names = verb.all_options().flat_map(|option| option.names.iter().map(|name| format!("--{name}")));
    names.collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let flags: Vec<String> = options().iter().map(|(_, flag, ..)| format!("--{flag}")).collect();
    let verbs: Vec<&str> = VERBS.iter().map(|verb| verb.name()).collect();
    let mut text = String::from(
        "_rinit() {
  local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" words=''
  COMPREPLY=()
  case \"${COMP_WORDS[1]}\" in
",
    );
    for verb in VERBS {
        let (words, has_ids) = arguments(verb);
        let ids = if has_ids { format!(" $({IDS})") } else { String::new() };
        let patterns = verb.names.join("|");
        text.push_str(&format!("    {patterns}) words=\"{} {}{ids}\" ;;\n", long_options(verb), words.join(" ")));
    }
    text.push_str("    *)\n      case \"$before\" in\n");
    for (_, flag, value, _) in options().iter().filter(|(_, _, value, _)| !value.is_empty()) {
        match choices(value).as_slice() {
            [] => {}
            words => text.push_str(&format!("        --{flag}) words={} ;;\n", quoted(&words.join(" ")))),
        }
    }
    text.push_str(&format!("        *) words={} ;;\n      esac ;;\n  esac\n", quoted(&flags.join(" "))));
    text.push_str(&format!("  [ \"$COMP_CWORD\" -eq 1 ] && words=\"{} {}\"\n", verbs.join(" "), flags.join(" ")));
    text.push_str(
        "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))
}
complete -o bashdefault -o default -F _rinit rinit
",
    );
    text
}

fn zsh() -> String {
    let described = |name: &str, text: &str| quoted(&format!("{}:{text}", name.replace(':', "\\:")));
    let mut text = String::from("#compdef rinit\n_rinit() {\n  local -a verbs flags\n  verbs=(\n");
    for verb in VERBS {
        text.push_str(&format!("    {}\n", described(verb.name(), verb.summary)));
    }
    text.push_str("  )\n  flags=(\n");
    for (_, flag, _, summary) in options() {
        text.push_str(&format!("    {}\n", described(&format!("--{flag}"), &summary)));
    }
    text.push_str(
        "  )
  if (( CURRENT == 2 )); then
    _describe -t verbs verb verbs
    _describe -t options option flags
    _command_names
    return
  fi
  case $words[2] in
",
    );
    for verb in VERBS {
        let (words, has_ids) = arguments(verb);
        let ids = if has_ids { format!(" ${{(f)\"$({IDS})\"}}") } else { String::new() };
        text.push_str(&format!(
            "    {}) compadd -- {} {}{ids} ;;\n",
            verb.names.join("|"),
            long_options(verb),
            words.join(" ")
        ));
    }
    text.push_str("    *)\n      case $words[CURRENT-1] in\n");
    for (_, flag, value, _) in options() {
        match choices(value).as_slice() {
            [] => {}
            words => text.push_str(&format!("        --{flag}) compadd -- {} ;;\n", words.join(" "))),
        }
    }
    text.push_str("        *) _describe -t options option flags; _files ;;\n      esac ;;\n  esac\n}\n");
    text.push_str("compdef _rinit rinit\n");
    text
}

fn fish() -> String {
    // fish knows no '\'' but \' between single quotes.
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = String::from(
        "function __rinit_ids
  rinit list -q 2>/dev/null
end
function __rinit_verb
  set -l words (commandline -opc)
  set -q words[2]; and contains -- $words[2] $argv
end
function __rinit_first
  test (count (commandline -opc)) -eq 1
end
",
    );
    let all: Vec<&str> = super::all_names().collect();
    let no_verb = format!("-n 'not __rinit_verb {}'", all.join(" "));
    for (letter, flag, value, summary) in options() {
        let letter = letter.map_or(String::new(), |letter| format!(" -s {letter}"));
        let value = match choices(value).as_slice() {
            [] if value.is_empty() => String::new(),
            [] => " -r".into(),
            words => format!(" -x -a {}", quoted(&words.join(" "))),
        };
        let summary = quoted(&summary);
        text.push_str(&format!("complete -c rinit {no_verb} -l {flag}{letter}{value} -d {summary}\n"));
    }
    for verb in VERBS {
        let (name, summary) = (verb.name(), quoted(verb.summary));
        text.push_str(&format!("complete -c rinit -n __rinit_first -a {name} -d {summary}\n"));
        let seen = format!("-n '__rinit_verb {}'", verb.names.join(" "));
        for option in verb.all_options() {
            let names: String = option.names.iter().map(|name| format!(" -l {name}")).collect();
            let letter = option.letter.map_or(String::new(), |letter| format!(" -s {letter}"));
            let value = if option.value.is_empty() { "" } else { " -r" };
            let help = quoted(option.help);
            text.push_str(&format!("complete -c rinit {seen}{names}{letter}{value} -d {help}\n"));
        }
        let (words, has_ids) = arguments(verb);
        let ids = if has_ids { " (__rinit_ids)" } else { "" };
        if !words.is_empty() || has_ids {
            let words = words.join(" ");
            text.push_str(&format!("complete -c rinit {seen} -f -a \"{words}{ids}\"\n"));
        }
    }
    text
}
