//! Hostile workers: whatever one sends on its channel, the other worker serves, and rinit's memory stays bounded.
//!
//! The test holds the channel of the hostile worker. Node runs as the other worker and serves under load.

use crate::apps::{all_listen, descriptors, memory, node_app, pid_from_here, served_by, stop, times_ready, workers};
use crate::channel::{Channel, Lender};
use crate::harness::{Running, eventually, fixture, free_port};
use crate::load::{Client, MIX, answer, get, pid_in, request, under_load};
use crate::setup::{app, node};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The limit of rinit's memory, in KiB.
const MAX_MEMORY_KIB: u64 = 8 * 1024;
/// The limit of rinit's descriptors: 1024 servers, 1024 sockets of their own, and some.
const MAX_DESCRIPTORS: usize = 2500;

/// Node as worker 0, and a channel in the test's hands as worker 1, which is ready when it listens.
fn node_and_hostile_worker(settings: &[&str]) -> Option<(Running, u16, Channel)> {
    let node = node()?;
    let (lender, port) = (Lender::new(), free_port());
    let script = "[ $RINIT_WORKER = 0 ] && exec $NODE $APP; exec $FIXTURE lend=$LEND signals";
    let settings = [&["--share-ports", "node", "--backoff", "1h..1h"], settings].concat();
    let rig = workers(2, &settings).args(&["sh", "-c", script]).env("PORT", &port.to_string());
    let rig = rig.env("NODE", &node).env("APP", &app("node/app.js")).env("LEND", &lender.path());
    let rig = rig.env("FIXTURE", fixture().to_str().unwrap()).start();
    let channel = lender.channel();
    all_listen(&rig, 1);
    served_by(port, 1);
    Some((rig, port, channel))
}

/// Runs the hostile worker while Node serves under load: no request may fail.
fn does_no_harm(evil: impl FnOnce(&mut Channel, &Running) + Send) {
    let Some((rig, port, mut channel)) = node_and_hostile_worker(&[]) else { return };
    let (load, ()) = under_load(port, &MIX, |meter| {
        evil(&mut channel, &rig);
        meter.wait_for_answers(50);
        assert!(memory(&rig) < MAX_MEMORY_KIB, "{} KiB", memory(&rig));
        assert!(descriptors(&rig) < MAX_DESCRIPTORS, "{}", descriptors(&rig));
    });
    load.assert_lossless(&rig);
    // rinit still acts on signals.
    rig.signal("USR2");
    drop(channel);
    let start = Instant::now();
    rig.signal("TERM");
    rig.wait();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(!rig.output().has("panicked"), "{:#?}", rig.output().stderr);
}

/// Writes until the socket has taken nothing for half a second. The number of bytes.
fn write_until_full(channel: &Channel, bytes: &[u8], most: usize) -> usize {
    let patience = Some(Duration::from_millis(500));
    channel.stream.set_write_timeout(patience).unwrap();
    let mut written = 0;
    while written < most {
        match (&channel.stream).write(&bytes[..bytes.len().min(most - written)]) {
            Ok(length) if length > 0 => written += length,
            _ => break,
        }
    }
    written
}

#[test]
fn garbage_does_no_harm() {
    does_no_harm(|channel, _| {
        for line in [
            "not json\n",
            "\n",
            "{\n",
            "[[[[[[[[[[\n",
            "\u{0}\u{1}\u{2}\n",
            "{\"cmd\":\"NODE_CLUSTER\"}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":7}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\"}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"seq\":-1,\"port\":\"x\",\"address\":{}}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"seq\":1e400,\"port\":99999999999,\"address\":null}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"no such\"}\n",
            "{\"cmd\":\"NODE_CLUSTER\",\"ack\":123456,\"accepted\":true}\n",
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{}}\n",
            "{\"cmd\":\"NODE_HANDLE_ACK\"}\n{\"cmd\":\"NODE_HANDLE_NACK\"}\n",
        ] {
            if write_until_full(channel, line.as_bytes(), line.len()) == 0 {
                break;
            }
        }
        write_until_full(channel, &[0xff; 1000], 1000);
    });
}

#[test]
fn deeply_nested_json_does_no_harm() {
    does_no_harm(|channel, _| {
        let deep = "[".repeat(60_000);
        write_until_full(channel, deep.as_bytes(), deep.len());
        write_until_full(channel, b"\n", 1);
    });
}

#[test]
fn a_line_without_an_end_does_no_harm() {
    does_no_harm(|channel, rig| {
        let most = 64 << 20;
        let written = write_until_full(channel, &[b'x'; 65536], most);
        assert!(memory(rig) < MAX_MEMORY_KIB, "{written} bytes, {} KiB", memory(rig));
    });
}

#[test]
fn a_flood_of_messages_does_no_harm() {
    does_no_harm(|channel, _| {
        let lines = "{\"type\":\"an app's own\",\"number\":7}\n".repeat(1000);
        write_until_full(channel, lines.as_bytes(), 64 << 20);
    });
}

#[test]
fn queries_whose_answers_are_not_read_do_no_harm() {
    does_no_harm(|channel, _| {
        // Each is for a server of its own, which rinit opens up to a limit. No answer is read.
        for seq in 0..20_000 {
            let query = json!({
                "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": seq, "address": "127.0.0.1", "port": 0,
                "addressType": 4, "index": seq, "data": "x".repeat(200), "flags": 0
            });
            let line = format!("{query}\n");
            if write_until_full(channel, line.as_bytes(), line.len()) < line.len() {
                break;
            }
        }
    });
}

