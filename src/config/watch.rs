//! Parses the paths of `--watch`, and parses and matches the patterns of `--ignore-watch`.

use super::reader::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A file or folder to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchPath(pub(super) PathBuf);

impl Value for WatchPath {
    const FORM: &'static str = "PATH";
    fn parse(text: &str) -> Result<WatchPath, String> {
        // pm2's option may stand alone, and then the next option would be its value.
        match text.is_empty() || text.starts_with('-') {
            true => Err("allowed: a path; `.` is the working directory, which pm2 watches without one".into()),
            false => Ok(WatchPath(PathBuf::from(text))),
        }
    }
}

/// A pattern of paths below a watched folder: `*` is any number of characters but `/`, `?` is one, `**` is any number of
/// them. One without a slash is the name of a file or folder anywhere; one with a slash is a path from the watched folder.
/// What is below a folder that fits is ignored too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchPattern(String);

impl WatchPattern {
    /// True if changes of that path, relative to the watched folder, are ignored.
    pub(crate) fn ignores(&self, path: &Path) -> bool {
        let pattern = self.0.trim_matches('/');
        match self.0.trim_end_matches('/').contains('/') {
            true => path.ancestors().any(|part| fits(pattern, part.as_os_str())),
            false => path.iter().any(|name| fits(pattern, name)),
        }
    }
}

/// True if the pattern fits the whole text.
pub(super) fn fits(pattern: &str, text: &OsStr) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_encoded_bytes());
    let (mut at, mut place) = (0, 0);
    // The last star: the place behind it in the pattern, that in the text up to which it reaches, and whether it passes `/`.
    let mut star: Option<(usize, usize, bool)> = None;
    loop {
        match (pattern.get(at), text.get(place)) {
            (Some(b'*'), _) => {
                let is_double = pattern.get(at + 1) == Some(&b'*');
                at += if is_double { 2 } else { 1 };
                star = Some((at, place, is_double));
                continue;
            }
            (Some(b'?'), Some(other)) if *other != b'/' => {}
            (Some(wanted), Some(other)) if wanted == other => {}
            (None, None) => return true,
            (_, _) => {
                let Some((behind, reach, is_double)) = star else { return false };
                match text.get(reach) {
                    Some(other) if is_double || *other != b'/' => {
                        star = Some((behind, reach + 1, is_double));
                        (at, place) = (behind, reach + 1);
                        continue;
                    }
                    Some(_) | None => return false,
                }
            }
        }
        at += 1;
        place += 1;
    }
}

impl Value for WatchPattern {
    const FORM: &'static str = "PATTERN";
    fn parse(text: &str) -> Result<WatchPattern, String> {
        match text.trim_matches('/').is_empty() {
            true => Err("allowed: a name or a path with * and ?, such as node_modules or *.log".into()),
            false => Ok(WatchPattern(text.trim_start_matches("./").to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_ignore_names_anywhere_and_paths_from_the_folder() {
        let ignores = |pattern: &str, path: &str| WatchPattern::parse(pattern).unwrap().ignores(Path::new(path));
        for (pattern, path) in [
            ("node_modules", "node_modules/a/b.js"),
            ("node_modules/", "x/node_modules/a"),
            ("*.log", "a/b.log"),
            ("./tmp", "tmp/x"),
            ("public/*.css", "public/a.css"),
            ("/public", "public/x"),
            ("a/**/z", "a/b/c/z"),
            ("?.js", "x/a.js"),
        ] {
            assert!(ignores(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.log", "a.logs"),
            ("public/*.css", "public/x/a.css"),
            ("/public", "x/public"),
            ("?.js", "ab.js"),
            ("a*b", "a"),
        ] {
            assert!(!ignores(pattern, path), "{pattern} {path}");
        }
        assert!(WatchPattern::parse("").is_err());
        assert!(["", "--max-memory"].iter().all(|text| WatchPath::parse(text).is_err()));
    }
}
