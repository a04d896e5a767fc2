//! Reads files of variables in the format of Docker's `--env-file`.

use super::environment::is_reserved;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest file of variables, in bytes.
const MAX_ENV_FILE: u64 = 1024 * 1024;
/// The largest file that holds a secret, in bytes: the kernel's limit for a variable (`MAX_ARG_STRLEN`, execve(2)).
const MAX_SECRET: u64 = 128 * 1024;
/// The folders in which `KEY_FILE` names a secret. Elsewhere it is a variable like any other: `LOG_FILE=/var/log/app`.
const SECRET_FOLDERS: [&str; 2] = ["/run/secrets/", "/var/run/secrets/"];
/// The mark that some editors put at the beginning of UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The maximum number of faults of a file that are told after the first one.
const MAX_MORE_FAULTS: usize = 9;

/// A file of variables that could not be read.
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

/// Reads `KEY=VALUE` lines as Docker does: empty lines and lines that begin with `#` are skipped, values are taken as they
/// are, quotes too. `KEY` alone takes its value from rinit's own environment, and is skipped where it is not set there.
/// For `KEY_FILE=/run/secrets/key`, KEY is set to the contents of that file without its last newline.
///
/// It may take as long as the file system takes.
///
/// # Errors
/// A file that is no regular one, is larger than 1 MiB or cannot be read; a line that is none of these; a variable that
/// rinit itself sets.
pub fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let fail = |line, why: String| EnvFileError { path: path.to_owned(), line, why };
    let text = read_text(path, MAX_ENV_FILE).map_err(|why| fail(None, why))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let (mut variables, mut faults) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if let Err(why) = read_line(line.trim_start(), &mut variables) {
            faults.push((number, why));
        }
    }
    let mut faults = faults.into_iter();
    let Some((line, mut why)) = faults.next() else { return Ok(variables) };
    for (line, more) in faults.by_ref().take(MAX_MORE_FAULTS) {
        why.push_str(&format!("; line {line}: {more}"));
    }
    match faults.count() {
        0 => {}
        more => why.push_str(&format!("; and {more} lines more")),
    }
    Err(fail(Some(line), why))
}

fn read_line(line: &str, variables: &mut Vec<(String, String)>) -> Result<(), String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (key, value) = line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)));
    check_key(key)?;
    match value {
        None => match std::env::var_os(key).map(std::ffi::OsString::into_string) {
            Some(Ok(own)) => variables.push((key.to_owned(), own)),
            Some(Err(_)) => return Err(format!("the value of {key} in rinit's own environment is not UTF-8")),
            None => {}
        },
        Some(value) if value.contains('\0') => return Err(format!("the value of {key} has a NUL byte")),
        Some(value) => {
            let is_secret = SECRET_FOLDERS.iter().any(|folder| value.starts_with(folder));
            if let Some(key) = key.strip_suffix("_FILE").filter(|_| is_secret) {
                check_key(key)?;
                variables
                    .push((key.to_owned(), read_secret(Path::new(value)).map_err(|why| format!("{value}: {why}"))?));
            }
            variables.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("no name before =".into());
    }
    if let Some(name) = key.strip_prefix("export ") {
        return Err(format!("not KEY=VALUE: leave out \"export\" before {name:?}"));
    }
    if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        // Not shown: the line may be a part of a secret that has several.
        return Err("not KEY=VALUE: the name has a space or a control character".into());
    }
    match is_reserved(key) {
        true => Err(format!("{key} is not for this file: rinit sets it itself, or it is a setting of rinit's own")),
        false => Ok(()),
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let secret = read_text(path, MAX_SECRET)?;
    if secret.contains('\0') {
        return Err("it has a NUL byte".into());
    }
    Ok(secret.strip_suffix('\n').unwrap_or(&secret).to_owned())
}

