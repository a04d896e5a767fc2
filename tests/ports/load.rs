//! Sends load from several clients, and counts every failure.
//!
//! Each client is a thread that sends one request after the other to 127.0.0.1, as HTTP/1.1 has it: on a connection of
//! its own each, or on one that it keeps until an answer says `Connection: close`. Nothing is tried again. What fails:
//! a connection that is refused or reset, one that ends before the whole answer has come (also a kept one that ends
//! before the first byte), a status that is not 200, and no answer for 30 seconds.

use crate::harness::Running;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The time after which a missing answer is a failure.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time after which clients stop by themselves.
const MAX_LOAD_TIME: Duration = Duration::from_secs(300);

/// One thread of requests.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// It keeps its connection.
    pub keeps: bool,
    pub path: &'static str,
    /// Between an answer and the next request.
    pub pause: Duration,
}

/// Two of each: kept connections and new ones, quick requests and such as take 300 ms; kept ones with and without
/// a pause. Quick requests without one would take as much CPU as there is, also from what is tested.
pub const MIX: [Client; 8] = [
    Client { keeps: true, path: "/", pause: Duration::from_millis(1) },
    Client { keeps: true, path: "/", pause: Duration::from_millis(7) },
    Client { keeps: true, path: "/slow", pause: Duration::ZERO },
    Client { keeps: true, path: "/slow", pause: Duration::from_millis(7) },
    Client { keeps: false, path: "/", pause: Duration::from_millis(3) },
    Client { keeps: false, path: "/", pause: Duration::from_millis(7) },
    Client { keeps: false, path: "/slow", pause: Duration::ZERO },
    Client { keeps: false, path: "/slow", pause: Duration::ZERO },
];

/// The outcome of the requests.
#[derive(Debug, Default, Clone)]
pub struct Load {
    pub answered: usize,
    /// One for each request that failed: when, on what connection, why.
    pub failures: Vec<String>,
    /// The processes that answered.
    pub pids: BTreeSet<u32>,
    /// The longest that a request took, failed or not.
    pub slowest: Duration,
}

impl Load {
    /// Asserts that no request failed, and that there were enough.
    pub fn assert_lossless(&self, rig: &Running) {
        let first: Vec<_> = self.failures.iter().take(20).collect();
        let (failed, told) = (self.failures.len(), rig.output().stderr);
        assert!(first.is_empty(), "{failed} failed, {} were answered: {first:#?}\n{told:#?}", self.answered);
        assert!(self.answered >= 50, "only {} answers", self.answered);
    }
}

/// Sends requests from before the event until after it.
pub fn under_load<T>(port: u16, clients: &[Client], event: impl FnOnce(&Meter) -> T) -> (Load, T) {
    let meter = Meter::default();
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let value = std::thread::scope(|scope| {
        for client in clients {
            let (meter, over) = (&meter, &over);
            scope.spawn(move || client.run(port, start, meter, over));
        }
        // Also when the event panics.
        let _end = OnDrop(|| over.store(true, Ordering::Relaxed));
        meter.wait_for_answers(2 * clients.len());
        event(&meter)
    });
    (meter.load(), value)
}

/// The counts while the clients run.
#[derive(Debug, Default, Clone)]
pub struct Meter(Arc<Mutex<Load>>);

impl Meter {
    /// The counts so far.
    pub fn load(&self) -> Load {
        self.0.lock().unwrap().clone()
    }

    /// Waits until that many more requests have been answered.
    pub fn wait_for_answers(&self, more: usize) {
        let wanted = self.0.lock().unwrap().answered + more;
        crate::harness::eventually("requests are answered", || {
            (self.0.lock().unwrap().answered >= wanted).then_some(())
        });
    }
}

impl Client {
    fn run(self, port: u16, start: Instant, meter: &Meter, over: &AtomicBool) {
        let mut kept = None;
        while !over.load(Ordering::Relaxed) && start.elapsed() < MAX_LOAD_TIME {
            self.count_one(port, start, &mut kept, meter);
            std::thread::sleep(self.pause);
        }
    }

    /// One request, counted.
    fn count_one(self, port: u16, start: Instant, kept: &mut Option<BufReader<TcpStream>>, meter: &Meter) {
        let asked = Instant::now();
        let connection = match (self.keeps, kept.is_some()) {
            (false, _) => "a connection of its own",
            (true, false) => "a kept connection, its first request",
            (true, true) => "a kept connection",
        };
        let result = self.ask(port, kept);
        let mut load = meter.0.lock().unwrap();
        load.slowest = load.slowest.max(asked.elapsed());
        match result {
            Ok(answer) => {
                load.answered += 1;
                load.pids.extend(pid_in(&answer));
            }
            Err(error) => {
                let (at, took) = ((asked - start).as_secs_f64(), asked.elapsed());
                load.failures
                    .push(format!("{} on {connection}, asked at {at:.3} s, after {took:?}: {error}", self.path));
            }
        }
    }

