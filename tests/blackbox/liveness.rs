//! Tests `--live`, and what a worker says by sd_notify after it is ready.

use crate::harness::{Flag, Rig, eventually, fixture};

/// The first worker's process, once it is ready.
const REPLACED: &str = "worker replaced";

#[test]
fn a_worker_whose_probe_fails_is_replaced_and_the_new_one_comes_first() {
    let ill = Flag::new();
    let probe = format!("exec:test ! -e {}", ill.path());
    let times = ["--live-interval", "50ms", "--live-failures", "2", "--min-uptime", "50ms"];
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--live", &probe]).args(&times).fixture("up wait").start();
    rig.until("it is ready", |out| out.has("is ready after"));
    let old = rig.workers()[0];
    ill.set();
    rig.until("it is seen", |out| out.has("does not answer its liveness probes"));
    assert!(rig.output().has("last answer: exit code 1"), "{:?}", rig.output().stderr);
    ill.clear();
    rig.until("it is replaced", |out| out.has(REPLACED));
    let out = rig.output();
    let line = |text: &str| out.stderr.iter().position(|line| line.contains(text)).unwrap();
    assert!(line("started as a replacement") < line("gets SIGTERM"), "{:?}", out.stderr);
    eventually("the old one is gone", || (!rig.workers().contains(&old)).then_some(()));
    assert!(!out.has("reload to generation"), "it is no reload");
}

#[test]
fn a_probe_that_fails_now_and_then_replaces_nobody() {
    let flaky = tempfile::tempdir().unwrap();
    // Every second probe fails.
    let toggle = format!("exec:sh -c 'rmdir {0} || {{ mkdir {0}; exit 1; }}'", flaky.path().join("odd").display());
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--min-uptime", "20ms", "--live", &toggle])
        .args(&["--live-interval", "20ms", "--live-failures", "2", "--log-level", "debug"])
        .fixture("up after=1500 say=late wait")
        .start();
    rig.until("many probes later", |out| out.has("| late"));
    assert!(!rig.output().has("is replaced"), "{:?}", rig.output().stderr);
}

#[test]
fn a_worker_that_stops_feeding_the_watchdog_is_replaced() {
    let words = "env=WATCHDOG_USEC notify up wait";
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "20ms", "--live", "watchdog"])
        .args(&["--live-interval", "300ms", "--live-failures", "1"])
        .fixture(words)
        .start();
    rig.until("it is seen", |out| out.has("last answer: no WATCHDOG=1 within 300ms"));
    rig.until("it is replaced", |out| out.has(REPLACED));
    assert!(rig.output().has("WATCHDOG_USEC=300000"));
}

#[test]
fn the_notify_socket_stays_open_and_the_last_status_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("rinit.sock").display().to_string();
    let words = "notify=READY=1 after=100 notify=STATUS=first notify=STATUS=second up wait";
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--socket", &socket]).fixture(words).start();
    rig.until("it has said all", |out| out.has("| up "));
    eventually("the last status is shown", || {
        let list = std::process::Command::new(crate::harness::rinit()).args(["list", "--socket", &socket]).output();
        String::from_utf8_lossy(&list.unwrap().stdout).contains("second").then_some(())
    });
}

#[test]
fn the_sockets_of_an_outer_service_manager_are_passed_on() {
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    // The outer rinit hands its socket to the inner one, as systemd would.
    let inner = ["--socket", "off", "-i", "1", "--ready", "uptime", "--"];
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--listen", &address, "--"])
        .arg(crate::harness::rinit())
        .args(&inner)
        .arg(fixture())
        .args(&["env=LISTEN_FDS", "accept=3", "up", "wait"])
        .start();
    rig.until("the inner worker is up", |out| out.has("| up "));
    assert!(rig.output().has("LISTEN_FDS=1"), "{:?}", rig.output().stdout);
    let mut text = String::new();
    let _ = std::io::Read::read_to_string(&mut std::net::TcpStream::connect(&address).unwrap(), &mut text);
    assert_eq!(text, "worker 0\n");
}

#[test]
fn an_outer_service_manager_is_told_when_the_container_is_ready_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manager.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let next = || {
        let mut text = [0; 64];
        let count = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    let gate = Flag::new();
    let words = format!("env=NOTIFY_SOCKET up file={} notify wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", "notify"]).env("NOTIFY_SOCKET", path.to_str().unwrap());
    let rig = rig.fixture(&words).start();
    rig.until("it is up", |out| out.has("| up "));
    assert!(!rig.output().has("manager.sock"), "the worker has a socket of rinit's");
    gate.set();
    assert_eq!(next(), "READY=1");
    rig.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(rig.wait(), 0);
}
