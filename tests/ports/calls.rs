//! The preloaded library, call by call: `apps/calls.c` makes the calls that its words name.

use crate::apps::{all_listen, pid_from_here, reloaded, served_by, workers};
use crate::harness::{Rig, Running, eventually, free_port, status_field};
use crate::load::{connect, get, pid_in};
use crate::setup::c_program;
use std::net::TcpStream;

/// Workers that make these calls on a port.
fn calls(count: usize, settings: &[&str], words: &str) -> Option<(Rig, u16)> {
    let port = free_port();
    let words: Vec<&str> = words.split_whitespace().collect();
    let rig = workers(count, settings).arg(c_program()?).args(&words);
    Some((rig.env("PORT", &port.to_string()), port))
}

/// Starts them, and waits until all of them have answered.
fn all_serve(count: usize, settings: &[&str], words: &str) -> Option<(Running, u16)> {
    let (rig, port) = calls(count, settings, words)?;
    let rig = rig.start();
    all_listen(&rig, count);
    served_by(port, count);
    Some((rig, port))
}

const OWN: &str = "socket reuseaddr bind listen";

#[test]
fn every_way_to_accept_is_served() {
    for words in [
        "serve",
        "poll:1 serve",
        "pollblock",
        "nonblock pollserve",
        "setfl pollserve",
        "nonblock epoll epollserve",
        "epoll nonblock epollserve",
        "select:1 accept serve",
        "pollmany:1 serve",
        "dup serve",
        "high:700 serve",
        "high:300 nonblock epoll epollserve",
        "nonblock dup2:40 pollserve",
        "poll:1 dup pollblock",
        "epollnothing modify nonblock epollserve",
        "clearenv serve",
        "timeout:100 serve",
        "threads:8 forkhandler alarm:5 serve",
        "sweep",
    ] {
        all_serve(2, &[], &format!("{OWN} name {words}"));
    }
}

#[test]
fn sockets_that_do_not_block_from_the_start_are_served() {
    for words in [
        "setfl bind listen pollserve",
        "nonblock bind name listen epoll epollserve",
        "bind nonblock listen epoll epollserve",
    ] {
        all_serve(2, &[], &format!("socket reuseaddr {words}"));
    }
}

#[test]
fn a_socket_that_is_in_an_epoll_instance_before_it_is_bound_is_served() {
    for words in [
        "epoll bind listen nonblock epollserve",
        "nonblock epoll bind listen epollserve",
        "epolledge bind listen nonblock epollserve",
        "epollnothing bind listen modify nonblock epollserve",
    ] {
        all_serve(2, &[], &format!("socket reuseaddr {words}"));
    }
}

#[test]
fn a_program_with_thousands_of_open_files_is_served() {
    for words in ["bind listen serve", "bind listen nonblock epoll epollserve"] {
        all_serve(2, &[], &format!("socket reuseaddr high:5000 {words}"));
    }
}

#[test]
fn every_way_to_another_process_is_served() {
    for words in [
        "fork serve",
        "prefork:4 serve",
        "prefork:3 pollblock",
        "nonblock prefork:3 epoll epollserve",
        "accept fork serve",
        "exec serve",
        "exec poll:1 serve",
        "poll:1 exec serve",
        "nonblock exec pollserve",
        "high:500 exec pollblock",
        "sendfd serve",
        "poll:1 sendfd serve",
        "nonblock sendfd epoll epollserve",
        "sendfd exec name serve",
    ] {
        all_serve(2, &[], &format!("{OWN} {words}"));
    }
}

#[test]
fn a_socket_is_passed_across_exec_before_it_listens() {
    all_serve(2, &[], "socket reuseaddr bind exec listen serve");
    all_serve(2, &[], "socket reuseaddr nonblock bind exec listen pollserve");
}

