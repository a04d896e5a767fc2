//! Several apps in one container: the example with a migration, an API and a worker.

use crate::engine::{Container, docker_ok, engine, eventually, get};
use std::time::Duration;

const OPTIONS: [&str; 4] = ["-p", "127.0.0.1::8080", "--tmpfs", "/data:mode=1777"];

#[test]
fn the_migration_runs_first_and_then_the_api_and_the_worker_serve_together() {
    let Some(engine) = engine() else { return };
    let container = Container::start(&OPTIONS, &engine.apps, &[]);
    container.until("the API and the worker are ready", |logs| {
        ["api-0", "api-1", "worker-0"].iter().all(|worker| logs.has_line(&[worker, "is ready"]))
    });
    let logs = container.logs();
    let line = |words: &[&str]| logs.stderr.iter().position(|line| words.iter().all(|word| line.contains(word)));
    let migrated = line(&["migrate-0", "finished"]).unwrap();
    for worker in ["api-0", "api-1", "worker-0"] {
        assert!(line(&[worker, "started"]).unwrap() > migrated, "{:#?}", logs.stderr);
    }
    let port = container.port(8080);
    assert_eq!(get(port, "/upper/hello").unwrap(), "HELLO");
    let names = docker_ok(&["exec", &container.name, "rinit", "list", "-q"]);
    for worker in ["api-0", "api-1", "worker-0"] {
        assert!(names.lines().any(|name| name == worker), "{names}");
    }

    container.signal("HUP");
    eventually("a reload goes on serving", || (get(port, "/upper/again").ok()? == "AGAIN").then_some(()));
    assert!(container.stop() < Duration::from_secs(8));
    assert_eq!(container.wait(), 0);
    assert!(container.logs().has("no more jobs are taken"));
}

#[test]
fn a_migration_that_fails_ends_the_container_with_its_code_and_nothing_else_starts() {
    let Some(engine) = engine() else { return };
    let options = [&OPTIONS[..], &["-e", "MIGRATION_FAILS=7"]].concat();
    let ran = engine.run(&options, &engine.apps, &[]);
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(ran.stderr.contains("the database is newer than this program"), "{ran:?}");
    assert!(!ran.stderr.contains("api-0 (pid"), "{ran:?}");
}
