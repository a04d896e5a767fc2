//! Fuzzes rinit's end of the preloaded library's protocol with a hostile worker. `README.md` says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    send, sendmsg, setsockopt, shutdown, socket, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, getuid};
use rinit::core::{AppId, SlotId, WorkerId};
use rinit::ports::{AppPorts, Balance, Ports, Sharing};
use rinit::sys::peer::Identity;
use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The maximum number of requests of one input.
const MAX_REQUESTS: usize = 24;
/// The length of a packet of an accept queue, in bytes (`PACKET_BYTES` of the protocol).
const PACKET_BYTES: usize = 30;
/// The time after which a missing answer is a failure.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of ports that structured requests bind.
const PORTS: u16 = 4;
/// The maximum number of descriptors that are open when a worker is gone.
const MAX_LEFT: usize = 64;

/// The hub, with one app for each way to balance.
fn hub() -> &'static (Ports, u16) {
    static HUB: OnceLock<(Ports, u16)> = OnceLock::new();
    HUB.get_or_init(|| {
        let balances = [Balance::RoundRobin, Balance::Shared, Balance::Reuseport, Balance::IpHash];
        let apps = balances.into_iter().zip(0..).map(|(balance, number)| AppPorts {
            id: AppId(number),
            name: number.to_string(),
            balance,
            command: vec!["app".into()],
            inherited: Vec::new(),
        });
        let ports = Ports::new(apps.collect()).unwrap();
        let starter = ports.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(starter.start_when_needed());
        });
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        (ports, free.min(u16::MAX - PORTS))
    })
}

fuzz_target!(|input: &[u8]| {
    static LAST_WORKER: AtomicU64 = AtomicU64::new(0);
    let (ports, first_port) = hub();
    let Some((first, input)) = input.split_first() else { return };
    let slot = SlotId { app: AppId(u32::from(first % 4)), index: 0 };
    // Two workers: what one binds, the other one shares.
    let workers = [0, 1].map(|index| {
        let id = WorkerId(LAST_WORKER.fetch_add(1, Ordering::Relaxed) + 1);
        let sharing = Sharing { cluster: false, channel: false, library: true };
        let slot = SlotId { index, ..slot };
        let ends = ports.open(id, slot, format!("worker-{index}"), sharing, true).unwrap();
        let broker = ends.broker.clone().unwrap();
        let ports = ports.add_worker(ends, Identity { pid: Pid::this(), uid: getuid().as_raw() });
        (id, broker, ports)
    });
    let mut received = None;
    let mut rest = input;
    for _ in 0..MAX_REQUESTS {
        let Some(([kind, length], more)) = rest.split_first_chunk() else { break };
        let (bytes, more) = more.split_at(usize::from(length % 72).min(more.len()));
        rest = more;
        let (_, broker, _) = &workers[usize::from(kind >> 7)];
        let port = first_port + u16::from(*length) % PORTS;
        match kind & 0x60 {
            0x20 => drop(TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)),
            0x40 => {
                let bind = [&[1, 0, 2, 0][..], &port.to_be_bytes(), &Ipv4Addr::LOCALHOST.octets(), &[0; 8]].concat();
                ask(broker, &bind, kind & 0x1f, &mut received);
            }
            _ => ask(broker, bytes, kind & 0x1f, &mut received),
        }
    }
    drop(received);
    for (id, ..) in &workers {
        ports.remove_worker(*id);
    }
    ports.close(slot.app);
    // The hub has a thread of its own.
    let start = Instant::now();
    while !ports.addresses(|_| true).is_empty() || open_descriptors() > MAX_LEFT {
        assert!(start.elapsed() < PATIENCE, "{} descriptors are left", open_descriptors());
        std::thread::yield_now();
    }
});

/// Sends a request with a socket of that kind. The answer is the end of the connection, or a number with a descriptor or none.
fn ask(broker: &OsStr, bytes: &[u8], kind: u8, received: &mut Option<OwnedFd>) {
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let limit = TimeVal::new(PATIENCE.as_secs() as i64, 0);
    setsockopt(&client, sockopt::ReceiveTimeout, &limit).unwrap();
    let name = broker.as_bytes().strip_prefix(b"@").unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new_abstract(name).unwrap()).unwrap();
    let new = |family, kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, None).ok();
    let attached = match kind & 7 {
        0 | 1 => new(AddressFamily::Inet, SockType::Stream),
        2 => new(AddressFamily::Inet6, SockType::Stream),
        3 => new(AddressFamily::Inet, SockType::Datagram),
        4 => socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).ok().map(|pair| pair.0),
        5 => std::io::pipe().ok().map(|pipe| pipe.0.into()),
        6 => received.as_ref().and_then(|one| one.try_clone().ok()),
        _ => None,
    };
    if let (6, Some(queue)) = (kind & 7, &attached) {
        take_from(queue);
        // What is no report as well.
        let _ = send(queue.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
    let descriptors: Vec<RawFd> = attached.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &control };
    let sent = sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    // A hostile client does not wait for its answer.
    if kind & 8 != 0 {
        return;
    }
    if sent == Ok(0) {
        let _ = shutdown(client.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }
    let mut code = [0u8; 8];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut code)];
    let answer = recvmsg::<()>(client.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    match answer {
        Ok(answer) => {
            assert!([0, 4].contains(&answer.bytes), "an answer of {} bytes", answer.bytes);
            for message in answer.cmsgs().unwrap() {
                let ControlMessageOwned::ScmRights(all) = message else { panic!("{message:?}") };
                assert_eq!(all.len(), 1);
                // SAFETY: the kernel has just made it for this process.
                *received = Some(unsafe { OwnedFd::from_raw_fd(all[0]) });
            }
        }
        Err(nix::errno::Errno::ECONNRESET) => {}
        Err(error) => panic!("no answer to {bytes:?}: {error}"),
    }
}

/// Takes what is in the accept queue, if it is one: packets of one length, with one connection at the most.
fn take_from(queue: &OwnedFd) {
    let mut bytes = [0u8; 64];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let Ok(packet) = recvmsg::<()>(queue.as_raw_fd(), &mut parts, Some(&mut space), flags) else { return };
    assert!([0, PACKET_BYTES].contains(&packet.bytes), "a packet of {} bytes", packet.bytes);
    for message in packet.cmsgs().unwrap() {
        let ControlMessageOwned::ScmRights(all) = message else { panic!("{message:?}") };
        assert_eq!(all.len(), 1);
        // SAFETY: the kernel has just made it for this process.
        drop(unsafe { OwnedFd::from_raw_fd(all[0]) });
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
