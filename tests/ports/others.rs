//! Programs that know nothing of Node's cluster: the preload library, `--listen`, and what neither can help.

use crate::apps::{all_listen, reloaded, served_by, stop, times_ready, workers};
use crate::harness::{Rig, Running, eventually, free_port, lacking, skipped, status_field};
use crate::load::{MIX, get, pid_in, under_load};
use crate::setup::{app, c_program, node, program, runtime, static_program, venv};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Starts two copies of a command and waits until both have answered. `{port}` in a word is the port.
fn two_serve(words: &[&str], settings: &[&str]) -> (Running, u16) {
    let (rig, port) = two(words, settings);
    let rig = rig.start();
    all_listen(&rig, 2);
    served_by(port, 2);
    (rig, port)
}

fn two(words: &[&str], settings: &[&str]) -> (Rig, u16) {
    let port = free_port();
    let words: Vec<String> = words.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
    let rig = words.iter().fold(workers(2, settings), |rig, word| rig.arg(word));
    (rig.env("PORT", &port.to_string()).env("PYTHONUNBUFFERED", "1"), port)
}

/// For one that compiles its source when it starts: a busy machine takes longer for that than the default.
const SLOW_START: [&str; 2] = ["--ready-timeout", "2m"];

#[test]
fn a_python_server_is_served_by_every_worker_and_reloads() {
    let Some(_) = program("python3") else { return };
    let (rig, port) = two_serve(&["python3", &app("python/graceful.py")], &[]);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
    stop(&rig);
}

#[test]
fn pythons_own_server_is_served_by_every_worker() {
    let Some(_) = program("python3") else { return };
    let (rig, _) = two_serve(&["python3", &app("python/plain.py")], &[]);
    stop(&rig);
}

#[test]
fn flask_is_served_by_every_worker() {
    let Some(venv) = venv() else { return };
    two_serve(&[venv.join("python").to_str().unwrap(), &app("python/flask_app.py")], &[]);
}

/// One worker each: rinit is the one who has many.
#[test]
fn gunicorn_is_served_by_every_worker_and_reloads() {
    let Some(venv) = venv() else { return };
    let gunicorn = venv.join("gunicorn").display().to_string();
    let folder = app("python");
    let words = [&gunicorn, "--workers", "1", "--chdir", &folder, "--bind", "127.0.0.1:{port}", "flask_app:app"];
    let (rig, port) = two_serve(&words, &[]);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
    stop(&rig);
}

#[test]
fn uvicorn_is_served_by_every_worker_and_loses_nothing_on_a_reload() {
    let Some(venv) = venv() else { return };
    let uvicorn = venv.join("uvicorn").display().to_string();
    let words = [&uvicorn, "--app-dir", &app("python"), "--log-level", "warning", "--port", "{port}", "asgi:app"];
    let (rig, port) = two_serve(&words, &[]);
    // uvicorn cuts kept connections that are idle: only new ones can be without loss.
    let (load, ()) = under_load(port, &MIX[4..], |_| {
        rig.signal("HUP");
        reloaded(&rig, 1);
    });
    load.assert_lossless(&rig);
    stop(&rig);
}

#[test]
fn gunicorn_takes_the_socket_that_listen_hands_over() {
    let Some(venv) = venv() else { return };
    let gunicorn = venv.join("gunicorn").display().to_string();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let rig = workers(2, &["--listen", &listen, "--ready", "auto"]).arg(gunicorn);
    let rig = rig.args(&["--workers", "1", "--chdir", &app("python"), "flask_app:app"]).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
    stop(&rig);
}

#[test]
fn uvicorn_takes_the_socket_that_listen_hands_over() {
    let Some(venv) = venv() else { return };
    let uvicorn = venv.join("uvicorn").display().to_string();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let rig = workers(2, &["--listen", &listen, "--ready", "auto"]).arg(uvicorn);
    let rig = rig.args(&["--app-dir", &app("python"), "--fd", "3", "asgi:app"]).start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
    stop(&rig);
}

/// An app in a folder of its own, where a version that fails while it loads can take its place.
struct PythonApp {
    folder: tempfile::TempDir,
}

impl PythonApp {
    fn new(module: &str) -> PythonApp {
        let deployed = PythonApp { folder: tempfile::tempdir().unwrap() };
        deployed.put(&std::fs::read_to_string(app(&format!("python/{module}.py"))).unwrap());
        deployed
    }

    fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Each version needs a moment to load: a master listens, and its workers do not serve yet.
    fn put(&self, text: &str) {
        let file = self.folder.path().join("app.py");
        std::fs::write(file, format!("import time\ntime.sleep(1.5)\n{text}")).unwrap();
        let _ = std::fs::remove_dir_all(self.folder.path().join("__pycache__"));
    }

    fn break_it(&self) {
        self.put("raise RuntimeError('a broken version')\n");
    }
}

/// A good version is ready when it serves, and replaces the one before. A broken one replaces nothing.
fn only_a_version_that_serves_replaces(rig: Rig, deployed: &PythonApp, port: u16) {
    let rig = rig.start();
    rig.until("both are ready", |out| times_ready(out) == 2);
    served_by(port, 2);
    rig.signal("HUP");
    reloaded(&rig, 1);
    deployed.break_it();
    rig.signal("HUP");
    rig.until("the reload to a broken version fails", |out| out.has("reload to generation 3 stopped"));
    // The broken version answers nothing: these are the workers before.
    served_by(port, 2);
}

/// Masters: each listens, and gunicorn says READY=1, before any of its workers has loaded the app.
fn master(program: &str, options: &[&str], module: &str) {
    let Some(venv) = venv() else { return };
    let (deployed, port) = (PythonApp::new(module), free_port());
    let address = format!("127.0.0.1:{port}");
    let rig = workers(2, &["--ready", "auto", "--ready-timeout", "20s"]).arg(venv.join(program).display().to_string());
    let rig = options.iter().fold(rig, |rig, word| match *word {
        "{address}" => rig.arg(&address),
        "{port}" => rig.arg(port.to_string()),
        word => rig.arg(word),
    });
    let rig = rig.arg("app:app").env("PYTHONPATH", &deployed.folder()).env("PYTHONDONTWRITEBYTECODE", "1");
    only_a_version_that_serves_replaces(rig, &deployed, port);
}

#[test]
fn a_gunicorn_whose_workers_cannot_load_the_app_is_not_ready() {
    master("gunicorn", &["--workers", "2", "--bind", "{address}"], "flask_app");
}

#[test]
fn a_gunicorn_with_threads_whose_workers_cannot_load_the_app_is_not_ready() {
    master("gunicorn", &["--workers", "2", "--threads", "2", "--bind", "{address}"], "flask_app");
}

#[test]
fn a_uvicorn_whose_workers_cannot_load_the_app_is_not_ready() {
    master("uvicorn", &["--workers", "2", "--log-level", "warning", "--port", "{port}"], "asgi");
}

#[test]
fn a_hypercorn_whose_workers_cannot_load_the_app_is_not_ready() {
    master("hypercorn", &["--workers", "2", "--bind", "{address}"], "asgi");
}

#[test]
fn a_gunicorn_on_a_socket_of_listen_whose_workers_cannot_load_the_app_is_not_ready() {
    let Some(venv) = venv() else { return };
    let (deployed, port) = (PythonApp::new("flask_app"), free_port());
    let listen = format!("127.0.0.1:{port}");
    let rig = workers(2, &["--listen", &listen, "--ready", "auto", "--ready-timeout", "20s"]);
    let rig = rig.arg(venv.join("gunicorn").display().to_string()).args(&["--workers", "2", "app:app"]);
    let rig = rig.env("PYTHONPATH", &deployed.folder()).env("PYTHONDONTWRITEBYTECODE", "1");
    only_a_version_that_serves_replaces(rig, &deployed, port);
}

/// A program that listens, says READY=1, and then runs `rest`. It finds `s`, a socket that `socket` makes.
fn listens_and_says_so(settings: &[&str], socket: &str, rest: &str) -> Option<Running> {
    program("python3")?;
    let port = free_port().to_string();
    let script = format!(
        "import os, select, socket, sys, time\n\
         {socket}\n\
         s.listen(16)\n\
         n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         n.connect(os.environ['NOTIFY_SOCKET'].replace('@', chr(0)))\n\
         n.send(b'READY=1')\n\
         {rest}\n\
         time.sleep(1000)\n"
    );
    let settings: Vec<&str> = settings.iter().map(|word| if *word == "{port}" { &port } else { *word }).collect();
    let rig = workers(1, &[&["--ready", "auto", "--min-uptime", "10ms"], &settings[..]].concat());
    Some(rig.args(&["python3", "-c", &script]).env("PORT", &port).start())
}

