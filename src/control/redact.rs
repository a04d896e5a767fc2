//! What is nobody's business is not told: in variables, and in the words of a command.

/// What a variable's name says when its value is nobody's business.
const SECRET: [&str; 11] =
    ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "PRIVATE", "DSN", "COOKIE", "SESSION", "SALT"];

/// A variable without what may be a secret: by its name, or a password in an address.
pub(super) fn masked(pair: &str) -> String {
    let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.contains("://")) else {
        return without_password(pair).unwrap_or_else(|| pair.to_owned());
    };
    let name = key.to_ascii_uppercase();
    if !value.is_empty() && SECRET.iter().any(|word| name.contains(word)) {
        return format!("{key}=***");
    }
    without_password(value).map_or_else(|| pair.to_owned(), |value| format!("{key}={value}"))
}

/// `scheme://user:***@host`, if it is such an address.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (credentials, host) = rest.rsplit_once('@')?;
    let (user, _) = credentials.split_once(':')?;
    Some(format!("{scheme}://{user}:***@{host}"))
}

/// A command's words without what may be a secret: `--token=…`, and the word behind `--token`.
pub fn redacted_command(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut follows = false;
    let shown = words.into_iter().map(|word| {
        let is_option = word.starts_with('-');
        if std::mem::take(&mut follows) && !is_option {
            return "***".to_owned();
        }
        let name = word.to_ascii_uppercase();
        follows = is_option && !word.contains('=') && SECRET.iter().any(|secret| name.contains(secret));
        masked(&word)
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_by_name_and_in_addresses() {
        let pairs = [
            ("PATH=/bin", "PATH=/bin"),
            ("DB_PASSWORD=x", "DB_PASSWORD=***"),
            ("api_key=x=y", "api_key=***"),
            ("AUTH_TOKEN=", "AUTH_TOKEN="),
            ("DATABASE_URL=postgres://me:it@db:5432/x", "DATABASE_URL=postgres://me:***@db:5432/x"),
            ("URL=http://host/a@b", "URL=http://host/a@b"),
        ];
        for (pair, shown) in pairs {
            assert_eq!(masked(pair), shown);
        }
    }

    #[test]
    fn a_commands_secrets_are_masked() {
        let shown = |text: &str| redacted_command(text.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(
            shown("app --port 80 --db-password x --token=y -v"),
            "app --port 80 --db-password *** --token=*** -v"
        );
        assert_eq!(shown("app --auth --port 80"), "app --auth --port 80");
        assert_eq!(shown("app postgres://me:it@db/x?a=b"), "app postgres://me:***@db/x?a=b");
        assert_eq!(shown("app postgres://me:it@db/x?a=b"), "app postgres://me:***@db/x?a=b");
    }
}
