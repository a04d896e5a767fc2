//! Node: every kind of server, every version, and the cluster module as an app sees it.

use crate::apps::{all_listen, node_app, reloaded, served_by, stop, times_ready, workers};
use crate::harness::{Flag, eventually, free_port};
use crate::load::{MIX, answer, connect, get, pid_in, request, under_load};
use crate::setup::{app, node, npm, program, runtime};
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn every_worker_serves_an_app_that_knows_of_no_other() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(4, &[], &node, "app.js", port).start();
    all_listen(&rig, 4);
    let answers = served_by(port, 4);
    let word =
        |answer: &String, name: &str| answer.split(name).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let places = BTreeSet::from_iter(answers.iter().map(|answer| word(answer, "worker ")));
    assert_eq!(Vec::from_iter(places), ["0", "1", "2", "3"]);
    let ids = BTreeSet::from_iter(answers.iter().map(|answer| word(answer, " id ").parse::<u32>().unwrap()));
    assert!(ids.len() == 4 && !ids.contains(&0), "{answers:?}");
    stop(&rig);
}

#[test]
fn node_18() {
    serves_reloads_and_stops("node18");
}

#[test]
fn node_20() {
    serves_reloads_and_stops("node20");
}

#[test]
fn node_22() {
    serves_reloads_and_stops("node22");
}

#[test]
fn node_24() {
    serves_reloads_and_stops("node24");
}

#[test]
fn node_26() {
    serves_reloads_and_stops("node26");
}

fn serves_reloads_and_stops(runtime_name: &str) {
    let Some(node) = runtime(runtime_name) else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "app.js", port).start();
    all_listen(&rig, 2);
    let old = served_by(port, 2);
    let (load, ()) = under_load(port, &MIX, |_| {
        for reload in 1..=2 {
            rig.signal("HUP");
            reloaded(&rig, reload);
        }
    });
    load.assert_lossless(&rig);
    let new = served_by(port, 2);
    assert!(old.is_disjoint(&new), "{new:?}");
    stop(&rig);
}

/// Bun has no round robin: each of its workers opens a socket of its own.
#[test]
fn bun_serves_and_reloads() {
    let Some(bun) = runtime("bun") else { return };
    let port = free_port();
    let rig = node_app(2, &[], &bun, "app.js", port).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
}

#[test]
fn deno_serves_and_reloads() {
    let Some(deno) = runtime("deno") else { return };
    let port = free_port();
    let rig = workers(2, &[]).arg(deno).args(&["run", "-A"]).arg(app("node/app.js"));
    let rig = rig.env("PORT", &port.to_string()).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
    stop(&rig);
}

/// Sends requests with Node's own client on new connections until both workers have answered.
fn both_serve(kind: &str) {
    let (Some(node), Some(npm)) = (node(), npm()) else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, &format!("{kind}.js"), port).env("NODE_PATH", npm.to_str().unwrap()).start();
    all_listen(&rig, 2);
    let mut client = Command::new(node);
    client.arg(app("node/client.js")).args([kind, &port.to_string(), "2"]).env("NODE_PATH", &npm);
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    stop(&rig);
}

#[test]
fn https_is_served_by_every_worker() {
    both_serve("https");
}

#[test]
fn http2_is_served_by_every_worker() {
    both_serve("http2");
}

#[test]
fn websockets_are_served_by_every_worker() {
    both_serve("ws");
}

#[test]
fn express_is_served_by_every_worker_and_reloads() {
    framework("express.js");
}

#[test]
fn fastify_is_served_by_every_worker_and_reloads() {
    framework("fastify.js");
}

fn framework(name: &str) {
    let (Some(node), Some(npm)) = (runtime("node22"), npm()) else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, name, port).env("NODE_PATH", npm.to_str().unwrap()).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    let (load, ()) = under_load(port, &MIX, |_| {
        rig.signal("HUP");
        reloaded(&rig, 1);
    });
    load.assert_lossless(&rig);
    stop(&rig);
}

#[test]
fn raw_tcp_is_served_by_every_worker() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "tcp.js", port).start();
    all_listen(&rig, 2);
    all_answer(2, || {
        let mut text = String::new();
        TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    stop(&rig);
}

#[test]
fn udp_is_served_by_every_worker() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "udp.js", port).start();
    all_listen(&rig, 2);
    all_answer(2, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(b"?", ("127.0.0.1", port)).unwrap();
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    });
    stop(&rig);
}

