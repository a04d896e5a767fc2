//! Tests that faults and hostile clients of the control plane harm neither workers nor the log.

use crate::client::{ask, send};
use crate::harness::status_field;
use crate::started::start;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

fn is_well(socket: &Path) {
    assert_eq!(ask(socket, "GET", "/healthz", "").status, 200);
    assert_eq!(ask(socket, "GET", "/readyz", "").status, 200);
}

#[test]
fn a_panic_in_a_call_ends_only_that_call() {
    let rinit = start(&[], "up wait");
    let workers = rinit.rig.workers();
    for _ in 0..3 {
        assert!(send(&rinit.socket, b"GET /provoke/panic HTTP/1.1\r\nhost: x\r\n\r\n").is_none());
    }
    rinit.rig.until("it is logged", |out| out.count("the control plane failed on a request") == 3);
    is_well(&rinit.socket);
    assert_eq!(rinit.rig.workers(), workers, "the workers are the same");
    rinit.rig.signal("TERM");
    assert_eq!(rinit.rig.wait(), 0);
}

#[test]
fn slow_clients_and_clients_that_never_read_harm_nothing() {
    let rinit = start(&[], "flood");
    let connect = || UnixStream::connect(&rinit.socket).unwrap();
    let slow: Vec<UnixStream> = (0..20)
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
    // Megabytes of lines pass that no client reads.
    let lines = rinit.rig.output().stdout.len();
    rinit.rig.until("the log goes on", |out| out.stdout.len() > lines + 200_000);
    assert!(memory() < before + 16 * 1024, "{before} kB, and then {} kB", memory());
    is_well(&rinit.socket);
    drop((slow, deaf));
    rinit.rig.signal("TERM");
    assert_eq!(rinit.rig.wait(), 0);
}

/// An empty line is a byte in the history, and a hundred in an answer.
#[test]
fn an_answer_of_many_short_lines_takes_little_memory() {
    let rinit = start(&[], "file=DIR/flood exec sh DIR/flood");
    let script = rinit.folder.path().join("written");
    std::fs::write(&script, "yes '' | head -c 600000; sleep 1000").unwrap();
    std::fs::rename(script, rinit.folder.path().join("flood")).unwrap();
    let memory = || status_field(rinit.rig.pid(), "VmHWM").trim_end_matches(" kB").parse::<u64>().unwrap();
    rinit.rig.until("all is written", |out| out.stdout.len() == 1_200_000);
    let before = memory();
    for _ in 0..5 {
        let answer = ask(&rinit.socket, "GET", "/v1/logs?lines=99999999", "");
        // As many as an answer of 1 MiB holds: 10,000 would be more, with the facts that each line has.
        let lines = answer.json()["lines"].as_array().unwrap().len();
        assert!((8_000..10_000).contains(&lines) && answer.body.len() <= 1 << 20, "{lines} lines");
    }
    assert!(memory() < before + 32 * 1024, "{before} kB, and then {} kB", memory());
}

#[test]
fn followers_get_the_last_lines() {
    let rinit = start(&[], "on-term=say=bye,exit=0 up wait");
    rinit.rig.until("both are up", |out| out.count("up ") == 2);
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
    let received = followers.map(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(
        received[..2].iter().map(|text| text.matches("\"bye\"").count()).collect::<Vec<_>>(),
        [2, 2],
        "{received:#?}"
    );
    assert_eq!(received[2].matches("is gone: exit code 0").count(), 2, "{received:#?}");
    assert_eq!(rinit.rig.wait(), 0);
}
