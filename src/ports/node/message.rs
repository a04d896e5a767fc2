//! Parses and formats the messages of Node's IPC channel: JSON, one message a line.
//!
//! A message whose `cmd` begins with `NODE_` is between the cluster modules, or between rinit and its script; all others are
//! the app's. Facts: the sources of Node 18 to 26, `lib/internal/cluster/` and `lib/internal/child_process.js`.

use serde::Deserialize;
use serde_json::Value;
use std::fmt::{Arguments, Display};
use std::net::SocketAddr;

/// A message from a worker.
#[derive(Debug, PartialEq)]
pub enum WorkerMessage {
    /// Its cluster module runs: it will answer.
    Online,
    /// One of its servers wants to listen.
    Query(Box<Query>),
    /// One of its servers listens.
    Listening,
    /// It has closed the server of that key.
    Closed {
        /// The key in the answer to the server's query.
        key: String,
    },
    /// It accepted a connection, or refused it.
    Answer {
        /// The number of the connection's message.
        to: u64,
        /// True if it accepted it.
        accepted: bool,
    },
    /// It leaves by itself, and waits for the answer.
    Leaving {
        /// Its message's number.
        seq: u64,
    },
    /// The script has sent the stop signal to its own process, as the app handles it.
    Signalled,
    /// The script has found that the app handles another signal than the stop signal.
    Unhandled {
        /// The stop signal.
        signal: String,
        /// The signal that the app handles.
        handled: String,
    },
    /// The script's measurements.
    Health(NodeHealth),
    /// The descriptor of the oldest message with one has arrived.
    HandleTaken,
    /// That descriptor has not arrived: the worker has no free number.
    HandleLost,
    /// The app sends a descriptor, and nothing more until that is acknowledged.
    HandleSent,
    /// `process.send('ready')`.
    Ready,
    /// A message that rinit does not act on.
    Other,
}

/// The health of a Node worker, as rinit's script measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeHealth {
    /// The longest delay of a timer since the report before, in milliseconds.
    pub lag: u64,
    /// The heap in use, in bytes.
    pub heap: u64,
    /// The handles that are open: sockets, servers, timers.
    pub handles: u64,
    /// The share of the time since the report before in which the event loop was busy, in thousandths
    /// (`performance.eventLoopUtilization`).
    pub busy: u16,
}

/// A server's request to listen.
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
    /// The number of a descriptor of rinit.
    pub fd: Option<i64>,
    /// 1: IPv6 alone; for UDP 4: the address may be reused.
    pub flags: Option<i64>,
    /// The maximum number of waiting connections; `false` or 0: Node's default.
    pub backlog: Value,
    /// The number of this server among those of the worker with this address.
    pub index: u64,
    /// The data that the first worker leaves for the others, such as the keys of TLS tickets.
    pub data: Value,
    /// It has `maxConnections`, and refuses more. Set by rinit's script.
    pub limited: bool,
    /// Every user may read the path.
    pub readable_all: Option<bool>,
    /// Every user may write the path.
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
    signal: Option<String>,
    handled: Option<String>,
}

/// Parses one line, without its newline. A line that is no such message is the app's.
pub fn read(line: &[u8]) -> WorkerMessage {
    if line == b"\"ready\"" {
        return WorkerMessage::Ready;
    }
    // Most messages of apps are objects without a `cmd`: they need no parsing.
    if memchr::memmem::find(line, b"\"NODE_").is_none() {
        return WorkerMessage::Other;
    }
    let Ok(Envelope { cmd: Some(cmd), act, ack, accepted, seq, key, signal, handled }) = serde_json::from_slice(line)
    else {
        return WorkerMessage::Other;
    };
    match (cmd.as_ref(), act.as_deref(), ack) {
        ("NODE_HANDLE_ACK", ..) => WorkerMessage::HandleTaken,
        ("NODE_HANDLE_NACK", ..) => WorkerMessage::HandleLost,
        ("NODE_HANDLE", ..) => WorkerMessage::HandleSent,
        ("NODE_RINIT", Some("signalled"), _) => WorkerMessage::Signalled,
        ("NODE_RINIT", Some("health"), _) => {
            serde_json::from_slice(line).map_or(WorkerMessage::Other, WorkerMessage::Health)
        }
        ("NODE_RINIT", Some("unhandled"), _) => match (signal, handled) {
            (Some(signal), Some(handled)) => WorkerMessage::Unhandled { signal, handled },
            _ => WorkerMessage::Other,
        },
        ("NODE_CLUSTER", _, Some(to)) => WorkerMessage::Answer { to, accepted },
        ("NODE_CLUSTER", Some("online"), _) => WorkerMessage::Online,
        ("NODE_CLUSTER", Some("listening"), _) => WorkerMessage::Listening,
        ("NODE_CLUSTER", Some("exitedAfterDisconnect"), _) => WorkerMessage::Leaving { seq },
        ("NODE_CLUSTER", Some("close"), _) => key.map_or(WorkerMessage::Other, |key| WorkerMessage::Closed { key }),
        ("NODE_CLUSTER", Some("queryServer"), _) => match serde_json::from_slice(line) {
            Ok(query) => WorkerMessage::Query(Box::new(query)),
            Err(_) => WorkerMessage::Other,
        },
        _ => WorkerMessage::Other,
    }
}