#[test]
fn a_unix_path_is_served_by_every_worker_and_is_gone_at_the_end() {
    let Some(node) = node() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let rig = workers(2, &[]).arg(&node).arg(app("node/path.js")).env("SOCKET", path.to_str().unwrap()).start();
    all_listen(&rig, 2);
    let ask = || {
        let mut stream = BufReader::new(UnixStream::connect(&path).unwrap());
        stream.get_mut().write_all(request("/", "close").as_bytes()).unwrap();
        answer(&mut stream).unwrap().0
    };
    all_answer(2, ask);
    rig.signal("HUP");
    reloaded(&rig, 1);
    all_answer(2, ask);
    stop(&rig);
    assert!(!path.exists());
}

#[test]
fn a_name_in_the_abstract_namespace_is_served_by_every_worker() {
    let Some(node) = node() else { return };
    let name = format!("rinit-test-{}", std::process::id());
    let script = "require('net').createServer((c) => c.end('hi')).listen({ path: '\\0' + process.env.NAME })";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("abstract.js");
    std::fs::write(&file, script).unwrap();
    let rig = workers(2, &[]).arg(&node).arg(&file).env("NAME", &name).start();
    all_listen(&rig, 2);
    assert!(rig.output().has(&format!("@{name} is shared by its workers")), "{:#?}", rig.output().stderr);
}

#[test]
fn port_0_is_one_port_for_all_workers_and_another_for_each_server() {
    let Some(node) = node() else { return };
    let rig = workers(2, &[]).arg(node).arg(app("node/zero.js")).start();
    rig.until("both have told both ports", |out| out.count(" port ") == 4);
    let told = |name: &str| {
        let out = rig.output();
        let lines = out.stdout.iter().filter_map(|line| line.split(&format!("{name} port ")).nth(1));
        let ports = BTreeSet::from_iter(lines.map(|text| text.parse::<u16>().unwrap()));
        assert_eq!(ports.len(), 1, "{:?}", out.stdout);
        *ports.first().unwrap()
    };
    let (first, second) = (told("first"), told("second"));
    assert_ne!(first, second);
    served_by(first, 2);
    served_by(second, 2);
    stop(&rig);
}

#[test]
fn several_ports_are_each_served_by_every_worker() {
    let Some(node) = node() else { return };
    let ports = [free_port(), free_port(), free_port()];
    let list = ports.map(|port| port.to_string()).join(",");
    let rig = workers(2, &[]).arg(node).arg(app("node/ports.js")).env("PORTS", &list).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    // A worker is ready when it listens at one port: the others may follow a moment later.
    for port in ports {
        eventually("the port is open", || TcpStream::connect(("127.0.0.1", port)).ok());
        served_by(port, 2);
    }
    stop(&rig);
}

#[test]
fn an_exclusive_server_shares_its_port_all_the_same() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "exclusive.js", port).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
}

#[test]
fn an_exclusive_server_shares_no_port_without_the_library() {
    let Some(node) = node() else { return };
    let settings = ["--share-ports", "node", "--max-restarts", "1", "--backoff", "10ms..10ms"];
    let rig = node_app(2, &settings, &node, "exclusive.js", free_port()).start();
    rig.until("the second fails", |out| out.has("EADDRINUSE"));
}

#[test]
fn the_cluster_module_works_as_under_nodes_own_primary() {
    let Some(node) = node() else { return };
    let rig = node_app(1, &["--stop-message"], &node, "ipc.js", free_port()).start();
    rig.until("all was sent", |out| out.has("sent what came after the socket"));
    let out = rig.output();
    for line in [
        r#"cluster {"isPrimary":false,"isMaster":false,"isWorker":true,"id":"#,
        r#"process {"send":"function","connected":true}"#,
        r#"worker {"connected":true,"dead":false,"fork":"undefined"}"#,
        "variables []",
        r#"sent "text" well"#,
        "sent 7 well",
        "sent true well",
        "sent null well",
        "sent {\"nested\":[\"\u{2028}\",\"ü\"]} well",
    ] {
        assert!(out.has(line), "{line} is not in {:#?}", out.stdout);
    }
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
    assert!(rig.output().has(r#"got "shutdown""#), "{:#?}", rig.output().stdout);
}

#[test]
fn a_worker_that_disconnects_by_itself_is_followed_by_another_and_loses_nothing() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "ipc.js", port).start();
    all_listen(&rig, 2);
    let old = served_by(port, 2);
    let (load, ()) = under_load(port, &MIX[4..], |meter| {
        get(port, "/disconnect").unwrap();
        rig.until("it has disconnected, as a wish of its own", |out| out.has("disconnected true"));
        rig.until("another follows", |out| times_ready(out) == 3);
        meter.wait_for_answers(50);
    });
    load.assert_lossless(&rig);
    let new = served_by(port, 2);
    assert_eq!(old.intersection(&new).count(), 1, "{old:?} {new:?}");
}