fn is_ready_when_it_waits(settings: &[&str], socket: &str, wait: &str) {
    let Some(rig) = listens_and_says_so(settings, socket, wait) else { return };
    rig.until(&format!("{wait}: it is ready"), |out| times_ready(out) == 1);
}

/// Code that binds a socket of its own.
const OWN: &str = "s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))";

/// Code that opens an io_uring: `u`.
const IO_URING: &str = "import ctypes, mmap, struct\n\
     call = ctypes.CDLL(None).syscall\n\
     p = ctypes.create_string_buffer(120)\n\
     u = call(425, 4, p)";

/// Code that accepts by that io_uring: one request (`struct io_uring_sqe`), and one call of `io_uring_enter`.
const IO_URING_ACCEPTS: &str = "offsets = struct.unpack_from('8I', p, 40)\n\
     ring, requests = mmap.mmap(u, 4096), mmap.mmap(u, 4096, offset=0x10000000)\n\
     requests[:32] = struct.pack('BBHiQQII', 13, 0, 0, s.fileno(), 0, 0, 0, 0)\n\
     struct.pack_into('I', ring, offsets[1], 1)\n\
     assert call(426, u, 1, 0, 0, 0, 0) == 1";

/// Code that takes the one of `--listen`.
const HANDED: &str = "s = socket.socket(fileno=3)";

#[test]
fn a_worker_that_says_it_is_ready_and_does_not_wait_for_connections_is_not() {
    for (settings, socket) in [(&[][..], OWN), (&["--listen", "{port}"], HANDED)] {
        let settings = [settings, &["--ready-timeout", "15s"]].concat();
        let Some(rig) = listens_and_says_so(&settings, socket, "select.select([n], [], [])") else { return };
        rig.until("it is not ready in time", |out| out.has("was not ready within"));
        assert_eq!(times_ready(&rig.output()), 0, "{:#?}", rig.output().stderr);
    }
}

#[test]
fn a_worker_serves_when_it_accepts_or_polls_in_any_way() {
    for wait in [
        "s.accept()",
        "s.setblocking(False); select.select([s], [], [], 1000)",
        "p = select.poll(); p.register(s); p.poll()",
        "e = select.epoll(); e.register(s, select.EPOLLIN)",
        "d = s.dup(); s.close(); d.accept()",
        "d = os.dup(s.fileno()); select.select([d], [], [])",
        "pipes = [os.pipe() for _ in range(40)]; select.select([r for r, w in pipes] + [s], [], [])",
        "if os.fork() == 0: s.accept()",
        "os.set_inheritable(s.fileno(), True); os.execvp('python3', ['python3', '-c', 'import socket, sys; \
         socket.socket(fileno=int(sys.argv[1])).accept()', str(s.fileno())])",
        "s.setblocking(False); os.set_inheritable(s.fileno(), True); os.execvp('python3', ['python3', '-c', 'import select, \
         sys; select.select([int(sys.argv[1])], [], [])', str(s.fileno())])",
    ] {
        is_ready_when_it_waits(&[], OWN, wait);
    }
}

/// True if the kernel, or a container's filter, allows an io_uring.
fn has_io_uring() -> bool {
    let Some(python) = program("python3") else { return false };
    let script = format!("{IO_URING}; assert u >= 0");
    let is_allowed = std::process::Command::new(python).args(["-c", &script]).status().unwrap().success();
    if !is_allowed {
        lacking("there is no io_uring");
    }
    is_allowed
}

#[test]
fn a_worker_serves_when_it_accepts_by_an_io_uring() {
    if !has_io_uring() {
        return;
    }
    is_ready_when_it_waits(&[], &format!("{IO_URING}\n{OWN}"), IO_URING_ACCEPTS);
    is_ready_when_it_waits(&[], OWN, &format!("{IO_URING}\n{IO_URING_ACCEPTS}"));
}

/// Such as libuv's, by which nothing waits for connections: sanic's master has one, and listens before its workers have
/// loaded the app.
#[test]
fn a_worker_with_an_io_uring_for_other_uses_is_ready_when_it_waits() {
    if !has_io_uring() {
        return;
    }
    let own = format!("{IO_URING}\n{OWN}");
    let Some(rig) = listens_and_says_so(&["--ready-timeout", "15s"], &own, "pass") else { return };
    rig.until("it is not ready in time", |out| out.has("was not ready within"));
    assert_eq!(times_ready(&rig.output()), 0, "{:#?}", rig.output().stderr);
    is_ready_when_it_waits(&[], &own, "s.setblocking(False); select.select([s], [], [], 1000)");
}

