//! The program that tests run as a worker: `fixture WORD...` does each word, one after the other.
//!
//! | word | does |
//! |---|---|
//! | `say=TEXT`, `err=TEXT` | prints a line on stdout, stderr |
//! | `print=TEXT` | prints on stdout without a newline |
//! | `env=NAME` | prints `NAME=value`, or `NAME unset` |
//! | `up` | prints `up WORKER pid PID` |
//! | `state` | prints `state pid P ppid P pgid G sid S uid U gid G mask M ignored I fds N,N,… foreground F` |
//! | `lines=N` | prints N lines `line I` on stdout; `err-lines=N` on stderr |
//! | `long=N` | prints a line of N letters x |
//! | `shout=N` | prints N lines `I ccc…` of up to 20,000 letters, the letter its worker's: a, b, … |
//! | `flood` | prints lines for ever |
//! | `grow=MIB` | uses that much memory more |
//! | `orphans=N` | leaves N processes behind that end within a second |
//! | `child=WORD,WORD` | starts a process in its own group that does these words, and goes on |
//! | `daemon=WORD,WORD` | the same in a session of its own |
//! | `deaf=SIG` | ignores the signal from now on |
//! | `block=SIG`, `raise=SIG` | blocks the signal from now on; sends it to itself |
//! | `exec` | becomes the program that the words behind it name |
//! | `odd-env` | the same, with the environment `NO_EQUALS_SIGN`, `TWICE=1`, `TWICE=2` |
//! | `environ` | prints `entry ENTRY` for each entry of its environment |
//! | `refuse=CALL,CALL` | has the kernel refuse these system calls from now on |
//! | `cwd` | prints `cwd PATH` |
//! | `on-term=WORD,WORD` | does these words at SIGTERM |
//! | `notify`, `notify=TEXT` | says READY=1, or something else, to NOTIFY_SOCKET |
//! | `newline=FD` | writes a newline to that descriptor |
//! | `listen=PORT` | listens there and answers every connection with 200, in a thread |
//! | `accept`, `accept=FD` | answers every connection on descriptor 3, or that one, with `worker K`, in a thread |
//! | `lend=PATH` | hands its end of Node's channel to the test that listens at that unix path, and goes on without it |
//! | `file=PATH` | waits until that file exists |
//! | `touch=PATH` | makes it |
//! | `unless=PATH` | does the next word only if that file does not exist |
//! | `after=MS` | waits |
//! | `signals` | prints `got SIGNAME` for every signal that can be caught, for ever; SIGTERM ends it with 0 |
//! | `wait` | waits for ever |
//! | `crash=SIG`, `exit=CODE` | ends |
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)] // a program for tests

use nix::libc;
use nix::unistd::{getgid, getpgrp, getpid, getppid, getsid, getuid};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::time::Duration;

fn main() {
    let mut words = std::env::args().skip(1).collect::<Vec<_>>().into_iter();
    while let Some(word) = words.next() {
        if let Some(path) = word.strip_prefix("unless=") {
            if std::path::Path::new(path).exists() {
                words.next();
            }
            continue;
        }
        if word == "exec" || word == "odd-env" {
            let words: Vec<_> = words.map(|word| std::ffi::CString::new(word).unwrap()).collect();
            // Rust's runtime ignores it, and the program is to have what the words before have set.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let result = match &*word {
                "exec" => nix::unistd::execvp(&words[0], &words),
                _ => nix::unistd::execve(&words[0], &words, &[c"NO_EQUALS_SIGN", c"TWICE=1", c"TWICE=2"]),
            };
            panic!("{word}: {result:?}");
        }
        act(&word);
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
    let _ = std::io::stdout().flush();
}

