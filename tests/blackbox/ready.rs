//! `--ready`: when a worker counts as ready, and what happens when it never does.

use crate::harness::{Flag, Rig, Running, eventually, fixture, free_port, namespace, status_field};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Waits until the worker says "late", which it does long after `--min-uptime`, and finds it not ready.
fn is_not_ready_though_it_is_late(rig: &Running) {
    rig.until("time has passed", |out| out.has("| late"));
    assert!(!rig.output().has("is ready"), "{:?}", rig.output().stderr);
}

#[test]
fn spawn_means_ready_as_soon_as_the_program_runs() {
    let rig = Rig::new(&["-i", "1", "--ready", "spawn", "--min-uptime", "1h", "--log-level", "debug"]);
    let rig = rig.fixture("wait").start();
    rig.until("it is ready", |out| out.has("is ready"));
}

#[test]
fn uptime_means_ready_after_min_uptime_whatever_the_worker_says() {
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--min-uptime", "200ms"]);
    let rig = rig.fixture("env=NOTIFY_SOCKET wait").start();
    rig.until("it is ready", |out| out.has("is ready after") && out.has("NOTIFY_SOCKET unset"));
    let out = rig.output();
    assert!(out.has("by its uptime"), "{:?}", out.stderr);
    let line = out.stderr.iter().find(|line| line.contains("is ready after")).unwrap();
    let took = line.split("after ").nth(1).unwrap().split(' ').next().unwrap();
    // 200 milliseconds or, on a busy machine, more.
    let milliseconds = took.strip_suffix("ms").map_or(1000, |text| text.parse().unwrap());
    assert!(milliseconds >= 200, "{line}");
}

#[test]
fn uptime_counts_from_the_start_of_the_program_and_not_from_the_fork() {
    if namespace().is_empty() {
        crate::harness::skipped("no mount namespace to be had");
        return;
    }
    // The child raises its score for the out-of-memory killer before it becomes the program, and here waits with that
    // until somebody reads; a program on a slow file system takes as long.
    let proc = tempfile::tempdir().unwrap();
    let score = proc.path().join("self/oom_score_adj");
    std::fs::create_dir(proc.path().join("self")).unwrap();
    nix::unistd::mkfifo(&score, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let mount = format!("mount --bind {} /proc && exec \"$0\" \"$@\"", proc.path().display());
    let rig = Rig::new(&["-i", "1", "--ready", "uptime", "--min-uptime", "20ms"]);
    let rig = rig.through(&["sh", "-c", &mount]).fixture("wait").start();
    let mut open = std::fs::OpenOptions::new();
    let open = open.custom_flags(nix::libc::O_NONBLOCK);
    let mut own = eventually("rinit asks for its own score", || open.clone().write(true).open(&score).ok());
    own.write_all(b"0\n").unwrap();
    drop(own);
    // The child waits from its first moments on; so this is less than the time between its fork and its program.
    eventually("the child is there", || rig.workers().first().copied());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let reader = open.clone().read(true).open(&score).unwrap();
    rig.until("its program runs, and is ready", |out| out.has(") started") && out.has("is ready after"));
    let out = rig.output();
    let place = |text: &str| out.stderr.iter().position(|line| line.contains(text)).unwrap();
    assert!(place(") started") < place("is ready after"), "{:#?}", out.stderr);
    drop(reader);
}

#[test]
fn a_signal_that_came_before_the_timeout_counts_though_rinit_was_frozen_until_after_it() {
    // As `docker pause` and a paused virtual machine have it.
    let (gate, has_notified) = (Flag::new(), Flag::new());
    let words = format!("up file={} notify touch={} wait", gate.path(), has_notified.path());
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--ready-timeout", "5s", "--min-uptime", "10ms"]);
    let rig = rig.fixture(&words).start();
    rig.until("the worker runs", |out| out.has("| up"));
    rig.signal("STOP");
    gate.set();
    eventually("it has notified", || std::path::Path::new(&has_notified.path()).exists().then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(6));
    rig.signal("CONT");
    rig.until("it is ready", |out| out.has("is ready"));
    assert!(!rig.output().has("was not ready"), "{:?}", rig.output().stderr);
}

#[test]
fn notify_means_ready_when_the_worker_says_so() {
    let gate = Flag::new();
    let words = format!("notify=STATUS=starting after=100 say=late file={} notify wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "10ms"]).fixture(&words).start();
    is_not_ready_though_it_is_late(&rig);
    gate.set();
    rig.until("it is ready", |out| out.has("is ready after"));
}

#[test]
fn a_child_of_the_worker_may_say_it() {
    let rig = Rig::new(&["-i", "1", "--ready", "notify"]).fixture("child=notify wait").start();
    rig.until("it is ready", |out| out.has("is ready after"));
}

#[test]
fn every_worker_speaks_for_itself() {
    let script = format!("[ $RINIT_WORKER = 1 ] && exec {0} notify wait; exec {0} up wait", fixture().display());
    let rig = Rig::new(&["-i", "3", "--ready", "notify", "--name", "web", "--", "sh", "-c", &script]).start();
    rig.until("the two others are up, and one is ready", |out| out.count("| up ") == 2 && out.has("is ready after"));
    let out = rig.output();
    assert_eq!((out.count("is ready"), out.count("rinit | web-1 ")), (1, 2), "{:?}", out.stderr);
}

#[test]
fn fd_means_ready_when_a_newline_comes_from_that_descriptor() {
    let gate = Flag::new();
    let words = format!("state after=100 say=late file={} newline=7 wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", "fd:7", "--min-uptime", "10ms"]).fixture(&words).start();
    is_not_ready_though_it_is_late(&rig);
    gate.set();
    rig.until("it is ready, by what it did", |out| out.has("is ready after") && out.has("(it wrote a newline)"));
}

#[test]
fn fd_goes_together_with_sockets() {
    let listen = format!("127.0.0.1:{}", free_port());
    let rig = Rig::new(&["-i", "1", "--ready", "fd:4", "--listen", &listen]).fixture("accept newline=4 wait").start();
    rig.until("it is ready", |out| out.has("is ready after"));
    let mut text = String::new();
    std::net::TcpStream::connect(&listen).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "worker 0\n");
}

