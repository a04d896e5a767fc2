//! Tests what clients may do: without a token, with one for reading, with one for changes, and by the control socket.

use crate::client::ask;
use crate::harness::{eventually, free_port};
use crate::started::{Started, start};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

const TOKEN: &str = "a-token-of-some-length";
const ROUTES: [(&str, &str); 10] = [
    ("GET /healthz", "probe"),
    ("GET /metrics", "probe"),
    ("GET /v1/status", "public"),
    ("GET /v1/workers", "public"),
    ("GET /v1/access", "public"),
    ("GET /v1/history", "public"),
    ("GET /v1/workers/0", "read"),
    ("GET /v1/config", "read"),
    ("GET /v1/logs", "read"),
    ("POST /v1/reload", "change"),
];

/// Sends a request's head over the web, and returns the answer.
fn call(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The statuses of all routes, with that header.
fn statuses(address: &str, header: &str) -> Vec<u16> {
    let of =
        |(route, _): &(&str, &str)| status(&call(address, &format!("{route} HTTP/1.1\r\nhost: localhost{header}")));
    ROUTES.iter().map(of).collect()
}

fn expected(of: impl Fn(&str) -> u16) -> Vec<u16> {
    ROUTES.iter().map(|(_, class)| of(class)).collect()
}

fn web(options: &[&str], words: &str) -> (Started, String) {
    let address = format!("127.0.0.1:{}", free_port());
    (start(&[&["--web", &address], options].concat(), words), address)
}

fn token_file(folder: &Path, text: &str) -> String {
    let path = folder.join("token");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn without_a_token_the_web_shows_states_and_metrics_and_nothing_of_the_app() {
    let (rinit, address) = web(&[], "up say=SECRET-LINE wait");
    assert_eq!(statuses(&address, ""), expected(|class| if matches!(class, "probe" | "public") { 200 } else { 403 }));
    for path in ["/v1/status", "/v1/workers", "/metrics", "/readyz"] {
        let answer = call(&address, &format!("GET {path} HTTP/1.1\r\nhost: localhost"));
        assert!(answer.contains("web"), "{answer}");
        // The fixture's words are the arguments of its command.
        assert!(!answer.contains("SECRET-LINE"), "{path}: {answer}");
    }
    let status = rinit.status();
    assert!(status["apps"][0]["command"].to_string().contains("SECRET-LINE"), "the control socket shows it");
}

#[test]
fn a_reader_of_the_web_sees_values_of_variables_that_are_listed_and_names_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), TOKEN);
    let env = folder.path().join("env");
    std::fs::write(&env, "REGION=eu-1\nAPI_KEY=listed\nPLAN=gold\n").unwrap();
    let options = ["--web-read-token-file", &file, "--env-file", env.to_str().unwrap(), "--show-env", "REGION,API_KEY"];
    let (rinit, address) = web(&options, "up wait");
    let head = format!("GET /v1/workers/0 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}");
    let over_web = call(&address, &head);
    for pair in ["REGION=eu-1", "API_KEY=listed", "PLAN=***"] {
        assert!(over_web.contains(&format!("\"{pair}\"")), "{pair}: {over_web}");
    }
    assert!(ask(&rinit.socket, "GET", "/v1/workers/0", "").text().contains("\"PLAN=gold\""));
}

#[test]
fn a_wrong_token_is_refused_counted_and_logged_and_the_right_one_allows_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), &format!("{TOKEN}\n"));
    let (rinit, address) = web(&["--web-token-file", &file], "up wait");
    let token = |token: &str| format!("\r\nauthorization: bearer {token}");
    assert_eq!(statuses(&address, &token(TOKEN)), expected(|_| 200));
    let not_allowed = |class: &str| if class == "probe" { 200 } else { 401 };
    assert_eq!(statuses(&address, &token("a-token-of-some-lengti")), expected(not_allowed));
    assert_eq!(statuses(&address, ""), expected(|class| if matches!(class, "probe" | "public") { 200 } else { 401 }));
    rinit.rig.until("it is logged", |out| out.has("from 127.0.0.1:") && out.has("its token is wrong"));
    let metrics = ask(&rinit.socket, "GET", "/metrics", "").text();
    assert!(metrics.contains("rinit_refused_tokens_total 8\n"), "{metrics}");
}

#[test]
fn clients_that_guess_tokens_hold_up_neither_probes_nor_those_with_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), TOKEN);
    let (rinit, address) = web(&["--web-token-file", &file], "up wait");
    let guess = |number: u32| {
        let head = format!("GET /v1/config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer guess-{number:016}");
        call(&address, &head)
    };
    let answers: Vec<String> = std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..40).map(|number| scope.spawn(move || guess(number))).collect();
        for _ in 0..20 {
            let right = format!("GET /v1/config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}");
            assert_eq!(status(&call(&address, &right)), 200);
            assert_eq!(status(&call(&address, "GET /readyz HTTP/1.1\r\nhost: localhost")), 200);
        }
        guessers.into_iter().map(|guesser| guesser.join().unwrap()).collect()
    });
    let of = |wanted: u16| answers.iter().filter(|answer| status(answer) == wanted).count();
    assert!(of(401) >= 4 && of(401) < 40 && of(401) + of(429) == 40, "{} and {}", of(401), of(429));
    assert!(answers.iter().any(|answer| answer.contains("retry-after: 1")), "{answers:?}");
    let metrics = ask(&rinit.socket, "GET", "/metrics", "").text();
    assert!(metrics.contains("rinit_refused_tokens_total 40\n"), "{metrics}");
}