    /// One request. `kept` is the connection for the next one.
    fn ask(self, port: u16, kept: &mut Option<BufReader<TcpStream>>) -> Result<String, Error> {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect(port)?,
        };
        let connection = if self.keeps { "keep-alive" } else { "close" };
        stream.get_mut().write_all(request(self.path, connection).as_bytes())?;
        let (text, stays) = answer(&mut stream)?;
        if self.keeps && stays {
            *kept = Some(stream);
        }
        Ok(text)
    }
}

/// The body of one answer to a new request.
pub fn get(port: u16, path: &str) -> Result<String, Error> {
    let mut stream = connect(port)?;
    stream.get_mut().write_all(request(path, "close").as_bytes())?;
    Ok(answer(&mut stream)?.0)
}

/// A request as bytes.
pub fn request(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n\r\n")
}

/// The number behind `pid ` in an answer.
pub fn pid_in(answer: &str) -> Option<u32> {
    let digits = answer.split("pid ").nth(1)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A connection that waits for nothing longer than 30 seconds.
pub fn connect(port: u16) -> Result<BufReader<TcpStream>, Error> {
    let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Reads one answer: its body, and whether the connection stays.
pub fn answer(stream: &mut impl BufRead) -> Result<(String, bool), Error> {
    let mut status = String::new();
    if stream.read_line(&mut status)? == 0 {
        return Err(Error::new(ErrorKind::UnexpectedEof, "closed before the first byte of an answer"));
    }
    let mut stays = status.starts_with("HTTP/1.1");
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        match (name.to_ascii_lowercase().as_str(), value.trim().to_ascii_lowercase().as_str()) {
            ("content-length", value) => length = Some(value.parse().map_err(|_| bad(&line))?),
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => stays = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => loop {
            let size = line(stream)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| bad(&size))?;
            body.extend(exactly(stream, size)?);
            line(stream)?;
            if size == 0 {
                break;
            }
        },
        Some(length) => body = exactly(stream, length)?,
        None => {
            stays = false;
            stream.read_to_end(&mut body)?;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Error::other(format!("{} {body}", status.trim())));
    }
    Ok((body, stays))
}

fn line(stream: &mut impl BufRead) -> Result<String, Error> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed in the middle of an answer: {line:?}")));
    }
    Ok(line.trim_end().to_owned())
}

fn exactly(stream: &mut impl BufRead, length: usize) -> Result<Vec<u8>, Error> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn bad(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npid 7\n";

    /// The counts of a client whose server sends these answers on each connection, and then closes it.
    fn counts(answers: &'static [&'static [&'static str]], keeps: bool) -> Load {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            for answers in answers {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for answer in *answers {
                    let mut line = String::new();
                    while stream.read_line(&mut line).unwrap() > 2 {
                        line.clear();
                    }
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        let (meter, mut kept) = (Meter::default(), None);
        let client = Client { keeps, path: "/", pause: Duration::ZERO };
        (0..answers.iter().map(|answers| answers.len()).sum()).for_each(|_| {
            client.count_one(port, Instant::now(), &mut kept, &meter);
        });
        server.join().unwrap();
        meter.load()
    }

    #[test]
    fn a_connection_is_kept_until_an_answer_says_close() {
        const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 6\r\n\r\npid 8\n";
        let load = counts(&[&[WELL, WELL, LAST], &[WELL, LAST]], true);
        assert_eq!((load.answered, load.failures.len()), (5, 0), "{load:?}");
        assert_eq!(Vec::from_iter(load.pids), [7, 8]);
    }

    #[test]
    fn a_kept_connection_that_ends_without_an_answer_is_a_failure() {
        let load = counts(&[&[WELL, ""], &[WELL, ""]], true);
        assert_eq!((load.answered, load.failures.len()), (2, 2), "{load:?}");
        assert!(load.failures[0].contains("a kept connection") && load.failures[0].contains("before the first byte"));
    }

    #[test]
    fn half_an_answer_and_a_bad_status_are_failures() {
        const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\npid";
        const HEAD: &str = "HTTP/1.1 200 OK\r\nConte";
        const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        let load = counts(&[&[HALF], &[HEAD], &[BAD], &[WELL]], false);
        assert_eq!((load.answered, load.failures.len()), (1, 3), "{load:?}");
    }

    #[test]
    fn an_answer_in_chunks_is_read_to_its_end() {
        const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npid\r\n2\r\n 9\r\n0\r\n\r\n";
        let load = counts(&[&[CHUNKS, WELL]], true);
        assert_eq!((load.answered, load.failures.len()), (2, 0), "{load:?}");
        assert_eq!(Vec::from_iter(load.pids), [7, 9]);
    }
}
