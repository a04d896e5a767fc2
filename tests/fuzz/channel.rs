//! Fuzzes the parser of Node's channel with the bytes of a hostile worker. `README.md` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinit::ports::node::{Broken, Channel, Line, Query, WorkerMessage, read};
use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::os::unix::net::UnixStream;

/// The limit of a line in `ports::node::channel`.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The number of bytes that fit into the socket at once.
const WRITE_BYTES: usize = 64 * 1024;
/// This byte of the input stands for `RUN_BYTES` of them, so that a short input makes a long line.
const RUN_MARKER: u8 = 1;
const RUN_BYTES: usize = MAX_LINE_BYTES / 4;
/// The maximum number of bytes sent.
const MAX_SENT_BYTES: usize = 4 * MAX_LINE_BYTES;

thread_local! {
    /// One buffer for all reads, as in rinit.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fuzz_target!(|input: &[u8]| {
    // The first byte is the number of pieces in which the others are sent.
    let Some((first, input)) = input.split_first() else { return };
    let bytes = expanded(input);
    let pieces = usize::from(first % 16) + 1;
    let lines = sent(&bytes, (bytes.len() / pieces + 1).min(WRITE_BYTES));

    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let expected: Vec<&[u8]> = whole.filter(|line| line.len() <= MAX_LINE_BYTES).collect();
    assert_eq!(lines, expected, "however it is cut, the lines are the same");

    lines.iter().for_each(|line| answered(line));
    // The end of a line decides nothing about how it is read.
    answered(&bytes);
});

fn expanded(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in input {
        match *byte {
            RUN_MARKER => bytes.resize(bytes.len() + RUN_BYTES, RUN_MARKER),
            byte => bytes.push(byte),
        }
        if bytes.len() >= MAX_SENT_BYTES {
            break;
        }
    }
    bytes
}

/// The lines that come out when these bytes are sent piece by piece.
fn sent(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (mut channel, mut lines) = (Channel::new(ours.into()), Vec::new());
    BUFFER.with_borrow_mut(|buffer| {
        for piece in bytes.chunks(piece) {
            theirs.write_all(piece).unwrap();
            channel.read(buffer, |line| lines.push(line.to_vec())).unwrap();
        }
        drop(theirs);
        let end = channel.read(buffer, |_| panic!("a line without an end"));
        assert_eq!(end, Err(Broken::Closed));
    });
    lines
}

/// Reads a line and formats rinit's answers: with strings of the worker in it, each is one line with the same content.
fn answered(line: &[u8]) {
    let WorkerMessage::Query(query) = read(line) else { return };
    let (key, Query { seq, data, .. }) = (query.key(), *query);
    let known = |line: Vec<u8>| -> Value {
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        serde_json::from_slice(&line).unwrap()
    };
    let granted = known(Line::plain(Line::server(0, seq, &key, &data, None)));
    assert_eq!((&granted["key"], &granted["ack"]), (&Value::from(key.as_str()), &Value::from(seq)));
    assert!(granted["data"] == data || data.is_number(), "{granted}");
    known(Line::with_handle("net.Native", Line::server(0, seq, &key, &data, None)));
    known(Line::plain(Line::server_refused(0, seq, &key, 98)));
    let connection = known(Line::connection(seq, &key));
    assert_eq!(connection["msg"]["key"], Value::from(key));
    assert_eq!(connection["msg"]["seq"], Value::from(seq));
}