#[test]
fn a_worker_serves_a_socket_of_listen_when_it_accepts_or_polls() {
    for wait in ["s.accept()", "select.select([s], [], [])", "if os.fork() == 0: s.accept()"] {
        is_ready_when_it_waits(&["--listen", "{port}"], HANDED, wait);
    }
}

#[test]
fn java_is_served_by_every_worker() {
    let Some(_) = program("java") else { return };
    let (rig, port) = two_serve(&["java", &app("Server.java"), "{port}"], &SLOW_START);
    rig.signal("HUP");
    reloaded(&rig, 1);
    served_by(port, 2);
    // It ends with 143 by itself at SIGTERM.
    stop(&rig);
}

#[test]
fn php_is_served_by_every_worker() {
    let Some(_) = program("php") else { return };
    two_serve(&["php", "-S", "127.0.0.1:{port}", &app("index.php")], &[]);
}

#[test]
fn ruby_is_served_by_every_worker() {
    let Some(_) = program("ruby") else { return };
    let (rig, _) = two_serve(&["ruby", &app("webrick.rb"), "{port}"], &[]);
    stop(&rig);
}

#[test]
fn node_bun_and_deno_are_served_by_the_preload_library_too() {
    let settings = ["--share-ports", "preload"];
    let app = app("node/app.js");
    if let Some(node) = node() {
        two_serve(&[&node, &app], &settings);
    }
    if let Some(bun) = runtime("bun") {
        two_serve(&[&bun, &app], &settings);
    }
    if let Some(deno) = runtime("deno") {
        two_serve(&[&deno, "run", "-A", &app], &settings);
    }
}

/// Two reloads under a load of connections for one request each, some of which take a while.
fn new_connections_lose_nothing(program_name: &str, words: &[&str]) {
    let Some(_) = program(program_name) else { return };
    let (rig, port) = two_serve(words, &SLOW_START);
    let (load, ()) = under_load(port, &MIX[4..], |meter| {
        for number in 1..=2 {
            rig.signal("HUP");
            reloaded(&rig, number);
        }
        // A server that answers one request at a time has answered few by now.
        meter.wait_for_answers(50);
    });
    load.assert_lossless(&rig);
}

#[test]
fn a_program_without_a_handler_loses_no_new_connection_on_a_reload() {
    new_connections_lose_nothing("python3", &["python3", &app("python/plain.py")]);
    new_connections_lose_nothing("php", &["php", "-S", "127.0.0.1:{port}", &app("index.php")]);
}

#[test]
fn a_program_whose_handler_ends_it_loses_no_new_connection_on_a_reload() {
    new_connections_lose_nothing("java", &["java", &app("Server.java"), "{port}"]);
    new_connections_lose_nothing("ruby", &["ruby", &app("webrick.rb"), "{port}"]);
}

#[test]
fn a_shell_around_it_changes_nothing() {
    let Some(_) = program("python3") else { return };
    let command = format!("echo starting; python3 {}; echo ended", app("python/graceful.py"));
    two_serve(&["sh", "-c", &command], &[]);
}

#[test]
fn every_worker_has_a_port_of_its_own_where_ports_are_not_shared() {
    let Some(_) = program("python3") else { return };
    for sharing in ["off", "node"] {
        let settings = ["--share-ports", sharing, "--max-restarts", "1", "--backoff", "10ms..10ms"];
        let (rig, port) = two(&["python3", &app("python/graceful.py")], &settings);
        let rig = rig.start();
        rig.until("the second has no port", |out| out.has("Address already in use"));
        assert_eq!(served_by(port, 1).len(), 1);
    }
}

#[test]
fn a_program_that_clears_its_environment_shares_its_port() {
    let Some(_) = program("python3") else { return };
    let script = "import os, runpy, sys\n\
                  port, worker = os.environ['PORT'], os.environ['RINIT_WORKER']\n\
                  os.environ.clear(); os.environ.update(PORT=port, RINIT_WORKER=worker)\n\
                  runpy.run_path(sys.argv[1], run_name='__main__')";
    two_serve(&["python3", "-c", script, &app("python/graceful.py")], &[]);
}

