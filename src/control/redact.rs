//! Redacts secrets in environment variables, command lines and settings before they leave the process.

use super::types::{Config, SettingValue, Status};

/// Parts of a variable's or option's name that say that its value is secret.
const SECRET_NAMES: [&str; 16] = [
    "PASS",
    "PWD",
    "SECRET",
    "TOKEN",
    "KEY",
    "CREDENTIAL",
    "AUTH",
    "PRIVATE",
    "DSN",
    "COOKIE",
    "SESSION",
    "SALT",
    "JWT",
    "WEBHOOK",
    "CONNECTION",
    "BEARER",
];
/// Whole words of a name that say so: `GITHUB_PAT`, `DB_PW`.
const SECRET_WORDS: [&str; 4] = ["PAT", "PW", "PEM", "SAS"];
/// Parts of a value that are secret wherever they stand.
const SECRET_VALUES: [&str; 4] = ["-----BEGIN", "eyJ", "://hooks.", "AccountKey="];
/// Short options of well-known programs that take a secret, or a user with one.
const SECRET_OPTIONS: [(&str, &[&str]); 11] = [
    ("curl", &["-u", "-U"]),
    ("http", &["-a"]),
    ("https", &["-a"]),
    ("ldapsearch", &["-w"]),
    ("mongo", &["-p"]),
    ("mongosh", &["-p"]),
    ("mysql", &["-p"]),
    ("mysqldump", &["-p"]),
    ("mariadb", &["-p"]),
    ("redis-cli", &["-a"]),
    ("sshpass", &["-p"]),
];
/// Variables whose values are shown even where variables are guarded.
const SHOWN_VARIABLES: [&str; 14] = [
    "PORT",
    "HOST",
    "HOSTNAME",
    "NODE_ENV",
    "TZ",
    "LANG",
    "LC_ALL",
    "PATH",
    "HOME",
    "PWD",
    "USER",
    "LISTEN_FDS",
    "RINIT_WORKER",
    "WEB_CONCURRENCY",
];
const REDACTED: &str = "***";

/// Removes what a client without a token may not read: commands, the texts of events, and what workers say of themselves.
pub(super) fn remove_private(status: &mut Status) {
    for app in &mut status.apps {
        app.command.clear();
        if let Some(reload) = &mut app.last_reload {
            reload.why = None;
        }
    }
    for worker in &mut status.workers {
        worker.status = None;
    }
}

/// The settings without secrets.
pub(super) fn redacted_config(config: &Config) -> Config {
    let redacted = |setting: &SettingValue| SettingValue {
        value: redacted_command(setting.value.split(' ').map(str::to_owned)).join(" "),
        ..setting.clone()
    };
    Config { settings: config.settings.iter().map(redacted).collect() }
}

/// A variable of a worker's environment, `KEY=VALUE`. If it is guarded, only its name is shown, unless it is known to be
/// harmless. The variables of `--show-env` are shown as they are.
pub(super) fn redacted_variable(pair: &str, is_guarded: bool, shown: &[String]) -> String {
    match pair.split_once('=') {
        Some((name, _)) if shown.iter().any(|one| one == name) => pair.to_owned(),
        Some((name, _)) if is_guarded && !SHOWN_VARIABLES.contains(&name) => format!("{name}={REDACTED}"),
        _ => redacted_pair(pair),
    }
}

/// A command's words without secrets: `--token=…`, the word after `--token`, and what looks like one.
pub fn redacted_command(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut reader = Reader::default();
    words.into_iter().map(|word| reader.redacted(&word)).collect()
}

/// Reads a command word by word.
#[derive(Default)]
struct Reader {
    /// The short options of the last well-known program that take a secret.
    options: &'static [&'static str],
    next: Next,
}

/// The meaning of the next word.
#[derive(Default)]
enum Next {
    #[default]
    Any,
    Secret,
    /// A user, or a user with a password: `name:password`.
    User,
    /// A password, a port or a folder, by the program.
    Password,
}