impl Query {
    /// The key that distinguishes this server from the worker's others, and is the same in all workers.
    pub fn key(&self) -> String {
        let Query { address, port, address_type, fd, index, .. } = self;
        let number = |number: &Option<i64>| number.map_or_else(String::new, |number| number.to_string());
        let address = address.as_deref().unwrap_or("null");
        let index = if *port == Some(0) { format!(":{index}") } else { String::new() };
        format!("{address}:{}:{address_type}:{}{index}", number(port), number(fd))
    }
}

/// Formats the messages of rinit, numbered by `seq`, and their lines.
pub struct Line;

impl Line {
    /// The query numbered `ack` is granted. `sockname` is the address of a TCP server whose connections rinit sends it.
    pub fn server(seq: u64, ack: u64, key: &str, data: &Value, sockname: Option<SocketAddr>) -> String {
        let sockname = sockname.map(|at| {
            let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
            format!(r#","sockname":{{"address":"{}","family":"{family}","port":{}}}"#, at.ip(), at.port())
        });
        let (key, sockname) = (Value::from(key), sockname.unwrap_or_default());
        cluster(seq, format_args!(r#""ack":{ack},"key":{key},"errno":null,"data":{data}{sockname}"#))
    }

    /// The query is refused, with that number of `errno(3)`.
    pub fn server_refused(seq: u64, ack: u64, key: &str, errno: i32) -> String {
        let key = Value::from(key);
        cluster(seq, format_args!(r#""ack":{ack},"key":{key},"errno":-{errno},"data":null"#))
    }

    /// The answer to a worker that leaves by itself.
    pub fn ack(seq: u64, ack: u64) -> String {
        cluster(seq, format_args!(r#""ack":{ack}"#))
    }

    /// A connection, to be sent with its descriptor.
    pub fn connection(seq: u64, key: &str) -> Vec<u8> {
        let key = Value::from(key);
        Line::with_handle("net.Native", cluster(seq, format_args!(r#""act":"newconn","key":{key}"#)))
    }

    /// Asks a worker to close its servers, to answer its requests, and to exit. `signal`, `idle` and `after`, in milliseconds,
    /// are for the script that rinit adds to a worker; Node itself ignores them.
    pub fn disconnect(seq: u64, idle: u128, signal: impl Display, after: u128) -> String {
        let terms = format!(r#"{{"idle":{idle},"signal":"{signal}","after":{after}}}"#);
        cluster(seq, format_args!(r#""act":"disconnect","rinit":{terms}"#))
    }

    /// Asks the script to tell clients to go, for an app that closes its servers itself. `idle` in milliseconds.
    pub fn drain(idle: u128) -> Vec<u8> {
        Line::plain(format!(r#"{{"cmd":"NODE_RINIT","rinit":{{"idle":{idle}}}}}"#))
    }

    /// A message to be sent with a descriptor of that type.
    pub fn with_handle(kind: &str, message: String) -> Vec<u8> {
        Line::plain(format!(r#"{{"cmd":"NODE_HANDLE","type":"{kind}","msg":{message}}}"#))
    }

    /// A message without a descriptor.
    pub fn plain(mut message: String) -> Vec<u8> {
        message.push('\n');
        message.into_bytes()
    }

    /// pm2's message before a stop.
    pub const SHUTDOWN: &[u8] = b"\"shutdown\"\n";
    /// Acknowledges a descriptor that the app has sent.
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
    fn messages_of_node_are_parsed() {
        let message = |line: &str| read(line.as_bytes());
        assert_eq!(message("\"ready\""), WorkerMessage::Ready);
        assert_eq!(message(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#), WorkerMessage::Online);
        assert_eq!(message(r#"{"cmd":"NODE_HANDLE_NACK"}"#), WorkerMessage::HandleLost);
        assert_eq!(
            message(r#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":true,"seq":9}"#),
            WorkerMessage::Answer { to: 7, accepted: true }
        );
        assert_eq!(
            message(r#"{"cmd":"NODE_RINIT","act":"health","lag":3,"heap":4000000,"handles":7,"busy":120}"#),
            WorkerMessage::Health(NodeHealth { lag: 3, heap: 4_000_000, handles: 7, busy: 120 })
        );
        assert_eq!(message(r#"{"cmd":"NODE_RINIT","act":"health","lag":-3}"#), WorkerMessage::Other);
        let query = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":8080,
            "addressType":4,"flags":0,"backlog":511,"seq":1}"#;
        let WorkerMessage::Query(query) = message(&query.replace('\n', " ")) else { panic!("no query") };
        assert_eq!((query.key(), query.seq, query.port), ("null:8080:4:".into(), 1, Some(8080)));
    }

    #[test]
    fn messages_of_rinit_are_one_line_of_json() {
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
        let server = message(&Line::with_handle("net.Native", Line::server_refused(3, 7, "k", 98)));
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
    fn all_other_lines_are_the_apps() {
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
            assert_eq!(read(line.as_bytes()), WorkerMessage::Other, "{line}");
        }
        let deep = format!("{{\"cmd\":\"NODE_CLUSTER\",\"x\":{}", "[".repeat(60_000));
        assert_eq!(read(deep.as_bytes()), WorkerMessage::Other);
    }
}
