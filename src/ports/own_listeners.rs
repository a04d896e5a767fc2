//! Finds the addresses where a process listens by sockets of its own, which it shares with no other worker.
//!
//! /proc has the sockets of a process (proc_pid_fd(5)), the kernel all that listen (sock_diag(7)). Where it does not tell, they
//! are in a table with all connections (proc_pid_net(5)), which takes seconds if there are many.

use crate::ordered::ordered;
use crate::sys::sock_diag::{TcpSocket, listening_sockets};
use crate::sys::spawn_thread;
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{read_dir, read_link, read_to_string};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::sync::oneshot;

/// The maximum number of processes of a worker that are looked at.
const MAX_PROCESSES: usize = 64;
/// The state of a socket that listens (`TCP_LISTEN` of the kernel's tcp_states.h).
const LISTENS: &str = "0A";

/// The addresses where that process or one of its descendants listens alone. They are found on a thread of its own.
///
/// # Errors
/// The kernel has no room for a thread.
pub(super) async fn own_addresses(pid: Pid) -> io::Result<Vec<SocketAddr>> {
    let (done, answer) = oneshot::channel();
    spawn_thread("sockets", move || drop(done.send(find(pid))))?;
    answer.await.map_err(io::Error::other)
}

fn find(pid: Pid) -> Vec<SocketAddr> {
    let own: BTreeSet<u64> = ordered(family(pid).into_iter().flat_map(sockets_of));
    // rinit holds those that it shares among the workers.
    let shared: BTreeSet<u64> = ordered(sockets_of(Pid::this()));
    let all = listening_sockets().unwrap_or_else(|_| in_table(pid));
    let is_own = |one: &&TcpSocket| own.contains(&one.inode) && !shared.contains(&one.inode);
    // Of several sockets on one port (SO_REUSEPORT) the kernel chooses.
    let is_alone = |one: &&TcpSocket| {
        !all.iter().any(|other| other.address.port() == one.address.port() && !own.contains(&other.inode))
    };
    all.iter().filter(is_own).filter(is_alone).map(|one| reachable(one.address)).collect()
}

/// A process and its descendants.
pub(super) fn family(pid: Pid) -> Vec<Pid> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied().filter(|_| found.len() < MAX_PROCESSES) {
        let children = read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
        at += 1;
    }
    found
}

/// The inodes of a process' sockets.
pub(super) fn sockets_of(pid: Pid) -> impl Iterator<Item = u64> {
    let files = read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let target = read_link(file.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// The sockets that listen in the network namespace of that process.
fn in_table(pid: Pid) -> Vec<TcpSocket> {
    let table = |name: &str| read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    ["tcp", "tcp6"].iter().flat_map(|name| table(name).lines().filter_map(parse).collect::<Vec<_>>()).collect()
}

/// Reads a line of /proc/net/tcp or tcp6, if it is a socket that listens.
fn parse(line: &str) -> Option<TcpSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let (ip, port) = local.split_once(':').filter(|_| state == LISTENS)?;
    // Each group of four bytes is a number in the order of the machine's bytes.
    let group = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(group(0)?).into(),
        _ => {
            let bytes: Vec<u8> = [group(0)?, group(8)?, group(16)?, group(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()
        }
    };
    let address = SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some(TcpSocket { address, is_listening: true, inode: inode.parse().ok()? })
}

/// The address by which a client reaches a socket of this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(loopback, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0";
        let listening = TcpSocket { address: "127.0.0.1:8080".parse().unwrap(), is_listening: true, inode: 4242 };
        assert_eq!(parse(line), Some(listening));
        assert_eq!(parse(&line.replace(" 0A ", " 01 ")), None, "a connection");
        let v6 = line.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(parse(&v6), Some(TcpSocket { address: "[::1]:8080".parse().unwrap(), ..listening }));
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn both_sources_tell_of_the_same_sockets() {
        let v4 = ["127.0.0.1:0", "0.0.0.0:0"].map(|any| TcpListener::bind(any).unwrap());
        // Not every machine has IPv6.
        let v6: Vec<TcpListener> = ["[::1]:0", "[::]:0"].iter().flat_map(TcpListener::bind).collect();
        let (told, in_table) = (listening_sockets().unwrap(), in_table(Pid::this()));
        for socket in v4.iter().chain(&v6) {
            let is_it = |one: &&TcpSocket| one.address == socket.local_addr().unwrap();
            let found = told.iter().find(is_it).unwrap();
            assert!(found.is_listening && in_table.iter().find(is_it) == Some(found));
        }
    }

    #[test]
    fn sockets_that_rinit_holds_too_are_nobodys_own() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(sockets_of(Pid::this()).count() > 0);
        let address = socket.local_addr().unwrap();
        assert!(!find(Pid::this()).contains(&address), "in this test the process is rinit and the worker");
    }
}
