//! Defines the messages between rinit and the preloaded library: requests to the broker, replies, packets of accept queues.
//!
//! Both ends are built with this file, which needs `core` alone.

use core::net::IpAddr;

/// A request to the broker: one packet, with the socket attached that it is about. That is the listening socket itself, or
/// the worker's accept queue for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The program binds the socket to that address (`sockaddr`). With the reply may come the socket to use instead.
    Bind {
        /// `IPV6_V6ONLY` (ipv6(7)).
        v6_only: bool,
        /// `sockaddr_in` or `sockaddr_in6`.
        address: &'a [u8],
    },
    /// Requests the accept queue, which comes with the reply.
    Queue,
    /// The program calls `listen`. rinit listens for it.
    Listen {
        /// The maximum number of waiting connections.
        backlog: i32,
    },
    /// The program waits for connections.
    Wait {
        /// It accepts them with `SOCK_NONBLOCK`.
        nonblocking: bool,
    },
    /// Asks if rinit knows the socket. With the reply comes the listening socket, if the attached one is an accept queue.
    Find,
    /// The program connects the socket, which is shared no more. The socket itself comes with the reply, if the attached one
    /// is an accept queue.
    Forget,
    /// The program connects to that address (`sockaddr`) of this machine. [`Reply::Failed`]: it is to find nobody there.
    /// [`Reply::Done`]: it may, and need not ask again.
    Connect {
        /// As for `Bind`.
        address: &'a [u8],
    },
}

/// The maximum length of a request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64;

const BIND: u8 = 1;
const QUEUE: u8 = 2;
const LISTEN: u8 = 3;
const WAIT: u8 = 4;
const FIND: u8 = 5;
const FORGET: u8 = 6;
const CONNECT: u8 = 7;

impl<'a> Request<'a> {
    /// Writes the request, and returns its length in bytes.
    pub fn encode(&self, bytes: &mut [u8; MAX_REQUEST_BYTES]) -> usize {
        let numbers;
        let (kind, flag, rest): (u8, bool, &[u8]) = match self {
            Request::Bind { v6_only, address } => (BIND, *v6_only, address),
            Request::Queue => (QUEUE, false, &[]),
            Request::Listen { backlog } => {
                numbers = backlog.to_ne_bytes();
                (LISTEN, false, &numbers)
            }
            Request::Wait { nonblocking } => (WAIT, *nonblocking, &[]),
            Request::Find => (FIND, false, &[]),
            Request::Forget => (FORGET, false, &[]),
            Request::Connect { address } => (CONNECT, false, address),
        };
        let all = [kind, u8::from(flag)].into_iter().chain(rest.iter().copied());
        bytes.iter_mut().zip(all).map(|(place, byte)| *place = byte).count()
    }

    /// Reads a request; `None` if it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Request<'a>> {
        let [kind, flag, rest @ ..] = bytes else { return None };
        let is_set = *flag != 0;
        match *kind {
            BIND => Some(Request::Bind { v6_only: is_set, address: rest }),
            QUEUE => Some(Request::Queue),
            LISTEN => Some(Request::Listen { backlog: i32::from_ne_bytes(rest.try_into().ok()?) }),
            WAIT => Some(Request::Wait { nonblocking: is_set }),
            FIND => Some(Request::Find),
            FORGET => Some(Request::Forget),
            CONNECT => Some(Request::Connect { address: rest }),
            _ => None,
        }
    }
}

/// The reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// It is done, and the program accepts from the socket itself: there are no accept queues for it.
    DoneWithoutQueue,
    /// The call fails with that error number.
    Failed(i32),
    /// rinit has nothing to do with that socket: the library acts as if it were not there.
    NotShared,
}

impl Reply {
    /// The number that stands for it in the packet.
    pub fn encode(self) -> i32 {
        match self {
            Reply::Done => 0,
            Reply::NotShared => -1,
            Reply::DoneWithoutQueue => -2,
            Reply::Failed(errno) => errno,
        }
    }

    /// Reads that number.
    pub fn decode(number: i32) -> Reply {
        match number {
            0 => Reply::Done,
            -2 => Reply::DoneWithoutQueue,
            1.. => Reply::Failed(number),
            _ => Reply::NotShared,
        }
    }
}

/// A packet of an accept queue. All have the same length, by which the number of packets in a queue is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// No connection comes with it. Taking it tells rinit that the worker responds.
    WakeUpProbe,
    /// Connections wait at the listening socket, and it is the worker's turn to accept there. A turn for one connection is
    /// over when its packet is taken. A turn for more stays, and its queue readable, until the worker has accepted as many or
    /// has found none.
    Turn {
        /// The maximum number of connections; at least 1.
        connections: u8,
    },
    /// A connection comes with it.
    Connection {
        /// `O_NONBLOCK` is set.
        nonblocking: bool,
        /// The client's address.
        peer: Peer,
    },
}

