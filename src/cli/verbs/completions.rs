//! `rinit completions`: for the shells inside the container, from the table of verbs.

use super::{Call, Failure, Outcome, VERBS, Verb};
use crate::config::nearest;

pub(super) static VERB: Verb = Verb {
    names: &["completions"],
    arguments: "SHELL",
    takes: 1..=1,
    summary: "for bash, zsh or fish",
    help: "Prints what makes a shell complete rinit's verbs, their options, and the names of workers:\n  \
           bash  source <(rinit completions bash)\n  \
           zsh   source <(rinit completions zsh), after compinit\n  \
           fish  rinit completions fish | source",
    options: &[],
    run,
};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

fn run(call: &Call) -> Outcome {
    let shell = call.value(0).unwrap_or_default();
    let text = match shell {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        _ => {
            let meant =
                nearest(shell, SHELLS.into_iter()).map_or(String::new(), |meant| format!("did you mean {meant}? "));
            return Err(Failure::Usage(format!("{shell:?}: {meant}allowed: {}", SHELLS.join(", "))));
        }
    };
    call.out.print(&text)
}

/// The workers' names, in words that all shells of sh's family know, for there may be no cut in the image.
const IDS: &str = "rinit list 2>/dev/null | { read -r _; while read -r id _; do echo \"$id\"; done; }";

/// What may stand behind the verb, and whether workers' names may.
fn words(verb: &Verb) -> (Vec<String>, bool) {
    let mut words: Vec<String> = verb.all_options().map(|option| format!("--{}", option.name)).collect();
    if verb.arguments.contains("all") {
        words.push("all".into());
    }
    match verb.name() {
        "scale" => words.push("max".into()),
        "signal" => words.extend(["HUP", "USR1", "USR2", "TERM", "KILL"].map(String::from)),
        "completions" => words.extend(SHELLS.map(String::from)),
        "help" => words.extend(VERBS.iter().map(|verb| verb.name().to_owned())),
        _ => {}
    }
    (words, verb.arguments.contains("ID"))
}

fn names() -> String {
    VERBS.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut text = format!(
        "_rinit() {{
  local word=\"${{COMP_WORDS[COMP_CWORD]}}\" words=''
  if [ \"$COMP_CWORD\" -eq 1 ]; then
    words='{}'
  else
    case \"${{COMP_WORDS[1]}}\" in
",
        names()
    );
    for verb in VERBS {
        let (words, ids) = words(verb);
        let ids = if ids { format!(" $({IDS})") } else { String::new() };
        text.push_str(&format!("      {}) words=\"{}{ids}\" ;;\n", verb.names.join("|"), words.join(" ")));
    }
    text.push_str(
        "    esac
  fi
  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))
}
complete -o bashdefault -o default -F _rinit rinit
",
    );
    text
}

fn zsh() -> String {
    let mut text = String::from(
        "#compdef rinit
_rinit() {
  if (( CURRENT == 2 )); then
    local -a verbs=(
",
    );
    for verb in VERBS {
        text.push_str(&format!("      '{}:{}'\n", verb.name(), verb.summary.replace('\'', "")));
    }
    text.push_str("    )\n    _describe verb verbs\n    _command_names\n    return\n  fi\n  case $words[2] in\n");
    for verb in VERBS {
        let (words, ids) = words(verb);
        let ids = if ids { format!(" ${{(f)\"$({IDS})\"}}") } else { String::new() };
        text.push_str(&format!("    {}) compadd -- {}{ids} ;;\n", verb.names.join("|"), words.join(" ")));
    }
    text.push_str("    *) _files ;;\n  esac\n}\ncompdef _rinit rinit\n");
    text
}

fn fish() -> String {
    let mut text = String::from(
        "function __rinit_ids
  rinit list 2>/dev/null | while read -l id rest
    test \"$id\" = ID; or echo $id
  end
end
",
    );
    for verb in VERBS {
        let summary = verb.summary.replace('\'', "");
        let seen = format!("-n '__fish_seen_subcommand_from {}'", verb.names.join(" "));
        text.push_str(&format!("complete -c rinit -n __fish_use_subcommand -a {} -d '{summary}'\n", verb.name()));
        for option in verb.all_options() {
            let letter = option.letter.map_or(String::new(), |letter| format!(" -s {letter}"));
            let value = if option.value.is_empty() { "" } else { " -r" };
            let help = option.help.replace('\'', "");
            text.push_str(&format!("complete -c rinit {seen} -l {}{letter}{value} -d '{help}'\n", option.name));
        }
        let (words, ids) = words(verb);
        let words: Vec<String> = words.into_iter().filter(|word| !word.starts_with("--")).collect();
        let ids = if ids { " (__rinit_ids)" } else { "" };
        if !words.is_empty() || !ids.is_empty() {
            text.push_str(&format!("complete -c rinit {seen} -f -a '{}{ids}'\n", words.join(" ")));
        }
    }
    text
}
