//! `--env-file`: variables for the workers, as Docker's `--env-file` has them.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that holds secrets and not variables may be this long.
const LONGEST_SECRET: usize = 128 * 1024;
/// Where `KEY_FILE` names a secret. Elsewhere it is a variable as any other: `LOG_FILE=/var/log/app` is no secret.
const SECRETS: [&str; 2] = ["/run/secrets/", "/var/run/secrets/"];

/// Why a file of variables could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFileError {
    path: PathBuf,
    line: Option<usize>,
    why: String,
}

impl fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EnvFileError { path, line, why } = self;
        match line {
            Some(line) => write!(f, "{} line {line}: {why}", path.display()),
            None => write!(f, "cannot read {}: {why}", path.display()),
        }
    }
}

/// Reads `KEY=VALUE` lines; empty lines and lines that begin with `#` are passed over, values are taken as they are.
/// For `KEY_FILE=/run/secrets/key`, KEY is set to what that file holds, without its last newline.
///
/// # Errors
/// A file that cannot be read, or a line that is none of these.
pub fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let fail = |line, why: String| EnvFileError { path: path.to_owned(), line, why };
    let text = std::fs::read_to_string(path).map_err(|error| fail(None, error.to_string()))?;
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('=').filter(|(key, _)| is_key(key));
        let (key, value) = pair.ok_or_else(|| fail(Some(number), "not KEY=VALUE".into()))?;
        if value.contains('\0') {
            return Err(fail(Some(number), format!("the value of {key} has a NUL byte")));
        }
        if let Some(key) = key.strip_suffix("_FILE").filter(|_| SECRETS.iter().any(|folder| value.starts_with(folder)))
        {
            let secret = read_secret(Path::new(value)).map_err(|why| fail(Some(number), format!("{value}: {why}")))?;
            variables.push((key.to_owned(), secret));
        }
        variables.push((key.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || c == '\0')
}

fn read_secret(path: &Path) -> Result<String, String> {
    let secret = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if secret.len() > LONGEST_SECRET || secret.contains('\0') {
        return Err("too long for a variable, or it has a NUL byte".into());
    }
    Ok(secret.strip_suffix('\n').unwrap_or(&secret).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_env_file(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        let read = read("# a comment\n\nA=1\n B=two words \nC=\"quoted\"=x\nEMPTY=\nLOG_FILE=/etc/hostname\n").unwrap();
        let expected =
            [("A", "1"), ("B", "two words "), ("C", "\"quoted\"=x"), ("EMPTY", ""), ("LOG_FILE", "/etc/hostname")];
        assert_eq!(read, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(read("A=1\nnonsense\n").unwrap_err().ends_with("line 2: not KEY=VALUE"));
        assert!(read("A B=1\n").unwrap_err().contains("line 1"));
        assert!(read("K_FILE=/run/secrets/none-such\n").unwrap_err().contains("/run/secrets/none-such: No such file"));
        assert!(read_env_file(Path::new("/none")).unwrap_err().to_string().starts_with("cannot read /none"));
    }
}