#[test]
fn a_reload_reads_the_tokens_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), TOKEN);
    let (rinit, address) = web(&["--web-token-file", &file], "up wait");
    let reads = |token: &str| {
        status(&call(&address, &format!("GET /v1/config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}")))
    };
    assert_eq!([reads(TOKEN), reads("another-token-of-length")], [200, 401]);
    token_file(folder.path(), "another-token-of-length\nand-a-third-one-of-length\n");
    rinit.rig.signal("HUP");
    eventually("the new token is valid", || (reads("another-token-of-length") == 200).then_some(()));
    assert_eq!([reads("and-a-third-one-of-length"), reads(TOKEN)], [200, 401]);
}

#[test]
fn a_foreign_host_name_is_refused_but_for_probes() {
    let (_rinit, address) = web(&[], "up wait");
    for (head, expected) in [
        ("GET /v1/status HTTP/1.1\r\nhost: localhost", 200),
        ("GET /v1/status HTTP/1.1\r\nhost: rebound.example", 403),
        ("GET /v1/status HTTP/1.1\r\nhost: [::1].evil.example", 403),
        ("GET /v1/status HTTP/1.1\r\nhost: localhost\r\nhost: rebound.example", 403),
        ("GET http://rebound.example/v1/status HTTP/1.1\r\nhost: localhost", 403),
        ("GET /metrics HTTP/1.1\r\nhost: scraped.example", 200),
        ("GET /readyz HTTP/1.1\r\nhost: probed.example", 200),
    ] {
        assert_eq!(status(&call(&address, head)), expected, "{head}");
    }
}

#[test]
fn every_change_is_logged_with_its_client() {
    let rinit = start(&[], "signals");
    let body = r#"{"signal":"USR1"}"#;
    assert_eq!(ask(&rinit.socket, "POST", "/v1/workers/web-0/signal", body).status, 200);
    let uid = crate::harness::uid_inside();
    rinit.rig.until("it is logged", |out| out.has(&format!("signal SIGUSR1 web-0 (asked for by uid {uid}")));
}

#[test]
fn another_user_may_not_use_the_socket() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::skipped("only root can become another user");
        return;
    }
    let rinit = start(&[], "up wait");
    // Even where the file's mode allows it.
    use std::os::unix::fs::PermissionsExt;
    for path in [&rinit.socket, rinit.socket.parent().unwrap()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let asked = std::process::Command::new("setpriv")
        .args(["--reuid", "1234", "--clear-groups", "curl", "-sS", "--max-time", "5", "--unix-socket"])
        .args([rinit.socket.to_str().unwrap(), "http://x/v1/status"])
        .output()
        .unwrap();
    assert!(asked.stdout.is_empty() && !asked.status.success(), "{asked:?}");
    eventually("it is logged", || rinit.rig.output().has("user 1234 may not use the control socket").then_some(()));
    assert_eq!(ask(&rinit.socket, "GET", "/readyz", "").status, 200);
}

/// A worker of another user can make a socket where the verbs look for one.
#[test]
fn verbs_refuse_a_socket_that_another_user_serves() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::skipped("only root can become another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let socket = folder.path().join("rinit.sock");
    let script = "use Socket; $SIG{PIPE} = 'IGNORE'; socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($ARGV[0])) or die; \
                  listen($s, 9); while (accept(my $c, $s)) { \
                  syswrite $c, \"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nready\\n\"; close $c }";
    let mut server = std::process::Command::new("setpriv")
        .args(["--reuid", "1234", "--clear-groups", "/usr/bin/perl", "-e", script])
        .arg(&socket)
        .spawn()
        .unwrap();
    eventually("it listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    let health = std::process::Command::new(env!("CARGO_BIN_EXE_rinit"))
        .args(["health", "--socket", socket.to_str().unwrap()])
        .output()
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let message = String::from_utf8_lossy(&health.stderr).into_owned();
    assert!(!health.status.success() && message.contains("served by user 1234"), "{health:?}");
}

#[test]
fn a_user_of_the_sockets_group_may_read_and_change_nothing() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::skipped("only root can become another user");
        return;
    }
    let rinit = start(&["--socket-group", "4321"], "up say=A-LINE wait");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(rinit.socket.parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    let curl = |group: &str, method: &str, path: &str| {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "1234", "--regid", group, "--clear-groups", "curl", "-sS", "--max-time", "5"])
            .args(["-X", method, "--unix-socket", rinit.socket.to_str().unwrap(), &format!("http://x{path}")])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(curl("4321", "GET", "/v1/logs").contains("A-LINE"));
    assert!(curl("4321", "POST", "/v1/reload").contains("changes are for root"));
    assert_eq!(curl("1234", "GET", "/healthz"), "", "the file's mode keeps other users out");
}
