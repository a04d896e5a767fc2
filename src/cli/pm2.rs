//! Answers options of pm2 with the ones that rinit has instead.

/// An option of pm2.
pub(super) struct Pm2Option {
    /// Its long name.
    name: &'static str,
    /// Its letter, if it has one that rinit does not use.
    letter: Option<char>,
    /// True if it has a value.
    pub(super) has_value: bool,
    /// The option to write instead.
    pub(super) answer: &'static str,
}

const fn flag(name: &'static str, answer: &'static str) -> Pm2Option {
    Pm2Option { name, letter: None, has_value: false, answer }
}

const fn value(name: &'static str, answer: &'static str) -> Pm2Option {
    Pm2Option { name, letter: None, has_value: true, answer }
}

const fn letter(letter: char, option: Pm2Option) -> Pm2Option {
    Pm2Option { letter: Some(letter), ..option }
}

/// The options of `pm2-runtime` and `pm2 start` that rinit does not have under the same name.
const OPTIONS: &[Pm2Option] = &[
    letter('n', value("name", "write --name NAME")),
    flag("wait-ready", "write --ready message"),
    value("listen-timeout", "write --ready-timeout D, with a unit: 3000 is 3s"),
    value("kill-timeout", "write --stop-timeout D, with a unit: 1600 is 1600ms"),
    flag("shutdown-with-message", "write --stop-message"),
    value("max-memory-restart", "write --max-memory SIZE, such as 300M"),
    flag("no-autorestart", "write --restart never"),
    value("restart-delay", "write --backoff MIN..MAX, with units: 100ms..15s"),
    value("exp-backoff-restart-delay", "write --backoff MIN..MAX, with units: 100ms..15s"),
    value("cron-restart", "write --cron SPEC"),
    letter('x', flag("execute-command", "rinit runs any command: write rinit -i N -- COMMAND")),
    value("exec-mode", "write -i N: workers that listen on the same port share it"),
    value("interpreter", "write the interpreter before the script: rinit -i N -- python3 app.py"),
    value("interpreter-args", "write them before the script: rinit -i N -- node --inspect app.js"),
    value("node-args", "write them before the script: rinit -i N -- node --inspect app.js"),
    value("cwd", "write WORKDIR in the Dockerfile, or cwd in a file: --config FILE"),
    value("env", "write ENV in the Dockerfile, or --env-file PATH"),
    value("uid", "write --user UID:GID"),
    value("gid", "write --user UID:GID"),
    value("increment-var", "write --increment-env NAME=BASE"),
    value("instance-var", "each worker has its number in RINIT_WORKER and NODE_APP_INSTANCE"),
    letter('o', value("output", "rinit writes workers' lines to its own output: docker logs shows them")),
    value("error", "rinit writes workers' lines to its own output: docker logs shows them"),
    value("log-date-format", "write --log-time"),
    flag("time", "write --log-time"),
    flag("merge-logs", "rinit writes all workers' lines to its own output"),
    flag("raw", "write --log raw"),
    flag("json", "write --log json"),
    flag("no-daemon", "rinit is never a daemon: leave it out"),
    flag("no-auto-exit", "the container ends when no worker is left"),
    flag("update-env", "write --env-file PATH: it is read again at every reload"),
    value("only", "rinit runs every app of --config FILE"),
    flag("no-autostart", "rinit starts every app: leave the app out of the file"),
    flag("no-treekill", "leave it out: the stop signal goes to the whole group with --kill-process-group alone"),
    value("delay", "an app of --config FILE waits for others by its key after"),
    flag("format", "write --log json"),
    flag("formatted", "write --log prefix"),
    value("log-type", "write --log json"),
    flag("disable-logs", "send the lines away in the command: sh -c 'exec … > /dev/null'"),
    value("pid", "rinit list shows the process numbers"),
    value("namespace", "rinit has no namespaces: put the word into --name"),
    value("filter-env", "write filter_env in a file: --config FILE"),
    flag("source-map-support", "write the option of Node before the script: rinit -i N -- node OPTION app.js"),
    flag("attach", "rinit stays in the foreground: leave it out"),
    flag("force", "leave it out"),
    flag("no-vizion", "leave it out"),
    flag("no-pmx", "leave it out"),
    flag("no-automation", "leave it out"),
    value("secret", PM2_IO),
    value("public", PM2_IO),
    value("machine-name", PM2_IO),
    flag("trace", PM2_IO),
    flag("v8", PM2_IO),
    flag("event-loop-inspector", PM2_IO),
    flag("deep-monitoring", PM2_IO),
];

const PM2_IO: &str = "it is for pm2.io: rinit has metrics and a dashboard at --web ADDR";

/// Options that are switches of pm2's and have a value here, with the value that means the same.
const SWITCHES: &[(&str, &str)] = &[("watch", "."), ("web", "9615")];

/// Returns the value to write for a switch of pm2's that has a value here.
pub(super) fn value_of_switch(name: &str) -> Option<&'static str> {
    SWITCHES.iter().find(|(switch, _)| *switch == name).map(|(_, value)| *value)
}

/// Returns the option of that long name, if pm2 has it.
pub(super) fn by_name(name: &str) -> Option<&'static Pm2Option> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// Returns the option of that letter, if pm2 has it.
pub(super) fn by_letter(letter: char) -> Option<&'static Pm2Option> {
    OPTIONS.iter().find(|option| option.letter == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::OPTIONS;
    use crate::config;

    /// The options of `pm2-runtime --help` (pm2 7.0.4).
    const RUNTIME: &str = "instances secret no-autostart no-autorestart stop-exit-codes node-args name max-memory-restart cron \
        interpreter public machine-name trace v8 format raw formatted json delay web only no-auto-exit env watch error \
        output deep-monitoring";

    #[test]
    fn every_option_of_pm2_runtime_is_one_of_rinit_or_answered() {
        for name in RUNTIME.split_whitespace() {
            assert!(config::by_flag(name).is_some() || super::by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_answer_names_options_that_rinit_has() {
        for option in OPTIONS {
            let words = option.answer.split([' ', ':', ',']).filter_map(|word| word.strip_prefix("--"));
            for word in words.filter(|word| !word.is_empty() && *word != "inspect") {
                assert!(config::by_flag(word).is_some(), "{}: {}", option.name, option.answer);
            }
            let letters = config::all().filter_map(|setting| setting.letter);
            assert!(letters.chain("hVlsvwgcep".chars()).all(|letter| option.letter != Some(letter)), "{}", option.name);
        }
    }
}