#[test]
fn tcp_means_ready_when_somebody_listens_there() {
    let gate = Flag::new();
    let port = free_port();
    let words = format!("after=100 say=late file={} listen={port} wait", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", &format!("tcp:127.0.0.1:{port}"), "--min-uptime", "10ms"]);
    let rig = rig.fixture(&words).start();
    is_not_ready_though_it_is_late(&rig);
    gate.set();
    rig.until("it is ready", |out| out.has("is ready after"));
}

/// Answers every request with the status of the moment; counts them, and keeps the last one.
fn serve(status: Arc<Mutex<&'static str>>, requests: Arc<AtomicUsize>, last: Arc<Mutex<String>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            *last.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
            let status = *status.lock().unwrap();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            requests.fetch_add(1, Ordering::Relaxed);
        }
    });
    port
}

#[test]
fn http_means_ready_when_the_answer_is_200_to_399() {
    for (unwell, well) in [("503 Service Unavailable", "200 OK"), ("404 Not Found", "302 Found")] {
        let (status, requests, last) = (Arc::new(Mutex::new(unwell)), Arc::default(), Arc::default());
        let port = serve(status.clone(), Arc::clone(&requests), Arc::clone(&last));
        let ready = format!("http://127.0.0.1:{port}/health?deep=1");
        let rig = Rig::new(&["-i", "1", "--ready", &ready, "--min-uptime", "10ms"]).fixture("wait").start();
        eventually("it was asked often", || (requests.load(Ordering::Relaxed) >= 4).then_some(()));
        assert!(!rig.output().has("is ready"), "{unwell}");
        *status.lock().unwrap() = well;
        rig.until("it is ready", |out| out.has("is ready after"));
        let request = last.lock().unwrap().clone();
        assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")), "{request}");
    }
}

#[test]
fn http_is_answered_by_the_worker_itself() {
    let port = free_port();
    let rig = Rig::new(&["-i", "1", "--ready", &format!("http://localhost:{port}")]);
    let rig = rig.fixture(&format!("listen={port} wait")).start();
    rig.until("it is ready", |out| out.has("is ready after"));
}

#[test]
fn exec_means_ready_when_that_command_succeeds() {
    let gate = Flag::new();
    let ready = format!("exec:test -e '{}'", gate.path());
    let rig = Rig::new(&["-i", "1", "--ready", &ready, "--min-uptime", "10ms"]);
    let rig = rig.fixture("after=100 say=late wait").start();
    is_not_ready_though_it_is_late(&rig);
    gate.set();
    rig.until("it is ready", |out| out.has("is ready after"));
    eventually("every probe is collected", || (rig.workers().len() == 1).then_some(()));
}

