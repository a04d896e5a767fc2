//! Helpers of these tests: rinit with workers that share a port, and the processes that answer there.

use crate::harness::{Output, Rig, Running, eventually, status_field};
use crate::load::{get, pid_in};
use crate::setup::app;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// rinit with that many workers, which count as stable soon. They are ready when they listen, unless the settings say
/// otherwise: under `auto` one that starts slowly, on a busy machine, would be ready by its uptime. They have time to end, also
/// when interpreters take seconds for it.
pub fn workers(count: usize, settings: &[&str]) -> Rig {
    let rig = Rig::new(&["-i", &count.to_string(), "--name", "web", "--min-uptime", "100ms", "--stop-timeout", "30s"]);
    let is_shared = settings.windows(2).all(|words| words != ["--share-ports", "off"]);
    let rig = if is_shared && !settings.contains(&"--ready") { rig.args(&["--ready", "listen"]) } else { rig };
    rig.args(settings).arg("--")
}

/// An app of `tests/ports/apps/node/`, on that port.
pub fn node_app(count: usize, settings: &[&str], node: &str, name: &str, port: u16) -> Rig {
    workers(count, settings).arg(node).arg(app(&format!("node/{name}"))).env("PORT", &port.to_string())
}

/// The number of times that a worker has become ready.
pub fn times_ready(out: &Output) -> usize {
    out.count("is ready after")
}

/// Waits until that many workers listen.
pub fn all_listen(rig: &Running, count: usize) {
    rig.until(&format!("{count} listen"), |out| out.count("(it listens)") == count);
}

/// Sends requests until that many processes have answered, without an error. Their answers.
pub fn served_by(port: u16, count: usize) -> BTreeSet<String> {
    let mut answers = BTreeSet::new();
    eventually(&format!("{count} processes answer on one port"), || {
        let answer = get(port, "/").unwrap_or_else(|error| panic!("after {answers:?}: {error}"));
        assert!(pid_in(&answer).is_some(), "{answer:?}");
        answers.insert(answer);
        (answers.len() == count).then_some(())
    });
    answers
}

/// Waits until the reload of that number is done, and has succeeded.
pub fn reloaded(rig: &Running, number: u32) {
    let (done, stopped) =
        (format!("reload to generation {} done", number + 1), format!("reload to generation {} stopped", number + 1));
    rig.until(&format!("reload {number} is over"), |out| out.has(&done) || out.has(&stopped));
    assert!(rig.output().has(&done), "{:#?}", rig.output().stderr);
}

/// The number of a worker in this PID namespace, by the one that it sees itself.
pub fn pid_from_here(rig: &Running, pid: u32) -> i32 {
    let is_it = |worker: &i32| status_field(*worker, "NSpid").split_whitespace().last() == Some(&pid.to_string());
    rig.workers().into_iter().find(is_it).unwrap_or_else(|| panic!("no worker has the number {pid}"))
}

/// A stop in which every worker ends by itself.
pub fn stop(rig: &Running) {
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
    assert!(!rig.output().has("killed with its group"), "{:#?}", rig.output().stderr);
}

/// rinit's own memory, in KiB, without the pages of its file: a debug build has 16 MB of those.
pub fn memory(rig: &Running) -> u64 {
    let text = status_field(rig.pid(), "RssAnon");
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("RssAnon: {text:?}"))
}

/// The number of rinit's descriptors.
pub fn descriptors(rig: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap().count()
}

/// An app of `tests/ports/apps/node/` as it is deployed: in a folder where another version can take its place.
pub struct Deployed {
    folder: tempfile::TempDir,
}

impl Deployed {
    pub fn new(name: &str) -> Deployed {
        let deployed = Deployed { folder: tempfile::tempdir().unwrap() };
        std::fs::copy(app("node/answer.js"), deployed.folder.path().join("answer.js")).unwrap();
        deployed.put(name);
        deployed
    }

    /// Puts another version in its place, for workers that start from now on.
    pub fn put(&self, name: &str) {
        std::fs::copy(app(&format!("node/{name}")), self.path()).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.js")
    }
}
