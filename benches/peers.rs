//! Measures rinit beside its peers in one run: `cargo bench`.
//!
//! Peers are measured where they are installed (`apt install tini dumb-init`, `npm install -g pm2`); rinit is the static
//! binary if it was built (`cargo build --release --target x86_64-unknown-linux-musl`), else what cargo built. All load
//! is bounded and stays on this machine. Medians; every pair is measured in turn, so that a drift of the machine's speed
//! meets both.

mod common;

use common::{find, median, rinit};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Prints the monotonic clock in nanoseconds, first thing; then, if it has an argument, waits.
const STAMP: &str = r#"
#include <stdio.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    printf("%lld\n", t.tv_sec * 1000000000LL + t.tv_nsec);
    fflush(stdout);
    if (argc > 1) pause();
    return 0;
}
"#;

fn main() {
    let folder = std::env::temp_dir().join(format!("rinit-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let bench = Bench { rinit: rinit(), stamp: compile(&folder) };
    println!("rinit: {} ({} bytes)", bench.rinit.display(), fs::metadata(&bench.rinit).unwrap().len());
    bench.start();
    bench.restart();
    bench.stop();
    bench.memory(&folder);
    bench.lines();
    bench.line_cpu(&folder);
    fs::remove_dir_all(&folder).unwrap();
}

struct Bench {
    rinit: PathBuf,
    stamp: PathBuf,
}

impl Bench {
    /// From the start of the init to the first instruction of its child.
    fn start(&self) {
        println!("\nstart to child (ms, median of 200, in turn)");
        let mut ways: Vec<(String, Vec<String>)> = vec![("no init".into(), vec![])];
        ways.push(("rinit".into(), vec![self.rinit.display().to_string(), "--".into()]));
        for peer in ["tini-static", "tini", "dumb-init", "catatonit"] {
            if let Some(path) = find(peer) {
                ways.push((peer.into(), vec![path.display().to_string(), "--".into()]));
            }
        }
        ways.push((
            "rinit -i 1".into(),
            [self.rinit.to_str().unwrap(), "-i", "1", "--restart", "never", "--log", "raw"].map(String::from).to_vec(),
        ));
        let mut times: Vec<Vec<f64>> = vec![vec![]; ways.len()];
        for _ in 0..200 {
            for ((_, words), times) in ways.iter().zip(&mut times) {
                let mut words = words.clone();
                words.push(self.stamp.display().to_string());
                let before = clock();
                let output = Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null()).output().unwrap();
                let stamp: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a stamp");
                times.push((stamp - before) as f64 / 1e6);
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        let tini = ways.iter().position(|(name, _)| name == "tini-static").map(|at| medians[at]);
        for ((name, _), time) in ways.iter().zip(&medians) {
            let ratio = tini.map_or(String::new(), |tini| format!("  {:.2} x tini-static", time / tini));
            println!("  {name:12} {time:.3}{ratio}");
        }
    }

    /// From kill -9 of a worker that has been stable to the first instruction of the next.
    fn restart(&self) {
        let times = ["--ready", "uptime", "--min-uptime", "20ms", "--stable-after", "20ms", "--backoff", "10ms..15s"];
        let mut child = self.supervisor(&[&["-i", "1", "--log", "raw"], &times[..]].concat(), &["wait"]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next();
        let mut times = Vec::new();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(40));
            let worker = children(child.id())[0];
            let before = clock();
            signal(worker, "KILL");
            let stamp: u64 = lines.next().unwrap().unwrap().parse().expect("a stamp");
            times.push((stamp - before) as f64 / 1e6);
        }
        stop(&mut child);
        println!(
            "\nkill -9 of a stable worker to its successor (ms, median of 100)\n  rinit        {:.3}",
            median(&mut times)
        );
    }

    /// From SIGTERM to the end of rinit, with 4 workers that end at once.
    fn stop(&self) {
        let mut times = Vec::new();
        for _ in 0..20 {
            let mut child = self.supervisor(&["-i", "4"], &["wait"]);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            (0..4).for_each(|_| drop(lines.next()));
            let before = Instant::now();
            signal(child.id(), "TERM");
            child.wait().unwrap();
            times.push(before.elapsed().as_secs_f64() * 1e3);
        }
        println!(
            "\nSIGTERM to the end of 4 workers and rinit (ms, median of 20)\n  rinit        {:.3}",
            median(&mut times)
        );
    }

    /// Resident memory and threads, at rest.
    fn memory(&self, folder: &Path) {
        println!("\nmemory of the init itself, at rest");
        let start = |program: &Path, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words).env("PM2_HOME", folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let stamp = self.stamp.to_str().unwrap();
        let app = folder.join("app.js");
        fs::write(&app, "setInterval(() => {}, 1e6)").unwrap();
        let app = app.to_str().unwrap();
        let mut inits = vec![
            ("rinit", start(&self.rinit, &["--", stamp, "wait"])),
            ("rinit -i 4", start(&self.rinit, &["-i", "4", "--", stamp, "wait"])),
        ];
        inits.extend(find("tini-static").map(|tini| ("tini-static", start(&tini, &["--", stamp, "wait"]))));
        inits.extend(find("pm2-runtime").map(|pm2| ("pm2 -i 4", start(&pm2, &["start", app, "-i", "4"]))));
        std::thread::sleep(Duration::from_secs(4));
        for (name, mut child) in inits {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
            println!(
                "  {name:12} VmRSS {}, of it anonymous {}, threads {}",
                field("VmRSS:"),
                field("RssAnon:"),
                field("Threads:")
            );
            stop(&mut child);
        }
    }

    /// 300,000 lines of 100 bytes from one worker, into a pipe that is read as fast as it can be.
    fn lines(&self) {
        const LINES: u64 = 300_000;
        println!("\n{LINES} lines of 100 bytes through the log (ms, median of 5, in turn)");
        let program = format!("i=0; yes {} | head -n {LINES}", "x".repeat(99));
        let shell = ["sh", "-c", &program];
        let mut ways: Vec<(&str, Vec<&str>)> =
            vec![("no init", vec![]), ("| cat", vec!["sh", "-c", r#""$@" | cat"#, "-"])];
        let rinit = self.rinit.to_str().unwrap();
        for (name, format) in [("rinit prefix", "prefix"), ("rinit json", "json"), ("rinit raw", "raw")] {
            ways.push((name, vec![rinit, "-i", "1", "--restart", "never", "--log", format, "--"]));
        }
        let mut times = vec![vec![]; ways.len()];
        for _ in 0..5 {
            for ((_, words), times) in ways.iter().zip(&mut times) {
                let words: Vec<&str> = words.iter().chain(&shell).copied().collect();
                let before = Instant::now();
                let mut child = Command::new(words[0])
                    .args(&words[1..])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let mut buffer = vec![0; 1 << 16];
                let mut stdout = child.stdout.take().unwrap();
                let mut newlines = 0;
                while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                    newlines += buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                child.wait().unwrap();
                assert_eq!(newlines, LINES, "{words:?} lost lines");
                times.push(before.elapsed().as_secs_f64() * 1e3);
            }
        }
        for ((name, _), times) in ways.iter().zip(&mut times) {
            println!("  {name:12} {:.0}", median(times));
        }
    }

    /// CPU of the process that passes 300,000 lines of 100 bytes on: rinit, beside `cat` between the same two pipes.
    fn line_cpu(&self, folder: &Path) {
        const LINES: usize = 300_000;
        println!(
            "\nCPU of the process that passes on {LINES} lines of 100 bytes (user and system, ms, median of 9, in turn)"
        );
        let text = folder.join("lines");
        fs::write(&text, format!("{}\n", "x".repeat(99)).repeat(LINES)).unwrap();
        let program = format!("cat {}; exec sleep 1000", text.display());
        let rinit = self.rinit.to_str().unwrap();
        let formats = ["cat", "prefix", "json", "raw"];
        let mut times = vec![vec![]; formats.len()];
        for _ in 0..9 {
            for (format, times) in formats.iter().zip(&mut times) {
                let piped = |command: &mut Command| {
                    command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
                };
                let mut writer = (*format == "cat").then(|| piped(Command::new("sh").args(["-c", &program])));
                let mut passer = match &mut writer {
                    Some(writer) => piped(Command::new("cat").stdin(writer.stdout.take().unwrap())),
                    // Two workers, for a raw one alone would write to rinit's stdout itself.
                    None => piped(
                        Command::new(rinit)
                            .args([
                                "-i",
                                "2",
                                "--restart",
                                "never",
                                "--socket",
                                "off",
                                "--log",
                                format,
                                "--",
                                "sh",
                                "-c",
                            ])
                            .arg(format!(r#"[ "$RINIT_WORKER" = 0 ] || exec sleep 1000; {program}"#)),
                    ),
                };
                let mut stdout = passer.stdout.take().unwrap();
                let mut buffer = vec![0; 1 << 16];
                let mut newlines = 0;
                while newlines < LINES {
                    let count = stdout.read(&mut buffer).unwrap();
                    assert!(count > 0, "{format} ended early");
                    newlines += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
                }
                times.push(cpu_ms(passer.id()));
                drop(stdout);
                if let Some(mut writer) = writer {
                    signal_group(writer.id(), "KILL");
                    writer.wait().unwrap();
                    passer.wait().unwrap();
                } else {
                    stop(&mut passer);
                }
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for (format, time) in formats.iter().zip(&medians) {
            println!("  {format:12} {time:.1}  {:.2} x cat", time / medians[0]);
        }
    }

    fn supervisor(&self, options: &[&str], words: &[&str]) -> Child {
        let mut command = Command::new(&self.rinit);
        command.args(options).arg("--").arg(&self.stamp).args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }
}

fn compile(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("stamp.c"), folder.join("stamp"));
    fs::write(&source, STAMP).unwrap();
    let status = Command::new("cc").args(["-O2", "-static", "-o"]).args([&program, &source]).status().unwrap();
    assert!(status.success(), "cc cannot make a static program here");
    program
}

/// The monotonic clock, as the stamp program reads it.
fn clock() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// The CPU time of a live process, of all its threads (`/proc/PID/task/TID/schedstat`, nanoseconds).
fn cpu_ms(pid: u32) -> f64 {
    let of = |task: fs::DirEntry| -> u64 {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| of(task.unwrap())).sum::<u64>() as f64 / 1e6
}

fn signal_group(pid: u32, name: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().unwrap();
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

fn signal(pid: u32, name: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

fn stop(child: &mut Child) {
    signal(child.id(), "TERM");
    child.wait().unwrap();
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
