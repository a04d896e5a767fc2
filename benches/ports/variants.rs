//! Starts, signals and stops each mechanism by which N processes share a port.

use crate::common::{find, rinit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// An app that answers with its process number and writes a file of that name once it listens. SIGUSR2 blocks it for 500 ms,
/// asleep, so that the others keep the processors. With `HELD` another file has the number of connections that it has accepted
/// and not answered, which may be lost when it is killed.
const APP: &str = r#"
const fs = require('fs'), http = require('http');
const mine = `${process.env.READY}/${process.pid}`, body = String(process.pid).padStart(8);
let held = 0, note = () => {};
const server = http.createServer((_, answer) => {
  answer.writeHead(200, { 'Content-Length': 8 });
  answer.end(body);
  note(-1);
});
if (process.env.HELD) {
  const file = fs.openSync(`${mine}.held`, 'w'), bytes = Buffer.alloc(4);
  note = (change) => { bytes.writeUInt32LE(held = Math.max(0, held + change)); fs.writeSync(file, bytes, 0, 4, 0); };
  server.on('connection', () => note(1));
}
const clock = new Int32Array(new SharedArrayBuffer(4));
process.on('SIGUSR2', () => Atomics.wait(clock, 0, 0, 500));
server.listen(+process.env.PORT, '127.0.0.1', () => fs.writeFileSync(mine, ''));
"#;

/// The same in Python, for one request on each connection: it blocks in accept.
const PYTHON_APP: &str = r#"
import os, socket
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])), backlog=511)
open(f"{os.environ['READY']}/{os.getpid()}", 'w').close()
answer = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n%8d' % os.getpid()
while True:
    connection, _ = server.accept()
    try:
        if connection.recv(4096):
            connection.sendall(answer)
    except OSError:
        pass
    connection.close()
"#;

/// Node's own cluster, as its documentation shows it.
const PRIMARY: &str = r#"
const cluster = require('cluster');
cluster.schedulingPolicy = process.env.POLICY === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
cluster.setupPrimary({ exec: process.env.APP });
const workers = [], fork = () => workers.push(cluster.fork());
let spare = 0;
for (let k = 0; k < +process.env.WORKERS; k++) fork();
cluster.on('exit', (worker) => worker.exitedAfterDisconnect || setTimeout(fork, +process.env.BACKOFF));
process.on('SIGTERM', () => process.exit());
process.on('SIGTTIN', () => { process.stderr.write('scaled from it to one more\n'); fork(); });
process.on('SIGTTOU', () => { process.stderr.write('scaled from it to one less\n'); workers.pop().process.kill(); });
"#;

#[derive(Clone, Copy, PartialEq)]
pub enum Means {
    Plain,
    Cluster(&'static str),
    Pm2,
    Rinit(&'static [&'static str]),
}

#[derive(Clone, Copy, PartialEq)]
pub struct Variant {
    pub name: &'static str,
    pub means: Means,
}

/// The variant that all others are compared with.
pub const REFERENCE: &str = "Node cluster";

pub const ROUND_ROBIN: &str = "rinit round-robin";
pub const SHARED: &str = "rinit shared";

pub const VARIANTS: [Variant; 8] = [
    Variant { name: "one process", means: Means::Plain },
    Variant { name: REFERENCE, means: Means::Cluster("rr") },
    Variant { name: "Node cluster, none", means: Means::Cluster("none") },
    Variant { name: "pm2", means: Means::Pm2 },
    Variant { name: ROUND_ROBIN, means: Means::Rinit(&["--balance", "round-robin"]) },
    Variant { name: SHARED, means: Means::Rinit(&["--balance", "shared"]) },
    Variant { name: "rinit reuseport", means: Means::Rinit(&["--balance", "reuseport"]) },
    Variant { name: "rinit preload", means: Means::Rinit(&["--share-ports", "preload"]) },
];

impl Variant {
    pub fn is_rinit(self) -> bool {
        matches!(self.means, Means::Rinit(_))
    }

    pub fn shares(self) -> bool {
        self.means != Means::Plain
    }

    pub fn reloads(self) -> bool {
        matches!(self.means, Means::Pm2 | Means::Rinit(_))
    }

    pub fn scales_by_signal(self) -> bool {
        matches!(self.means, Means::Cluster(_) | Means::Rinit(_))
    }
}

/// The app that the workers run.
#[derive(Clone, Copy, PartialEq)]
pub enum App {
    Node,
    Python,
}

/// The workers' settings for one measurement.
#[derive(Clone, Copy)]
pub struct Plan {
    pub app: App,
    pub workers: usize,
    /// A worker that crashed comes back after this long, or as its supervisor has it.
    pub backoff: Option<Duration>,
    /// Counts what a worker holds.
    pub held: bool,
    pub min_uptime: &'static str,
}

/// A variant that runs.
pub struct Fleet {
    pub variant: Variant,
    pub port: u16,
    pub lines: Receiver<(Instant, String)>,
    plan: Plan,
    child: Child,
    folder: PathBuf,
}