/// The error with which listening fails, which must be the same under rinit and under Node's own primary.
fn fails_alike(environment: &[(&str, &str)], wrapper: &[&str]) -> String {
    let node = node().unwrap();
    let (app, primary) = (app("node/error.js"), app("node/primary.js"));
    let words = [wrapper, &[&node, &primary, &app]].concat();
    let theirs = Command::new(words[0]).args(&words[1..]).envs(environment.iter().copied()).output().unwrap();
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let theirs = theirs.lines().find(|line| line.starts_with("error ")).expect("Node's own error");
    let rig = workers(1, &["--restart", "never"]).arg(node).arg(app).through(wrapper);
    let rig = environment.iter().fold(rig, |rig, (key, value)| rig.env(key, value)).start();
    rig.until("it has failed or not", |out| out.has("error "));
    let ours = rig.output().stdout;
    assert!(ours.iter().any(|line| line == &format!("web-0 | {theirs}")), "{ours:#?} and not\n{theirs}");
    theirs.to_owned()
}

#[test]
fn an_address_in_use_reaches_the_app_as_it_does_under_nodes_own_primary() {
    if node().is_none() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(fails_alike(&[("PORT", &port), ("HOST", "127.0.0.1")], &[]).contains("EADDRINUSE"));
    assert!(fails_alike(&[("PORT", &port)], &[]).contains("EADDRINUSE"));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [("KIND", "udp"), ("PORT", &port), ("HOST", "127.0.0.1")];
    assert!(fails_alike(&environment, &[]).contains("EADDRINUSE"));
}

#[test]
fn a_path_that_cannot_be_made_reaches_the_app_as_it_does_under_nodes_own_primary() {
    if node().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(fails_alike(&[("SOCKET", path.to_str().unwrap())], &[]).contains("EADDRINUSE"));
    let nowhere = folder.path().join("no/such/folder.sock");
    assert!(fails_alike(&[("SOCKET", nowhere.to_str().unwrap())], &[]).contains("code"));
}

#[test]
fn an_address_of_another_machine_reaches_the_app_as_it_does_under_nodes_own_primary() {
    if node().is_none() {
        return;
    }
    let environment = [("PORT", "0"), ("HOST", "192.0.2.1")];
    assert!(fails_alike(&environment, &[]).contains("EADDRNOTAVAIL"));
}

#[test]
fn a_port_that_is_not_allowed_reaches_the_app_as_it_does_under_nodes_own_primary() {
    let (Some(_), Some(_)) = (node(), program("setpriv")) else { return };
    // Without that one capability, whoever it is.
    let wrapper = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"];
    let told = fails_alike(&[("PORT", "81"), ("HOST", "127.0.0.1")], &wrapper);
    // Some machines allow every port to everybody.
    assert!(told.contains("EACCES") || told == "error none", "{told}");
}

#[test]
fn an_app_with_a_cluster_of_its_own_has_it_where_ports_are_not_shared() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(1, &["--share-ports", "off"], &node, "own-cluster.js", port).start();
    rig.until("it is the primary", |out| out.has("is the primary"));
    eventually("its workers listen", || TcpStream::connect(("127.0.0.1", port)).ok());
    served_by(port, 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn an_app_that_checks_is_primary_before_it_forks_is_a_worker_itself() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, "own-cluster.js", port).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    assert!(!rig.output().has("is the primary"));
    stop(&rig);
}

