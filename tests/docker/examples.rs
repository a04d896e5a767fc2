//! The main job: the examples' images, served, reloaded and stopped as a user does it.

use crate::engine::{Container, engine, eventually, get};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PUBLISHED: [&str; 2] = ["-p", "127.0.0.1::8080"];

#[test]
fn the_node_example_serves_reloads_under_load_and_stops() {
    let Some(engine) = engine() else { return };
    serves_reloads_under_load_and_stops(&engine.node);
}

#[test]
fn the_python_example_serves_reloads_under_load_and_stops() {
    let Some(engine) = engine() else { return };
    serves_reloads_under_load_and_stops(&engine.python);
}

#[test]
fn the_example_that_takes_sockets_serves_reloads_under_load_and_stops() {
    let Some(engine) = engine() else { return };
    serves_reloads_under_load_and_stops(&engine.sockets);
}

fn serves_reloads_under_load_and_stops(image: &str) {
    let container = Container::start(&PUBLISHED, image, &[]);
    let workers = all_ready(&container);
    container.until("each worker has named itself", |logs| {
        let named = |worker| format!("app-{worker} | worker {worker}, process ");
        (0..workers).all(|worker| logs.stdout.iter().any(|line| line.starts_with(&named(worker))))
    });
    let port = container.port(8080);
    assert_eq!(get(port, "/healthz").unwrap(), "ok");
    eventually("every worker has answered", || {
        let answers = BTreeSet::from_iter((0..20).filter_map(|_| worker_of(&get(port, "/").unwrap())));
        (answers.len() == workers).then_some(())
    });

    let old = container.logs().words_after("process ");
    let load = under_load(port, || {
        container.signal("HUP");
        container.until("the reload is done", |logs| logs.has("reload to generation 2 done"));
    });
    assert_eq!(load.failures, [""; 0], "of {} requests", load.answered);
    assert!(load.answered > 10, "{}", load.answered);
    let answer = get(port, "/").unwrap();
    assert!(!old.contains(&process_of(&answer)), "{answer} by one of the old {old:?}");

    assert!(container.stop() < Duration::from_secs(8));
    assert_eq!(container.wait(), 0);
    assert!(!container.logs().has(" ended: "), "nobody crashed");
}

#[test]
fn on_docker_kill_hup_the_old_serve_until_the_new_are_ready() {
    let Some(engine) = engine() else { return };
    let hook = StartupHook::new();
    let container = hook.container(&engine.node);
    let port = container.port(8080);
    let old = container.logs().words_after("process ");

    hook.set(CLOSED);
    let load = under_load(port, || {
        container.signal("HUP");
        container.until("a new one is there", |logs| logs.has("started as a replacement"));
        // Many times as long as a worker must live to count as stable: that alone does not make it ready.
        let start = Instant::now();
        while start.elapsed() < 20 * MIN_UPTIME {
            let answer = get(port, "/").unwrap();
            assert!(old.contains(&process_of(&answer)), "{answer} is not by one of the old {old:?}");
        }
        assert!(!container.logs().has("gets SIGTERM"), "no old worker is asked to go while no new one is ready");
        hook.set("");
        container.until("the reload is done", |logs| logs.has("reload to generation 2 done"));
    });
    assert_eq!(load.failures, [""; 0], "of {} requests", load.answered);
    let answer = get(port, "/").unwrap();
    assert!(!old.contains(&process_of(&answer)), "{answer} is by one of the old {old:?}");
}

#[test]
fn a_version_that_does_not_start_leaves_the_old_one_serving_and_the_next_reload_tries_again() {
    let Some(engine) = engine() else { return };
    let hook = StartupHook::new();
    let container = hook.container(&engine.node);
    let port = container.port(8080);
    let old = container.logs().words_after("process ");

    hook.set("console.error('DATABASE_URL is not set'); process.exit(3);");
    let load = under_load(port, || {
        container.signal("HUP");
        container.until("the log says why", |logs| {
            logs.has_line(&["reload to generation 2 stopped", "exit code 3"])
                && logs.count("DATABASE_URL is not set") >= 2
        });
    });
    assert_eq!(load.failures, [""; 0], "of {} requests", load.answered);
    assert!(!container.logs().has("gets SIGTERM"), "no old worker was asked to go");
    let answer = get(port, "/").unwrap();
    assert!(old.contains(&process_of(&answer)), "{answer} is not by one of the old {old:?}");

    hook.set("");
    container.signal("HUP");
    container.until("the next reload is done", |logs| logs.has("reload to generation 3 done"));
    assert!(!old.contains(&process_of(&get(port, "/").unwrap())));
}

/// A file that Node runs before the app: its content decides how a process starts.
struct StartupHook {
    folder: tempfile::TempDir,
}

/// How long a worker must live, in these containers, to count as stable.
const MIN_UPTIME: Duration = Duration::from_millis(100);

/// Waits until the file is empty.
const CLOSED: &str = "while (require('node:fs').readFileSync(__filename, 'utf8') !== '') \
                      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);";

impl StartupHook {
    fn new() -> StartupHook {
        let folder = tempfile::tempdir().unwrap();
        // The container's user is another.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let hook = StartupHook { folder };
        hook.set("");
        hook
    }

    fn set(&self, script: &str) {
        std::fs::write(self.folder.path().join("hook.js"), script).unwrap();
    }

    fn container(&self, image: &str) -> Container {
        let mount = format!("{}:/hook:ro", self.folder.path().display());
        let uptime = format!("RINIT_MIN_UPTIME={}ms", MIN_UPTIME.as_millis());
        let options = ["-e", &uptime, "-e", "NODE_OPTIONS=--require=/hook/hook.js", "-v", &mount];
        let container = Container::start(&[&PUBLISHED[..], &options].concat(), image, &[]);
        let workers = all_ready(&container);
        // So short an uptime may have made them ready before they listened, or had come by the hook.
        container.until("every worker listens", |logs| logs.count("listens on") == workers);
        container
    }
}

/// Waits until every worker is ready. How many there are.
fn all_ready(container: &Container) -> usize {
    let workers = container.exec(&["nproc"]).stdout.trim().parse().unwrap();
    container.until("every worker is ready", |logs| logs.count("is ready") == workers);
    workers
}

/// How requests went.
struct Load {
    answered: usize,
    failures: Vec<String>,
}

/// Sends requests, half of them slow, from before the event until after it.
fn under_load(port: u16, event: impl FnOnce()) -> Load {
    let (over, answered, failures) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(vec![]));
    let client = |path: &str| {
        while !over.load(Ordering::Relaxed) {
            match get(port, path) {
                Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                Err(error) => failures.lock().unwrap().push(error),
            }
        }
    };
    std::thread::scope(|scope| {
        for path in ["/", "/slow", "/", "/slow"] {
            scope.spawn(move || client(path));
        }
        // Also when the event panics.
        let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
        eventually("requests are answered", || (answered.load(Ordering::Relaxed) >= 4).then_some(()));
        event();
    });
    Load { answered: answered.into_inner(), failures: failures.into_inner().unwrap() }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn worker_of(answer: &str) -> Option<String> {
    Some(answer.strip_prefix("worker ")?.split(',').next()?.to_owned())
}

fn process_of(answer: &str) -> String {
    answer.split("process ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default().to_owned()
}