impl Reader {
    fn redacted(&mut self, word: &str) -> String {
        let is_option = word.starts_with('-');
        let is_secret = match std::mem::take(&mut self.next) {
            _ if is_option => false,
            Next::Any => false,
            Next::Secret => true,
            Next::User => word.contains(':') && !word.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'),
            Next::Password => !word.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with(['/', '.']),
        };
        if is_secret {
            return REDACTED.into();
        }
        if let Some((_, options)) = SECRET_OPTIONS.iter().find(|(program, _)| word.rsplit('/').next() == Some(program))
        {
            self.options = options;
        }
        if let Some(option) = self.options.iter().find(|option| is_option && word.starts_with(**option)) {
            if word.len() > option.len() {
                return format!("{option}{REDACTED}");
            }
            self.next = Next::Secret;
            return word.to_owned();
        }
        self.next = match word {
            "-u" | "--user" => Next::User,
            "-H" | "--header" => Next::Secret,
            "-p" => Next::Password,
            _ if is_option && !word.contains('=') && is_secret_name(word) => Next::Secret,
            _ => Next::Any,
        };
        match word.strip_prefix("-p").filter(|rest| is_password_option(rest)) {
            Some(_) => format!("-p{REDACTED}"),
            None if word.contains(char::is_whitespace) => redacted_text(word),
            None => redacted_pair(word),
        }
    }
}

/// The rest of `mysql -pSECRET`; not of `-p8080` or `-port`.
fn is_password_option(rest: &str) -> bool {
    !rest.is_empty()
        && !rest.bytes().all(|byte| byte.is_ascii_digit())
        && !"ort".starts_with(rest)
        && !rest.starts_with("ort")
}

/// A text with several words, such as a script: each word is redacted as one of a command. Quotes are no part of a word.
fn redacted_text(text: &str) -> String {
    if SECRET_VALUES.iter().any(|secret| text.contains(secret)) {
        return REDACTED.into();
    }
    let mut reader = Reader::default();
    let mut is_bearer = false;
    let word = |word: &str| {
        let inner = word.trim().trim_matches(['\'', '"', ';']);
        let Some((before, after)) = word.split_once(inner).filter(|_| !inner.is_empty()) else {
            return word.to_owned();
        };
        let shown = match std::mem::replace(&mut is_bearer, inner.trim_end_matches(':').eq_ignore_ascii_case("bearer"))
        {
            true => REDACTED.into(),
            false => reader.redacted(inner),
        };
        format!("{before}{shown}{after}")
    };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// `KEY=VALUE` or a single word: the value of a secret name, and secret parts of any value.
fn redacted_pair(pair: &str) -> String {
    let end = pair.get(pair.trim_end().len()..).unwrap_or_default();
    let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.contains("://")) else {
        return redacted_value(pair).map_or_else(|| pair.to_owned(), |value| value + end);
    };
    if !value.trim().is_empty() && is_secret_name(key) {
        return format!("{key}={REDACTED}{end}");
    }
    redacted_value(value).map_or_else(|| pair.to_owned(), |value| format!("{key}={value}{end}"))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // The working directory, whose name is no password's.
    if matches!(name.as_str(), "PWD" | "OLDPWD") {
        return false;
    }
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    SECRET_NAMES.iter().any(|part| name.contains(part)) || words.any(|word| SECRET_WORDS.contains(&word))
}

