//! Runs rinit as PID 1 of a PID namespace of its own, and watches it from outside.
//!
//! ```no_run
//! let rig = Rig::new(&["-i", "2", "--"]).fixture("signals").start();
//! rig.until("both workers are up", |out| out.count("up") == 2);
//! rig.signal("TERM");
//! assert_eq!(rig.wait(), 0);
//! ```
//!
//! A test waits for a condition on what rinit and its workers have printed, never for a time.
#![allow(dead_code)] // no test file uses all of it

mod signals;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The time after which a condition that has not come true never will: a bound for a loaded machine, not a time to be reached.
/// `PATIENCE` gives an emulated machine more seconds.
fn patience() -> Duration {
    static SECONDS: OnceLock<u64> = OnceLock::new();
    let given = || std::env::var("PATIENCE").ok().map(|text| text.parse().expect("PATIENCE is a number of seconds"));
    Duration::from_secs(*SECONDS.get_or_init(|| given().unwrap_or(120)))
}

/// The program under test.
pub fn rinit() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rinit"))
}

/// Prints the reason for which this test, or a part of it, is skipped.
pub fn skipped(why: &str) {
    // eprintln! would be shown for failing tests only.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", std::thread::current().name().unwrap_or("a test"));
}

/// Prints what is missing, without which this test, or a part of it, is skipped. Fails under CI, where nothing may be missing.
pub fn lacking(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    skipped(why);
}

/// The program that tests run as workers: `tests/harness/fixture.rs`. `cargo test` has built it; `cargo test --test NAME` has not.
pub fn fixture() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let path = rinit().with_file_name("examples").join("fixture");
        let release = rinit().parent().is_some_and(|folder| folder.ends_with("release"));
        let profile = if release { "release" } else { "dev" };
        // A user who cannot run cargo can still run what cargo has built, and so can a machine without it.
        let cargo = PathBuf::from(env!("CARGO"));
        let build = || {
            // cargo looks for its compiler in PATH, which may be bare. It stands beside cargo.
            let tools = cargo.parent().unwrap().display().to_string();
            Command::new(&cargo)
                .args(["build", "--quiet", "--example", "fixture", "--profile", profile])
                .env("PATH", format!("{tools}:{}", std::env::var("PATH").unwrap_or_default()))
                .status()
        };
        let is_built = !cargo.exists() || build().is_ok_and(|status| status.success());
        assert!(is_built && path.exists(), "{} cannot be built", path.display());
        path
    };
    BUILT.get_or_init(build).clone()
}

/// The command that gives a test a PID namespace on this machine; empty if none works.
pub fn namespace() -> &'static [&'static str] {
    static WAY: OnceLock<&'static [&'static str]> = OnceLock::new();
    WAY.get_or_init(|| {
        const AS_ROOT: &[&str] = &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        const AS_USER: &[&str] =
            &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
        for way in [AS_ROOT, AS_USER] {
            let works = Command::new(way[0]).args(&way[1..]).arg("true").stderr(Stdio::null()).status();
            if works.is_ok_and(|status| status.success()) {
                return way;
            }
        }
        eprintln!("no PID namespace can be had here: rinit is tested as a child subreaper and not as PID 1");
        &[]
    })
}

/// The user that a rinit of `Rig` takes this process for.
pub fn uid_inside() -> u32 {
    if namespace().contains(&"--map-root-user") { 0 } else { nix::unistd::getuid().as_raw() }
}

/// A rinit to be started.
pub struct Rig {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
    arg0: Option<String>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    in_namespace: bool,
}

impl Rig {
    /// rinit with these arguments.
    pub fn new(arguments: &[&str]) -> Rig {
        Rig {
            command: arguments.iter().map(OsString::from).collect(),
            environment: vec![],
            wrapper: vec![],
            arg0: None,
            stdin: None,
            stdout: None,
            in_namespace: true,
        }
    }

