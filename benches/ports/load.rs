//! Sends load from one thread with one epoll instance, without allocation once it runs, so that it is not the bottleneck.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, connect, recv, send, socket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The length of the app's answer: the number of its process, and padding.
pub const BODY: usize = 8;

/// After an error a client waits this long, so that a port without a listener is not hammered.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    KeepAlive,
    New,
}

/// Clients with one request each at any time.
#[derive(Clone, Copy)]
pub struct Load {
    pub port: u16,
    pub kind: Kind,
    pub clients: usize,
    /// A request without an answer for this long has timed out.
    pub patience: Duration,
}

#[derive(Default)]
pub struct Outcome {
    /// The answers while new requests were made, and that time.
    pub answers: u64,
    pub took: Duration,
    /// The latency of every answer, in microseconds, sorted.
    latencies: Vec<u32>,
    /// Connections that were refused or reset, or ended before the answer.
    pub broken: u64,
    pub timed_out: u64,
    /// The number of connections that each worker had open at the end.
    pub connections: Vec<u32>,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    /// In milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
    }

    /// The share of requests without an answer by then, in percent.
    pub fn slower_than(&self, limit: Duration) -> f64 {
        let slow = self.latencies.iter().filter(|micros| u128::from(**micros) > limit.as_micros()).count() as u64;
        let all = self.latencies.len() as u64 + self.lost();
        100.0 * (slow + self.lost()) as f64 / all.max(1) as f64
    }

    pub fn lost(&self) -> u64 {
        self.broken + self.timed_out
    }
}

enum Phase {
    Resting,
    /// Connecting, or connected and not yet able to send.
    Sending,
    Waiting,
    /// Answered; the server closes first, which leaves no port of the client's in TIME_WAIT.
    Closing,
}

struct Client {
    socket: Option<OwnedFd>,
    phase: Phase,
    since: Instant,
    buffer: [u8; 512],
    filled: usize,
    worker: u32,
}

impl Load {
    /// Makes requests while `go_on`, then waits for the answers that are still out.
    pub fn run(self, go_on: impl Fn() -> bool) -> Outcome {
        let start = Instant::now();
        let client =
            |_| Client { socket: None, phase: Phase::Resting, since: start, buffer: [0; 512], filled: 0, worker: 0 };
        let mut run = Run {
            load: self,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            address: SockaddrIn::new(127, 0, 0, 1, self.port),
            clients: (0..self.clients).map(client).collect(),
            open: true,
            outcome: Outcome { latencies: Vec::with_capacity(1 << 20), ..Outcome::default() },
        };
        for at in 0..self.clients {
            run.begin(at);
        }
        let mut events = vec![EpollEvent::empty(); self.clients.min(256)];
        let mut looked = start;
        loop {
            let count = match run.epoll.wait(&mut events, EpollTimeout::from(10u16)) {
                Err(Errno::EINTR) => 0,
                count => count.unwrap(),
            };
            if run.open && !go_on() {
                run.open = false;
                run.outcome.took = start.elapsed();
            }
            for event in &events[..count] {
                run.step(event.data() as usize);
            }
            if looked.elapsed() >= PAUSE {
                looked = Instant::now();
                run.look(looked);
            }
            if !run.open && !run.clients.iter().any(Client::is_out) {
                return run.end();
            }
        }
    }

    /// For this long.
    pub fn run_for(self, time: Duration) -> Outcome {
        let end = Instant::now() + time;
        self.run(|| Instant::now() < end)
    }
}

impl Client {
    fn is_out(&self) -> bool {
        matches!(self.phase, Phase::Sending | Phase::Waiting)
    }
}

struct Run {
    load: Load,
    epoll: Epoll,
    address: SockaddrIn,
    clients: Vec<Client>,
    /// New requests are made.
    open: bool,
    outcome: Outcome,
}

