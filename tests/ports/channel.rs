//! The worker's end of the channel of Node's cluster module, held by a test.
//!
//! rinit starts the fixture, which sends its end to the test; from then on the test acts as the worker, without Node.
//!
//! ```no_run
//! let lender = Lender::new();
//! let rig = workers(2, &["--share-ports", "node"]).fixture(&lender.words()).start();
//! let [mut first, mut second] = lender.channels();
//! ```
#![allow(unsafe_code)] // a descriptor that has just arrived belongs to nobody else

use crate::harness::eventually;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufReader, IoSlice, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// The timeout of each read and write.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The socket where workers send their channels.
pub struct Lender {
    folder: tempfile::TempDir,
    listener: UnixListener,
}

impl Lender {
    pub fn new() -> Lender {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("lend")).unwrap();
        Lender { folder, listener }
    }

    /// The fixture's instructions: send the channel, and stay until the stop signal.
    pub fn words(&self) -> String {
        format!("lend={} signals", self.path())
    }

    pub fn path(&self) -> String {
        self.folder.path().join("lend").display().to_string()
    }

    /// The next worker's channel.
    pub fn channel(&self) -> Channel {
        self.listener.set_nonblocking(true).unwrap();
        let (from, _) = eventually("a worker lends its channel", || self.listener.accept().ok());
        from.set_nonblocking(false).unwrap();
        let (text, mut descriptors) = receive(&from).expect("the worker's own numbers");
        let text = String::from_utf8(text).unwrap();
        let numbers: Vec<u32> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        let stream = UnixStream::from(descriptors.remove(0));
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Channel {
            stream,
            worker: numbers[0],
            id: numbers[1],
            pid: numbers[2],
            bytes: vec![],
            handles: VecDeque::new(),
            seq: 0,
        }
    }

    /// The channels of N workers, in the order of their slots.
    pub fn channels<const N: usize>(&self) -> [Channel; N] {
        let mut channels = [(); N].map(|()| self.channel());
        channels.sort_by_key(|channel| channel.worker);
        channels
    }
}

/// A worker's end of the channel.
pub struct Channel {
    pub stream: UnixStream,
    /// The slot: RINIT_WORKER.
    pub worker: u32,
    /// NODE_UNIQUE_ID.
    pub id: u32,
    /// The number of the process that has sent it, as it sees itself.
    pub pid: u32,
    bytes: Vec<u8>,
    handles: VecDeque<OwnedFd>,
    seq: u64,
}

/// The primary's answer to `queryServer`.
pub struct Reply {
    pub key: String,
    /// 0 where all went well.
    pub errno: i64,
    pub message: Value,
    pub handle: Option<OwnedFd>,
}

/// A connection that was sent, and not yet answered for.
pub struct Offer {
    pub seq: u64,
    pub key: String,
    pub stream: TcpStream,
}

impl Channel {
    /// Sends one message, as a line.
    pub fn send(&self, message: &Value) {
        self.send_bytes(format!("{message}\n").as_bytes());
    }

    pub fn send_bytes(&self, bytes: &[u8]) {
        (&self.stream).write_all(bytes).unwrap();
    }

