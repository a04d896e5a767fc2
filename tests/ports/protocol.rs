//! The channel, message by message: the test acts as the worker, without Node.

use crate::apps::{all_listen, pid_from_here, stop, times_ready, workers};
use crate::channel::{Channel, Lender};
use crate::harness::{Running, eventually, free_port};
use crate::load::{answer, connect, get, pid_in, request};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};

/// Starts N workers whose channels the test holds.
fn lent<const N: usize>(settings: &[&str]) -> (Running, [Channel; N]) {
    let lender = Lender::new();
    let rig = workers(N, &[&["--share-ports", "node", "--stop-timeout", "8s"], settings].concat())
        .fixture(&lender.words())
        .start();
    let channels = lender.channels();
    (rig, channels)
}

/// A client's request, in a thread.
fn asks(port: u16) -> JoinHandle<String> {
    spawn(move || get(port, "/").unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn a_worker_that_listens_is_ready_and_is_handed_connections() {
    let (rig, [mut worker]) = lent(&["--min-uptime", "1h"]);
    assert!(worker.id > 0, "NODE_UNIQUE_ID is a worker's number");
    worker.act("online", json!({}));
    let port = free_port();
    let reply = worker.query(Some("127.0.0.1"), port);
    assert_eq!((reply.errno, reply.key.is_empty()), (0, false), "{}", reply.message);
    assert!(reply.handle.is_none(), "round robin");
    let name = &reply.message["sockname"];
    assert_eq!((&name["address"], &name["port"]), (&json!("127.0.0.1"), &json!(port)), "{}", reply.message);
    assert_eq!(times_ready(&rig.output()), 0, "it has asked, and does not listen yet");
    worker.listening(port);
    all_listen(&rig, 1);
    let client = asks(port);
    let offer = worker.offer();
    assert_eq!(offer.key, reply.key);
    worker.take(offer);
    assert_eq!(pid_in(&client.join().unwrap()), Some(worker.pid));
}

#[test]
fn connections_go_round() {
    let (rig, mut all) = lent::<3>(&[]);
    let port = free_port();
    let keys = all.each_mut().map(|worker| worker.serve(port));
    assert!(keys.iter().all(|key| *key == keys[0]), "one server, one key: {keys:?}");
    all_listen(&rig, 3);
    let pids = all.each_ref().map(|worker| worker.pid);
    let threads = all.map(|worker| spawn(|| worker.be_good()));
    let mut counts = [0; 3];
    for _ in 0..30 {
        let pid = pid_in(&get(port, "/").unwrap()).unwrap();
        counts[pids.iter().position(|it| *it == pid).unwrap()] += 1;
    }
    assert_eq!(counts, [10; 3]);
    stop(&rig);
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [10; 3]);
}

#[test]
fn a_connection_that_a_worker_refuses_goes_to_another() {
    let (rig, [mut first, mut second]) = lent(&[]);
    let port = free_port();
    first.serve(port);
    second.serve(port);
    all_listen(&rig, 2);
    let pid = second.pid;
    let threads = [spawn(|| first.refuse_all()), spawn(|| second.be_good())];
    for _ in 0..20 {
        assert_eq!(pid_in(&get(port, "/").unwrap()), Some(pid));
    }
    stop(&rig);
    let answered = threads.map(|thread| thread.join().unwrap());
    assert!(answered[0] > 0, "the first was asked at all");
    assert_eq!(answered[1], 20);
}

#[test]
fn a_connection_whose_descriptor_did_not_arrive_is_not_lost() {
    let (rig, [mut first, second]) = lent(&[]);
    let port = free_port();
    let mut second = second;
    first.serve(port);
    second.serve(port);
    all_listen(&rig, 2);
    let clients = [asks(port), asks(port)];
    let good = spawn(|| second.be_good());
    // As Node answers when it has no descriptor left: the connection is offered again, here or elsewhere.
    let (message, _) = first.message();
    assert_eq!(message["msg"]["act"], "newconn");
    first.send(&json!({ "cmd": "NODE_HANDLE_NACK" }));
    let first = spawn(|| first.be_good());
    for client in clients {
        client.join().unwrap();
    }
    stop(&rig);
    first.join().unwrap();
    good.join().unwrap();
}

#[test]
fn connections_that_a_dead_worker_had_not_accepted_go_to_another() {
    for by_kill in [true, false] {
        let (rig, [mut first, mut second]) = lent(&["--min-uptime", "1h", "--backoff", "1h..1h"]);
        let port = free_port();
        first.serve(port);
        second.serve(port);
        all_listen(&rig, 2);
        let pid = second.pid;
        let clients = [asks(port), asks(port)];
        // It has one of them, and has not said that it takes it.
        let offer = first.offer();
        let good = spawn(|| second.be_good());
        if by_kill {
            rig.signal_pid(pid_from_here(&rig, first.pid), "KILL");
        }
        drop(first);
        drop(offer);
        for client in clients {
            assert_eq!(pid_in(&client.join().unwrap()), Some(pid));
        }
        stop(&rig);
        good.join().unwrap();
    }
}

#[test]
fn a_worker_that_closes_a_server_gets_no_more_of_its_connections() {
    let (rig, [mut first, mut second]) = lent(&[]);
    let (port, other) = (free_port(), free_port());
    let key = first.serve(port);
    let other_key = first.serve(other);
    assert_ne!(key, other_key);
    second.serve(port);
    rig.until("both are ready", |out| times_ready(out) == 2);
    first.act("close", json!({ "key": key }));
    let pid = second.pid;
    let good = spawn(|| second.be_good());
    // What was offered before rinit read of it is refused; then there is no more of it.
    let mut of_the_other = None;
    let clients = [(); 6].map(|()| asks(port));
    let last = asks(other);
    while of_the_other.is_none() {
        let offer = first.offer();
        if offer.key == other_key {
            of_the_other = Some(offer);
        } else {
            drop(offer.stream);
            first.answer(offer.seq, false);
        }
    }
    first.take(of_the_other.unwrap());
    assert_eq!(pid_in(&last.join().unwrap()), Some(first.pid));
    for client in clients {
        assert_eq!(pid_in(&client.join().unwrap()), Some(pid));
    }
    drop(first);
    stop(&rig);
    good.join().unwrap();
}

#[test]
fn connections_wait_while_no_worker_listens() {
    let (rig, [mut first]) = lent(&[]);
    let port = free_port();
    let key = first.serve(port);
    all_listen(&rig, 1);
    first.act("close", json!({ "key": key }));
    let query = first.query(Some("127.0.0.1"), port);
    assert_eq!(query.errno, 0, "{}", query.message);
    let client = asks(port);
    first.listening(port);
    let pid = first.pid;
    let offer = first.offer();
    first.take(offer);
    assert_eq!(pid_in(&client.join().unwrap()), Some(pid));
}

#[test]
fn a_stop_begins_with_disconnect_and_the_channels_end_is_waited_for() {
    let (rig, [mut worker]) = lent(&[]);
    let port = free_port();
    let key = worker.serve(port);
    all_listen(&rig, 1);
    let client = asks(port);
    let offer = worker.offer();
    worker.answer(offer.seq, true);
    rig.signal("TERM");
    let (message, _) = worker.message();
    assert_eq!((&message["cmd"], &message["act"]), (&json!("NODE_CLUSTER"), &json!("disconnect")), "{message}");
    worker.act("close", json!({ "key": key }));
    assert!(!rig.output().has("got SIGTERM"), "it has an answer to give first");
    offer.answer(&format!("pid {}\n", worker.pid));
    client.join().unwrap();
    drop(worker);
    rig.until("then the signal comes", |out| out.has("got SIGTERM"));
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_server_gets_no_answer_from_when_its_worker_is_asked_to_stop() {
    let (rig, [mut worker]) = lent(&[]);
    worker.serve(free_port());
    all_listen(&rig, 1);
    rig.signal("TERM");
    assert_eq!(worker.message().0["act"], "disconnect");
    worker.act("queryServer", json!({ "address": null, "port": free_port(), "addressType": 4, "index": 0 }));
    let seq = worker.act("exitedAfterDisconnect", json!({}));
    assert_eq!(worker.message().0["ack"], seq, "the next answer is to what came after it");
    drop(worker);
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_worker_that_says_it_leaves_is_answered() {
    let (rig, [mut worker]) = lent(&[]);
    worker.serve(free_port());
    all_listen(&rig, 1);
    let seq = worker.act("exitedAfterDisconnect", json!({}));
    let (message, _) = worker.message();
    assert_eq!((&message["cmd"], &message["ack"]), (&json!("NODE_CLUSTER"), &json!(seq)), "{message}");
}

#[test]
fn errors_of_listen_are_sent_by_number() {
    let (_rig, [mut worker]) = lent(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let reply = worker.query(Some("127.0.0.1"), taken.local_addr().unwrap().port());
    assert_eq!(reply.errno, -98, "EADDRINUSE: {}", reply.message);
    let reply = worker.query(Some("192.0.2.1"), 0);
    assert_eq!(reply.errno, -99, "EADDRNOTAVAIL: {}", reply.message);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder.sock");
    let query = json!({ "address": path, "port": -1, "addressType": -1, "index": 0, "data": null });
    let reply = worker.query_for(query);
    assert!(reply.errno < 0, "{}", reply.message);
    let reply = worker.query_for(json!({
        "address": null, "port": null, "addressType": null, "fd": 900, "index": 0, "data": null
    }));
    assert_eq!(reply.errno, -9, "EBADF: {}", reply.message);
    // It can still listen.
    assert_eq!(worker.query(Some("127.0.0.1"), free_port()).errno, 0);
}

#[test]
fn port_0_is_one_port_for_each_index() {
    let (_rig, mut all) = lent::<2>(&[]);
    let ports = all.each_mut().map(|worker| {
        [0, 1].map(|index| {
            let query = json!({
                "address": "127.0.0.1", "port": 0, "addressType": 4, "index": index, "data": null, "flags": 0
            });
            let reply = worker.query_for(query);
            assert_eq!(reply.errno, 0, "{}", reply.message);
            reply.message["sockname"]["port"].as_u64().unwrap()
        })
    });
    assert_eq!(ports[0], ports[1]);
    assert!(ports[0][0] != ports[0][1] && ports[0].iter().all(|port| *port > 0), "{ports:?}");
}

#[test]
fn the_first_workers_data_is_sent_to_all() {
    let (_rig, [mut first, mut second]) = lent(&[]);
    let port = free_port();
    let query = |data: &str| json!({ "address": "127.0.0.1", "port": port, "addressType": 4, "index": 0, "data": data, "flags": 0 });
    assert_eq!(first.query_for(query("ticket keys")).message["data"], "ticket keys");
    assert_eq!(second.query_for(query("others")).message["data"], "ticket keys");
}

#[test]
fn udp_is_a_descriptor_that_all_share() {
    let (_rig, mut all) = lent::<2>(&[]);
    let port = free_port();
    for worker in &mut all {
        let reply = worker.query_for(json!({
            "address": "127.0.0.1", "port": port, "addressType": "udp4", "fd": -1, "index": 0, "data": null, "flags": 0
        }));
        assert_eq!(reply.errno, 0, "{}", reply.message);
        let socket = std::net::UdpSocket::from(reply.handle.expect("a descriptor"));
        assert_eq!(socket.local_addr().unwrap().port(), port);
    }
}

#[test]
fn a_unix_path_is_opened_once() {
    let (rig, mut all) = lent::<2>(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    for worker in &mut all {
        let query = json!({ "address": path, "port": -1, "addressType": -1, "index": 0, "data": null });
        let reply = worker.query_for(query);
        assert_eq!(reply.errno, 0, "{}", reply.message);
    }
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(all);
    stop(&rig);
    assert!(!path.exists());
}

#[test]
fn messages_come_through_however_they_are_cut() {
    let (rig, [mut worker]) = lent(&["--min-uptime", "1h"]);
    let port = free_port();
    // One byte at a time.
    let query = json!({
        "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 0, "address": "127.0.0.1", "port": port, "addressType": 4,
        "index": 0, "data": "\u{2028}ü\"\\\u{1F600}", "flags": 0
    });
    for byte in format!("{query}\n").as_bytes() {
        worker.send_bytes(&[*byte]);
    }
    let (message, _) = worker.message();
    assert_eq!((&message["ack"], &message["errno"]), (&json!(0), &json!(null)), "{message}");
    assert_eq!(message["data"], "\u{2028}ü\"\\\u{1F600}");
    // Many at once, with messages of the app among them.
    let listening = json!({ "cmd": "NODE_CLUSTER", "act": "listening", "seq": 9, "port": port, "addressType": 4 });
    let own = json!({ "cmd": "NODE_SOMETHING", "port": 1 });
    worker.send_bytes(format!("\"text\"\n7\ntrue\nnull\n[]\n{{}}\n{own}\n{own}\n{listening}\n\"text\"\n").as_bytes());
    all_listen(&rig, 1);
    let client = asks(port);
    let offer = worker.offer();
    worker.take(offer);
    client.join().unwrap();
}

#[test]
fn numbers_of_messages_may_be_anything() {
    let (_rig, [worker]) = lent(&[]);
    let mut worker = worker;
    for seq in [7_u64, 7, 0, 9_007_199_254_740_991] {
        let query = json!({
            "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": seq, "address": "127.0.0.1", "port": 0,
            "addressType": 4, "index": seq, "data": null, "flags": 0
        });
        worker.send(&query);
        let (message, _) = worker.message();
        assert_eq!(message["ack"], seq, "{message}");
    }
}

#[test]
fn a_descriptor_that_an_app_sends_is_acknowledged() {
    let (rig, [mut worker]) = lent(&[]);
    worker.serve(free_port());
    all_listen(&rig, 1);
    let file = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..3 {
        worker.send_with(&json!({ "cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "take this" }), &file);
        let (message, _) = worker.message();
        assert_eq!(message["cmd"], "NODE_HANDLE_ACK", "{message}");
    }
}

#[test]
fn the_message_ready_makes_a_worker_ready() {
    let (rig, [worker]) = lent(&["--ready", "message"]);
    worker.send(&json!("not ready"));
    worker.send(&json!({ "ready": true }));
    worker.send(&json!("ready"));
    rig.until("it is ready", |out| out.has("(it sent 'ready')"));
}

#[test]
fn a_worker_that_listens_twice_is_ready_once() {
    let (rig, [mut worker]) = lent(&[]);
    let port = free_port();
    worker.serve(port);
    worker.listening(port);
    worker.serve(free_port());
    let seq = worker.act("exitedAfterDisconnect", json!({}));
    assert_eq!(worker.message().0["ack"], seq, "all before has been heard");
    rig.until("it is ready", |out| times_ready(out) == 1);
}

#[test]
fn kept_connections_stay_with_their_worker_through_a_reload_until_it_lets_go() {
    let lender = Lender::new();
    let rig = workers(1, &["--share-ports", "node"]).fixture(&lender.words()).start();
    let mut old = lender.channel();
    let port = free_port();
    let key = old.serve(port);
    all_listen(&rig, 1);
    let mut client = connect(port).unwrap();
    client.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
    let offer = old.offer();
    old.answer(offer.seq, true);
    rig.signal("HUP");
    let mut new = lender.channel();
    new.serve(port);
    let (message, _) = old.message();
    assert_eq!(message["act"], "disconnect", "{message}");
    old.act("close", json!({ "key": key }));
    // From now on everybody else goes to the new one.
    let pid = new.pid;
    let good = spawn(|| new.be_good());
    for _ in 0..5 {
        assert_eq!(pid_in(&get(port, "/").unwrap()), Some(pid));
    }
    offer.answer("the old one\n");
    assert_eq!(answer(&mut client).unwrap().0, "the old one\n");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    drop(old);
    eventually("the reload is done", || rig.output().has("reload to generation 2 done").then_some(()));
    stop(&rig);
    good.join().unwrap();
}

#[test]
fn a_connection_that_a_leaving_worker_refuses_is_not_lost() {
    let lender = Lender::new();
    let rig = workers(1, &["--share-ports", "node"]).fixture(&lender.words()).start();
    let mut old = lender.channel();
    let port = free_port();
    old.serve(port);
    all_listen(&rig, 1);
    // Sent to the old worker, which does not read it before it is asked to stop.
    let client = asks(port);
    let offer = old.offer();
    rig.signal("HUP");
    let mut new = lender.channel();
    new.serve(port);
    assert_eq!(old.message().0["act"], "disconnect");
    let pid = new.pid;
    let good = spawn(|| new.be_good());
    drop(offer.stream);
    old.answer(offer.seq, false);
    assert_eq!(pid_in(&client.join().unwrap()), Some(pid));
    drop(old);
    rig.until("the reload is done", |out| out.has("reload to generation 2 done"));
    stop(&rig);
    good.join().unwrap();
}
