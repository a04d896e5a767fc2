//! The engine, the images that the tests run, and containers that are gone when a test ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A condition that has not come true by then never will.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// One call of `docker` that has not ended by then, in seconds, is stuck.
const STUCK: &str = "180";

/// The images of this run.
pub struct Engine {
    /// `Dockerfile`.
    pub rinit: String,
    /// `docker/busybox`: a shell, and rinit as its entrypoint.
    pub busybox: String,
    /// `examples/node`.
    pub node: String,
    /// `examples/python`.
    pub python: String,
    /// `examples/sockets`.
    pub sockets: String,
    /// `examples/apps`.
    pub apps: String,
    /// The static binary out of the image, to be mounted into others.
    pub binary: PathBuf,
}

/// The engine with its images, made once; `None`, and said so, where no engine answers.
pub fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Result<Engine, ()>>> = OnceLock::new();
    let make = || {
        let answer = docker(&["info", "--format", "{{.ServerVersion}}"]);
        if answer.code == 0 && !answer.stdout.trim().is_empty() {
            // What failed is told once; it would not go better for the next test.
            return Some(catch_unwind(Engine::make).map_err(drop));
        }
        assert!(std::env::var_os("CI").is_none(), "no Docker engine answers: {}", answer.stderr);
        // Not by eprintln!, which is heard only from tests that fail.
        let _ = writeln!(std::io::stderr(), "no Docker engine answers: the tests in containers are skipped");
        None
    };
    let engine = ENGINE.get_or_init(make).as_ref()?.as_ref();
    Some(engine.expect("the images can be made (see the first failure)"))
}

/// Whatever this run makes carries this label, and the number of the process in its name.
fn label() -> String {
    format!("rinit-test={}", std::process::id())
}

fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("rinit-test-{}-{what}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Engine {
    fn make() -> Engine {
        // Statics are never dropped, and a run may be ended from outside: a process that outlives this one takes away
        // what is left, when the pipe to it closes.
        let cleaner = "cat; docker ps -aq --filter label=$0 | xargs -r docker rm -fv; \
                       docker images -q --filter label=$0 | sort -u | xargs -r docker rmi -f";
        let cleaner = Command::new("setsid")
            .args(["sh", "-c", cleaner, &label()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::mem::forget(cleaner.unwrap());

        let rinit = build(".", "");
        let [busybox, node, python, sockets, apps] =
            ["docker/busybox", "examples/node", "examples/python", "examples/sockets", "examples/apps"]
                .map(|folder| build(folder, &rinit));
        let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rinit-of-the-image");
        let created = Container::create(&[], &rinit, &[]);
        docker_ok(&["cp", &format!("{}:/rinit", created.name), binary.to_str().unwrap()]);
        Engine { rinit, busybox, node, python, sockets, apps, binary }
    }

    /// `docker run --rm`, to its end.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> Ran {
        let words = run_words(options, image, command);
        docker(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// The words of `docker run --rm`.
pub fn run_words(options: &[&str], image: &str, command: &[&str]) -> Vec<String> {
    let (name, label) = (unique("run"), label());
    let words = [&["run", "--rm", "--name", &name, "--label", &label], options, &[image], command].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// Builds the image of that folder, from the rinit image of that name.
fn build(folder: &str, rinit: &str) -> String {
    let name = unique("image");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (rinit, label) = (format!("RINIT={rinit}"), label());
    let mut words = vec!["build", "--force-rm", "--tag", &name, "--label", &label];
    if rinit != "RINIT=" {
        words.extend(["--build-arg", &rinit]);
    }
    words.push(folder.to_str().unwrap());
    loop {
        // Not under the limit for other calls: the first build compiles everything.
        let built = Command::new("docker").args(&words).output().unwrap();
        if built.status.success() {
            return name;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // The cleaner of the run before may be taking away what this one was about to use again.
        let taken_away = text(&built.stderr).contains("No such image");
        assert!(taken_away, "docker {words:?}:\n{}{}", text(&built.stdout), text(&built.stderr));
    }
}

/// What came of a call.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the `docker` command line to its end.
pub fn docker(words: &[&str]) -> Ran {
    // Also where there is no such program, `timeout` answers.
    let ran = Command::new("timeout").args([STUCK, "docker"]).args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: ran.status.code().unwrap_or(-1), stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

/// The same, of what must succeed: what it printed.
pub fn docker_ok(words: &[&str]) -> String {
    let ran = docker(words);
    assert_eq!(ran.code, 0, "docker {words:?}:\n{}{}", ran.stdout, ran.stderr);
    ran.stdout.trim().to_owned()
}

/// A container; removed when it is dropped, running or not.
pub struct Container {
    pub name: String,
}

/// What `docker logs` shows.
pub struct Logs {
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Logs {
    /// How many lines, of either stream, contain that.
    pub fn count(&self, text: &str) -> usize {
        self.stdout.iter().chain(&self.stderr).filter(|line| line.contains(text)).count()
    }

    pub fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    /// Whether one line has all of these.
    pub fn has_line(&self, parts: &[&str]) -> bool {
        self.stdout.iter().chain(&self.stderr).any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// What follows that text, up to the next space, wherever it stands.
    pub fn words_after(&self, text: &str) -> Vec<String> {
        let rests = self.stdout.iter().chain(&self.stderr).filter_map(|line| line.split_once(text));
        rests.filter_map(|(_, rest)| rest.split([' ', ',', ')']).next()).map(str::to_owned).collect()
    }
}

impl Container {
    /// `docker run --detach`.
    pub fn start(options: &[&str], image: &str, command: &[&str]) -> Container {
        Container::make(&["run", "--detach"], options, image, command)
    }

    /// `docker create`: it never runs.
    pub fn create(options: &[&str], image: &str, command: &[&str]) -> Container {
        Container::make(&["create"], options, image, command)
    }

    fn make(verb: &[&str], options: &[&str], image: &str, command: &[&str]) -> Container {
        let container = Container { name: unique("container") };
        let (name, label) = (container.name.as_str(), label());
        docker_ok(&[verb, &["--name", name, "--label", &label], options, &[image], command].concat());
        container
    }

    pub fn logs(&self) -> Logs {
        let logs = docker(&["logs", &self.name]);
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Logs { stdout: lines(&logs.stdout), stderr: lines(&logs.stderr) }
    }

    /// Waits until the condition holds for what `docker logs` shows.
    pub fn until(&self, what: &str, holds: impl Fn(&Logs) -> bool) {
        let start = Instant::now();
        loop {
            let logs = self.logs();
            if holds(&logs) {
                return;
            }
            if start.elapsed() > PATIENCE {
                let last = |lines: &[String]| lines[lines.len().saturating_sub(60)..].join("\n");
                panic!("not so: {what}\n--- stdout\n{}\n--- stderr\n{}", last(&logs.stdout), last(&logs.stderr));
            }
            // Each look is a process, and costs the others time.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `docker kill -s`.
    pub fn signal(&self, name: &str) {
        docker_ok(&["kill", "-s", name, &self.name]);
    }

    /// `docker stop`, with the engine's own patience. How long it took.
    pub fn stop(&self) -> Duration {
        let start = Instant::now();
        docker_ok(&["stop", &self.name]);
        start.elapsed()
    }

    /// Waits for the end, and gives the exit code.
    pub fn wait(&self) -> i32 {
        eventually(&format!("{} ends", self.name), || {
            let state = self.inspect("{{.State.Status}} {{.State.ExitCode}}");
            state.strip_prefix("exited ").map(|code| code.parse().unwrap())
        })
    }

    pub fn inspect(&self, format: &str) -> String {
        docker_ok(&["inspect", "--format", format, &self.name])
    }

    pub fn is_running(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    pub fn exec(&self, command: &[&str]) -> Ran {
        docker(&[&["exec", &self.name], command].concat())
    }

    /// The port of this machine that leads to the container's.
    pub fn port(&self, inside: u16) -> u16 {
        let published = docker_ok(&["port", &self.name, &format!("{inside}/tcp")]);
        let port = published.lines().next().and_then(|line| line.rsplit_once(':')?.1.parse().ok());
        port.unwrap_or_else(|| panic!("{published:?} is no port"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-fv", &self.name]);
    }
}

/// Waits until there is a value.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of a page, by a connection of its own.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answer = ask().map_err(|error: std::io::Error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => {
            // Node sends a text of unknown length in chunks: the text is the line between the counts.
            let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            Ok(if chunked { body.lines().nth(1).unwrap_or_default() } else { body.trim_end() }.to_owned())
        }
        _ => Err(format!("not an answer: {answer:?}")),
    }
}
