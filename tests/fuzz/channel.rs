//! Node's channel, as a worker may misuse it: `README.md` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinit::ports::node::{Broken, Channel, Line, Query, Said, read};
use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::os::unix::net::UnixStream;

/// A line may be so long, as `ports::node::channel` has it.
const LONGEST: usize = 64 * 1024;
/// What fits into the socket at once.
const PIECE: usize = 64 * 1024;
/// In the input this byte stands for so many of them: a short input makes a long line.
const MANY: u8 = 1;
const RUN: usize = LONGEST / 4;
/// So much is sent at the most.
const SENT: usize = 4 * LONGEST;

thread_local! {
    /// As rinit does, one for all that is ever read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fuzz_target!(|input: &[u8]| {
    // The first byte says in how many pieces the others are sent.
    let Some((first, input)) = input.split_first() else { return };
    let bytes = expanded(input);
    let pieces = usize::from(first % 16) + 1;
    let lines = sent(&bytes, (bytes.len() / pieces + 1).min(PIECE));

    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let expected: Vec<&[u8]> = whole.filter(|line| line.len() <= LONGEST).collect();
    assert_eq!(lines, expected, "however it is cut, the lines are the same");

    lines.iter().for_each(|line| answered(line));
    // The end of a line decides nothing about how it is read.
    answered(&bytes);
});

fn expanded(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for byte in input {
        match *byte {
            MANY => bytes.resize(bytes.len() + RUN, MANY),
            byte => bytes.push(byte),
        }
        if bytes.len() >= SENT {
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
        assert_eq!(end, Err(Broken::Ended));
    });
    lines
}

/// Reads a line and says what rinit would: with words of the worker in it, it is still one line, and says the same.
fn answered(line: &[u8]) {
    let Said::Query(query) = read(line) else { return };
    let (key, Query { seq, data, .. }) = (query.key(), *query);
    let known = |line: Vec<u8>| -> Value {
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        serde_json::from_slice(&line).unwrap()
    };
    let granted = known(Line::plain(Line::server(0, seq, &key, &data, None)));
    assert_eq!((&granted["key"], &granted["ack"]), (&Value::from(key.as_str()), &Value::from(seq)));
    assert!(granted["data"] == data || data.is_number(), "{granted}");
    known(Line::with_handle("net.Native", Line::server(0, seq, &key, &data, None)));
    known(Line::plain(Line::no_server(0, seq, &key, 98)));
    let connection = known(Line::connection(seq, &key));
    assert_eq!(connection["msg"]["key"], Value::from(key));
    assert_eq!(connection["msg"]["seq"], Value::from(seq));
}