#[test]
fn a_program_opens_its_port_again_where_the_kernel_allows_it() {
    let Some(_) = program("python3") else { return };
    let script = "import os, socket\n\
                  def bound(option):\n\
                  \x20   s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, option, 1)\n\
                  \x20   s.bind(('127.0.0.1', int(os.environ['PORT']))); return s\n\
                  first = bound(socket.SO_REUSEPORT); first.listen()\n\
                  second = bound(socket.SO_REUSEPORT); second.listen(); print('twice', flush=True)\n\
                  try: bound(socket.SO_REUSEADDR)\n\
                  except OSError as error: print('else', error, flush=True)\n\
                  second.accept()";
    let (rig, _) = two(&["python3", "-c", script], &[]);
    let rig = rig.start();
    rig.until("each has it twice", |out| out.count("| twice") == 2);
    rig.until("else it is in use", |out| out.count("| else [Errno 98]") == 2);
}

#[test]
fn an_address_in_use_reaches_the_app() {
    let Some(_) = program("python3") else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let rig = workers(1, &["--restart", "never"]).args(&["python3", &app("python/graceful.py")]);
    let rig = rig.env("PORT", &port).start();
    rig.until("it is told", |out| out.has("[Errno 98] Address already in use"));
    assert_eq!(rig.wait(), 1);
    assert!(!rig.output().has("did not reach rinit"), "{:#?}", rig.output().stderr);
}

#[test]
fn the_apps_own_preload_library_is_kept() {
    let Some(_) = program("python3") else { return };
    let own = "libresolv.so.2";
    let script = "import os, runpy, sys\n\
                  print('loaded', 'libresolv' in open('/proc/self/maps').read(), flush=True)\n\
                  runpy.run_path(sys.argv[1], run_name='__main__')";
    let (rig, port) = two(&["python3", "-c", script, &app("python/graceful.py")], &[]);
    let rig = rig.env("LD_PRELOAD", own).start();
    all_listen(&rig, 2);
    served_by(port, 2);
    assert_eq!(rig.output().count("loaded True"), 2, "{:?}", rig.output().stdout);
}

