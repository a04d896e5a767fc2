//! rinit with two workers that are ready, and its socket.

use crate::client::ask;
use crate::harness::{Rig, Running};
use serde_json::Value;
use std::path::PathBuf;

pub struct SupervisorHandle {
    pub rig: Running,
    pub folder: tempfile::TempDir,
    pub socket: PathBuf,
}

/// The words may have `DIR` in them, the folder.
pub fn start(options: &[&str], words: &str) -> SupervisorHandle {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock");
    let path = socket.to_str().unwrap();
    let words = words.replace("DIR", folder.path().to_str().unwrap());
    let rig = Rig::new(&["-i", "2", "--socket", path, "--name", "web", "--min-uptime", "100ms"])
        .args(options)
        .fixture(&words)
        .start();
    rig.until("both are ready", |out| out.count("is ready") == 2);
    SupervisorHandle { rig, folder, socket }
}

impl SupervisorHandle {
    pub fn status(&self) -> Value {
        ask(&self.socket, "GET", "/v1/status", "").json()
    }
}
