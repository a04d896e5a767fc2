//! Tests that clients that hold streams or send half requests neither starve probes nor fill the memory.

use crate::client::ask;
use crate::harness::{eventually, status_field};
use crate::started::{Started, start};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn web(options: &[&str], words: &str) -> (Started, String) {
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    let rinit = start(&[&["--web", &address], options].concat(), words);
    (rinit, address)
}

/// Sends a request over the web and returns the connection.
fn connect(address: &str, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// The answer's status, once its head has come.
fn status(stream: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap()
}

fn probes_are_answered(address: &str) {
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(&mut connect(address, path)), 200, "{path}");
    }
}

fn stream_over_the_socket(rinit: &Started) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(&rinit.socket).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut head = [0; 400];
    let length = stream.read(&mut head).unwrap();
    (stream, String::from_utf8_lossy(&head[..length]).into_owned())
}

#[test]
fn probes_are_answered_while_many_clients_send_half_requests() {
    let (rinit, address) = web(&[], "up wait");
    let half_requests: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /v1/sta").unwrap();
            stream
        })
        .collect();
    probes_are_answered(&address);
    assert_eq!(ask(&rinit.socket, "GET", "/healthz", "").status, 200);
    drop(half_requests);
}

#[test]
fn probes_are_answered_while_many_clients_do_not_read_their_answers() {
    let (_rinit, address) = web(&[], "up wait");
    let unread: Vec<TcpStream> = (0..200).map(|n| connect(&address, ["/metrics", "/"][n % 2])).collect();
    probes_are_answered(&address);
    drop(unread);
}

#[test]
fn an_endpoint_has_sixteen_streams_and_a_client_that_goes_makes_room_at_once() {
    let rinit = start(&[], "up wait");
    let mut streams: Vec<_> = (0..16).map(|_| stream_over_the_socket(&rinit)).collect();
    assert!(streams.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200")), "{streams:?}");
    let (_, refused) = stream_over_the_socket(&rinit);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert_eq!(ask(&rinit.socket, "GET", "/v1/logs?lines=5", "").status, 200, "reads have seats of their own");
    // Long before the next keep-alive, which would be after 15 s.
    let start = Instant::now();
    streams.pop();
    eventually("there is room again", || stream_over_the_socket(&rinit).1.starts_with("HTTP/1.1 200").then_some(()));
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[test]
fn a_stream_whose_client_has_sent_more_than_its_request_ends_with_it() {
    let rinit = start(&[], "up wait");
    let stream = |_| {
        let mut stream = UnixStream::connect(&rinit.socket).unwrap();
        stream
            .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        // The first event has come, so that no write which fails tells of the end.
        let mut seen = String::new();
        while !seen.contains("event: ") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).unwrap();
            seen.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        stream
    };
    let streams: Vec<UnixStream> = (0..16).map(stream).collect();
    drop(streams);
    let start = Instant::now();
    eventually("there is room", || stream_over_the_socket(&rinit).1.starts_with("HTTP/1.1 200").then_some(()));
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

/// Control characters are six bytes each in JSON, so that a follower's share is counted as sent.
#[test]
fn followers_that_do_not_read_hold_little_memory() {
    let rinit = start(&[], "file=DIR/flood exec sh DIR/flood");
    let script = rinit.folder.path().join("written");
    let line = "\u{1}".repeat(2000);
    std::fs::write(&script, format!("for n in $(seq 1000); do echo '{line}'; done; echo end; sleep 1000")).unwrap();
    std::fs::rename(script, rinit.folder.path().join("flood")).unwrap();
    rinit.rig.until("both have written", |out| out.count("| end") == 2);
    let memory = || status_field(rinit.rig.pid(), "VmRSS").trim_end_matches(" kB").parse::<u64>().unwrap();
    let before = memory();
    let deaf: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut stream = UnixStream::connect(&rinit.socket).unwrap();
            stream.write_all(b"GET /v1/logs?follow=true&lines=10000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(&rinit.socket, "GET", "/healthz", "").status, 200);
    assert!(memory() < before + 24 * 1024, "{before} kB, and then {} kB", memory());
    drop(deaf);
}
