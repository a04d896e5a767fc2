//! Finds the program, its script and the app's name in a command, through wrappers such as `env` and `nice`.

use super::programs::{INTERPRETERS, Interpreter, NODE, Options, WRAPPERS, Wrapper};
use super::value::AppName;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The program that a command's words run.
struct Found {
    /// The place of the program among the words, behind its wrappers.
    program: usize,
    /// True if every wrapper becomes the program.
    is_exec: bool,
    interpreter: Option<&'static Interpreter>,
    /// The place of the interpreter's script, if there is one.
    script: Option<usize>,
    /// The module that the interpreter runs, if it is one.
    module: Option<String>,
}

impl Found {
    /// True if the word is a script, and not the value of an option or a subcommand that is unknown here: it has an ending,
    /// or the interpreter has no subcommands and each option before the word has its value in its own.
    fn is_surely_script(&self, command: &[OsString], at: usize) -> bool {
        let has_ending = command.get(at).is_some_and(|word| Path::new(word).extension().is_some());
        let mut options = command.get(self.program + 1..at).unwrap_or_default().iter();
        let has_subcommands = self.interpreter.is_some_and(|interpreter| !interpreter.subcommands.is_empty());
        has_ending || !has_subcommands && options.all(|option| option.as_encoded_bytes().contains(&b'='))
    }
}

/// A command that is Node, behind wrappers that become Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCommand {
    /// The place of `node` among the command's words.
    pub program: usize,
    /// The place of the script that Node runs, if it runs one.
    pub script: Option<usize>,
}

impl NodeCommand {
    /// Finds Node in the command. `None`: the command is something else, or starts Node as a child.
    pub fn find(command: &[OsString]) -> Option<NodeCommand> {
        let found = find(command);
        let is_node = found.is_exec && found.interpreter.is_some_and(|one| one.names == NODE.names);
        is_node.then_some(NodeCommand { program: found.program, script: found.script })
    }
}

/// The name of an app without `--name`: the program's file name; for an interpreter its script's or module's, without the
/// extension. Nothing of it is ever program text or a variable's value.
pub(super) fn name_of(command: &[OsString]) -> String {
    let found = find(command);
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(AppName::allows);
    let file_name = |at: usize| command.get(at).and_then(|word| Path::new(word).file_name()).and_then(OsStr::to_str);
    let script = found.script.filter(|&at| found.is_surely_script(command, at)).and_then(file_name).map(Path::new);
    let script = script.and_then(Path::file_stem).and_then(OsStr::to_str).filter(is_name);
    let name = found.module.as_deref().filter(is_name).or(script).or(file_name(found.program).filter(is_name));
    name.unwrap_or("app").chars().take(AppName::MAX_LENGTH).collect()
}

fn find(command: &[OsString]) -> Found {
    let (mut program, mut is_exec) = (0, true);
    while let Some(wrapper) = file_name(command, program).and_then(wrapper_named) {
        let Some(next) = wrapped(command, program + 1, wrapper) else { break };
        (program, is_exec) = (next, is_exec && wrapper.execs);
    }
    let mut found = Found {
        program,
        is_exec,
        interpreter: file_name(command, program).and_then(interpreter_named),
        script: None,
        module: None,
    };
    if let Some(interpreter) = found.interpreter {
        find_script(command, interpreter, &mut found);
    }
    found
}

fn file_name(command: &[OsString], at: usize) -> Option<&str> {
    Path::new(command.get(at)?).file_name()?.to_str()
}

fn wrapper_named(name: &str) -> Option<&'static Wrapper> {
    WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name))
}

/// A version may follow the name: `python3.12`.
fn interpreter_named(name: &str) -> Option<&'static Interpreter> {
    let is_named =
        |known: &&str| name.strip_prefix(known).is_some_and(|version| !version.contains(char::is_alphabetic));
    INTERPRETERS.iter().find(|interpreter| interpreter.names.iter().any(is_named))
}