/// The answer to a datagram of a client of its own.
fn ask_by_datagram(port: u16, question: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send_to(question.as_bytes(), ("127.0.0.1", port))?;
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[test]
fn datagrams_are_served_by_every_worker_and_a_reload_loses_none_but_those_in_flight() {
    let Some(_) = program("python3") else { return };
    let (rig, port) = two(&["python3", &app("python/udp.py")], &[]);
    let rig = rig.start();
    all_listen(&rig, 2);
    rig.until("a worker cannot bind its port twice", |out| out.count("the second: [Errno 98]") == 2);
    let answered_by = |count: usize| {
        let mut pids = BTreeSet::new();
        eventually("each worker answers", || {
            pids.extend(pid_in(&ask_by_datagram(port, "?").unwrap()));
            (pids.len() == count).then_some(())
        });
        pids
    };
    let old = answered_by(2);
    let is_over = AtomicBool::new(false);
    let (asked, lost) = std::thread::scope(|scope| {
        let client = || {
            let (mut asked, mut lost) = (0u32, 0u32);
            while !is_over.load(Ordering::Relaxed) {
                asked += 1;
                lost += u32::from(ask_by_datagram(port, &asked.to_string()).is_err());
                std::thread::sleep(Duration::from_millis(1));
            }
            (asked, lost)
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        for number in 1..=2 {
            rig.signal("HUP");
            reloaded(&rig, number);
        }
        is_over.store(true, Ordering::Relaxed);
        let counts = clients.into_iter().map(|client| client.join().unwrap());
        counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    });
    // Each of the four workers that ended may have read one of each client.
    assert!(asked > 100 && lost <= 16, "{lost} of {asked} are lost: {:#?}", rig.output().stderr);
    assert!(answered_by(2).is_disjoint(&old));
    // The datagrams of a worker that is gone go to the other one.
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("its end is seen", |out| out.has("ended: SIGKILL"));
    for number in 0..20 {
        ask_by_datagram(port, &number.to_string()).unwrap();
    }
}

#[test]
fn another_programs_datagram_port_is_taken() {
    let Some(_) = program("python3") else { return };
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let rig = workers(2, &["--restart", "never"]).args(&["python3", &app("python/udp.py")]).env("PORT", &port).start();
    rig.until("both are told", |out| out.count("[Errno 98] Address already in use") >= 2);
}

/// The loader writes a line on stderr for each library that it does not find.
#[test]
fn the_loader_finds_the_library_wherever_a_descendant_runs() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let Some(program) = c_program() else { return };
    let places = "su nobody -s /bin/true; setpriv --reuid 65534 --clear-groups /bin/true; unshare --pid --fork --mount-proc /bin/true";
    // The last one outlives the first worker; the second one stays.
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("second").display().to_string();
    let last = "(setsid sh -c 'sleep 1; /bin/true; echo over' &)";
    let script =
        format!("[ -e {marker} ] && exec sleep 60; {places}; {program} chroot; touch {marker}; {last}; sleep 0.3");
    let rig = workers(1, &["--ready", "spawn"]).args(&["sh", "-c", &script]).env("PORT", "1").start();
    rig.until("the last one has run", |out| out.has("| over"));
    let out = rig.output();
    assert!(out.has("| no library"), "{out:#?}");
    assert!(!out.has("cannot be preloaded"), "{out:#?}");
}

#[test]
fn a_library_that_was_removed_is_written_again_for_the_next_worker() {
    let Some(_) = program("python3") else { return };
    let (rig, port) = two_serve(&["python3", &app("python/graceful.py")], &[]);
    let worker = rig.workers()[0];
    let variables = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    let variables = String::from_utf8(variables).unwrap();
    let path = variables.split('\0').find_map(|variable| variable.strip_prefix("LD_PRELOAD=")).unwrap();
    if !nix::unistd::geteuid().is_root() && path.starts_with("/proc/") {
        return skipped("in a user namespace without root the library has no file");
    }
    std::fs::remove_file(path).unwrap();
    rig.signal_pid(worker, "KILL");
    all_listen(&rig, 3);
    served_by(port, 2);
}

#[test]
fn a_static_program_runs_as_without_rinit_and_one_line_says_so() {
    let Some(program) = static_program() else { return };
    let port = free_port();
    let rig = workers(1, &["--ready", "auto"]).arg(&program).arg(port.to_string()).start();
    rig.until("it listens", |out| out.has("| listens"));
    served_by(port, 1);
    rig.until("it is ready", |out| times_ready(out) == 1);
    rig.signal("HUP");
    rig.until("the second has no port, as without rinit", |out| out.has("AddrInUse") || out.has("in use"));
    served_by(port, 1);
    rig.until("it is told what to do", |out| out.has("its bind() did not reach rinit"));
    let told = rig.output().stderr.iter().filter(|line| line.contains("rinit | ") && line.contains("static")).count();
    assert_eq!(told, 1, "{:#?}", rig.output().stderr);
}

#[test]
fn a_program_of_another_user_shares_its_port_too() {
    let Some(_) = program("python3") else { return };
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    // A system's Python, which everybody may run, and a script that everybody may read.
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let script = std::fs::read_to_string(app("python/graceful.py")).unwrap();
    two_serve(&["/usr/bin/python3", "-c", &script], &["--user", "65534:65534"]);
}

#[test]
fn a_worker_that_dies_takes_no_connection_with_it_that_it_did_not_have() {
    let Some(_) = program("python3") else { return };
    let (rig, port) = two_serve(&["python3", &app("python/graceful.py")], &[]);
    let (load, ()) = under_load(port, &MIX, |meter| {
        rig.signal_pid(rig.workers()[0], "KILL");
        rig.until("another follows", |out| times_ready(out) == 3);
        meter.wait_for_answers(50);
    });
    assert!(load.failures.len() <= MIX.len(), "{:#?}", load.failures);
    assert!(!load.failures.iter().any(|why| why.contains("refused") || why.contains("timed out")), "{load:#?}");
}

#[test]
fn rinit_alone_holds_the_port_while_no_worker_is_there() {
    let Some(_) = program("python3") else { return };
    let (rig, port) =
        two_serve(&["python3", &app("python/graceful.py")], &["--backoff", "1s..1s", "--min-uptime", "1h"]);
    for worker in rig.workers() {
        rig.signal_pid(worker, "KILL");
    }
    rig.until("both are gone", |out| out.count("ended: ") == 2);
    // Asked while nobody is there, answered when somebody is again.
    assert!(get(port, "/").unwrap().contains("pid "));
    eventually("both are back", || (rig.workers().len() == 2).then_some(()));
    eventually("rinit rests", || status_field(rig.pid(), "State").starts_with('S').then_some(()));
}