/// Reads a regular file of no more than `max` bytes. Anything else is refused without waiting for it: a FIFO without a
/// writer would block for ever, and a device may have no end.
///
/// # Errors
/// The reason, without the path.
pub fn read_text(path: &Path, max: u64) -> Result<String, String> {
    let file = open(path).map_err(|error| error.to_string())?;
    let kind = file.metadata().map_err(|error| error.to_string())?.file_type();
    let other = match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    };
    if let Some(other) = other {
        return Err(format!("it is {other}, not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > max {
        return Err(format!("it is larger than {} KiB", max / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        format!("line {} is not UTF-8", before.iter().filter(|byte| **byte == b'\n').count() + 1)
    })
}

/// Opens without waiting for a writer, and without taking a terminal.
fn open(path: &Path) -> io::Result<File> {
    use nix::libc::{O_NOCTTY, O_NONBLOCK};
    OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Vec<(String, String)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_env_file(file.path()).map_err(|error| error.to_string())
    }

    fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let text = "\u{feff}# a comment\n\nA=1\n B=two words \nC=\"quoted\"=x\r\nEMPTY=\nLOG_FILE=/etc/hostname\nno.such-key\n";
        let expected =
            [("A", "1"), ("B", "two words "), ("C", "\"quoted\"=x"), ("EMPTY", ""), ("LOG_FILE", "/etc/hostname")];
        assert_eq!(read(text), pairs(&expected));
    }

    #[test]
    fn a_key_alone_is_taken_from_rinits_own_environment() {
        let path = std::env::var("PATH").unwrap();
        assert_eq!(read("PATH\n"), pairs(&[("PATH", &path)]));
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        for (text, part) in [
            ("A=1\nno pair\n", "line 2: not KEY=VALUE"),
            ("A B=1\n", "line 1: not KEY=VALUE"),
            ("=1\n", "line 1: no name before ="),
            ("export A=1\n", "leave out \"export\" before \"A\""),
            ("A=1\0\n", "line 1: the value of A has a NUL byte"),
            ("\x1b[1mA=1\n", "control character"),
            ("K_FILE=/run/secrets/none-such\n", "/run/secrets/none-such: No such file"),
            ("RINIT_INSTANCES=3\n", "line 1: RINIT_INSTANCES is not for this file"),
            ("RINIT_WORKER\n", "RINIT_WORKER is not for this file"),
            ("NODE_CHANNEL_FD=3\n", "rinit sets it itself"),
            ("LISTEN_FDS=1\n", "rinit sets it itself"),
            ("NODE_APP_INSTANCE=1\n", "rinit sets it itself"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part), "{text:?}: {part} is not in {why}");
        }
        let faults = read("A B=secret\nC=1\n=x\n\nRINIT_WORKER=1\n").unwrap_err();
        assert!(
            faults.contains("line 1: not KEY=VALUE")
                && faults.contains("; line 3: no name before =; line 5: RINIT_WORKER"),
            "{faults}"
        );
        assert!(!faults.contains("secret") && !faults.contains("A B"), "{faults}");
        assert!(read("=x\n".repeat(13)).unwrap_err().ends_with("; and 3 lines more"));
        assert!(read(b"A=1\nB=\xff\n").unwrap_err().ends_with("line 2 is not UTF-8"));
        assert_eq!(read("RINIT_PORT=tcp://10.0.0.1:80\n"), pairs(&[("RINIT_PORT", "tcp://10.0.0.1:80")]));
    }

    #[test]
    fn only_regular_files_of_a_megabyte_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(MAX_ENV_FILE + 1).unwrap();
        for (path, part) in [
            (Path::new("/none"), "No such file"),
            (folder.path(), "it is a directory"),
            (&fifo, "it is a FIFO"),
            (Path::new("/dev/zero"), "it is a device"),
            (&large, "it is larger than 1024 KiB"),
        ] {
            let why = read_env_file(path).unwrap_err().to_string();
            assert!(why.starts_with(&format!("cannot read {}: ", path.display())) && why.contains(part), "{why}");
        }
    }
}
