//! Defines the requests that the preloaded library sends to rinit's broker. Both ends are built with this file.
//!
//! A request is one packet with the socket attached that it is about. Its first byte is one of these numbers. The reply is
//! an error number as an `i32`, with a descriptor where the request asks for one.

/// The program binds the attached socket. A byte `IPV6_V6ONLY` and the address follow.
///
/// Reply: 0: the socket is bound; 0 and a descriptor: use that socket instead; an errno; -1: the library acts as if it were
/// not there.
pub const BIND: u8 = 1;
/// The attached socket listens now; nobody waits for its connections yet. Reply: 0.
pub const LISTENING: u8 = 2;
/// The attached socket is not to be shared: the program connects it. Reply: 0.
pub const FORGET: u8 = 3;
/// The attached listening socket came over Node's channel. Reply: 0 and the worker's accept queue for it, or -1.
pub const QUEUE: u8 = 4;
/// The attached socket is an accept queue. Reply: 0 and the listening socket behind it, or -1.
pub const BEHIND: u8 = 5;
/// The program waits for connections at the attached socket, or has an io_uring by which it may. There is no reply.
pub const SERVING: u8 = 6;