/// The place of the command that the wrapper starts; `None` if there is none.
fn wrapped(command: &[OsString], mut at: usize, wrapper: &Wrapper) -> Option<usize> {
    let mut operands = wrapper.operands;
    let mut has_options = true;
    loop {
        let word = command.get(at)?.to_str().unwrap_or("?");
        if has_options && word == "--" {
            has_options = false;
            at += 1;
        } else if has_options && word.starts_with('-') {
            // `env -S` takes the rest of its word apart.
            if wrapper.names == ["env"] && (word.starts_with("-S") || word.starts_with("--split-string")) {
                return None;
            }
            at += 1 + usize::from(wrapper.options.take_next(word));
        } else if wrapper.names == ["env"] && word.contains('=') {
            at += 1;
        } else if operands > 0 {
            operands -= 1;
            at += 1;
        } else {
            return Some(at);
        }
    }
}

impl Options {
    /// True if the option's value is the next word.
    fn take_next(&self, word: &str) -> bool {
        match word.strip_prefix("--") {
            Some(long) => self.long.contains(&long),
            None => {
                let mut letters = word.chars().skip(1);
                while let Some(letter) = letters.next() {
                    if self.attached.contains(letter) {
                        return false;
                    }
                    if self.values.contains(letter) {
                        return letters.next().is_none();
                    }
                }
                false
            }
        }
    }
}

fn find_script(command: &[OsString], interpreter: &Interpreter, found: &mut Found) {
    let mut at = found.program + 1;
    while let Some(word) = command.get(at) {
        let word = word.to_str().unwrap_or("?");
        if word == "-" {
            return;
        }
        if word == "--" {
            found.script = (at + 1 < command.len()).then_some(at + 1);
            return;
        }
        if interpreter.subcommands.contains(&word) {
            at += 1;
            continue;
        }
        if !word.starts_with('-') {
            found.script = Some(at);
            return;
        }
        match interpreter.meaning(word) {
            Meaning::Plain => at += 1,
            Meaning::TakesNext => at += 2,
            Meaning::Text => return,
            Meaning::Target(attached) => {
                let next = (attached.is_empty() && at + 1 < command.len()).then_some(at + 1);
                if interpreter.names.contains(&"python") {
                    let named = next.and_then(|next| command.get(next)?.to_str()).unwrap_or(attached);
                    found.module = Some(named.to_owned());
                } else {
                    found.script = next;
                }
                return;
            }
        }
    }
}

/// The meaning of an interpreter's option.
enum Meaning<'a> {
    Plain,
    /// The next word is its value.
    TakesNext,
    /// Program text follows, or no script is run.
    Text,
    /// A module or file follows: in the same word, or in the next one if that is empty.
    Target(&'a str),
}