#[test]
fn an_app_that_forks_without_that_check_gets_advice() {
    let Some(node) = node() else { return };
    let settings = ["--max-restarts", "1", "--backoff", "10ms..10ms"];
    let rig = node_app(1, &settings, &node, "unchecked-cluster.js", free_port()).start();
    rig.until("the advice is there", |out| out.stderr.iter().any(|line| line.contains("--share-ports off")));
}

#[test]
fn npm_start_is_served_by_every_worker() {
    let (Some(_), Some(npm)) = (node(), program("npm")) else { return };
    let port = free_port();
    let folder = app("node");
    let rig = workers(2, &[]).arg(npm).args(&["--prefix", &folder, "start"]).env("PORT", &port.to_string()).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
}

#[test]
fn sh_c_is_served_by_every_worker() {
    let Some(node) = node() else { return };
    for command in ["exec $NODE $APP", "$NODE $APP; exit"] {
        let port = free_port();
        let rig = workers(2, &[]).args(&["sh", "-c", command]).env("PORT", &port.to_string());
        let rig = rig.env("NODE", &node).env("APP", &app("node/app.js")).start();
        all_listen(&rig, 2);
        served_by(port, 2);
        rig.signal("HUP");
        reloaded(&rig, 1);
        served_by(port, 2);
    }
}

#[test]
fn an_app_finds_its_port_free_and_listens_there_however_it_is_shared() {
    let Some(node) = node() else { return };
    for share in ["auto", "preload"] {
        let port = free_port();
        let rig = node_app(1, &["--share-ports", share, "--ready", "spawn"], &node, "tries.js", port).start();
        rig.until("it serves, or not", |out| out.has("serves") || out.has("not free"));
        served_by(port, 1);
    }
}

#[test]
fn an_app_that_asks_if_its_port_is_free_finds_it_free_beside_a_worker_that_serves_there() {
    let Some(node) = node() else { return };
    for settings in [&[][..], &["--balance", "shared"], &["--balance", "reuseport"], &["--share-ports", "preload"]] {
        let port = free_port();
        // A port that it only tries counts as one where it listens.
        let settings = [settings, &["--ready", "uptime"]].concat();
        let rig = node_app(1, &settings, &node, "asks.js", port).start();
        rig.until("it serves", |out| out.has("| served: taken"));
        rig.signal("HUP");
        reloaded(&rig, 1);
        rig.until("both have served", |out| out.count("| served: taken") == 2);
        let out = rig.output();
        assert_eq!((out.count("| connect: free"), out.count("| listen: free")), (2, 6), "{settings:?}: {out:#?}");
        served_by(port, 1);
    }
}

#[test]
fn an_app_that_asks_if_its_port_is_free_finds_it_free_beside_a_worker_that_closes_its_server() {
    let Some(node) = node() else { return };
    for settings in [&[][..], &["--balance", "shared"], &["--balance", "reuseport"]] {
        let (port, flag) = (free_port(), Flag::new());
        let settings = [settings, &["--ready", "uptime"]].concat();
        let rig = node_app(1, &settings, &node, "keeps-asking.js", port).env("FLAG", &flag.path()).start();
        rig.until("it serves", |out| out.has("| serves"));
        rig.signal("HUP");
        reloaded(&rig, 1);
        rig.until("both serve", |out| out.count("| serves") == 2);
        let out = rig.output();
        assert!(out.has("| closes late") && out.has("| asked") && !out.has("| not free"), "{settings:?}: {out:#?}");
        served_by(port, 1);
    }
}

/// Which of Node's options have a value in the next word is in a table of rinit: Node itself says if it is right.
#[test]
fn the_script_is_found_behind_every_option_that_node_lists() {
    for name in ["node18", "node20", "node22", "node24", "node26"] {
        let Some(node) = runtime(name) else { continue };
        let help = String::from_utf8(Command::new(node).arg("--help").output().unwrap().stdout).unwrap();
        let options = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with('-'));
        let mut counted = 0;
        for (words, form) in options.flat_map(forms) {
            counted += 1;
            let command: Vec<_> = ["node", words, "a", "b"].map(std::ffi::OsString::from).into();
            let script = rinit::config::NodeCommand::find(&command).and_then(|node| node.script);
            // Some run no script at all: `--eval`, `--run`.
            let expected = if form == Form::TakesNext { 3 } else { 2 };
            assert!(script.is_none_or(|script| script == expected), "{name} {words} a b: {script:?}");
        }
        assert!(counted > 100, "{name}: only {counted} options");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    TakesNext,
}