impl Run {
    /// The next request, on the connection that is there, or on a new one.
    fn begin(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.since = Instant::now();
        client.filled = 0;
        client.phase = Phase::Sending;
        if client.socket.is_none() {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
            let connected = connect(socket.as_raw_fd(), &self.address);
            if !matches!(connected, Ok(()) | Err(Errno::EINPROGRESS)) {
                return self.fail(at);
            }
            self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, at as u64)).unwrap();
            client.worker = 0;
            client.socket = Some(socket);
        }
        self.send(at, false);
    }

    /// On this machine a connection is mostly made by the time `connect` returns; else the socket says when.
    fn send(&mut self, at: usize, waited: bool) {
        const REQUESTS: [&[u8]; 2] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        ];
        let client = &mut self.clients[at];
        let Some(socket) = &client.socket else { return };
        let interest = |flags| EpollEvent::new(flags, at as u64);
        match send(socket.as_raw_fd(), REQUESTS[self.load.kind as usize], MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => {
                client.phase = Phase::Waiting;
                if waited {
                    self.epoll.modify(socket, &mut interest(EpollFlags::EPOLLIN)).unwrap();
                }
            }
            Err(Errno::EAGAIN) if waited => {}
            Err(Errno::EAGAIN) => {
                self.epoll.modify(socket, &mut interest(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)).unwrap();
            }
            Err(_) => self.fail(at),
        }
    }

    fn step(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(socket) = &client.socket else { return };
        if matches!(client.phase, Phase::Sending) {
            return self.send(at, true);
        }
        match recv(socket.as_raw_fd(), &mut client.buffer[client.filled..], MsgFlags::empty()) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(count @ 1..) if matches!(client.phase, Phase::Waiting) => {
                client.filled += count;
                self.read(at);
            }
            _ if matches!(client.phase, Phase::Closing) => {
                client.socket = None;
                client.phase = Phase::Resting;
                if self.open {
                    self.begin(at);
                }
            }
            _ => self.fail(at),
        }
    }

    fn read(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let bytes = &client.buffer[..client.filled];
        let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|end| end + 4) else { return };
        if bytes.len() < head + BODY {
            return;
        }
        let worker = std::str::from_utf8(&bytes[head..]).ok().and_then(|body| body.trim().parse().ok());
        let (true, Some(worker)) = (bytes.starts_with(b"HTTP/1.1 200 "), worker) else { return self.fail(at) };
        let now = Instant::now();
        self.outcome.latencies.push((now - client.since).as_micros() as u32);
        self.outcome.answers += u64::from(self.open);
        client.worker = worker;
        if memchr::memmem::find(&bytes[..head], b"onnection: close").is_some() {
            client.phase = Phase::Closing;
            client.filled = 0;
            client.since = now;
        } else {
            client.phase = Phase::Resting;
            if self.open {
                self.begin(at);
            }
        }
    }

    fn fail(&mut self, at: usize) {
        self.outcome.broken += 1;
        self.rest(at);
    }

    fn rest(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.socket = None;
        client.phase = Phase::Resting;
        client.since = Instant::now();
    }

    /// Ends requests that have timed out, and resumes clients after their pause.
    fn look(&mut self, now: Instant) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let waited = now.saturating_duration_since(client.since);
            match client.phase {
                Phase::Sending | Phase::Waiting if waited > self.load.patience => {
                    self.outcome.timed_out += 1;
                    self.rest(at);
                }
                Phase::Closing if waited > self.load.patience => self.rest(at),
                Phase::Resting if self.open && waited > PAUSE => self.begin(at),
                _ => {}
            }
        }
    }

    fn end(mut self) -> Outcome {
        let mut workers: Vec<u32> =
            self.clients.iter().filter(|client| client.socket.is_some()).map(|c| c.worker).collect();
        workers.sort_unstable();
        self.outcome.connections = workers.chunk_by(|a, b| a == b).map(|chunk| chunk.len() as u32).collect();
        self.outcome.latencies.sort_unstable();
        self.outcome
    }
}