#[test]
fn a_listening_socket_answers_about_itself_behind_a_queue_too() {
    let ahead = "socket reuseaddr bind options";
    for (words, mode) in [
        ("listen options poll:1 options name peer serve", 3),
        ("nonblock options listen options name peer pollserve", 3),
    ] {
        let Some((rig, _)) = all_serve(2, &[], &format!("{ahead} {words}")) else { return };
        let out = rig.output();
        let before = if words.starts_with("nonblock") { 2 } else { 1 };
        assert_eq!(out.count("listens 0 stream 1 inet 1"), 2 * before, "{words}: {:#?}", out.stdout);
        assert_eq!(out.count("listens 1 stream 1 inet 1"), 2 * (mode - before), "{words}: {:#?}", out.stdout);
        assert_eq!(out.count("| no peer"), 2, "{words}: {:#?}", out.stdout);
    }
}

#[test]
fn accept_has_the_clients_address_and_the_connection_the_mode_that_is_asked_for() {
    for words in ["address address accept4 accept4 serve", "nonblock epoll wait address wait accept4 epollserve"] {
        let Some((rig, port)) = all_serve(1, &[], &format!("{OWN} {words}")) else { return };
        for _ in 0..4 {
            get(port, "/").unwrap();
        }
        assert!(!rig.output().has("accept gave"), "{:#?}", rig.output().stdout);
    }
}

#[test]
fn accept_ends_as_the_kernel_ends_it() {
    for (words, end) in [
        ("timeout:50 tryaccept", "accept: EAGAIN"),
        ("nonblock tryaccept", "accept: EAGAIN"),
        ("handler alarm:50 tryaccept", "Interrupted system call"),
        ("thread shutdown", "accept ended: 22"),
        ("cancel", "cancelled"),
    ] {
        let Some((rig, _)) = calls(2, &[], &format!("{OWN} {words} stay")) else { return };
        let rig = rig.start();
        rig.until(&format!("{words}: {end}"), |out| out.count(end) == 2);
    }
    // A handler with SA_RESTART interrupts nothing.
    all_serve(1, &[], &format!("{OWN} restart alarm:20 serve"));
}

#[test]
fn a_program_that_polls_once_and_then_blocks_never_sees_an_error() {
    // Its queue is empty for long, and it is slow: rinit takes its connections back, and gives it others later. The
    // program takes ECONNABORTED for a failure unless `poll` has told it of a connection.
    let Some((rig, port)) = all_serve(2, &[], &format!("{OWN} poll:1 accept accept sleep:300 pollblock")) else {
        return;
    };
    for _ in 0..20 {
        get(port, "/").unwrap();
    }
    assert!(!rig.output().has("accept failed"), "{:#?}", rig.output().stdout);
    served_by(port, 2);
}

#[test]
fn a_program_that_was_told_of_a_connection_does_not_wait_for_another() {
    let (Some(program), port) = (c_program(), free_port()) else { return };
    let slow = "sleep:1500 tryaccept nonblock pollserve";
    // One of two workers takes what the other is told of too, or rinit takes it back.
    for (balance, takes) in [("round-robin", "serve"), ("shared", "poll:-1 sleep:300 serve")] {
        for tells in ["poll:-1", "select:9000", "epoll wait"] {
            let script =
                format!("[ $RINIT_WORKER = 0 ] && exec {program} {OWN} {takes}; exec {program} {OWN} {tells} {slow}");
            let rig = workers(2, &["--balance", balance]).args(&["sh", "-c", &script]);
            let rig = rig.env("PORT", &port.to_string()).start();
            all_listen(&rig, 2);
            for _ in 0..4 {
                get(port, "/").unwrap();
            }
            rig.until("accept has ended", |out| out.has("Software caused connection abort"));
            served_by(port, 2);
        }
    }
}