/// The options of a line of `node --help`: `-r, --require=...`, `--inspect[=[host:]port]`, `--watch`.
fn forms(line: &str) -> Vec<(&str, Form)> {
    // The description is two spaces away, or in the next line.
    let names = line.split("  ").next().unwrap_or(line);
    let form = if names.contains('=') && !names.contains("[=") { Form::TakesNext } else { Form::Plain };
    let names = names.split(", ").map(|name| name.split(['=', '[', ' ']).next().unwrap_or(name));
    // These are no options of that form: the end of the options, standard input, and one that Node 26 calls another name of
    // `--experimental-config-file`, which it is without a value.
    names
        .filter(|name| !["-", "--", "--experimental-default-config-file"].contains(name))
        .map(|name| (name, form))
        .collect()
}

#[test]
fn a_script_on_the_command_line_is_served_by_every_worker() {
    let Some(node) = node() else { return };
    let port = free_port();
    let script = format!("require({:?})", app("node/app.js"));
    let rig = workers(2, &[]).arg(node).args(&["-e", &script]).env("PORT", &port.to_string()).start();
    all_listen(&rig, 2);
    served_by(port, 2);
}

#[test]
fn each_worker_has_an_inspector_of_its_own() {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = workers(2, &[]).arg(node).arg("--inspect").arg(app("node/app.js")).env("PORT", &port.to_string()).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    let out = rig.output();
    let told = out.stderr.iter().filter_map(|line| line.split("Debugger listening on ").nth(1));
    let ports = BTreeSet::from_iter(told.map(|address| address.split('/').nth(2).unwrap().to_owned()));
    assert_eq!(ports.len(), 2, "{:#?}", out.stderr);
}

#[test]
fn a_replacement_must_listen_where_its_predecessor_listened() {
    let Some(node) = node() else { return };
    let (gate, port) = (Flag::new(), free_port());
    gate.set();
    let uptime = Duration::from_secs(2);
    let settings = ["--ready", "auto", "--min-uptime", "2s"];
    let rig = node_app(1, &settings, &node, "late-listen.js", port).env("GATE", &gate.path()).start();
    all_listen(&rig, 1);
    gate.clear();
    rig.signal("HUP");
    rig.until("the new one is up", |out| out.count("is up") == 2);
    let start = Instant::now();
    while start.elapsed() < uptime + Duration::from_millis(500) {
        get(port, "/").unwrap();
    }
    assert_eq!(times_ready(&rig.output()), 1, "{:#?}", rig.output().stderr);
    gate.set();
    reloaded(&rig, 1);
    stop(&rig);
}

#[test]
fn ready_listen_waits_for_a_worker_to_listen() {
    let Some(node) = node() else { return };
    let gate = Flag::new();
    let rig =
        node_app(2, &["--ready", "listen"], &node, "late-listen.js", free_port()).env("GATE", &gate.path()).start();
    rig.until("both are up", |out| out.count("is up") == 2);
    assert_eq!(times_ready(&rig.output()), 0);
    gate.set();
    all_listen(&rig, 2);
    stop(&rig);
}

#[test]
fn ready_message_waits_for_a_worker_to_say_so() {
    let Some(node) = node() else { return };
    for sharing in ["auto", "off"] {
        let gate = Flag::new();
        let settings = ["--ready", "message", "--share-ports", sharing];
        let rig = node_app(1, &settings, &node, "late-ready.js", free_port()).env("GATE", &gate.path()).start();
        rig.until("it listens", |out| out.has("listens"));
        assert_eq!(times_ready(&rig.output()), 0);
        gate.set();
        rig.until("it is ready", |out| out.has("(it sent 'ready')"));
    }
}

#[test]
fn a_worker_that_listens_but_never_says_ready_is_not_ready_under_ready_message() {
    let Some(node) = node() else { return };
    let settings = ["--ready", "message", "--ready-timeout", "1s", "--max-restarts", "1", "--backoff", "10ms..10ms"];
    let rig = node_app(1, &settings, &node, "app.js", free_port()).start();
    rig.until("it was not ready", |out| out.has("was not ready within 1s"));
}