    /// Sends one message with a descriptor.
    pub fn send_with(&self, message: &Value, handle: &impl AsRawFd) {
        let line = format!("{message}\n");
        let handles = [handle.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&handles)];
        let sent = sendmsg::<UnixAddr>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(line.as_bytes())],
            &rights,
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(line.len()));
    }

    /// Sends one of the cluster's own messages. Its number.
    pub fn act(&mut self, act: &str, more: Value) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        let mut message = json!({ "cmd": "NODE_CLUSTER", "act": act, "seq": seq });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&message);
        seq
    }

    /// The next message, and the descriptor if it brings one. `None`: the channel has ended.
    pub fn next(&mut self) -> Option<(Value, Option<OwnedFd>)> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&line)
                    .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)));
                let brings = message["cmd"] == "NODE_HANDLE";
                let handle = if brings { Some(self.handles.pop_front().expect("its descriptor")) } else { None };
                return Some((message, handle));
            }
            let (bytes, handles) = receive(&self.stream)?;
            self.bytes.extend(bytes);
            self.handles.extend(handles);
        }
    }

    /// The next message that has a descriptor or is the cluster's own; there must be one.
    pub fn message(&mut self) -> (Value, Option<OwnedFd>) {
        self.next().expect("a message, and not the channel's end")
    }

    /// Asks for the server of a TCP address.
    pub fn query(&mut self, address: Option<&str>, port: u16) -> Reply {
        let query = json!({
            "address": address, "port": port, "addressType": 4, "index": 0, "data": null, "backlog": 511, "flags": 0
        });
        self.query_for(query)
    }

    /// Asks for a server with that query.
    pub fn query_for(&mut self, query: Value) -> Reply {
        let seq = self.act("queryServer", query);
        let (message, handle) = self.message();
        self.reply(seq, message, handle)
    }

    fn reply(&mut self, seq: u64, message: Value, handle: Option<OwnedFd>) -> Reply {
        let message = if handle.is_some() {
            self.acknowledge();
            message["msg"].clone()
        } else {
            message
        };
        assert_eq!(message["cmd"], "NODE_CLUSTER", "{message}");
        assert_eq!(message["ack"], seq, "{message}");
        let key = message["key"].as_str().unwrap_or_default().to_owned();
        Reply { key, errno: message["errno"].as_i64().unwrap_or(0), message, handle }
    }

    /// Says that the server listens, which is what makes the worker ready.
    pub fn listening(&mut self, port: u16) {
        self.act("listening", json!({ "address": null, "port": port, "addressType": 4 }));
    }

    /// Opens a server on that port of 127.0.0.1. Its key.
    pub fn serve(&mut self, port: u16) -> String {
        self.serve_on(Some("127.0.0.1"), port)
    }

    /// Opens a server on that address, or on all addresses. Its key.
    pub fn serve_on(&mut self, address: Option<&str>, port: u16) -> String {
        self.act("online", json!({}));
        let reply = self.query(address, port);
        assert_eq!(reply.errno, 0, "{}", reply.message);
        assert!(reply.handle.is_none(), "connections are to be handed over, not a socket: {}", reply.message);
        self.listening(port);
        reply.key
    }

    /// Says that a descriptor has arrived.
    pub fn acknowledge(&self) {
        self.send(&json!({ "cmd": "NODE_HANDLE_ACK" }));
    }

    /// The next connection, acknowledged and not yet accepted.
    pub fn offer(&mut self) -> Offer {
        let (message, handle) = self.message();
        self.acknowledge();
        offer(&message, handle)
    }

    /// Answers for a connection.
    pub fn answer(&mut self, seq: u64, accepted: bool) {
        let own = self.seq;
        self.seq += 1;
        self.send(&json!({ "cmd": "NODE_CLUSTER", "ack": seq, "accepted": accepted, "seq": own }));
    }

    /// Takes a connection and answers its one request with the worker's number.
    pub fn take(&mut self, offer: Offer) {
        self.answer(offer.seq, true);
        offer.answer(&format!("pid {}\n", self.pid));
    }

    /// Accepts connections until it is asked to disconnect, or until the channel ends. The number that it answered.
    pub fn be_good(mut self) -> usize {
        self.until_disconnect(|worker, offer| worker.take(offer))
    }

    /// Refuses connections until it is asked to disconnect. The number of them.
    pub fn refuse_all(mut self) -> usize {
        self.until_disconnect(|worker, offer| {
            drop(offer.stream);
            worker.answer(offer.seq, false);
        })
    }

    fn until_disconnect(&mut self, each: impl Fn(&mut Channel, Offer)) -> usize {
        let mut count = 0;
        while let Some((message, handle)) = self.next() {
            if message["act"] == "disconnect" {
                break;
            }
            if message["msg"]["act"] == "newconn" {
                count += 1;
                self.acknowledge();
                each(self, offer(&message, handle));
            }
        }
        count
    }
}

impl Offer {
    /// Answers the one request that comes on it, and closes it.
    pub fn answer(self, text: &str) {
        self.stream.set_nonblocking(false).unwrap();
        self.stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut reader = BufReader::new(&self.stream);
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut reader, &mut line).is_ok_and(|length| length > 2) {
            line.clear();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
        let _ = (&self.stream).write_all((head + text).as_bytes());
    }
}

fn offer(message: &Value, handle: Option<OwnedFd>) -> Offer {
    assert_eq!(message["type"], "net.Native", "{message}");
    assert_eq!(message["msg"]["cmd"], "NODE_CLUSTER", "{message}");
    assert_eq!(message["msg"]["act"], "newconn", "{message}");
    let seq = message["msg"]["seq"].as_u64().unwrap_or_else(|| panic!("no number: {message}"));
    let key = message["msg"]["key"].as_str().unwrap_or_default().to_owned();
    Offer { seq, key, stream: TcpStream::from(handle.expect("a connection")) }
}

/// The bytes and descriptors that have arrived. `None` at the end.
fn receive(stream: &UnixStream) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 65536];
    let mut space = cmsg_space!([RawFd; 8]);
    let (length, handles) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => message,
            Err(nix::Error::ECONNRESET) => return None,
            Err(error) => panic!("nothing has come on the channel: {error}"),
        };
        let mut handles = Vec::new();
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just made them for this process, and nobody else knows them.
                handles.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        (message.bytes, handles)
    };
    if length == 0 {
        return None;
    }
    bytes.truncate(length);
    Some((bytes, handles))
}
