//! Tests the completions in bash, zsh and fish, and the manual page in man and mandoc.

use crate::fake::{Fake, Ran, end, finish, verb, worker};
use crate::looks::status;
use std::path::Path;
use std::process::{Command, Stdio};

fn workers() -> Fake {
    Fake::always(200, serde_json::to_string(&status(vec![worker("web-0"), worker("web-1")], 2)).unwrap())
}

/// Runs a script in a shell that finds rinit; none where the shell is missing.
fn run(shell: &str, arguments: &[&str], fake: &Fake) -> Option<Ran> {
    let folder = Path::new(env!("CARGO_BIN_EXE_rinit")).parent().unwrap().display();
    let mut command = Command::new(shell);
    command.args(arguments).env_clear().env("PATH", format!("{folder}:/usr/bin:/bin"));
    command
        .env("RINIT_SOCKET", fake.socket())
        .env("HOME", "/nonexistent")
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8");
    match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => Some(end(child)),
        Err(_) => {
            assert!(std::env::var_os("CI").is_none(), "{shell} is missing: apt-get install {shell}");
            eprintln!("skipped: {shell} is missing");
            None
        }
    }
}

/// Command lines, and words that their completion has, and has not.
const CASES: [(&str, &[&str], &[&str]); 9] = [
    ("rinit re", &["reload", "restart"], &["list"]),
    ("rinit restart web", &["web-0", "web-1"], &[]),
    ("rinit restart a", &["all"], &["web-0"]),
    ("rinit kill ", &["web-0", "USR1"], &[]),
    ("rinit logs --f", &["--follow"], &["--lines"]),
    ("rinit list --", &["--watch", "--json", "--socket"], &["--follow"]),
    ("rinit --stop-t", &["--stop-timeout"], &["--ready"]),
    ("rinit -i 2 --restart ", &["always", "on-failure", "never"], &["--web"]),
    ("rinit -i 2 --ready-t", &["--ready-timeout"], &["list"]),
];

#[test]
fn bash_completes_verbs_options_values_and_ids() {
    let fake = workers();
    for (line, has, has_not) in CASES {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "source <(rinit completions bash); COMP_WORDS=({}); COMP_CWORD={}; _rinit; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let Some(ran) = run("bash", &["--norc", "-c", &script], &fake) else { return };
        check(&ran, line, has, has_not);
    }
}

#[test]
fn fish_completes_verbs_options_values_and_ids() {
    let fake = workers();
    for (line, has, has_not) in CASES {
        let script = format!("rinit completions fish | source; complete -C '{line}'");
        let Some(ran) = run("fish", &["--no-config", "-c", &script], &fake) else { return };
        check(&ran, line, has, has_not);
    }
}

/// zsh completes only in an interactive shell: here the functions of its completion system are replaced by ones that keep
/// the matching words of what they are given.
#[test]
fn zsh_completes_verbs_options_values_and_ids() {
    let fake = workers();
    for (line, has, has_not) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let matches = folder.path().join("matches");
        let script = format!(
            r#"
source <(rinit completions zsh | grep -v '^compdef')
function matching() {{ local word; for word; do [[ $word == $prefix* ]] && print -r -- $word >> {0}; done }}
function compadd() {{ [[ $1 == -- ]] && shift; matching "$@" }}
function _describe() {{ local list=${{@[-1]}}; matching ${{${{(P)list}}%%:*}} }}
function _files() {{ }}
function _command_names() {{ }}
words=({1}); CURRENT=${{#words}}; prefix=$words[-1]
_rinit
cat {0}"#,
            matches.display(),
            line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
        );
        let Some(ran) = run("zsh", &["-f", "-c", &script], &fake) else { return };
        check(&ran, line, has, has_not);
    }
}

fn check(ran: &Ran, line: &str, has: &[&str], has_not: &[&str]) {
    let words: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ran.stderr, "", "{line}");
    has.iter().for_each(|word| assert!(words.contains(word), "{line}: {word} is missing: {words:?}"));
    has_not.iter().for_each(|word| assert!(!words.contains(word), "{line}: {word} is too much: {words:?}"));
}

#[test]
fn apostrophes_stay_in_the_descriptions() {
    for shell in ["zsh", "fish"] {
        let text = finish(verb(&format!("completions {shell}"))).stdout;
        assert!(text.contains(r"workers\' last lines") || text.contains(r"workers'\'' last lines"), "{shell}: {text}");
    }
    assert!(finish(verb("completions bsh")).stderr.contains("did you mean bash?"));
}

#[test]
fn the_manual_page_is_read_without_a_warning_and_has_every_setting_and_verb() {
    let page = finish(verb("man")).stdout;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rinit.1");
    std::fs::write(&path, &page).unwrap();
    let path = path.to_str().unwrap();
    let fake = workers();
    if let Some(ran) = run("mandoc", &["-T", "lint", "-W", "warning", path], &fake) {
        // A date would make two builds of the same source differ.
        let warnings: Vec<&str> = ran.stdout.lines().filter(|line| !line.contains("missing date")).collect();
        assert_eq!(warnings, [""; 0]);
    }
    let Some(ran) = run("mandoc", &["-T", "utf8", path], &fake) else { return };
    // Bold and underlined letters are overstruck.
    let mut text = String::new();
    for c in ran.stdout.chars() {
        match c {
            '\u{8}' => text.truncate(text.len() - text.chars().last().map_or(0, char::len_utf8)),
            _ => text.push(c),
        }
    }
    for setting in rinit::config::all() {
        assert!(text.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
    }
    for words in ["rinit logs [OPTIONS]", "'shutdown'", "Other names: ls, ps", "EXIT STATUS"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}