#[test]
fn descriptors_that_are_sent_without_end_do_no_harm() {
    does_no_harm(|channel, rig| {
        let file = std::fs::File::open("/dev/null").unwrap();
        for round in 0..2000 {
            let message = json!({ "cmd": "NODE_HANDLE", "type": "net.Socket", "msg": round });
            if !sent(channel, &format!("{message}\n"), &file) {
                break;
            }
        }
        // And some with a line that has no room for them, in the middle of one, and many at once.
        let _ = sent(channel, "{\"text\":", &file) && sent(channel, "\"of one line\"}\n", &file);
        eventually("they are closed", || (descriptors(rig) < 200).then_some(()));
    });
}

/// Sends bytes and a descriptor. True if the socket took them.
fn sent(channel: &Channel, text: &str, file: &impl AsFd) -> bool {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::os::fd::AsRawFd;
    channel.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let handles = [file.as_fd().as_raw_fd(); 3];
    let bytes = [std::io::IoSlice::new(text.as_bytes())];
    let rights = [ControlMessage::ScmRights(&handles)];
    sendmsg::<UnixAddr>(channel.stream.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).is_ok()
}

#[test]
fn a_worker_that_never_reads_its_connections_delays_no_other_for_ever() {
    let Some((rig, port, mut channel)) = node_and_hostile_worker(&[]) else { return };
    channel.serve_on(None, port);
    all_listen(&rig, 2);
    let quick = Client { keeps: false, path: "/", pause: Duration::from_millis(2) };
    let (load, ()) = under_load(port, &[quick; 8], |meter| meter.wait_for_answers(500));
    // It never answers for its connections: they go to the other worker, at the latest when this one has ended.
    let refused = load.failures.iter().filter(|why| why.contains("refused") || why.contains("reset")).count();
    assert_eq!(refused, 0, "{load:#?}");
    assert!(memory(&rig) < MAX_MEMORY_KIB && descriptors(&rig) < MAX_DESCRIPTORS);
    rig.signal_pid(pid_from_here(&rig, channel.pid), "KILL");
    drop(channel);
    rig.until("it is gone", |out| out.has("ended: "));
    served_by(port, 1);
}

#[test]
fn a_worker_that_drops_its_connections_costs_only_those() {
    let Some((rig, port, mut channel)) = node_and_hostile_worker(&[]) else { return };
    channel.serve_on(None, port);
    all_listen(&rig, 2);
    let node = served_by_node(port, &mut channel);
    // It answers twice for the same connection, and for one that it was never sent.
    for _ in 0..3 {
        channel.answer(4_000_000, true);
        channel.answer(0, true);
        channel.answer(0, false);
    }
    rig.signal_pid(pid_from_here(&rig, channel.pid), "KILL");
    drop(channel);
    rig.until("it is gone", |out| out.has("ended: "));
    for _ in 0..10 {
        assert_eq!(pid_in(&get(port, "/").unwrap()), Some(node));
    }
    stop(&rig);
}

/// Sends requests until Node has answered. Those that go to the other worker are closed there.
fn served_by_node(port: u16, channel: &mut Channel) -> u32 {
    let asks = std::thread::spawn(move || {
        eventually("Node answers", || get(port, "/").ok().and_then(|answer| pid_in(&answer)))
    });
    let offer = channel.offer();
    channel.answer(offer.seq, true);
    drop(offer.stream);
    asks.join().unwrap()
}

#[test]
fn a_worker_that_closes_another_ones_server_closes_nothing() {
    let Some((rig, port, mut channel)) = node_and_hostile_worker(&[]) else { return };
    // The key of a server that it never asked for.
    let reply = channel.query(Some("127.0.0.1"), free_port());
    let key = reply.key.replace(&reply.message["sockname"]["port"].to_string(), &port.to_string());
    for key in [key.as_str(), "", "0", &format!("null:{port}:4:undefined")] {
        channel.act("close", json!({ "key": key }));
    }
    served_by(port, 1);
    let (load, ()) = under_load(port, &MIX, |meter| meter.wait_for_answers(100));
    load.assert_lossless(&rig);
    drop(rig);
}

#[test]
fn two_thousand_connections_wait_for_workers_that_are_stopped() {
    let Some(node) = node() else { return };
    // The test's own descriptors.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let port = free_port();
    let rig = node_app(2, &[], &node, "app.js", port).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    let stuck = rig.workers();
    stuck.iter().for_each(|worker| rig.signal_pid(*worker, "STOP"));
    let mut streams = Vec::new();
    for _ in 0..2000 {
        // When the kernel's queue is full too, the connection fails in the kernel.
        let Ok(stream) = quick_connect(port) else { break };
        streams.push(stream);
    }
    assert!(streams.len() >= 400, "only {} connections were made", streams.len());
    let sent = |stream: &mut std::io::BufReader<std::net::TcpStream>| {
        stream.get_mut().write_all(request("/", "close").as_bytes()).is_ok()
    };
    assert!(streams.iter_mut().all(sent));
    assert!(memory(&rig) < MAX_MEMORY_KIB, "{} KiB", memory(&rig));
    assert!(descriptors(&rig) < 1000, "{} descriptors", descriptors(&rig));
    // Signals are acted on meanwhile.
    rig.signal("TTIN");
    rig.until("one more is started", |out| times_ready(out) == 3);
    stuck.iter().for_each(|worker| rig.signal_pid(*worker, "CONT"));
    for mut stream in streams {
        answer(&mut stream).unwrap();
    }
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

/// A connection that is made within 300 ms, or an error.
fn quick_connect(port: u16) -> std::io::Result<std::io::BufReader<std::net::TcpStream>> {
    let patience = Duration::from_millis(300);
    let stream = std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), patience)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(std::io::BufReader::new(stream))
}
