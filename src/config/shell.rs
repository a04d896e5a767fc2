//! Splits a command that is written as one string into words, or hands it to a shell where only a shell understands it.

/// Commands that only a shell has.
const BUILTINS: [&str; 10] = [".", "cd", "eval", "exec", "export", "set", "source", "ulimit", "umask", "unset"];

/// A command that was written as one string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Its words, without their quotes.
    Words(Vec<String>),
    /// `sh -c` with the string: there is syntax in it that only a shell understands.
    ForShell(Vec<String>),
}

impl Split {
    /// The words to run.
    pub(super) fn into_words(self) -> Vec<String> {
        match self {
            Split::Words(words) | Split::ForShell(words) => words,
        }
    }
}

/// Splits a command as a shell would. Variables, patterns, redirections, several commands and a shell's own commands are for
/// a shell; one command with no more than variables, patterns and redirections takes the shell's place by `exec`.
///
/// # Errors
/// A quote that is not closed, and no word at all.
pub(super) fn split(text: &str) -> Result<Split, String> {
    let words = shell_words::split(text).map_err(|_| "a quote is not closed")?;
    let first = words.first().filter(|word| !word.is_empty()).ok_or("no command is given")?;
    let syntax = Syntax::of(text);
    let is_builtin = BUILTINS.contains(&first.as_str());
    let is_assignment = first.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('/'));
    if is_builtin || is_assignment || syntax.has_operators {
        return Ok(Split::ForShell(vec!["sh".into(), "-c".into(), text.trim().into()]));
    }
    if syntax.has_expansions {
        return Ok(Split::ForShell(vec!["sh".into(), "-c".into(), format!("exec {}", text.trim())]));
    }
    Ok(Split::Words(words))
}

/// The syntax in a text that is not quoted.
#[derive(Default)]
struct Syntax {
    /// Several commands, or a comment.
    has_operators: bool,
    /// Variables, patterns, redirections, a home directory.
    has_expansions: bool,
}

impl Syntax {
    fn of(text: &str) -> Syntax {
        let mut syntax = Syntax::default();
        let mut quote = None;
        let mut before = ' ';
        let mut characters = text.trim().chars();
        while let Some(character) = characters.next() {
            let is_word_start = before.is_whitespace();
            before = character;
            match (quote, character) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => drop(characters.next()),
                (_, '$' | '`') => syntax.has_expansions = true,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(character),
                (None, ';' | '&' | '|' | '(' | ')' | '\n') => syntax.has_operators = true,
                (None, '#') if is_word_start => syntax.has_operators = true,
                (None, '<' | '>' | '*' | '[') => syntax.has_expansions = true,
                (None, '~') if is_word_start => syntax.has_expansions = true,
                (None, _) => {}
            }
        }
        syntax
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Split {
        Split::Words(text.split(' ').map(str::to_owned).collect())
    }

    fn shell(text: &str) -> Split {
        Split::ForShell(vec!["sh".into(), "-c".into(), text.into()])
    }

    #[test]
    fn words_and_quotes_need_no_shell() {
        assert_eq!(split("node app.js --port=80"), Ok(words("node app.js --port=80")));
        assert_eq!(split(" curl http://h/?a=1 "), Ok(words("curl http://h/?a=1")));
        assert_eq!(
            split("python3 -c 'print(\"$HOME; x\")' a\\ b"),
            Ok(Split::Words(["python3", "-c", "print(\"$HOME; x\")", "a b"].map(str::to_owned).into()))
        );
    }

    #[test]
    fn expansions_are_a_shells_that_becomes_the_program() {
        assert_eq!(split("node app.js $PORT"), Ok(shell("exec node app.js $PORT")));
        assert_eq!(split("app \"$HOME\" *.js > log"), Ok(shell("exec app \"$HOME\" *.js > log")));
    }

    #[test]
    fn several_commands_and_the_shells_own_are_a_shells() {
        for text in ["cd /app && node app.js", "A=1 node app.js", "exec node app.js", "a; b", "a | b", "(a)", "a # b"] {
            assert_eq!(split(text), Ok(shell(text)), "{text}");
        }
    }

    #[test]
    fn an_open_quote_and_no_word_are_refused() {
        assert!(split("node 'app.js").is_err());
        assert!(split("  ").is_err());
        assert!(split("''").is_err());
    }
}