#[test]
fn a_program_that_has_polled_waits_in_accept_again() {
    let settings = ["--balance", "shared"];
    let words = format!("{OWN} poll:-1 accept flags blockserve");
    let Some((rig, port)) = all_serve(2, &settings, &words) else { return };
    (0..20).for_each(|_| drop(get(port, "/").unwrap()));
    let out = rig.output();
    assert!(out.count("it blocks") > 0 && !out.has("it does not block"), "{:#?}", out.stdout);
    assert!(!out.has("accept ended"), "{:#?}", out.stdout);
    let words = format!("{OWN} poll:-1 accept timeout:50 tryaccept stay");
    let Some((rig, port)) = calls(1, &settings, &words) else { return };
    let rig = rig.start();
    all_listen(&rig, 1);
    get(port, "/").unwrap();
    rig.until("it has waited for 50 ms", |out| out.has("accept: EAGAIN"));
}

#[test]
fn workers_that_start_together_accept_in_the_mode_that_they_have_set() {
    // The first one's socket becomes the one that all share, and rinit changes its mode while that one goes on.
    for _ in 0..10 {
        let Some((rig, _)) = all_serve(8, &[], &format!("{OWN} blockserve")) else { return };
        assert!(!rig.output().has("accept ended"), "{:#?}", rig.output().stdout);
    }
}

#[test]
fn the_connections_of_a_stopped_process_are_answered_by_others_whichever_way_it_accepts() {
    for words in ["serve", "pollblock", "nonblock epoll epollserve"] {
        let Some((rig, port)) = all_serve(3, &[], &format!("{OWN} {words}")) else { return };
        let still = pid_in(&get(port, "/").unwrap()).unwrap();
        let worker = pid_from_here(&rig, still);
        rig.signal_pid(worker, "STOP");
        // Until it runs again to be stopped, it may still take a connection.
        eventually("it is stopped", || status_field(worker, "State").starts_with('T').then_some(()));
        for _ in 0..20 {
            assert_ne!(pid_in(&get(port, "/").unwrap()), Some(still), "{words}");
        }
        rig.signal_pid(worker, "CONT");
        served_by(port, 3);
    }
}

#[test]
fn a_version_that_accepts_and_dies_takes_no_connection_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let Some(program) = c_program() else { return };
    let port = free_port();
    let script = format!("[ -e {0} ] && exec {program} {OWN} tryaccept; exec {program} {OWN} serve", broken.display());
    let settings = ["--min-uptime", "1s", "--max-restarts", "1"];
    let rig = workers(2, &settings).args(&["sh", "-c", &script]).env("PORT", &port.to_string()).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    std::fs::write(&broken, "").unwrap();
    rig.signal("HUP");
    rig.until("the replacement waits for connections", |out| out.count("(it listens)") == 3);
    for _ in 0..20 {
        get(port, "/").unwrap();
    }
}

#[test]
fn no_connection_is_lost_for_want_of_descriptors() {
    for words in ["sleep:1 fill sleep:400 free serve", "nonblock epoll wait fill sleep:400 free epollserve"] {
        let Some((rig, port)) = calls(1, &[], &format!("{OWN} poll:1 {words}")) else { return };
        let rig = rig.start();
        all_listen(&rig, 1);
        let client = std::thread::spawn(move || get(port, "/").unwrap());
        rig.until("it has none left", |out| out.has("no descriptor left"));
        assert!(pid_in(&client.join().unwrap()).is_some());
    }
}

#[test]
fn a_second_socket_of_the_same_address_is_as_the_kernel_allows_it() {
    for settings in [&[][..], &["--balance", "shared"], &["--balance", "reuseport"]] {
        let twice = "socket reuseport bind listen socket reuseport bind listen nonblock epoll epollserve";
        all_serve(2, settings, twice);
        let Some((rig, _)) = calls(2, settings, "socket reuseaddr bind listen socket reuseaddr bind") else { return };
        rig.start().until("it is in use", |out| out.has("bind failed: Address already in use"));
    }
}

