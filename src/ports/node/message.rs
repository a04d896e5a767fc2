//! The lines of Node's IPC channel, as its cluster module speaks them: JSON, one message a line.
//!
//! A message whose `cmd` begins with `NODE_` is between the two modules; all others are the app's. Facts: the sources of
//! Node 18 to 24, `lib/internal/cluster/` and `lib/internal/child_process.js`.

use serde::Deserialize;
use serde_json::Value;
use std::fmt::{Arguments, Display};
use std::net::SocketAddr;

/// What a worker says.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// Its cluster module runs: it will answer.
    Online,
    /// One of its servers wants to listen.
    Query(Box<Query>),
    /// A server of its listens.
    Listening,
    /// It has closed the server of that key.
    Closed {
        /// Which, as it was told in the answer to its query.
        key: String,
    },
    /// It took a connection, or did not.
    Answer {
        /// The number of the message that handed it over.
        to: u64,
        /// Whether it took it.
        accepted: bool,
    },
    /// It leaves of its own will, and waits to hear that this is known.
    Leaving {
        /// Its message's number.
        seq: u64,
    },
    /// The descriptor of the oldest message with one has come.
    HandleTaken,
    /// It has not: the worker has no descriptor left.
    HandleLost,
    /// The app sends a descriptor, and nothing more until it hears of it.
    HandleSent,
    /// `process.send('ready')`.
    Ready,
    /// The app's own business.
    Other,
}

/// What a server wants to listen on.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Query {
    /// This message's number.
    pub seq: u64,
    /// An IP address or a path; `None`: every address.
    pub address: Option<String>,
    /// -1 for a path.
    pub port: Option<i64>,
    /// 4, 6, -1, `"udp4"`, `"udp6"`.
    pub address_type: Value,
    /// A descriptor of rinit's.
    pub fd: Option<i64>,
    /// 1: IPv6 alone; for UDP 4: the address may be used again.
    pub flags: Option<i64>,
    /// How many connections may wait; `false` or 0: Node's own number.
    pub backlog: Value,
    /// Which of the servers of this address in the worker it is.
    pub index: u64,
    /// What the first asker leaves for the others, such as the keys of TLS tickets.
    pub data: Value,
    /// It has `maxConnections`, and refuses what is more: from rinit's script.
    pub limited: bool,
    /// A path that everybody may read.
    pub readable_all: Option<bool>,
    /// A path that everybody may write.
    pub writable_all: Option<bool>,
}

/// The fields that tell one message from another.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    cmd: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    act: Option<std::borrow::Cow<'a, str>>,
    ack: Option<u64>,
    #[serde(default)]
    accepted: bool,
    #[serde(default)]
    seq: u64,
    key: Option<String>,
}

/// Reads one line, without its newline. Whatever it is, it is an answer: what makes no sense is the app's business.
pub fn read(line: &[u8]) -> Said {
    if line == b"\"ready\"" {
        return Said::Ready;
    }
    // The app's messages are most often objects without a `cmd`: not worth the reading.
    if memchr::memmem::find(line, b"\"NODE_").is_none() {
        return Said::Other;
    }
    let Ok(Envelope { cmd: Some(cmd), act, ack, accepted, seq, key }) = serde_json::from_slice(line) else {
        return Said::Other;
    };
    match (cmd.as_ref(), act.as_deref(), ack) {
        ("NODE_HANDLE_ACK", ..) => Said::HandleTaken,
        ("NODE_HANDLE_NACK", ..) => Said::HandleLost,
        ("NODE_HANDLE", ..) => Said::HandleSent,
        ("NODE_CLUSTER", _, Some(to)) => Said::Answer { to, accepted },
        ("NODE_CLUSTER", Some("online"), _) => Said::Online,
        ("NODE_CLUSTER", Some("listening"), _) => Said::Listening,
        ("NODE_CLUSTER", Some("exitedAfterDisconnect"), _) => Said::Leaving { seq },
        ("NODE_CLUSTER", Some("close"), _) => key.map_or(Said::Other, |key| Said::Closed { key }),
        ("NODE_CLUSTER", Some("queryServer"), _) => match serde_json::from_slice(line) {
            Ok(query) => Said::Query(Box::new(query)),
            Err(_) => Said::Other,
        },
        _ => Said::Other,
    }
}

impl Query {
    /// What tells this server from the worker's others, and makes those of all workers one.
    pub fn key(&self) -> String {
        let Query { address, port, address_type, fd, index, .. } = self;
        let number = |number: &Option<i64>| number.map_or_else(String::new, |number| number.to_string());
        let address = address.as_deref().unwrap_or("null");
        let which = if *port == Some(0) { format!(":{index}") } else { String::new() };
        format!("{address}:{}:{address_type}:{}{which}", number(port), number(fd))
    }
}

/// What rinit says: messages, numbered by `seq`, and the lines that they make.
pub struct Line;