fn act(word: &str) {
    let (verb, value) = word.split_once('=').unwrap_or((word, ""));
    let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{word}: no number"));
    match verb {
        "say" => say(value),
        "err" => eprintln!("{value}"),
        "print" => {
            print!("{value}");
            let _ = std::io::stdout().flush();
        }
        "env" => match std::env::var(value) {
            Ok(text) => say(&format!("{value}={text}")),
            Err(_) => say(&format!("{value} unset")),
        },
        "up" => say(&format!("up {} pid {}", std::env::var("RINIT_WORKER").unwrap_or_default(), getpid())),
        "state" => state(),
        "lines" => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            (0..number()).for_each(|n| writeln!(out, "line {n}").unwrap());
        }
        "err-lines" => {
            let mut out = std::io::BufWriter::new(std::io::stderr().lock());
            (0..number()).for_each(|n| writeln!(out, "line {n}").unwrap());
        }
        "long" => say(&"x".repeat(number() as usize)),
        "shout" => {
            let letter = b'a' + std::env::var("RINIT_WORKER").map_or(0, |index| index.parse::<u8>().unwrap());
            for n in 0..number() as usize {
                say(&format!("{n} {}", char::from(letter).to_string().repeat(n * 7919 % 20_000 + 1)));
            }
        }
        "flood" => loop {
            say("flood flood flood flood flood flood flood flood");
        },
        "grow" => std::mem::forget(vec![1u8; (number() as usize) << 20]),
        "orphans" => orphans(number()),
        "child" => start(value, |command| command),
        "daemon" => {
            start(value, |command| unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) })
        }
        "deaf" => {
            let signal: rinit::core::Signal = value.parse().unwrap();
            unsafe { libc::signal(signal.number(), libc::SIG_IGN) };
        }
        "block" => {
            let mask = 1u64 << (value.parse::<rinit::core::Signal>().unwrap().number() - 1);
            // The kernel's call: the C libraries leave out signals of their own.
            let none = std::ptr::null_mut::<u64>();
            unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const mask, none, 8) };
        }
        "raise" => {
            let signal: rinit::core::Signal = value.parse().unwrap();
            unsafe { libc::kill(libc::getpid(), signal.number()) };
        }
        "on-term" => {
            let words = value.to_owned();
            let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM]).unwrap();
            std::thread::spawn(move || {
                signals.forever().next();
                words.split(',').for_each(act);
            });
        }
        "notify" => {
            use std::os::linux::net::SocketAddrExt;
            let name = std::env::var("NOTIFY_SOCKET").unwrap();
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
            let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
            let text = if value.is_empty() { "STATUS=here\nREADY=1\n" } else { value };
            socket.send_to_addr(text.as_bytes(), &address).unwrap();
        }
        "newline" => {
            let mut pipe = unsafe { std::fs::File::from_raw_fd(number() as i32) };
            pipe.write_all(b"\n").unwrap();
        }
        "listen" => {
            let listener = std::net::TcpListener::bind(("127.0.0.1", number() as u16)).unwrap();
            std::thread::spawn(move || {
                answer(&listener, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            });
        }
        "accept" => {
            let listener = if value.is_empty() { 3 } else { number() as i32 };
            unsafe { libc::fcntl(listener, libc::F_SETFL, 0) };
            let text = format!("worker {}\n", std::env::var("RINIT_WORKER").unwrap());
            // Not by the standard library's listener, which is for TCP or for unix sockets.
            std::thread::spawn(move || {
                loop {
                    let stream = unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
                    assert!(stream >= 0, "accept");
                    let _ = unsafe { std::fs::File::from_raw_fd(stream) }.write_all(text.as_bytes());
                }
            });
        }
        "lend" => lend(value),
        "refuse" => refuse(value.split(',')),
        "cwd" => say(&format!("cwd {}", std::env::current_dir().unwrap().display())),
        "environ" => {
            let entries = std::fs::read("/proc/self/environ").unwrap();
            entries
                .split(|byte| *byte == 0)
                .for_each(|entry| say(&format!("entry {}", String::from_utf8_lossy(entry))));
        }
        "file" => {
            while !std::path::Path::new(value).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        "touch" => drop(std::fs::File::create(value).unwrap()),
        "after" => std::thread::sleep(Duration::from_millis(number())),
        "signals" => signals(),
        "wait" => loop {
            std::thread::park();
        },
        "crash" => {
            let signal: rinit::core::Signal = value.parse().unwrap();
            unsafe {
                libc::signal(signal.number(), libc::SIG_DFL);
                libc::kill(libc::getpid(), signal.number());
            }
            std::thread::sleep(Duration::from_secs(60));
        }
        "exit" => exit(number() as i32),
        _ => panic!("{word}: no such word"),
    }
}

fn lend(path: &str) {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::os::fd::AsRawFd;
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("no {name}"));
    let channel: i32 = variable("NODE_CHANNEL_FD").parse().unwrap();
    let text = format!("{} {} {}", variable("RINIT_WORKER"), variable("NODE_UNIQUE_ID"), getpid());
    let socket = std::os::unix::net::UnixStream::connect(path).unwrap();
    let bytes = [std::io::IoSlice::new(text.as_bytes())];
    let descriptors = [channel];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
    unsafe { libc::close(channel) };
}

