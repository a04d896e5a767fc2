//! Starts rinit with two ready workers and its socket in a temporary folder.

use crate::client::ask;
use crate::harness::{Rig, Running};
use serde_json::Value;
use std::path::PathBuf;

pub struct Started {
    pub rig: Running,
    pub folder: tempfile::TempDir,
    pub socket: PathBuf,
}

/// Starts it with the fixture's words, in which `DIR` is the folder.
pub fn start(options: &[&str], words: &str) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock");
    let path = socket.to_str().unwrap();
    let words = words.replace("DIR", folder.path().to_str().unwrap());
    let rig = Rig::new(&["-i", "2", "--socket", path, "--name", "web", "--ready", "uptime", "--min-uptime", "100ms"])
        .args(options)
        .fixture(&words)
        .start();
    rig.until("both are ready", |out| out.count("is ready") == 2);
    Started { rig, folder, socket }
}

impl Started {
    pub fn status(&self) -> Value {
        ask(&self.socket, "GET", "/v1/status", "").json()
    }
}