#[test]
fn exec_asks_in_the_environment_of_the_worker_that_it_asks_for() {
    let ready = "exec:sh -c 'test \"$PORT $RINIT_WORKER\" = \"3001 1\"'";
    let rig = Rig::new(&["-i", "2", "--name", "web", "--increment-env", "PORT=3000", "--ready", ready]);
    let rig = rig.fixture("wait").start();
    rig.until("the one is ready", |out| out.has("is ready after"));
    assert!(rig.output().stderr.iter().all(|line| !line.contains("is ready") || line.contains("web-1 ")));
}

#[test]
fn a_probe_that_hangs_is_killed_with_its_worker() {
    let well = Flag::new();
    let probe = format!("exec:sh -c 'test -e {} || {{ sleep 1000 & sleep 1000; }}'", well.path());
    let rig = Rig::new(&["-i", "1", "--ready", &probe, "--ready-timeout", "200ms"]);
    let rig = rig.arg("--backoff").arg("10ms..10ms").arg("--max-restarts").arg("0").fixture("up wait").start();
    rig.until("it was given up twice", |out| out.count("was not ready within") >= 2);
    well.set();
    rig.until("it is ready", |out| out.has("is ready after"));
    eventually("no probe is left, nor what it started", || (rig.workers().len() == 1).then_some(()));
}

#[test]
fn a_probe_that_cannot_be_run_is_no_reason_to_end() {
    let rig = Rig::new(&["-i", "1", "--ready", "exec:no-such-probe", "--ready-timeout", "100ms"]);
    let rig = rig.arg("--backoff").arg("10ms..10ms").arg("--max-restarts").arg("1").fixture("wait").start();
    assert_eq!(rig.wait(), 143);
    assert_eq!(rig.output().count("was not ready within"), 2);
}

#[test]
fn a_worker_that_is_not_ready_in_time_has_failed_to_start() {
    let ways = ["notify".to_owned(), "fd:3".to_owned(), format!("tcp:127.0.0.1:{}", free_port())];
    for ready in ways {
        let rig = Rig::new(&["-i", "1", "--ready", &ready, "--ready-timeout", "50ms", "--min-uptime", "1ms"]);
        let rig = rig.arg("--max-restarts").arg("2").arg("--backoff").arg("1ms..1ms").fixture("wait").start();
        // It was ended by SIGTERM.
        assert_eq!(rig.wait(), 143, "{ready}");
        let out = rig.output();
        assert_eq!(out.count("was not ready within"), 3, "{:?}", out.stderr);
        assert!(out.has("3 crashes in a row"), "{:?}", out.stderr);
    }
}

#[test]
fn a_worker_that_is_not_ready_and_deaf_is_killed() {
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--ready-timeout", "1s", "--stop-timeout", "50ms"]);
    let rig = rig.arg("--max-restarts").arg("1").arg("--backoff").arg("1ms..1ms").fixture("deaf=TERM wait").start();
    assert_eq!(rig.wait(), 137);
}

#[test]
fn auto_takes_the_first_sign() {
    let rig = Rig::new(&["-i", "1", "--min-uptime", "1h"]).fixture("notify wait").start();
    rig.until("its word came first", |out| out.has("it said so"));
    let rig = Rig::new(&["-i", "1", "--min-uptime", "50ms"]).fixture("wait").start();
    rig.until("its uptime came first", |out| out.has("by its uptime"));
}

#[test]
fn auto_wants_the_word_of_a_worker_whose_predecessor_gave_it() {
    let mute = Flag::new();
    let words = format!("up unless={} notify wait", mute.path());
    // The first has plenty of time to say it before its uptime would do.
    let rig = Rig::new(&["-i", "1", "--min-uptime", "5s", "--ready-timeout", "500ms"]);
    let rig = rig.arg("--backoff").arg("1ms..1ms").fixture(&words).start();
    rig.until("it is ready", |out| out.has("it said so"));
    let old = rig.workers();
    mute.set();
    rig.signal("HUP");
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped"));
    assert!(rig.output().has("READY=1"), "{:?}", rig.output().stderr);
    eventually("the old one alone is there", || (rig.workers() == old).then_some(()));
    // A restart is held to it as a reload is.
    rig.signal_pid(old[0], "KILL");
    rig.until("the next one is not ready", |out| out.count("was not ready within") >= 2);
    mute.clear();
    rig.until("one is ready at last", |out| out.count("it said so") == 2);
}

