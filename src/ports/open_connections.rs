//! Counts the TCP connections that workers have open to their clients.
//!
//! /proc has the sockets of a process (proc_pid_fd(5)), the kernel the ports of all (sock_diag(7)). A connection is a client's if
//! its own port is one where the worker listens, whoever has accepted it.

use super::own_listeners::{family, sockets_of};
use crate::ordered::ordered;
use crate::sys::sock_diag::{TcpSocket, each_tcp_socket};
use crate::sys::spawn_thread;
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::read_dir;
use std::io;
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// The maximum number of sockets of all workers that are looked at. Of a worker that has more, nothing is known.
const MAX_SOCKETS: usize = 65_536;

/// A worker whose connections are counted.
struct Counted {
    pid: u32,
    /// The inodes of its sockets.
    sockets: BTreeSet<u64>,
    /// The ports where it listens.
    ports: Vec<u16>,
    open: u64,
}

/// The numbers of connections by the workers' processes, which are given with the addresses that they share. A worker is
/// missing if it listens at no TCP port, has ended, or is one at which rinit may not look. Counted on a thread of its own.
///
/// # Errors
/// The kernel has no room for a thread.
pub async fn open_connections(workers: Vec<(u32, Vec<String>)>) -> io::Result<Vec<(u32, u64)>> {
    let (done, answer) = oneshot::channel();
    spawn_thread("connections", move || drop(done.send(count(workers))))?;
    answer.await.map_err(io::Error::other)
}

fn count(workers: Vec<(u32, Vec<String>)>) -> Vec<(u32, u64)> {
    let mut room = MAX_SOCKETS;
    let mut counted = Vec::new();
    for (pid, addresses) in workers {
        let Ok(number) = i32::try_from(pid) else { continue };
        if read_dir(format!("/proc/{pid}/fd")).is_err() {
            continue;
        }
        let sockets: BTreeSet<u64> =
            ordered(family(Pid::from_raw(number)).into_iter().flat_map(sockets_of).take(room + 1));
        if let Some(left) = room.checked_sub(sockets.len()) {
            room = left;
            counted.push(Counted::new(pid, &addresses, sockets));
        }
    }
    match each_tcp_socket(&mut |socket| see(&mut counted, socket)) {
        Ok(()) => counted.into_iter().filter_map(|one| one.result()).collect(),
        // The kernel refuses to tell.
        Err(_) => Vec::new(),
    }
}

/// Counts a socket; those that listen come before the connections.
fn see(counted: &mut [Counted], socket: TcpSocket) {
    let Some(one) = counted.iter_mut().find(|one| one.sockets.contains(&socket.inode)) else { return };
    if socket.is_listening {
        one.ports.push(socket.address.port());
    } else if one.ports.contains(&socket.address.port()) {
        one.open += 1;
    }
}

impl Counted {
    fn new(pid: u32, addresses: &[String], sockets: BTreeSet<u64>) -> Counted {
        Counted { pid, sockets, ports: addresses.iter().filter_map(|address| port_of(address)).collect(), open: 0 }
    }

    /// Its process and the number of its connections, if it listens.
    fn result(&self) -> Option<(u32, u64)> {
        (!self.ports.is_empty()).then_some((self.pid, self.open))
    }
}

/// The TCP port of an address that workers share, such as `port 8080` or `127.0.0.1:8080`.
fn port_of(address: &str) -> Option<u16> {
    match address.strip_prefix("port ") {
        Some(port) => port.parse().ok(),
        None => address.parse().ok().map(|address: SocketAddr| address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn only_connections_to_ports_where_the_worker_listens_are_counted() {
        let mut counted = [
            (7, vec!["port 80".to_owned()], [3, 1, 2, 9]),
            (8, vec!["/run/app.sock".into()], [11, 12, 13, 14]),
            (9, vec![], [21, 22, 23, 24]),
        ]
        .map(|(pid, addresses, sockets)| Counted::new(pid, &addresses, BTreeSet::from(sockets)));
        // Two clients' of the first, and its own to a database; the last one listens by itself.
        let table = [
            (81, true, 21),
            (80, false, 1),
            (80, false, 2),
            (5432, false, 3),
            (80, false, 12),
            (81, false, 22),
            (80, false, 99),
        ];
        for (port, is_listening, inode) in table {
            see(&mut counted, TcpSocket { address: ([127, 0, 0, 1], port).into(), is_listening, inode });
        }
        let results = counted.map(|one| one.result());
        assert_eq!(results, [Some((7, 2)), None, Some((9, 1))], "nothing is known of one with a unix socket");
    }

    #[test]
    fn the_connections_of_a_process_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counted = || count(vec![(std::process::id(), vec![address.to_string()])])[0].1;
        let _client = TcpStream::connect(address).unwrap();
        let _server = listener.accept().unwrap();
        // Other tests of this process have connections too.
        assert!(counted() >= 1);
        assert_eq!(count(vec![(i32::MAX as u32, vec![address.to_string()])]), [], "there is no such process");
    }

    #[test]
    fn an_address_has_a_port_if_it_is_one_of_tcp() {
        let ports = ["port 8080", "127.0.0.1:81", "[::1]:82", "/run/a.sock", "@a", "UDP port 53"].map(port_of);
        assert_eq!(ports, [Some(8080), Some(81), Some(82), None, None, None]);
    }
}
