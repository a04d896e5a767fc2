//! What goes wrong in the control plane, or comes at it, stays there: workers and the log notice nothing.

use crate::client::{ask, send};
use crate::harness::{eventually, status_field};
use crate::started::start;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn is_well(socket: &Path) {
    assert_eq!(ask(socket, "GET", "/healthz", "").status, 200);
    assert_eq!(ask(socket, "GET", "/readyz", "").status, 200);
}

#[test]
fn a_panic_in_a_call_ends_that_call_alone() {
    let rinit = start(&[], "up wait");
    let workers = rinit.rig.workers();
    for _ in 0..3 {
        assert!(send(&rinit.socket, b"GET /provoke/panic HTTP/1.1\r\nhost: x\r\n\r\n").is_none());
    }
    rinit.rig.until("it is told", |out| out.count("the control plane failed on a request") == 3);
    is_well(&rinit.socket);
    assert_eq!(rinit.rig.workers(), workers, "no worker has noticed");
    rinit.rig.signal("TERM");
    assert_eq!(rinit.rig.wait(), 0);
}

#[test]
fn clients_that_dribble_leave_or_never_read_harm_nobody() {
    let rinit = start(&[], "flood");
    let connect = || UnixStream::connect(&rinit.socket).unwrap();
    let dribblers: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /v1/sta").unwrap();
            stream
        })
        .collect();
    let deaf: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /v1/logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for _ in 0..200 {
        let mut stream = connect();
        let _ = stream.write_all(b"POST /v1/scale HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n{");
    }
    is_well(&rinit.socket);
    let memory = || status_field(rinit.rig.pid(), "VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap();
    let before = memory();
    // Megabytes of lines go by that nobody reads.
    let lines = rinit.rig.output().stdout.len();
    rinit.rig.until("the log goes on", |out| out.stdout.len() > lines + 200_000);
    assert!(memory() < before + 16 * 1024, "{before} kB, and then {} kB", memory());
    is_well(&rinit.socket);
    drop((dribblers, deaf));
    rinit.rig.signal("TERM");
    assert_eq!(rinit.rig.wait(), 0);
}

/// What is kept of an empty line is a byte; what is given of it is a hundred.
#[test]
fn many_short_lines_that_are_asked_for_cost_rinit_little() {
    let rinit = start(&[], "file=DIR/flood exec sh DIR/flood");
    let script = rinit.folder.path().join("written");
    std::fs::write(&script, "yes '' | head -c 600000; sleep 1000").unwrap();
    std::fs::rename(script, rinit.folder.path().join("flood")).unwrap();
    let memory = || status_field(rinit.rig.pid(), "VmHWM").trim_end_matches(" kB").parse::<u64>().unwrap();
    rinit.rig.until("all is written", |out| out.stdout.len() == 1_200_000);
    let before = memory();
    for _ in 0..5 {
        let answer = ask(&rinit.socket, "GET", "/v1/logs?lines=99999999", "");
        assert_eq!(answer.json()["lines"].as_array().unwrap().len(), 10_000);
    }
    assert!(memory() < before + 32 * 1024, "{before} kB, and then {} kB", memory());
}

#[test]
fn who_follows_hears_the_last_words() {
    let rinit = start(&[], "on-term=say=bye,exit=0 up wait");
    rinit.rig.until("both can say it", |out| out.count("up ") == 2);
    let follow = |target: &str| {
        let mut stream = UnixStream::connect(&rinit.socket).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.0 200 OK");
        stream
    };
    let followers = ["/v1/logs?follow=true", "/v1/logs?follow=true&worker=web", "/v1/events"].map(follow);
    rinit.rig.signal("TERM");
    let heard = followers.map(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(heard[..2].iter().map(|text| text.matches("\"bye\"").count()).collect::<Vec<_>>(), [2, 2], "{heard:#?}");
    assert_eq!(heard[2].matches("is gone: exit code 0").count(), 2, "{heard:#?}");
    assert_eq!(rinit.rig.wait(), 0);
}

#[test]
fn over_the_web_reading_is_free_and_writing_takes_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-some-length\n").unwrap();
    let port = crate::harness::free_port();
    let address = format!("127.0.0.1:{port}");
    let rinit = start(&["--web", &address, "--web-token-file", token.to_str().unwrap()], "up wait");
    let call = |head: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(call("GET /v1/status HTTP/1.1\r\nhost: localhost"), 200);
    assert_eq!(call("GET /v1/status HTTP/1.1\r\nhost: rebound.example"), 403);
    assert_eq!(call("GET /metrics HTTP/1.1\r\nhost: scraped.example"), 200);
    assert_eq!(call("POST /v1/reload HTTP/1.1\r\nhost: localhost"), 401);
    assert_eq!(
        call("POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a-token-of-some-lengti"),
        401
    );
    assert_eq!(
        call("POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer a-token-of-some-length"),
        200
    );
    is_well(&rinit.socket);
}

#[test]
fn another_user_may_not_use_the_socket() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can be somebody else: not tested");
        return;
    }
    let rinit = start(&[], "up wait");
    // Even where the file's mode is no obstacle.
    use std::os::unix::fs::PermissionsExt;
    for path in [&rinit.socket, rinit.socket.parent().unwrap()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let asked = std::process::Command::new("setpriv")
        .args(["--reuid", "1234", "--clear-groups", "curl", "-sS", "--max-time", "5", "--unix-socket"])
        .args([rinit.socket.to_str().unwrap(), "http://x/v1/status"])
        .output()
        .unwrap();
    assert!(asked.stdout.is_empty() && !asked.status.success(), "{asked:?}");
    eventually("it is told", || rinit.rig.output().has("user 1234 may not use the control socket").then_some(()));
    is_well(&rinit.socket);
}