#[test]
fn a_late_word_is_remembered_too() {
    let (gate, mute) = (Flag::new(), Flag::new());
    let words = format!("up file={} unless={} notify say=told wait", gate.path(), mute.path());
    let rig = Rig::new(&["-i", "1", "--share-ports", "off", "--min-uptime", "20ms", "--ready-timeout", "5s"]);
    let rig = rig.fixture(&words).start();
    rig.until("it is ready by its uptime", |out| out.has("by its uptime"));
    gate.set();
    rig.until("it said its word", |out| out.has("| told"));
    // The word is a datagram on its way to rinit: what rinit does next it does after it has read that.
    mute.set();
    rig.signal("HUP");
    rig.until("the reload has stopped", |out| out.has("reload to generation 2 stopped"));
    assert!(rig.output().has("READY=1"), "{:?}", rig.output().stderr);
}

#[test]
fn a_signal_after_the_ready_timeout_fails_no_reload() {
    let (gate, mute) = (Flag::new(), Flag::new());
    let words = format!("up file={} unless={} notify say=told wait", gate.path(), mute.path());
    // Through a shell: rinit sees of a static program neither what it binds nor that it binds nothing, and the fixture may be one.
    let rig =
        Rig::new(&["-i", "1", "--min-uptime", "20ms", "--ready-timeout", "300ms", "sh", "-c", r#"exec "$0" "$@""#]);
    let rig = rig.fixture(&words).start();
    rig.until("it has turned out to give no word", |out| out.has("has given no signal of being ready in 300ms"));
    gate.set();
    rig.until("it said its word", |out| out.has("| told"));
    mute.set();
    rig.signal("HUP");
    rig.until("the reload is done", |out| out.has("reload to generation 2 done"));
}

#[test]
fn a_word_from_elsewhere_is_not_believed() {
    // Whoever is outside of the container can reach an abstract socket in the same network, but has no number inside.
    if namespace().is_empty() {
        return;
    }
    let rig = Rig::new(&["-i", "1", "--ready", "notify"]).fixture("env=NOTIFY_SOCKET signals").start();
    rig.until("it is up", |out| out.has("| up "));
    let out = rig.output();
    let name = out.stdout.iter().find_map(|line| line.split("NOTIFY_SOCKET=").nth(1)).unwrap();
    let said = std::process::Command::new(fixture()).arg("notify").env("NOTIFY_SOCKET", name).status().unwrap();
    assert!(said.success());
    // Whatever rinit has to do with it, it has done before it obeys signals that come later, one after the other.
    for signal in ["USR1", "USR2", "WINCH"] {
        rig.signal(signal);
        rig.until("it is forwarded", |out| out.has(&format!("got SIG{signal}")));
    }
    assert!(!rig.output().has("is ready"), "{:?}", rig.output().stderr);
}

#[test]
fn what_a_probe_leaves_behind_ends_with_it() {
    let tries = tempfile::NamedTempFile::new().unwrap();
    let probe = format!("exec:sh -c 'echo try >>{}; sleep 1000 & exit 1'", tries.path().display());
    let rig = Rig::new(&["-i", "1", "--ready", &probe]).fixture("up wait").start();
    let tried = || std::fs::read_to_string(tries.path()).unwrap().lines().count();
    eventually("the probe was tried several times", || (tried() >= 5).then_some(()));
    let left = || rig.workers().into_iter().filter(|pid| status_field(*pid, "Name") == "sleep").count();
    // The last one may just be about to be collected.
    eventually("nothing but what the last probe left is there", || (left() <= 1).then_some(()));
}

#[test]
fn a_word_that_comes_with_descriptors_or_after_others_that_did_is_heard() {
    // BARRIER=1 and FDSTORE=1 of sd_notify come with a descriptor; python sends them as the C library would.
    let say = "import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(chr(0) + os.environ['NOTIFY_SOCKET'][1:])
read, write = os.pipe()
for text in (b'BARRIER=1', b'READY=1'):
    socket.send_fds(s, [text], [write])
os.close(write)
os.read(read, 1)
print('closed', flush=True)
time.sleep(1000)";
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--", "python3", "-c", say]).start();
    rig.until("its word is heard, and what it sent is closed", |out| out.has("(it said so)") && out.has("closed"));
}
