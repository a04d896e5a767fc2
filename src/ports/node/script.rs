//! Places the script that rinit adds to its Node workers (`worker.cjs`): all versions of Node load modules from files only.

use crate::embedded::{Embedded, embedded};
use crate::ports::placed_file::{PlacedFile, is_protected};
use std::io;

const TEXT: Embedded = embedded!("worker.cjs");
const SUFFIX: &str = ".cjs";

/// The script's file.
#[derive(Debug)]
pub struct Script(PlacedFile);

impl Script {
    /// Writes the file, where there is such a directory into one in which no other user can replace it.
    ///
    /// # Errors
    /// No directory can be written to.
    pub fn write() -> io::Result<Script> {
        let place = |fits| PlacedFile::place(TEXT, SUFFIX, fits);
        place(is_protected).or_else(|_| place(|_| true)).map(Script)
    }

    /// The option of Node that loads it.
    ///
    /// # Errors
    /// The file was removed, and cannot be written again.
    pub fn option(&self) -> io::Result<String> {
        self.0.path().map(|path| format!("--require={}", path.display()))
    }
}