#[test]
fn a_worker_finds_its_port_free_until_it_has_bound_it() {
    for settings in [&[][..], &["--balance", "shared"], &["--balance", "reuseport"]] {
        let words = "look lookfork try try socket reuseaddr bind listen lookfork serve";
        let Some((rig, port)) = calls(1, settings, words) else { return };
        let rig = rig.start();
        all_listen(&rig, 1);
        // Now another one serves there.
        rig.signal("HUP");
        reloaded(&rig, 1);
        served_by(port, 1);
        rig.until("both have found it free, and then taken", |out| {
            out.count("| the port is free") == 4 && out.count("| every address is free") == 4
        });
        rig.until("their children find it taken", |out| out.count("| the port answers") == 2);
    }
}

#[test]
fn a_worker_that_serves_an_address_cannot_bind_an_overlapping_one() {
    let Some((rig, _)) = all_serve(2, &[], &format!("{OWN} try serve")) else { return };
    rig.until("both have been told so", |out| out.count("| Address already in use") == 2);
}

#[test]
fn a_socket_that_was_bound_can_be_closed_and_bound_again() {
    for words in [
        "close",
        "nonblock close",
        "listen poll:1 close",
        "listen nonblock close",
        "listen poll:1 shutdown close",
        "listen nonblock epoll shutdown close",
    ] {
        all_serve(2, &[], &format!("socket reuseaddr bind {words} {OWN} serve"));
    }
}

#[test]
fn workers_that_accept_from_one_socket_or_from_their_own_serve() {
    for balance in ["shared", "reuseport"] {
        let settings = ["--balance", balance];
        for words in ["serve", "nonblock epoll epollserve"] {
            let (rig, port) = calls(2, &settings, &format!("{OWN} {words}")).unwrap();
            let rig = rig.start();
            all_listen(&rig, 2);
            eventually("both answer", || {
                // Many at a time, so that the kernel wakes both.
                let clients: Vec<_> = (0..16).map(|_| std::thread::spawn(move || get(port, "/").unwrap())).collect();
                let pids = clients.into_iter().filter_map(|client| pid_in(&client.join().unwrap()));
                (pids.collect::<std::collections::BTreeSet<u32>>().len() == 2).then_some(())
            });
        }
    }
}

#[test]
fn a_stop_ends_a_worker_that_blocks_in_accept() {
    let Some((rig, port)) = all_serve(2, &["--stop-timeout", "8s"], &format!("{OWN} serve")) else { return };
    // Connections that wait are no obstacle.
    let _open: Vec<TcpStream> = (0..4).filter_map(|_| connect(port).ok()).map(|one| one.into_inner()).collect();
    rig.signal("TERM");
    rig.wait();
    assert!(!rig.output().has("killed"), "{:#?}", rig.output().stderr);
}

#[test]
fn a_client_address_stays_with_its_worker() {
    let Some((rig, port)) = calls(4, &["--balance", "ip-hash"], &format!("{OWN} serve")) else { return };
    let rig = rig.start();
    all_listen(&rig, 4);
    let of = |host: u8| pid_in(&get_from([127, 0, 0, host], port)).unwrap();
    let own: Vec<u32> = (1..40).map(of).collect();
    assert_eq!((1..40).map(of).collect::<Vec<u32>>(), own);
    assert_eq!(own.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{own:?}");
    // Those of a worker that ends go to others; all others stay.
    rig.signal_pid(pid_from_here(&rig, own[0]), "KILL");
    // What it has accepted before its end is lost with it.
    rig.until("its end is seen", |out| out.has("ended: SIGKILL"));
    let after: Vec<u32> = (1..40).map(of).collect();
    assert!(own.iter().zip(&after).all(|(before, after)| *before == own[0] || before == after));
}

/// An answer to a client with that address.
fn get_from(ip: [u8; 4], port: u16) -> String {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::io::{Read, Write};
    use std::net::SocketAddrV4;
    use std::os::fd::AsRawFd;
    let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(client.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ip.into(), 0))).unwrap();
    connect(client.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new([127, 0, 0, 1].into(), port))).unwrap();
    let mut client = TcpStream::from(client);
    client.write_all(crate::load::request("/", "close").as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}
