//! Tests the verbs against a real rinit.

use crate::fake::{Ran, end, finish, verb};
use rinit::control::types::Status;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// A rinit with two workers called `web`, which crash from the moment on that a file is there.
struct Real {
    folder: tempfile::TempDir,
    rinit: Child,
}

impl Real {
    fn start() -> Real {
        let folder = tempfile::tempdir().unwrap();
        let app = r#"echo "up $RINIT_WORKER"
            echo "oh $RINIT_WORKER" >&2
            [ -e "$BROKEN" ] && exit 3
            trap 'exit 0' TERM
            while :; do sleep 0.05; done"#;
        let mut command = verb("-i 2 --name web --ready uptime --min-uptime 100ms --web 127.0.0.1:0 -- sh -c");
        command.arg(app).env("RINIT_SOCKET", folder.path().join("sock")).env("BROKEN", folder.path().join("broken"));
        let rinit = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Real { folder, rinit }
    }

    fn broken(&self) -> PathBuf {
        self.folder.path().join("broken")
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = verb(line);
        command.env("RINIT_SOCKET", self.folder.path().join("sock"));
        finish(command)
    }

    fn done(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}: {ran:?}");
        ran.stdout
    }

    /// State and generation of each worker.
    fn states(&self) -> Vec<(String, String, u32)> {
        let status: Status = serde_json::from_str(&self.done("list --json")).unwrap();
        status.workers.into_iter().map(|worker| (worker.id, worker.state, worker.generation)).collect()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.rinit.id() as i32);
        if self.rinit.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = self.rinit.wait();
        }
    }
}

fn state(id: &str, state: &str, generation: u32) -> (String, String, u32) {
    (id.into(), state.into(), generation)
}

#[test]
fn workers_are_shown_and_controlled() {
    let real = Real::start();
    // It may not have opened its socket yet.
    assert_eq!(real.done("wait --timeout 60s"), "ready\n");
    assert_eq!(real.done("health"), "ready\n");
    assert_eq!(real.states(), [state("web-0", "ready", 1), state("web-1", "ready", 1)]);
    assert_eq!(real.done("list").lines().count(), 3);
    assert!(real.done("describe 0").contains("\n  command     sh -c "));
    assert_eq!(real.done("logs web-1 --stdout"), "web-1 | up 1\n");
    assert_eq!(real.run("logs --stderr --since 1h").stderr.lines().count(), 2);
    assert!(real.done("config").contains("\nname "));

    assert!(real.done("reload").starts_with("web is reloaded"));
    assert_eq!(real.states(), [state("web-0", "ready", 2), state("web-1", "ready", 2)]);
    for target in ["web", "web-0"] {
        assert!(real.done(&format!("reload {target}")).contains("web"), "{target}");
    }
    assert_eq!(real.done("scale +1"), "web has 3 workers\n");
    assert_eq!(real.done("scale web 2"), "web has 2 workers\n");
    assert_eq!(real.done("restart web-1"), "web-1 is ready\n");
    assert_eq!(real.done("stop 1"), "web-1 is stopped\n");
    // It was stopped by hand, and so is not wanted: nothing is missing.
    assert_eq!(real.done("health --min 100%"), "ready\n");
    let ran = real.run("health --min 2");
    assert!(ran.code == 1 && ran.stderr.starts_with("rinit: not ready: "), "{ran:?}");
    assert_eq!(real.done("start 1"), "web-1 is ready\n");
    assert!(real.done("signal WINCH").contains("SIGWINCH"));
    let ran = real.run("restart wbe-1");
    assert!(ran.code == 1 && ran.stderr.contains("did you mean web-1?"), "{ran:?}");
    assert!(!real.done("delete web-1").is_empty());
    assert_eq!(
        real.states(),
        [state("web-0", "ready", 3)],
        "the reload of web was the second, that of one worker none"
    );
}

#[test]
fn a_failed_reload_is_reported_and_changes_nothing() {
    let real = Real::start();
    real.done("wait --timeout 60s");
    std::fs::write(real.broken(), "").unwrap();
    let ran = real.run("reload");
    assert!(ran.code == 1 && ran.stdout.is_empty(), "{ran:?}");
    assert!(
        ran.stderr.contains("web-0") && ran.stderr.contains("exit code 3") && ran.stderr.contains("oh 0"),
        "{ran:?}"
    );
    assert_eq!(real.states(), [state("web-0", "ready", 1), state("web-1", "ready", 1)]);
    assert!(real.run("list").stderr.contains("the reload to generation 2 failed at"));
    std::fs::remove_file(real.broken()).unwrap();
    real.done("reload");
    assert_eq!(real.run("list").stderr, "", "what failed is history");
}

#[test]
fn a_follower_stays_across_a_reload_and_ends_with_the_container() {
    let mut real = Real::start();
    real.done("wait --timeout 60s");
    let mut command = verb("logs -f --stdout web-0");
    command.env("RINIT_SOCKET", real.folder.path().join("sock"));
    let mut follower = command.spawn().unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(out.next().unwrap().unwrap(), "web-0 | up 0");
    real.done("reload");
    assert_eq!(out.next().unwrap().unwrap(), "web-0 | up 0", "of the new worker");
    assert_eq!(real.done("delete all"), "the container stops\n");
    assert!(out.next().is_none());
    assert_eq!(end(follower).code, 0);
    assert_eq!(real.rinit.wait().unwrap().code(), Some(0));
}