/// System calls that every machine has.
const CALLS: [(&str, libc::c_long); 32] = [
    ("accept4", libc::SYS_accept4),
    ("bind", libc::SYS_bind),
    ("close_range", libc::SYS_close_range),
    ("copy_file_range", libc::SYS_copy_file_range),
    ("epoll_create1", libc::SYS_epoll_create1),
    ("eventfd2", libc::SYS_eventfd2),
    ("getrandom", libc::SYS_getrandom),
    ("getsockname", libc::SYS_getsockname),
    ("getsockopt", libc::SYS_getsockopt),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("listen", libc::SYS_listen),
    ("madvise", libc::SYS_madvise),
    ("memfd_create", libc::SYS_memfd_create),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("prctl", libc::SYS_prctl),
    ("prlimit64", libc::SYS_prlimit64),
    ("rt_sigtimedwait", libc::SYS_rt_sigtimedwait),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("sendmsg", libc::SYS_sendmsg),
    ("setpgid", libc::SYS_setpgid),
    ("setsockopt", libc::SYS_setsockopt),
    ("signalfd4", libc::SYS_signalfd4),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("splice", libc::SYS_splice),
    ("statx", libc::SYS_statx),
    ("timerfd_create", libc::SYS_timerfd_create),
    ("umask", libc::SYS_umask),
    ("unshare", libc::SYS_unshare),
    ("wait4", libc::SYS_wait4),
    ("waitid", libc::SYS_waitid),
];

/// Installs a seccomp filter that answers these system calls with EPERM, as a container engine's profile does.
fn refuse<'a>(calls: impl Iterator<Item = &'a str>) {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    // The number of the call is the first field of seccomp_data.
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for call in calls {
        let (_, number) =
            CALLS.iter().find(|(name, _)| *name == call).unwrap_or_else(|| panic!("{call}: no such call"));
        program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *number as u32));
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, refused));
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

fn answer(listener: &std::net::TcpListener, text: &str) {
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(text.as_bytes());
    }
}

fn start(words: &str, set_up: impl FnOnce(&mut Command) -> &mut Command) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // Whoever started it goes on; rinit collects it.
    std::mem::forget(set_up(command.args(words.split(','))).spawn().unwrap());
}

/// Processes whose parent ends before them: each is forked by one that ends at once.
fn orphans(count: u64) {
    for n in 0..count {
        unsafe {
            let middle = libc::fork();
            if middle == 0 {
                if libc::fork() == 0 {
                    libc::usleep(1000 * (n % 500) as u32);
                }
                libc::_exit(0);
            }
            assert!(middle > 0, "fork");
            libc::waitpid(middle, std::ptr::null_mut(), 0);
        }
    }
}

fn state() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("?").trim().to_owned()
    };
    let open = |fd: &i32| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
    let descriptors: Vec<String> = (0..256).filter(open).map(|fd: i32| fd.to_string()).collect();
    let foreground = nix::unistd::tcgetpgrp(std::io::stdin()).map_or("none".into(), |group| group.to_string());
    say(&format!(
        "state pid {} ppid {} pgid {} sid {} uid {} gid {} mask {} ignored {} fds {} foreground {foreground}",
        getpid(),
        getppid(),
        getpgrp(),
        getsid(None).unwrap(),
        getuid(),
        getgid(),
        field("SigBlk"),
        field("SigIgn"),
        descriptors.join(","),
    ));
}

fn signals() {
    // Bytes in a pipe, in the order of arrival; nothing of rinit's own, which is under test.
    let (read, write) = nix::unistd::pipe().unwrap();
    let write = std::os::fd::IntoRawFd::into_raw_fd(write);
    static PIPE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    PIPE.store(write, std::sync::atomic::Ordering::Relaxed);
    extern "C" fn note(number: i32) {
        let byte = number as u8;
        unsafe { libc::write(PIPE.load(std::sync::atomic::Ordering::Relaxed), (&raw const byte).cast(), 1) };
    }
    for signal in rinit::core::Signal::catchable() {
        let is_refused = unsafe { libc::signal(signal.number(), note as *const () as usize) } == libc::SIG_ERR;
        if is_refused {
            // A signal that the C library keeps for itself, as musl keeps 34, gets the kernel's action of one that it gives.
            let (mut action, none) = ([0u64; 4], std::ptr::null_mut::<u64>());
            unsafe {
                libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR1, none, &raw mut action, 8);
                libc::syscall(libc::SYS_rt_sigaction, signal.number(), &raw const action, none, 8);
            }
        }
    }
    say(&format!("up {} pid {}", std::env::var("RINIT_WORKER").unwrap_or_default(), getpid()));
    let mut pipe = std::fs::File::from(read);
    loop {
        let mut byte = [0];
        if pipe.read(&mut byte).unwrap_or(0) == 1 {
            let signal = rinit::core::Signal::new(i32::from(byte[0])).unwrap();
            say(&format!("got {signal}"));
            if signal == rinit::core::Signal::TERM {
                exit(0);
            }
        }
    }
}