/// A value without its secret parts; `None`: it has none.
fn redacted_value(value: &str) -> Option<String> {
    if SECRET_VALUES.iter().any(|secret| value.contains(secret)) {
        return Some(REDACTED.into());
    }
    // `a=b;c=d`, `?a=b&c=d`, `-Da.b=c`: pairs within the value.
    let has_secret_pair = value
        .split([';', '&', '?', ' ', ','])
        .any(|part| part.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret_name(name)));
    if has_secret_pair {
        return Some(REDACTED.into());
    }
    let (scheme, rest) = value.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (credentials, host) = authority.rsplit_once('@')?;
    let user = credentials.split_once(':').map_or(REDACTED.to_owned(), |(user, _)| format!("{user}:{REDACTED}"));
    Some(format!("{scheme}://{user}@{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_by_name_and_by_form() {
        let pairs = [
            ("NODE_PATH=/lib", "NODE_PATH=/lib"),
            ("PWD=/app", "PWD=/app"),
            ("DB_PASSWORD=x", "DB_PASSWORD=***"),
            ("MYSQL_PWD=x", "MYSQL_PWD=***"),
            ("GITHUB_PAT=x", "GITHUB_PAT=***"),
            ("DB_PW=x", "DB_PW=***"),
            ("api_key=x=y", "api_key=***"),
            ("AUTH_TOKEN=", "AUTH_TOKEN="),
            ("DATABASE_URL=postgres://me:it@db:5432/x", "DATABASE_URL=postgres://me:***@db:5432/x"),
            ("GIT_URL=https://token@github.com/o/r", "GIT_URL=https://***@github.com/o/r"),
            ("URL=http://host/a@b", "URL=http://host/a@b"),
            ("JDBC_URL=jdbc:mysql://h/d?user=u&password=x", "JDBC_URL=***"),
            ("JAVA_OPTS=-Xmx1g -Djavax.net.ssl.keyStorePassword=x", "JAVA_OPTS=***"),
            ("SLACK=https://hooks.slack.com/services/T0/B0/x", "SLACK=***"),
            ("ID=eyJhbGciOiJIUzI1NiJ9.e30.x", "ID=***"),
            ("TLS=-----BEGIN PRIVATE KEY-----\nx", "TLS=***"),
            ("AZURE=DefaultEndpointsProtocol=https;AccountKey=x;", "AZURE=***"),
        ];
        for (pair, shown) in pairs {
            assert_eq!(redacted_variable(pair, false, &[]), shown);
        }
    }

    #[test]
    fn over_the_web_only_known_harmless_values_are_shown() {
        for (pair, shown) in [("PORT=80", "PORT=80"), ("GREETING=hello", "GREETING=***"), ("PATH=/bin", "PATH=/bin")] {
            assert_eq!(redacted_variable(pair, true, &[]), shown);
        }
    }

    #[test]
    fn a_commands_secrets_are_redacted() {
        let shown = |words: &[&str]| redacted_command(words.iter().map(|word| (*word).to_owned())).join(" ");
        assert_eq!(
            shown(&["app", "--port", "80", "--db-password", "x", "--token=y", "-v"]),
            "app --port 80 --db-password *** --token=*** -v"
        );
        assert_eq!(shown(&["app", "--auth", "--port", "80"]), "app --auth --port 80");
        assert_eq!(shown(&["app", "postgres://me:it@db/x?a=b"]), "app postgres://me:***@db/x?a=b");
        assert_eq!(shown(&["app", "-px1", "-p3306", "-port"]), "app -p*** -p3306 -port");
        assert_eq!(shown(&["/usr/bin/mysql", "-p3306", "-u", "root"]), "/usr/bin/mysql -p*** -u root");
        assert_eq!(shown(&["curl", "-u", "a:b", "--header", "Authorization: Bearer x"]), "curl -u *** --header ***");
        assert_eq!(shown(&["sh", "-c", ": --password=x; sleep 1"]), "sh -c : --password=***; sleep 1");
        assert_eq!(
            shown(&["sh", "-c", "curl 'Authorization: Bearer x' y"]),
            "sh -c curl 'Authorization: Bearer ***' y"
        );
        assert_eq!(shown(&["sh", "-c", "curl -ua:b 'x' -u \"c:d\"; ls"]), "sh -c curl -u*** 'x' -u \"***\"; ls");
    }

    #[test]
    fn an_option_that_is_a_secret_of_some_programs_is_shown_of_others() {
        let shown = |words: &[&str]| redacted_command(words.iter().map(|word| (*word).to_owned())).join(" ");
        for harmless in [
            "python3 -u worker.py",
            "gunicorn --user www-data -u www-data app:app",
            "chroot --user 1000:1000 /",
            "php -S 0:80 -p /srv",
            "rails s -p 3000",
            "sh -c mkdir -p /data",
        ] {
            assert_eq!(shown(&harmless.split(' ').collect::<Vec<_>>()), harmless);
        }
        assert_eq!(
            shown(&["sh", "-c", "mkdir -p /data && exec python3 -u a.py"]),
            "sh -c mkdir -p /data && exec python3 -u a.py"
        );
        assert_eq!(shown(&["app", "-u", "admin:x", "--user", "me:1"]), "app -u *** --user ***");
        assert_eq!(shown(&["curl", "-u", "key"]), "curl -u ***", "a key alone");
        assert_eq!(shown(&["timeout", "9", "redis-cli", "-a", "x"]), "timeout 9 redis-cli -a ***");
    }
}