    /// Adds the fixture and its words to the arguments.
    pub fn fixture(mut self, words: &str) -> Rig {
        self.command.push(fixture().into());
        self.command.extend(words.split_whitespace().map(OsString::from));
        self
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Rig {
        self.command.push(argument.as_ref().into());
        self
    }

    pub fn args(self, arguments: &[&str]) -> Rig {
        arguments.iter().fold(self, |rig, argument| rig.arg(argument))
    }

    pub fn env(mut self, key: &str, value: &str) -> Rig {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// A program that starts rinit with something changed, such as `sh -c 'exec "$0" "$@" <&-'`.
    pub fn through(mut self, words: &[&str]) -> Rig {
        self.wrapper = words.iter().map(OsString::from).collect();
        self
    }

    /// rinit under another name.
    pub fn called(mut self, name: &str) -> Rig {
        self.arg0 = Some(name.into());
        self
    }

    /// As an ordinary process, not as PID 1.
    pub fn not_pid_1(mut self) -> Rig {
        self.in_namespace = false;
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Rig {
        self.stdin = Some(stdin.into());
        self
    }

    /// Where stdout goes; what is printed there is then not seen by `until`.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Rig {
        self.stdout = Some(stdout.into());
        self
    }

    pub fn start(self) -> Running {
        let mut words: Vec<OsString> = Vec::new();
        if self.in_namespace {
            words.extend(namespace().iter().map(OsString::from));
        }
        words.extend(self.wrapper.clone());
        let program = match &self.arg0 {
            Some(name) => {
                // By a link of that name: wrappers have no way to set argv[0].
                let folder = tempfile::tempdir().unwrap().keep();
                let link = folder.join(name);
                std::os::unix::fs::symlink(rinit(), &link).unwrap();
                link
            }
            None => rinit(),
        };
        words.push(program.into());
        words.extend(self.command.clone());
        let mut command = Command::new(&words[0]);
        // All of them have one /run: each would ask whether another one's socket is a dead one's.
        command.env("RINIT_SOCKET", "off");
        command.args(&words[1..]).envs(self.environment).process_group(0);
        command.stdin(self.stdin.unwrap_or_else(Stdio::null));
        let watch_stdout = self.stdout.is_none();
        command.stdout(self.stdout.unwrap_or_else(Stdio::piped)).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {words:?}: {error}"));
        let output = Arc::new((Mutex::new(Output::default()), Condvar::new()));
        if watch_stdout {
            watch(child.stdout.take().unwrap(), &output, |output| &mut output.stdout);
        }
        watch(child.stderr.take().unwrap(), &output, |output| &mut output.stderr);
        let depth = if self.in_namespace && !namespace().is_empty() { 1 } else { 0 };
        Running { child: Mutex::new(child), depth, output, words }
    }
}

/// The lines that have been printed so far.
#[derive(Debug, Default, Clone)]
pub struct Output {
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
    open: usize,
}

impl Output {
    /// The number of lines, of both streams, that contain the text.
    pub fn count(&self, text: &str) -> usize {
        self.stdout.iter().chain(&self.stderr).filter(|line| line.contains(text)).count()
    }

    pub fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// Returns whether rinit has reported that of the worker, such as `told("web-0", "is gone")`.
    pub fn told(&self, worker: &str, what: &str) -> bool {
        let is_about = |line: &String| line.split(' ').any(|word| word == worker) && line.contains(what);
        self.stderr.iter().any(is_about)
    }
}

fn watch(
    stream: impl Read + Send + 'static,
    output: &Arc<(Mutex<Output>, Condvar)>,
    of: fn(&mut Output) -> &mut Vec<String>,
) {
    let output = output.clone();
    output.0.lock().unwrap().open += 1;
    std::thread::spawn(move || {
        for line in BufReader::with_capacity(1 << 16, stream).split(b'\n') {
            let Ok(line) = line else { break };
            of(&mut output.0.lock().unwrap()).push(String::from_utf8_lossy(&line).into_owned());
            output.1.notify_all();
        }
        output.0.lock().unwrap().open -= 1;
        output.1.notify_all();
    });
}

/// A running rinit. It is killed with all processes below it when it is dropped.
pub struct Running {
    child: Mutex<Child>,
    depth: usize,
    output: Arc<(Mutex<Output>, Condvar)>,
    words: Vec<OsString>,
}

impl Running {
    /// rinit's number as it is seen from here.
    pub fn pid(&self) -> i32 {
        let mut pid = self.child.lock().unwrap().id() as i32;
        for _ in 0..self.depth {
            pid = eventually("rinit is there", || children(pid).first().copied());
        }
        pid
    }

    /// The processes right below rinit, as they are seen from here.
    pub fn workers(&self) -> Vec<i32> {
        children(self.pid())
    }

    pub fn signal(&self, name: &str) {
        self.signal_pid(self.pid(), name);
    }

    /// Sends a further stop signal: not in the same moment as the last, which would be the same request to stop.
    pub fn stop_again(&self, name: &str) {
        std::thread::sleep(Duration::from_millis(120));
        self.signal(name);
    }

    pub fn signal_pid(&self, pid: i32, name: &str) {
        let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// What has been printed so far.
    pub fn output(&self) -> Output {
        self.output.0.lock().unwrap().clone()
    }

    /// Waits until the condition holds.
    pub fn until(&self, what: &str, holds: impl Fn(&Output) -> bool) {
        let start = Instant::now();
        let mut output = self.output.0.lock().unwrap();
        while !holds(&output) {
            let left = patience().saturating_sub(start.elapsed());
            if left.is_zero() || output.open == 0 {
                drop(output);
                self.give_up(what);
            }
            output = self.output.1.wait_timeout(output, left.min(Duration::from_millis(100))).unwrap().0;
        }
    }

    /// Fails the test, and shows what was run and what it has printed.
    fn give_up(&self, what: &str) -> ! {
        let output = self.output();
        let (stdout, stderr) = (last(&output.stdout), last(&output.stderr));
        panic!("not so: {what}\n{:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.words);
    }

    /// Waits for the end, and gives the exit code (128 + n for a signal).
    pub fn wait(&self) -> i32 {
        let ended = in_time(|| self.child.lock().unwrap().try_wait().unwrap());
        let status = ended.unwrap_or_else(|| self.give_up("rinit ends"));
        // What was printed last may still be on its way to the reader.
        let start = Instant::now();
        let mut output = self.output.0.lock().unwrap();
        while output.open > 0 && start.elapsed() < patience() {
            output = self.output.1.wait_timeout(output, Duration::from_millis(100)).unwrap().0;
        }
        drop(output);
        code(status)
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

fn last(lines: &[String]) -> String {
    lines.iter().skip(lines.len().saturating_sub(60)).map(|line| format!("{line}\n")).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        if child.try_wait().ok().flatten().is_none() {
            use nix::sys::signal::{Signal, kill, killpg};
            use nix::unistd::Pid;
            // Workers have groups of their own. They die with their namespace, or one by one where rinit is not PID 1.
            let workers = if self.depth == 0 { descendants(child.id() as i32) } else { vec![] };
            // Not by kill(1): that of Debian trixie takes a small number, as a PID namespace has them, for a signal's.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            for worker in workers {
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }
}

/// The children of a process, in the order of their starts.
pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The processes below a process, whichever their groups and sessions are.
fn descendants(pid: i32) -> Vec<i32> {
    let below = |child: i32| [vec![child], descendants(child)].concat();
    children(pid).into_iter().flat_map(below).collect()
}

/// A field of `/proc/PID/status`.
pub fn status_field(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A free TCP port of this machine. It is below those that the kernel gives to clients and to port 0 (`ip_local_port_range`), so
/// nobody takes it before the test does; the next numbers are free for workers that have a port each.
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    const EACH: u16 = 8;
    let first = std::process::id() % 100 * 200;
    let mut tries = std::iter::repeat_with(|| {
        let offset = first + NEXT.fetch_add(u32::from(EACH), std::sync::atomic::Ordering::Relaxed);
        10_000 + (offset % 20_000) as u16
    });
    tries.find(|port| (*port..port + EACH).all(is_free)).unwrap()
}

/// True if nothing has that port at any address, not even a connection that an earlier test has closed (`TIME_WAIT`): a program
/// without `SO_REUSEADDR` could not bind it.
fn is_free(port: u16) -> bool {
    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    let any: [(AddressFamily, std::net::IpAddr); 2] =
        [(AddressFamily::Inet, [0; 4].into()), (AddressFamily::Inet6, [0u16; 8].into())];
    any.into_iter().all(|(family, address)| {
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let bound =
            socket.and_then(|one| bind(one.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((address, port)))));
        // There may be no IPv6.
        bound != Err(Errno::EADDRINUSE)
    })
}

/// A file by whose existence a test steers workers: the fixture's `file=` and `unless=`.
pub struct Flag {
    folder: tempfile::TempDir,
}

impl Flag {
    /// Not there yet.
    pub fn new() -> Flag {
        Flag { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> String {
        self.folder.path().join("flag").display().to_string()
    }

    pub fn set(&self) {
        std::fs::write(self.path(), "").unwrap();
    }

    pub fn clear(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }
}

/// Waits until there is a value.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    in_time(look).unwrap_or_else(|| panic!("not so: {what}"))
}

/// Waits until there is a value; `None`: there is none in time.
fn in_time<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if start.elapsed() >= patience() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
