//! `--listen`: sockets that rinit opens and every worker is handed.

use crate::harness::{Flag, Rig, eventually, free_port};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the other side says until it closes the connection; empty if that was at once, or by a reset.
fn answer(mut stream: impl Read) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn every_worker_is_handed_the_sockets_as_sd_listen_fds_has_it() {
    let listen = format!("127.0.0.1:{}", free_port());
    let rig = Rig::new(&["-i", "2", "--listen", &listen])
        .fixture("env=LISTEN_FDS env=LISTEN_FDNAMES env=LISTEN_PID state up wait")
        .start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    let out = rig.output();
    assert_eq!(out.count("LISTEN_FDS=1"), 2);
    assert_eq!(out.count(&format!("LISTEN_FDNAMES={}", listen.rsplit(':').next().unwrap())), 2);
    for worker in 0..2 {
        let said = |what: &str| {
            let front = format!("fixture-{worker} | {what}");
            let line = out.stdout.iter().find_map(|line| line.strip_prefix(&front));
            line.unwrap_or_else(|| panic!("no {front}: {:?}", out.stdout)).split(' ').next().unwrap().to_owned()
        };
        assert_eq!(said("LISTEN_PID="), said("state pid "));
    }
}

#[test]
fn several_sockets_have_numbers_and_names_in_the_order_of_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock").display().to_string();
    let port = free_port();
    let (web, plain) = (format!("web=127.0.0.1:{}", free_port()), format!("127.0.0.1:{port}"));
    let rig = Rig::new(&["-i", "1", "--listen", &web, "--listen", &plain, "--listen", &path])
        .fixture("env=LISTEN_FDS env=LISTEN_FDNAMES accept=5 up wait")
        .start();
    rig.until("it is up", |out| out.has("| up "));
    assert!(rig.output().has("LISTEN_FDS=3"));
    assert!(rig.output().has(&format!("LISTEN_FDNAMES=web:{port}:api.sock")));
    assert_eq!(answer(UnixStream::connect(&path).unwrap()), "worker 0\n");
}

#[test]
fn the_variable_takes_several_sockets_too_and_each_is_its_own() {
    for descriptor in [3, 4] {
        let addresses = [0, 1].map(|_| format!("127.0.0.1:{}", free_port()));
        let rig = Rig::new(&["-i", "1"]).env("RINIT_LISTEN", &addresses.join(","));
        let rig = rig.fixture(&format!("accept={descriptor} up wait")).start();
        rig.until("it is up", |out| out.has("| up "));
        assert_eq!(answer(TcpStream::connect(&addresses[descriptor - 3]).unwrap()), "worker 0\n");
    }
}

#[test]
fn workers_share_the_socket() {
    let listen = format!("127.0.0.1:{}", free_port());
    let rig = Rig::new(&["-i", "2", "--listen", &listen]).fixture("accept up wait").start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    let mut seen = std::collections::BTreeSet::new();
    let start = std::time::Instant::now();
    while seen.len() < 2 && start.elapsed().as_secs() < 60 {
        seen.insert(answer(TcpStream::connect(&listen).unwrap()));
    }
    assert_eq!(Vec::from_iter(seen), ["worker 0\n", "worker 1\n"]);
}

#[test]
fn a_port_without_an_address_is_open_on_all_of_them() {
    let port = free_port();
    let rig = Rig::new(&["-i", "1", "--listen", &port.to_string()]).fixture("accept up wait").start();
    rig.until("it is up", |out| out.has("| up "));
    assert_eq!(answer(TcpStream::connect(("127.0.0.1", port)).unwrap()), "worker 0\n");
    // Where there is IPv6.
    if let Ok(stream) = TcpStream::connect(("::1", port)) {
        assert_eq!(answer(stream), "worker 0\n");
    }
}

#[test]
fn connections_wait_while_there_is_no_worker_to_take_them() {
    let listen = format!("127.0.0.1:{}", free_port());
    let gate = Flag::new();
    // The first life ends before it takes a connection; the second one serves.
    let words = format!("up unless={} exit=1 accept wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--listen", &listen, "--backoff", "100ms..100ms", "--max-restarts", "0"]);
    let rig = rig.fixture(&words).start();
    rig.until("nobody runs", |out| out.has("started again in"));
    let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&listen).unwrap()).collect();
    gate.set();
    for stream in waiting {
        assert_eq!(answer(stream), "worker 0\n");
    }
}

#[test]
fn no_connection_is_refused_while_the_only_worker_crashes_and_is_reloaded() {
    let listen = format!("127.0.0.1:{}", free_port());
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--listen", &listen, "--min-uptime", "20ms"])
        .fixture("accept up wait")
        .start();
    rig.until("it is stable", |out| out.has("is ready after"));
    let over = AtomicBool::new(false);
    let (refused, served) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut refused, mut served) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                match TcpStream::connect(&listen).map(answer) {
                    Ok(text) if text == "worker 0\n" => served += 1,
                    // Taken by a worker that was killed before it answered.
                    Ok(_) => {}
                    Err(_) => refused += 1,
                }
            }
            (refused, served)
        });
        for crash in 1..=5 {
            rig.signal_pid(rig.workers()[0], "KILL");
            rig.until("it is stable again", |out| out.count("is ready after") == crash + 1);
        }
        for reload in 1..=2 {
            rig.signal("HUP");
            rig.until("it is reloaded", |out| out.has(&format!("reload to generation {} done", reload + 1)));
        }
        over.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    assert_eq!(refused, 0);
    assert!(served > 0);
}

#[test]
fn a_unix_socket_is_there_from_the_start_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    // A killed program has left its socket behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--min-uptime", "20ms", "--listen", path.to_str().unwrap()]);
    let rig = rig.fixture("accept up wait").start();
    rig.until("it is stable", |out| out.has("is ready after"));
    assert_eq!(answer(UnixStream::connect(&path).unwrap()), "worker 0\n");
    let old = rig.workers();
    rig.signal_pid(old[0], "KILL");
    // It may still take a connection while it dies.
    eventually("it is dead", || (rig.workers() != old).then_some(()));
    assert_eq!(answer(UnixStream::connect(&path).unwrap()), "worker 0\n");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(!path.exists(), "the socket's file is left behind");
}

#[test]
fn sockets_that_somebody_handed_to_rinit_are_not_the_workers() {
    let rig = Rig::new(&["-i", "1", "--ready", "uptime"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDNAMES", "x")
        .env("NOTIFY_SOCKET", "@elsewhere")
        .fixture("env=LISTEN_FDS env=LISTEN_PID env=LISTEN_FDNAMES env=NOTIFY_SOCKET up wait")
        .start();
    rig.until("it is up", |out| out.has("| up "));
    assert_eq!(rig.output().count(" unset"), 4, "{:?}", rig.output().stdout);
}
