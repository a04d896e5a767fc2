//! Tests of the targets of stdout and stderr: pipes, sockets and files, without a reader, full or closed.

use super::{Reader, assert_counted, eventually_full, lines_of};
use crate::harness::{Rig, Running, children, eventually, status_field};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The memory, in kB, that rinit may have of its own (the pages of a debug binary are the build's): its workers' last
/// lines, and no more for any flood.
const MEMORY: u64 = 8_000;

fn memory(rig: &Running) -> u64 {
    status_field(rig.pid(), "RssAnon").trim_end_matches(" kB").parse().unwrap()
}

/// Supervision as it is seen from outside, without a word in the log: a killed worker is replaced, one more is added.
fn assert_supervised(rig: &Running, workers: usize) {
    let live =
        || rig.workers().into_iter().filter(|pid| !status_field(*pid, "State").starts_with('Z')).collect::<Vec<_>>();
    let all_up = |count| eventually("all workers are up", || Some(live()).filter(|workers| workers.len() == count));
    let victim = all_up(workers)[0];
    rig.signal_pid(victim, "KILL");
    eventually("the killed worker is collected", || (!rig.workers().contains(&victim)).then_some(()));
    all_up(workers);
    rig.signal("TTIN");
    all_up(workers + 1);
    rig.signal("TTOU");
    all_up(workers);
}

/// Stops rinit, which must not wait for a reader.
fn assert_stops_in_time(rig: &Running) {
    let start = Instant::now();
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(start.elapsed() < Duration::from_secs(5), "the stop took {:?}", start.elapsed());
}

#[test]
fn stdout_that_nobody_reads_blocks_neither_supervision_nor_stop() {
    for format in ["prefix", "raw", "json"] {
        let (read, write) = std::io::pipe().unwrap();
        let rig =
            Rig::new(&["-i", "2", "--log", format, "--backoff", "1ms..1ms"]).fixture("flood").stdout(write).start();
        eventually_full(&read);
        assert_supervised(&rig, 2);
        assert!(memory(&rig) < MEMORY, "{format}: {} kB", memory(&rig));
        // stderr is another matter, and is read.
        rig.until("rinit speaks", |out| out.has("scaled from 2 to 3") && out.has("scaled from 3 to 2"));
        assert_stops_in_time(&rig);
        lines_of_torn_end(Reader::of(read).all());
    }
}

/// The lines, but for the last, which a stop with a full stdout may have cut.
fn lines_of_torn_end(mut bytes: Vec<u8>) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(end);
    let lines = lines_of(&bytes);
    assert!(lines.iter().all(|line| line.contains("flood flood flood flood flood flood flood flood")));
}