#[test]
fn the_message_ready_counts_under_auto() {
    let Some(node) = node() else { return };
    let settings = ["--ready", "auto", "--min-uptime", "1h"];
    let rig = workers(1, &settings).arg(node).arg(app("node/speaks.js")).start();
    rig.until("it is ready", |out| out.has("(it sent 'ready')"));
}

#[test]
fn stop_message_asks_before_the_signal_does() {
    let Some(node) = node() else { return };
    for sharing in ["auto", "off"] {
        let port = free_port();
        let settings = ["--stop-message", "--ready", "message", "--share-ports", sharing];
        let rig = node_app(1, &settings, &node, "shutdown.js", port).start();
        rig.until("it is ready", |out| times_ready(out) == 1);
        stop(&rig);
        assert!(rig.output().has("got shutdown"));
        assert!(!rig.output().has("got SIGTERM"), "it ended in time");
    }
}

#[test]
fn an_app_that_ignores_the_stop_message_gets_the_signal_at_half_the_stop_timeout() {
    let Some(node) = node() else { return };
    let settings = ["--stop-message", "--ready", "message", "--stop-timeout", "2s"];
    let rig = node_app(1, &settings, &node, "shutdown.js", free_port()).env("DEAF", "1").start();
    rig.until("it is ready", |out| times_ready(out) == 1);
    let start = Instant::now();
    rig.signal("TERM");
    rig.until("the signal comes", |out| out.has("got SIGTERM"));
    assert!(start.elapsed() >= Duration::from_secs(1), "after {:?}", start.elapsed());
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("heard and ignored shutdown"));
}

/// A request that is answered while everything stops.
fn stops_after_its_answers(name: &str) {
    let Some(node) = node() else { return };
    let port = free_port();
    let rig = node_app(2, &[], &node, name, port).start();
    all_listen(&rig, 2);
    let mut idle = connect(port).unwrap();
    idle.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
    assert!(answer(&mut idle).unwrap().1, "it is kept");
    let mut busy = [(); 4].map(|()| connect(port).unwrap());
    for stream in &mut busy {
        stream.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
        assert!(answer(stream).unwrap().1, "it is kept");
        stream.get_mut().write_all(request("/slow", "keep-alive").as_bytes()).unwrap();
    }
    rig.signal("TERM");
    for stream in &mut busy {
        let (text, stays) = answer(stream).unwrap();
        assert!(pid_in(&text).is_some() && !stays, "{text:?}, kept: {stays}");
    }
    assert_eq!(rig.wait(), 0, "{:#?}", rig.output().stderr);
    assert!(!rig.output().has("killed with its group"), "{:#?}", rig.output().stderr);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "the idle one is closed in peace");
}

#[test]
fn a_stop_lets_an_app_without_any_handler_finish_its_answers() {
    stops_after_its_answers("app.js");
}

#[test]
fn a_stop_ends_an_app_that_something_else_keeps_alive() {
    stops_after_its_answers("timer.js");
}

#[test]
fn a_stop_sends_clients_away_from_an_app_that_tells_them_to_stay() {
    stops_after_its_answers("insists.js");
}

#[test]
fn a_stop_answers_every_request_that_a_client_has_sent_already() {
    for version in ["node18", "node20", "node22", "node24", "node26"] {
        let Some(node) = runtime(version) else { return };
        let port = free_port();
        let rig = node_app(1, &[], &node, "app.js", port).start();
        all_listen(&rig, 1);
        let mut stream = connect(port).unwrap();
        stream.get_mut().write_all(request("/", "keep-alive").as_bytes()).unwrap();
        assert!(answer(&mut stream).unwrap().1, "it is kept");
        let three = ["/slow", "/", "/"].map(|path| request(path, "keep-alive")).concat();
        stream.get_mut().write_all(three.as_bytes()).unwrap();
        rig.signal("TERM");
        for _ in 0..3 {
            assert!(pid_in(&answer(&mut stream).unwrap().0).is_some());
        }
        assert_eq!(rig.wait(), 0);
    }
}

fn all_answer(count: usize, ask: impl Fn() -> String) {
    let mut seen = BTreeSet::new();
    eventually(&format!("{count} processes answer"), || {
        seen.insert(pid_in(&ask()).expect("a process"));
        (seen.len() == count).then_some(())
    });
}