impl Interpreter {
    fn meaning<'a>(&self, word: &'a str) -> Meaning<'a> {
        if let Some(long) = word.strip_prefix("--") {
            let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            return match () {
                () if self.text_long.contains(&name) => Meaning::Text,
                () if self.options.long.contains(&name) && !has_value => Meaning::TakesNext,
                () => Meaning::Plain,
            };
        }
        for (at, letter) in word.char_indices().skip(1) {
            let rest = word.get(at + letter.len_utf8()..).unwrap_or_default();
            if self.text.contains(letter) {
                return Meaning::Text;
            }
            if self.target.contains(letter) {
                return Meaning::Target(rest);
            }
            if self.options.attached.contains(letter) {
                return Meaning::Plain;
            }
            if self.options.values.contains(letter) {
                return if rest.is_empty() { Meaning::TakesNext } else { Meaning::Plain };
            }
        }
        Meaning::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        shell_words::split(text).unwrap().into_iter().map(OsString::from).collect()
    }

    #[test]
    fn apps_are_named_after_their_program_their_script_or_their_module() {
        for (command, name) in [
            ("node dist/server.js", "server"),
            ("/usr/bin/python3.11 -u app.py --x", "app"),
            ("python3 -m http.server", "http.server"),
            ("python3 -um uvicorn app:app", "uvicorn"),
            ("python3 -W ignore -X dev worker.py", "worker"),
            ("node bin/www", "www"),
            ("node --max-old-space-size=512 bin/www", "www"),
            ("node node_modules/.bin/next start -p 3000", "next"),
            ("/usr/local/bin/node /app/server", "server"),
            ("node --enable-source-maps bin/www", "node"),
            ("node --title secret shop.js", "shop"),
            ("node --max-http-header-size 16384 --import ./setup.mjs shop.js", "shop"),
            ("node -r ./setup.js --env-file .env shop.mjs", "shop"),
            ("ruby -I lib -r json web.rb", "web"),
            ("perl -Mstrict -I lib web.pl", "web"),
            ("php -d memory_limit=1G -f artisan.php", "artisan"),
            ("php -S 0.0.0.0:80 -t public", "php"),
            ("deno run -A main.ts", "main"),
            ("java -Dpassword=x -jar /srv/shop.jar", "java"),
            ("gunicorn app:app", "gunicorn"),
            ("./run.sh", "run.sh"),
            ("sh ./run.sh", "run"),
            ("shellac x.js", "shellac"),
            ("env", "env"),
        ] {
            assert_eq!(name_of(&words(command)), name, "{command}");
        }
    }

    #[test]
    fn a_wrapper_does_not_name_the_app() {
        for (command, name) in [
            ("env PASSWORD=secret.txt node app.js", "app"),
            ("env -i -u HOME -C /srv A=1 node shop.js", "shop"),
            ("nice -n 5 node shop.js", "shop"),
            ("nice -5 ionice -c2 -n 7 python shop.py", "shop"),
            ("setpriv --reuid 1000 --regid=1000 --clear-groups node shop.js", "shop"),
            ("gosu app:app node shop.js", "shop"),
            ("su-exec 1000 /srv/server", "server"),
            ("tini -g -e 143 -- node shop.js", "shop"),
            ("dumb-init -r 15:2 node shop.js", "shop"),
            ("stdbuf -oL env A=1 ./server", "server"),
            ("timeout -k 5 1h ./server", "server"),
            ("gosu app", "gosu"),
        ] {
            assert_eq!(name_of(&words(command)), name, "{command}");
        }
    }

    #[test]
    fn an_apps_name_is_never_made_of_program_text_or_values() {
        for (command, name) in [
            ("sh -c './secret.sh; true'", "sh"),
            ("sh -ec 'curl secret.txt'", "sh"),
            ("bash -euo pipefail -c secret.sh", "bash"),
            ("python3 -uc 'import secret.x'", "python3"),
            ("python -c secret.py", "python"),
            ("perl -we 'secret.pl'", "perl"),
            ("php -r 'secret.php'", "php"),
            ("ruby -ne secret.rb", "ruby"),
            ("node -e secret.js", "node"),
            ("node -pe secret.js", "node"),
            ("node --eval=secret.js", "node"),
            ("node --eval secret.js", "node"),
            ("deno eval 'secret(1.5)'", "deno"),
            ("env -S 'A=secret node x.js'", "env"),
            ("PASSWORD=secret.x node app.js", "app"),
            ("'cd /app && node secret.js'", "app"),
            ("python 'print(1.5)'", "python"),
        ] {
            assert_eq!(name_of(&words(command)), name, "{command}");
        }
    }

    #[test]
    fn node_is_found_behind_wrappers_that_become_it() {
        let script = |command: &str| {
            let command = words(command);
            NodeCommand::find(&command).map(|node| node.script.map(|at| command[at].to_str().unwrap().to_owned()))
        };
        for command in ["node app.js", "env A=1 node app.js", "nice -n 5 gosu app node --title x -- app.js"] {
            assert_eq!(script(command), Some(Some("app.js".into())), "{command}");
        }
        for command in ["node", "node -", "node -e x", "node --test", "env node -p 1"] {
            assert_eq!(script(command), Some(None), "{command}");
        }
        for command in ["bun app.js", "sh -c node", "tini -- node app.js", "timeout 5 node app.js", "nodemon app.js"] {
            assert_eq!(script(command), None, "{command}");
        }
    }
}