#[test]
fn both_streams_that_nobody_reads_block_neither_supervision_nor_stop() {
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--backoff", "1ms..1ms", "--log-level", "debug", "--"])
        .args(&["sh", "-c", r#""$0" flood & exec "$0" err-lines=100000000"#])
        .fixture("")
        .through(&["sh", "-c", r#"exec "$0" "$@" 2>&1"#])
        .stdout(write)
        .start();
    eventually_full(&read);
    for _ in 0..3 {
        assert_supervised(&rig, 2);
    }
    assert!(memory(&rig) < MEMORY, "{} kB", memory(&rig));
    assert_stops_in_time(&rig);
}

#[test]
fn without_proc_stdout_that_nobody_reads_blocks_neither_supervision_nor_stop() {
    if crate::harness::namespace().is_empty() {
        return crate::harness::skipped("no namespace, in which /proc could be taken away");
    }
    // rinit cannot open its stdout anew then, and writes to what it shares with others.
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--backoff", "1ms..1ms"])
        .fixture("lines=20000 flood")
        .through(&["sh", "-c", r#"mount -t tmpfs -o ro none /proc && exec "$0" "$@""#])
        .stdout(write)
        .start();
    eventually_full(&read);
    assert_supervised(&rig, 2);
    assert_stops_in_time(&rig);
}

#[test]
fn without_proc_no_line_is_lost_either() {
    if crate::harness::namespace().is_empty() {
        return crate::harness::skipped("no namespace, in which /proc could be taken away");
    }
    let (read, write) = std::io::pipe().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never"])
        .fixture("lines=20000")
        .through(&["sh", "-c", r#"mount -t tmpfs -o ro none /proc && exec "$0" "$@""#])
        .stdout(write)
        .start();
    eventually_full(&read);
    let reader = Reader::of(read);
    assert_eq!(rig.wait(), 0);
    assert_counted(&reader.lines(), 2, 20_000);
}

#[test]
fn a_flood_does_not_grow_rinit() {
    // The shortest lines are those that grow the most on their way.
    for format in ["prefix", "json"] {
        let (read, write) = std::io::pipe().unwrap();
        let rig = Rig::new(&["-i", "3", "--log", format, "--log-time", "--", "sh", "-c", "yes '' & exec yes '' >&2"])
            .stdout(write)
            .start();
        let mut most = 0;
        let mut seen = 0;
        let mut read = read;
        let mut chunk = vec![0; 1 << 16];
        while seen < 8 << 20 {
            seen += std::io::Read::read(&mut read, &mut chunk).unwrap();
            most = most.max(memory(&rig));
        }
        assert!(most < MEMORY, "{format}: {most} kB");
    }
}

#[test]
fn stdout_that_its_reader_closed_stops_neither_rinit_nor_the_workers() {
    let (read, write) = std::io::pipe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let rig = Rig::new(&["-i", "2", "--restart", "never"])
        .fixture(&format!("lines=50000 touch={} wait", done.display()))
        .stdout(write)
        .start();
    eventually_full(&read);
    drop(read);
    eventually("a worker has come to the end of its lines", || done.exists().then_some(()));
    assert_eq!(rig.workers().len(), 2);
    assert_stops_in_time(&rig);
    assert!(rig.output().has("asked to stop"), "stderr goes on");
}

#[test]
fn a_full_disk_stops_neither_rinit_nor_the_workers() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never"]).fixture("lines=50000 err=done wait").stdout(full).start();
    rig.until("both are done", |out| out.count("| done") == 2);
    assert_stops_in_time(&rig);
}

#[test]
fn stdout_may_be_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rig =
        Rig::new(&["-i", "2", "--restart", "never"]).fixture("lines=20000").stdout(file.reopen().unwrap()).start();
    assert_eq!(rig.wait(), 0);
    assert_counted(&lines_of(&std::fs::read(file.path()).unwrap()), 2, 20_000);
}

#[test]
fn both_streams_may_be_the_same_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never", "--log-level", "error", "--"])
        .args(&["sh", "-c", r#""$0" err-lines=5000 & "$0" lines=5000; wait"#])
        .fixture("")
        .through(&["sh", "-c", r#"exec "$0" "$@" 2>&1"#])
        .stdout(file.reopen().unwrap())
        .start();
    assert_eq!(rig.wait(), 0);
    let lines = lines_of(&std::fs::read(file.path()).unwrap());
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().all(|line| line.contains(" | line ")));
}

#[test]
fn stdout_may_be_a_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let rig = Rig::new(&["-i", "2", "--restart", "never"])
        .fixture("lines=20000 err=done")
        .stdout(OwnedFd::from(theirs))
        .start();
    // Not read at first.
    eventually("both are at work", || (rig.workers().len() == 2).then_some(()));
    eventually_full(&ours);
    let reader = Reader::of(ours);
    assert_eq!(rig.wait(), 0);
    assert_counted(&reader.lines(), 2, 20_000);
}

#[test]
fn a_socket_that_nobody_reads_blocks_neither_supervision_nor_stop() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let rig = Rig::new(&["-i", "2", "--backoff", "1ms..1ms"]).fixture("flood").stdout(OwnedFd::from(theirs)).start();
    eventually_full(&ours);
    assert_supervised(&rig, 2);
    assert_stops_in_time(&rig);
}

#[test]
fn one_worker_with_raw_log_has_rinits_stdout_itself() {
    let link = |pid: i32, fd: i32| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    for (format, is_same) in [("raw", true), ("prefix", false), ("json", false)] {
        let rig = Rig::new(&["-i", "1", "--log", format]).fixture("up err=up wait").start();
        rig.until("it is up", |out| out.count("up") >= 2);
        let worker = children(rig.pid())[0];
        for fd in 1..=2 {
            assert_eq!(link(worker, fd) == link(rig.pid(), fd), is_same, "{format}, descriptor {fd}");
        }
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
    }
}

#[test]
fn a_stdout_that_does_not_block_is_left_as_others_have_set_it() {
    // The flag belongs to the open pipe, and so to everybody who has it.
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (read, write) = std::io::pipe().unwrap();
    let ours = write.try_clone().unwrap();
    let rig = Rig::new(&["-i", "2"]).fixture("flood").stdout(write).start();
    eventually_full(&read);
    let flags = OFlag::from_bits_retain(fcntl(&ours, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
    assert_stops_in_time(&rig);
}