/// The address of a client (`sockaddr`), as `accept` returns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// As many bytes as fit.
    pub bytes: [u8; MAX_PEER_BYTES],
    /// The length of the whole address, in bytes.
    pub length: u8,
}

impl Peer {
    /// The client's internet address. An IPv4 client of a socket for both is one of IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        let [low, high, _, _, rest @ ..] = &self.bytes;
        match (i32::from(u16::from_ne_bytes([*low, *high])), self.length) {
            (2, 16) => Some(IpAddr::from(<[u8; 4]>::try_from(rest.get(..4)?).ok()?)),
            (10, 28) => Some(IpAddr::from(<[u8; 16]>::try_from(rest.get(4..20)?).ok()?).to_canonical()),
            _ => None,
        }
    }
}

/// The longest internet address (`sockaddr_in6`), in bytes.
pub const MAX_PEER_BYTES: usize = 28;
/// The length of a packet, in bytes.
pub const PACKET_BYTES: usize = MAX_PEER_BYTES + 2;

const PROBE: u8 = 0;
const BLOCKING: u8 = 1;
const NONBLOCKING: u8 = 2;
const TURN: u8 = 3;

impl Packet {
    /// Its bytes.
    pub fn encode(&self) -> [u8; PACKET_BYTES] {
        let (kind, peer) = match self {
            Packet::WakeUpProbe => (PROBE, Peer::default()),
            Packet::Turn { connections } => (TURN, Peer { length: *connections, ..Peer::default() }),
            Packet::Connection { nonblocking: false, peer } => (BLOCKING, *peer),
            Packet::Connection { nonblocking: true, peer } => (NONBLOCKING, *peer),
        };
        let mut bytes = [0; PACKET_BYTES];
        let all = [kind, peer.length].into_iter().chain(peer.bytes);
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8; PACKET_BYTES]) -> Packet {
        let [kind, length, rest @ ..] = packet;
        match *kind {
            BLOCKING | NONBLOCKING => {
                let peer = Peer { bytes: *rest, length: *length };
                Packet::Connection { nonblocking: *kind == NONBLOCKING, peer }
            }
            TURN => Packet::Turn { connections: *length },
            _ => Packet::WakeUpProbe,
        }
    }
}

/// The report on a turn that a worker has not used, or not wholly: a packet of the queue's other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusedTurn {
    /// The number of connections that it has not accepted.
    pub connections: u8,
    /// False: `accept` failed, for want of a free descriptor or of memory.
    pub has_room: bool,
}

/// The length of a report, in bytes.
pub const REPORT_BYTES: usize = 2;

impl UnusedTurn {
    /// Its bytes.
    pub fn encode(self) -> [u8; REPORT_BYTES] {
        [self.connections, u8::from(self.has_room)]
    }

    /// Reads a report.
    pub fn decode([connections, has_room]: [u8; REPORT_BYTES]) -> UnusedTurn {
        UnusedTurn { connections, has_room: has_room != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_writes_the_other_reads() {
        for request in [
            Request::Bind { v6_only: true, address: &[2; 28] },
            Request::Queue,
            Request::Listen { backlog: -1 },
            Request::Wait { nonblocking: true },
            Request::Find,
            Request::Forget,
            Request::Connect { address: &[1; 16] },
        ] {
            let mut bytes = [0; MAX_REQUEST_BYTES];
            let length = request.encode(&mut bytes);
            assert_eq!(Request::decode(&bytes[..length]), Some(request));
        }
        for reply in [Reply::Done, Reply::DoneWithoutQueue, Reply::Failed(98), Reply::NotShared] {
            assert_eq!(Reply::decode(reply.encode()), reply);
        }
        let peer = Peer { bytes: [7; MAX_PEER_BYTES], length: 16 };
        for packet in
            [Packet::WakeUpProbe, Packet::Turn { connections: 7 }, Packet::Connection { nonblocking: true, peer }]
        {
            assert_eq!(Packet::decode(&packet.encode()), packet);
        }
        for unused in [UnusedTurn { connections: 1, has_room: false }, UnusedTurn { connections: 9, has_room: true }] {
            assert_eq!(UnusedTurn::decode(unused.encode()), unused);
        }
    }

    #[test]
    fn other_bytes_are_no_request() {
        for bytes in [&[][..], &[1], &[0, 0], &[9, 9, 9], &[3, 0, 1], &[3, 0, 1, 2, 3, 4, 5]] {
            assert_eq!(Request::decode(bytes), None);
        }
    }
}