impl Line {
    /// The query numbered `ack` is granted. `sockname` is the address of a TCP server whose connections rinit accepts.
    pub fn server(seq: u64, ack: u64, key: &str, data: &Value, sockname: Option<SocketAddr>) -> String {
        let sockname = sockname.map(|at| {
            let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
            format!(r#","sockname":{{"address":"{}","family":"{family}","port":{}}}"#, at.ip(), at.port())
        });
        let (key, sockname) = (Value::from(key), sockname.unwrap_or_default());
        cluster(seq, format_args!(r#""ack":{ack},"key":{key},"errno":null,"data":{data}{sockname}"#))
    }

    /// It is not, for that number of `errno(3)`.
    pub fn no_server(seq: u64, ack: u64, key: &str, errno: i32) -> String {
        let key = Value::from(key);
        cluster(seq, format_args!(r#""ack":{ack},"key":{key},"errno":-{errno},"data":null"#))
    }

    /// That the worker's leaving is known.
    pub fn known(seq: u64, ack: u64) -> String {
        cluster(seq, format_args!(r#""ack":{ack}"#))
    }

    /// A connection: goes with its descriptor.
    pub fn connection(seq: u64, key: &str) -> Vec<u8> {
        let key = Value::from(key);
        Line::with_handle("net.Native", cluster(seq, format_args!(r#""act":"newconn","key":{key}"#)))
    }

    /// Close your servers, finish what is under way, go. `idle`, `signal` and `after`, in milliseconds, are for the script
    /// that rinit adds to a worker.
    pub fn disconnect(seq: u64, idle: u128, signal: impl Display, after: u128) -> String {
        let rinit = format_args!(r#""rinit":{{"idle":{idle},"signal":"{signal}","after":{after}}}"#);
        cluster(seq, format_args!(r#""act":"disconnect",{rinit}"#))
    }

    /// Get ready to stop: the first half of `disconnect`, for an app that closes its servers itself.
    pub fn drain(idle: u128) -> Vec<u8> {
        Line::plain(format!(r#"{{"cmd":"NODE_RINIT","rinit":{{"idle":{idle}}}}}"#))
    }

    /// A message that goes with a descriptor of that type.
    pub fn with_handle(kind: &str, message: String) -> Vec<u8> {
        Line::plain(format!(r#"{{"cmd":"NODE_HANDLE","type":"{kind}","msg":{message}}}"#))
    }

    /// A message alone.
    pub fn plain(mut message: String) -> Vec<u8> {
        message.push('\n');
        message.into_bytes()
    }

    /// pm2's word before a stop.
    pub const SHUTDOWN: &[u8] = b"\"shutdown\"\n";
    /// A descriptor of the app's has come.
    pub const HANDLE_TAKEN: &[u8] = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
}

fn cluster(seq: u64, fields: Arguments) -> String {
    format!(r#"{{"cmd":"NODE_CLUSTER","seq":{seq},{fields}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_node_says_is_understood() {
        let said = |line: &str| read(line.as_bytes());
        assert_eq!(said("\"ready\""), Said::Ready);
        assert_eq!(said(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#), Said::Online);
        assert_eq!(said(r#"{"cmd":"NODE_HANDLE_NACK"}"#), Said::HandleLost);
        assert_eq!(
            said(r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":true,"seq":9}"#),
            Said::Answer { to: 7, accepted: true }
        );
        let query = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":8080,
            "addressType":4,"flags":0,"backlog":511,"seq":1}"#;
        let Said::Query(query) = said(&query.replace('\n', " ")) else { panic!("no query") };
        assert_eq!((query.key(), query.seq, query.port), ("null:8080:4:".into(), 1, Some(8080)));
    }

    #[test]
    fn what_rinit_says_is_one_line_of_json() {
        let data = json!({ "keys": "a\nb" });
        let at = "[::1]:8080".parse().unwrap();
        let message = |line: &[u8]| -> Value {
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            serde_json::from_slice(line).unwrap()
        };
        let server = message(&Line::plain(Line::server(3, 7, "/a\"b", &data, Some(at))));
        let expected = json!({ "cmd": "NODE_CLUSTER", "seq": 3, "ack": 7, "key": "/a\"b", "errno": null, "data": data,
            "sockname": { "address": "::1", "family": "IPv6", "port": 8080 } });
        assert_eq!(server, expected);
        let server = message(&Line::with_handle("net.Native", Line::no_server(3, 7, "k", 98)));
        let refused = json!({ "cmd": "NODE_CLUSTER", "seq": 3, "ack": 7, "key": "k", "errno": -98, "data": null });
        assert_eq!(server, json!({ "cmd": "NODE_HANDLE", "type": "net.Native", "msg": refused }));
        assert_eq!(message(&Line::connection(1, "k"))["msg"]["act"], "newconn");
        let rinit = json!({ "idle": 7000, "signal": "SIGTERM", "after": 1 });
        assert_eq!(message(&Line::plain(Line::disconnect(1, 7000, "SIGTERM", 1)))["rinit"], rinit);
        assert_eq!(message(&Line::drain(1))["rinit"], json!({ "idle": 1 }));
    }

    #[test]
    fn two_servers_on_any_port_are_two() {
        let query = |index| Query { port: Some(0), address_type: json!(4), index, ..Query::default() };
        assert_ne!(query(0).key(), query(1).key());
    }

    #[test]
    fn what_makes_no_sense_is_the_apps_business() {
        for line in [
            "",
            "{",
            "\"NODE_\"",
            "[\"NODE_CLUSTER\"]",
            "{\"cmd\":\"NODE_CLUSTER\"}",
            "{\"cmd\":1,\"x\":\"NODE_\"}",
            "{\"cmd\":\"NODE_CLUSTER\",\"ack\":-1}",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"port\":\"x\"}",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\"}",
            "\u{2}{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\"}",
        ] {
            assert_eq!(read(line.as_bytes()), Said::Other, "{line}");
        }
        let deep = format!("{{\"cmd\":\"NODE_CLUSTER\",\"x\":{}", "[".repeat(60_000));
        assert_eq!(read(deep.as_bytes()), Said::Other);
    }
}