impl Fleet {
    /// Starts it and waits until all its workers listen. Its last output if they do not.
    pub fn start(variant: Variant, plan: Plan, folder: PathBuf) -> Result<Fleet, String> {
        let _ = fs::remove_dir_all(&folder);
        let ready = folder.join("ready");
        fs::create_dir_all(&ready).unwrap();
        let (name, text) = match plan.app {
            App::Node => ("app.js", APP),
            App::Python => ("app.py", PYTHON_APP),
        };
        let app = folder.join(name);
        fs::write(&app, text).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = command(variant, plan, &app).ok_or("not installed")?;
        command.env("PORT", port.to_string()).env("READY", &ready).env("APP", &app).env("PM2_HOME", folder.join("pm2"));
        if plan.held {
            command.env("HELD", "1");
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| error.to_string())?;
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let mut fleet = Fleet { variant, port, lines, plan, child, folder };
        if fleet.until(Duration::from_secs(15), Fleet::is_whole) {
            return Ok(fleet);
        }
        let said = fleet.lines.try_iter().map(|(_, line)| line).collect::<Vec<_>>();
        let fault = said.iter().find(|line| line.contains("rror")).or(said.last());
        Err(fault.cloned().unwrap_or("its workers do not all listen".into()))
    }

    pub fn primary(&self) -> u32 {
        self.child.id()
    }

    /// The workers that listen, by the files they left.
    pub fn workers(&self) -> Vec<u32> {
        let mut workers: Vec<u32> = self.recorded().into_iter().filter(|pid| self.is_alive(*pid)).collect();
        workers.sort_unstable();
        workers
    }

    pub fn is_whole(&self) -> bool {
        self.workers().len() == self.plan.workers
    }

    /// The number of connections that a worker had accepted and not answered when it ended.
    pub fn held(&self, worker: u32) -> u64 {
        let bytes = fs::read(self.folder.join(format!("ready/{worker}.held"))).unwrap_or_default();
        bytes.try_into().map_or(0, u32::from_le_bytes).into()
    }

    /// Reloads, and waits until new workers have taken the place of all the old ones.
    pub fn reload(&mut self) -> bool {
        let old = self.workers();
        match self.variant.means {
            Means::Pm2 => {
                let pm2 = find("pm2").expect("pm2 beside pm2-runtime");
                let mut command = Command::new(pm2);
                command.args(["reload", "all"]).env("PM2_HOME", self.folder.join("pm2"));
                let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
                if !status.is_ok_and(|status| status.success()) {
                    return false;
                }
            }
            _ => signal(self.primary(), Signal::SIGHUP),
        }
        self.until(Duration::from_secs(15), |fleet| {
            fleet.is_whole() && fleet.workers().iter().all(|worker| !old.contains(worker))
        })
    }

    /// Waits until it holds; false if it does not in time, or the variant has ended.
    pub fn until(&mut self, patience: Duration, holds: impl Fn(&Fleet) -> bool) -> bool {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > patience || !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn recorded(&self) -> Vec<u32> {
        let Ok(files) = fs::read_dir(self.folder.join("ready")) else { return vec![] };
        files.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// A process of this benchmark, and not another with a reused number.
    fn is_alive(&self, pid: u32) -> bool {
        let ready = self.folder.join("ready");
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        memchr::memmem::find(&environ, ready.as_os_str().as_encoded_bytes()).is_some()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.workers().into_iter().for_each(|worker| signal(worker, Signal::SIGCONT));
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::SIGTERM);
        }
        let ended = |fleet: &mut Fleet| !matches!(fleet.child.try_wait(), Ok(None));
        for _ in 0..300 {
            if ended(self) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if !ended(self) {
            signal(self.child.id(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        self.workers().into_iter().for_each(|worker| signal(worker, Signal::SIGKILL));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// To a process that may be gone by now.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

fn command(variant: Variant, plan: Plan, app: &Path) -> Option<Command> {
    let workers = plan.workers.to_string();
    let interpreter = match plan.app {
        App::Node => find("node")?,
        App::Python => find("python3")?,
    };
    let command = match variant.means {
        Means::Plain => {
            let mut command = Command::new(interpreter);
            command.arg(app);
            command
        }
        Means::Cluster(policy) => {
            let primary = app.with_file_name("primary.js");
            fs::write(&primary, PRIMARY).unwrap();
            let mut command = Command::new(interpreter);
            let backoff = plan.backoff.unwrap_or_default().as_millis().to_string();
            command.arg(primary).env("POLICY", policy).env("WORKERS", workers).env("BACKOFF", backoff);
            command
        }
        Means::Pm2 => {
            let config = app.with_file_name("pm2.json");
            let delay = plan.backoff.unwrap_or_default().as_millis();
            let (workers, script) = (plan.workers, app.display());
            let settings = format!(
                r#"{{"apps": [{{"script": "{script}", "exec_mode": "cluster", "instances": {workers},
                    "restart_delay": {delay}}}]}}"#
            );
            fs::write(&config, settings).unwrap();
            let mut command = Command::new(find("pm2-runtime")?);
            command.arg("start").arg(config);
            command
        }
        Means::Rinit(options) => {
            let mut command = Command::new(binary());
            command.args(options).args(["-i", &workers, "--log", "raw", "--min-uptime", plan.min_uptime]);
            if let Some(backoff) = plan.backoff {
                let backoff = format!("{}ms", backoff.as_millis());
                command.args(["--backoff", &format!("{backoff}..{backoff}")]);
            }
            command.arg("--").arg(interpreter).arg(app);
            command
        }
    };
    Some(command)
}

/// `BENCH_RINIT` names another rinit, to compare two builds.
pub fn binary() -> PathBuf {
    std::env::var_os("BENCH_RINIT").map_or_else(rinit, PathBuf::from)
}
