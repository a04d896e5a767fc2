//! Tests each setting of the supervisor as a flag and as a variable, and the refusal of values that cannot be used.

use crate::harness::{Flag, Output, Rig, Running, free_port, namespace, status_field};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs rinit with these settings, once by flags and once by variables, and checks both. An empty value is a switch.
fn both_ways(settings: &[(&str, &str)], words: &str, check: impl Fn(&Running)) {
    let flags: Vec<String> = settings
        .iter()
        .map(|(name, value)| if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") })
        .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let by_flags = Rig::new(&flags).fixture(words).start();
    let variables = Rig::new(&["--"]).fixture(words);
    let variables = settings.iter().fold(variables, |rig, (name, value)| {
        let name = format!("RINIT_{}", name.replace('-', "_").to_uppercase());
        rig.env(&name, if value.is_empty() { "true" } else { value })
    });
    let by_variables = variables.start();
    for rig in [by_flags, by_variables] {
        check(&rig);
    }
}

/// The number of workers that have started.
fn starts(out: &Output) -> usize {
    out.count("| up ")
}

/// rinit with that many workers, which are soon ready, and their variables in that file.
fn with_env_file(instances: &str, path: &Path) -> Rig {
    let path = path.to_str().unwrap();
    Rig::new(&["-i", instances, "--ready", "uptime", "--min-uptime", "20ms", "--env-file", path])
}

/// Returns rinit's answer to settings that it refuses; nothing is started.
fn refused(rig: Rig) -> String {
    let started = Flag::new();
    let rig = rig.fixture(&format!("touch={}", started.path())).start();
    assert_eq!(rig.wait(), 64);
    assert!(!std::path::Path::new(&started.path()).exists(), "something was started");
    assert!(rig.output().stdout.is_empty());
    rig.output().stderr.join("\n")
}

#[test]
fn instances_and_name() {
    both_ways(&[("instances", "2"), ("name", "api")], "env=RINIT_APP up wait", |rig| {
        rig.until("two are up", |out| starts(out) == 2);
        assert!(rig.output().has("api-1 | RINIT_APP=api"));
        assert_eq!(rig.workers().len(), 2);
    });
}

#[test]
fn restart() {
    both_ways(&[("instances", "1"), ("restart", "never")], "up exit=5", |rig| {
        assert_eq!((rig.wait(), starts(&rig.output())), (5, 1));
    });
}

#[test]
fn stop_exit_codes() {
    both_ways(&[("instances", "1"), ("stop-exit-codes", "3,4")], "up exit=4", |rig| {
        assert_eq!((rig.wait(), starts(&rig.output())), (4, 1));
    });
}

#[test]
fn min_uptime() {
    // Longer than the default of a second, with what it is counted from.
    both_ways(&[("instances", "1"), ("ready", "uptime"), ("min-uptime", "1300ms")], "wait", |rig| {
        let start = Instant::now();
        rig.until("it is ready", |out| out.has("by its uptime"));
        let out = rig.output();
        let line = out.stderr.iter().find(|line| line.contains("is ready after")).unwrap();
        let took = line.split("after ").nth(1).and_then(|text| text.split('s').next()).unwrap();
        assert!(took.parse::<f64>().unwrap() >= 1.3, "{line} {:?}", start.elapsed());
    });
}

#[test]
fn max_restarts_and_backoff() {
    let settings = [("instances", "1"), ("max-restarts", "2"), ("backoff", "7ms..7ms")];
    both_ways(&settings, "up exit=6", |rig| {
        assert_eq!((rig.wait(), starts(&rig.output())), (6, 3));
        assert!(rig.output().has("started again in 6ms") || rig.output().has("started again in 7ms"));
    });
}

#[test]
fn ready_and_ready_timeout() {
    let settings = [("instances", "1"), ("ready", "notify"), ("ready-timeout", "40ms")];
    both_ways(&settings, "wait", |rig| {
        rig.until("it was not ready in time", |out| out.has("was not ready within"));
        assert!(!rig.output().has("within 30s"));
    });
}

#[test]
fn stop_signal_and_stop_timeout() {
    let settings = [("instances", "1"), ("stop-signal", "USR1"), ("stop-timeout", "500ms")];
    both_ways(&settings, "signals", |rig| {
        rig.until("it is up", |out| starts(out) == 1);
        rig.signal("TERM");
        assert_eq!(rig.wait(), 137);
        assert!(rig.output().has("got SIGUSR1"));
    });
}

#[test]
fn drain_delay() {
    both_ways(&[("instances", "1"), ("drain-delay", "150ms")], "up wait", |rig| {
        rig.until("it is up", |out| starts(out) == 1);
        let start = Instant::now();
        rig.signal("TERM");
        assert_eq!(rig.wait(), 0);
        assert!(start.elapsed() >= Duration::from_millis(150));
    });
}

#[test]
fn reload() {
    let settings = [("instances", "1"), ("reload", "restart"), ("min-uptime", "10ms"), ("ready", "notify")];
    both_ways(&settings, "notify up wait", |rig| {
        rig.until("it is up", |out| starts(out) == 1);
        rig.signal("HUP");
        rig.until("it is reloaded", |out| out.has("reload to generation 2 done"));
        let out = rig.output();
        let place = |text: &str| out.stderr.iter().position(|line| line.contains(text)).unwrap();
        assert!(place("is gone") < place("started as a replacement"), "{:#?}", out.stderr);
    });
}

#[test]
fn listen() {
    let folder = tempfile::tempdir().unwrap();
    // The second takes over what the first has left; both are alive at the same time only when ports differ.
    for name in ["flag", "variable"] {
        let path = folder.path().join(name).display().to_string();
        let rig = match name {
            "flag" => Rig::new(&["-i", "1", "--listen", &path]),
            _ => Rig::new(&["-i", "1"]).env("RINIT_LISTEN", &path),
        };
        let rig = rig.fixture("env=LISTEN_FDNAMES wait").start();
        rig.until("it has its socket", |out| out.has(&format!("LISTEN_FDNAMES={name}")));
    }
}

#[test]
fn increment_env() {
    let settings = [("instances", "2"), ("increment-env", "PORT=3000")];
    both_ways(&settings, "env=PORT wait", |rig| {
        rig.until("both have a port", |out| out.has("fixture-0 | PORT=3000") && out.has("fixture-1 | PORT=3001"));
    });
    let rig = Rig::new(&["-i", "2"]).env("RINIT_INCREMENT_ENV", "PORT=3000,ADMIN=9");
    let rig = rig.fixture("env=PORT env=ADMIN wait").start();
    rig.until("both have both", |out| out.has("fixture-1 | PORT=3001") && out.has("fixture-1 | ADMIN=10"));
}

#[test]
fn log_and_log_time() {
    both_ways(&[("instances", "2"), ("log", "json")], "say=hello wait", |rig| {
        rig.until("both spoke", |out| out.count("\"message\":\"hello\"") == 2);
    });
    both_ways(&[("instances", "2"), ("log", "raw"), ("log-time", "")], "say=hello wait", |rig| {
        rig.until("both spoke", |out| out.count("hello") == 2);
        for line in rig.output().stdout {
            // 2026-01-01T00:00:00.000Z hello
            let is_time = line.len() == 30 && line.as_bytes()[10] == b'T' && line.ends_with("Z hello");
            assert!(is_time, "{line}");
        }
    });
}

#[test]
fn log_level() {
    both_ways(&[("instances", "1"), ("log-level", "debug"), ("ready", "spawn")], "up wait", |rig| {
        rig.until("it is told in detail", |out| out.has("debug: "));
    });
    let settings = [("instances", "1"), ("log-level", "error"), ("max-restarts", "1"), ("backoff", "1ms..1ms")];
    both_ways(&settings, "exit=3", |rig| {
        assert_eq!(rig.wait(), 3);
        let out = rig.output();
        assert!(out.stderr.iter().all(|line| line.contains("error: ")), "{:?}", out.stderr);
        assert!(out.has("it has failed"));
    });
}

#[test]
fn env_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# for tests\nCOLOUR=light blue\n").unwrap();
    let path = file.path().to_str().unwrap();
    both_ways(&[("instances", "1"), ("env-file", path)], "env=COLOUR wait", |rig| {
        rig.until("it is blue", |out| out.has("COLOUR=light blue"));
    });
}

#[test]
fn user() {
    let is_root = nix::unistd::getuid().is_root() && !namespace().contains(&"--user");
    if !is_root {
        crate::harness::skipped("only root can start workers as somebody else");
        return;
    }
    both_ways(&[("instances", "1"), ("user", "65534:65533"), ("ready", "uptime")], "state wait", |rig| {
        rig.until("it is somebody else", |out| out.has("uid 65534 gid 65533"));
        assert_eq!(crate::harness::status_field(rig.pid(), "Uid").split('\t').next(), Some("0"));
    });
}

#[test]
fn a_flag_goes_before_its_variable() {
    let rig = Rig::new(&["-i", "1", "--name", "flag"]).env("RINIT_NAME", "variable").env("RINIT_INSTANCES", "9");
    let rig = rig.fixture("env=RINIT_APP env=RINIT_WORKERS wait").start();
    rig.until("it told", |out| out.has("RINIT_APP=flag") && out.has("RINIT_WORKERS=1"));
}

#[test]
fn apps_are_named_after_their_program_or_their_script() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("hello.sh");
    std::fs::write(&script, "#!/bin/sh\necho here\nexec sleep 1000\n").unwrap();
    let rig = Rig::new(&["-i", "1", "sh"]).arg(&script).start();
    rig.until("its name is the script's", |out| out.has("hello-0 | here"));
    let rig = Rig::new(&["-i", "1"]).fixture("say=here wait").start();
    rig.until("its name is the program's", |out| out.has("fixture-0 | here"));
}

#[test]
fn all_faults_are_reported_at_once_under_the_names_that_were_written() {
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = refused(
        Rig::new(&["-i", "two", "--stop-timeout", "10", "--ready=soon", "--max-restart", "3"])
            .env("RINIT_BACKOFF", "5s")
            .env("RINIT_LOG", "pretty")
            .env("RINIT_LISTEN", &used.local_addr().unwrap().ip().to_string()),
    );
    for part in [
        "for 7 reasons",
        "-i=\"two\"",
        "--stop-timeout=\"10\"",
        "10s",
        "--ready=\"soon\"",
        "auto, spawn, uptime",
        "--max-restart",
        "did you mean --max-restarts?",
        "RINIT_BACKOFF=\"5s\"",
        "MIN..MAX",
        "RINIT_LOG=\"pretty\"",
        "prefix, raw, json",
        "RINIT_LISTEN=\"127.0.0.1\"",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn files_and_addresses_that_cannot_be_used_are_faults_too_all_at_once() {
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "A=1\nno pair\n").unwrap();
    let broken = file.path().to_str().unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    let text = refused(Rig::new(&[
        "-i",
        "2",
        "--listen",
        &free,
        "--listen",
        &address,
        "--env-file",
        "/no/such/file",
        "--env-file",
        broken,
    ]));
    let expected = ["for 3 reasons", &address, "in use", "/no/such/file", broken, "line 2: not KEY=VALUE"];
    for part in expected {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn one_bad_value_is_enough_and_is_named() {
    let cases: &[(&[&str], &str)] = &[
        (&["-i", "1025"], "1 to 1024"),
        (&["-i", "1", "--restart", "sometimes"], "always, on-failure, never"),
        (&["-i", "1", "--stop-exit-codes", "0,256"], "0 to 255"),
        (&["-i", "1", "--min-uptime", "1"], "did you mean 1s or 1ms?"),
        (&["-i", "1", "--max-restarts", "-1"], "--max-restarts"),
        (&["-i", "1", "--backoff", "2s..1s"], "longer than the longest"),
        (&["-i", "1", "--ready", "fd:1"], "fd:3"),
        (&["-i", "1", "--ready", "fd:3", "--listen", "127.0.0.1:0"], "the sockets of --listen"),
        (&["-i", "1", "--stop-signal", "SIGNAL"], "no signal"),
        (&["-i", "1", "--stop-signal", "STOP"], "suspends a worker"),
        (&["-i", "1", "--reload", "parallel:0"], "parallel:K"),
        (&["-i", "1", "--increment-env", "PORT"], "NAME=NUMBER"),
        (&["-i", "1", "--log-level", "loud"], "error, warn, info, debug, trace"),
        (&["-i", "1", "--user", "nobody-of-that-name"], "nobody-of-that-name"),
        (&["-i", "1", "--user", "4294967295"], "the highest is 4294967294"),
        (&["-i", "1", "--name", "a b"], "--name=\"a b\""),
        (&["-i", "1", "--frobnicate"], "--frobnicate: no such option"),
        (&["--restart", "never"], "add -i N"),
        (&["-i", "1", "-w"], "-w: means something only without -i"),
    ];
    for (arguments, part) in cases {
        let text = refused(Rig::new(arguments));
        assert!(text.contains(part), "{arguments:?}: {part} is not in {text}");
        assert!(text.contains("cannot start:\n"), "there is one fault: {text}");
    }
    let rig = Rig::new(&["-i", "2", "--"]).start();
    assert_eq!(rig.wait(), 64);
    assert!(rig.output().has("no command is given"));
}

#[test]
fn an_unknown_variable_is_a_warning_and_kubernetes_ones_are_passed_over() {
    let rig = Rig::new(&["-i", "1"])
        .env("RINIT_INSTANCE", "3")
        .env("RINIT_MAX_RESTART", "1")
        .env("RINIT_SERVICE_HOST", "10.0.0.1")
        .env("RINIT_SERVICE_PORT", "80")
        .env("RINIT_SERVICE_PORT_HTTP", "80")
        .env("RINIT_PORT", "tcp://10.0.0.1:80")
        .env("RINIT_PORT_80_TCP", "tcp://10.0.0.1:80")
        .env("RINIT_PORT_80_TCP_ADDR", "10.0.0.1")
        .fixture("up signals")
        .start();
    rig.until("it is up", |out| starts(out) == 2);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    let warnings: Vec<&String> = out.stderr.iter().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(out.has("RINIT_INSTANCE is no setting of rinit; did you mean RINIT_INSTANCES?"));
    assert!(out.has("did you mean RINIT_MAX_RESTARTS?"));
}

#[test]
fn rinits_settings_do_not_reach_the_workers() {
    let rig = Rig::new(&[])
        .env("RINIT_INSTANCES", "1")
        .env("RINIT_STOP_TIMEOUT", "3s")
        .env("RINIT_NAME", "web")
        .env("RINIT_NO_SUCH_THING", "secret")
        .env("OWN", "kept")
        .env("RINIT_WORKER", "77")
        .fixture("env=RINIT_INSTANCES env=RINIT_STOP_TIMEOUT env=RINIT_NAME env=RINIT_NO_SUCH_THING")
        .arg("env=OWN")
        .arg("env=RINIT_WORKER")
        .arg("wait")
        .start();
    rig.until("it told all", |out| out.has("RINIT_WORKER=0"));
    assert_eq!(rig.output().count(" unset"), 4, "{:?}", rig.output().stdout);
    assert!(rig.output().has("OWN=kept"));
}

#[test]
fn an_env_file_goes_before_the_containers_environment_and_a_later_one_before_an_earlier_one() {
    let files = [0, 1].map(|_| tempfile::NamedTempFile::new().unwrap());
    std::fs::write(files[0].path(), "A=first\nB=first\n").unwrap();
    std::fs::write(files[1].path(), "\u{feff}B=second\nD\nnot-set-anywhere\n").unwrap();
    let paths = [&files[0], &files[1]].map(|file| file.path().to_str().unwrap());
    let rig = Rig::new(&["-i", "1", "--env-file", paths[0], "--env-file", paths[1]]);
    let rig = rig.env("A", "outside").env("C", "outside").env("D", "outside").fixture("env=A env=B env=C env=D wait");
    let rig = rig.start();
    rig.until("the last variable is printed", |out| out.has("D=outside"));
    let out = rig.output();
    assert!(out.has("A=first") && out.has("B=second") && out.has("C=outside"), "{:?}", out.stdout);
}

#[test]
fn an_env_file_is_read_again_at_every_reload_and_not_at_a_crash() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write("VERSION=1\n");
    let rig = with_env_file("1", file.path());
    let rig = rig.fixture("env=VERSION up wait").start();
    rig.until("it is stable", |out| out.has("is ready after") && starts(out) == 1);
    write("VERSION=2\n");
    rig.signal_pid(rig.workers()[0], "KILL");
    rig.until("it is back, and stable", |out| out.count("is ready after") == 2 && starts(out) == 2);
    assert_eq!(rig.output().count("VERSION=1"), 2);
    rig.signal("HUP");
    rig.until("it is reloaded", |out| out.has("reload to generation 2 done") && starts(out) == 3);
    assert_eq!(rig.output().count("VERSION=2"), 1);
}

#[test]
fn a_reload_with_a_broken_env_file_is_refused_and_the_old_workers_stay() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write("VERSION=1\n");
    let rig = with_env_file("2", file.path());
    let rig = rig.fixture("env=VERSION signals").start();
    rig.until("both are ready", |out| out.count("is ready after") == 2 && starts(out) == 2);
    let old = rig.workers();
    write("VERSION=2\nno pair\n");
    rig.signal("HUP");
    rig.until("the reload is refused", |out| out.has("reload to generation 2 stopped"));
    assert!(rig.output().has("line 2: not KEY=VALUE"), "{:?}", rig.output().stderr);
    std::fs::remove_file(file.path()).unwrap();
    rig.signal("HUP");
    rig.until("the reload is refused again", |out| out.has("reload to generation 3 stopped"));
    assert!(rig.output().has("No such file"), "{:?}", rig.output().stderr);
    assert_eq!(rig.workers(), old);
    // A crash now brings back what ran.
    rig.signal_pid(old[0], "KILL");
    rig.until("it is back", |out| starts(out) == 3);
    assert_eq!(rig.output().count("VERSION=1"), 3);
    write("VERSION=3\n");
    rig.signal("HUP");
    rig.until("it is reloaded", |out| out.has("reload to generation 4 done") && out.count("VERSION=3") == 2);
    assert!(!rig.output().has("got SIGHUP"));
}

#[test]
fn a_secret_is_read_from_its_file_and_again_at_a_reload() {
    if namespace().is_empty() {
        crate::harness::skipped("no mount namespace to be had for /run/secrets");
        return;
    }
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("password"), "tulip\n").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "PASSWORD_FILE=/run/secrets/password\nLOG_FILE=/tmp/x\n").unwrap();
    let mount = format!(
        "mount -t tmpfs none /run && mkdir /run/secrets && mount --bind {} /run/secrets && exec \"$0\" \"$@\"",
        secrets.path().display()
    );
    let rig = with_env_file("1", file.path())
        .through(&["sh", "-c", &mount])
        .fixture("env=PASSWORD env=PASSWORD_FILE env=LOG env=LOG_FILE up wait")
        .start();
    rig.until("it is stable", |out| out.has("is ready after") && starts(out) == 1);
    for part in ["PASSWORD=tulip", "PASSWORD_FILE=/run/secrets/password", "LOG unset", "LOG_FILE=/tmp/x"] {
        assert!(rig.output().has(part), "{part}: {:?}", rig.output().stdout);
    }
    std::fs::write(secrets.path().join("password"), "crocus\n").unwrap();
    rig.signal("HUP");
    rig.until("it has the new one", |out| out.has("reload to generation 2 done") && out.has("PASSWORD=crocus"));
    std::fs::remove_file(secrets.path().join("password")).unwrap();
    rig.signal("HUP");
    rig.until("a missing secret is a reason to stay", |out| out.has("reload to generation 3 stopped"));
    assert!(rig.output().has("/run/secrets/password"), "{:?}", rig.output().stderr);
    assert_eq!(rig.workers().len(), 1);
}

#[test]
fn an_env_file_that_never_ends_is_refused_at_a_reload_and_the_old_workers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, "VERSION=1\n").unwrap();
    let rig = Rig::new(&["-i", "1", "--env-file", path.to_str().unwrap()]).fixture("signals").start();
    rig.until("it is up", |out| starts(out) == 1);
    let old = rig.workers();
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    rig.signal("HUP");
    rig.until("the FIFO is refused", |out| out.has("it is a FIFO, not a regular file"));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    rig.signal("HUP");
    rig.until("the device is refused", |out| out.has("it is a device, not a regular file"));
    assert_eq!(rig.workers(), old);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("got SIGTERM"));
}

#[test]
fn a_stop_is_heard_while_the_file_system_of_an_env_file_does_not_answer() {
    let is_root = nix::unistd::getuid().is_root() && !namespace().contains(&"--user");
    if !is_root || std::fs::File::open("/dev/fuse").is_err() {
        crate::harness::skipped("only root can mount a file system that does not answer");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    // Nobody serves this file system: the first access to it waits until rinit, which has the descriptor, is gone.
    let options = "fd=9,rootmode=40000,user_id=0,group_id=0";
    let mount = format!("exec 9<>/dev/fuse && mount -i -t fuse -o {options} none {path} && exec \"$0\" \"$@\"");
    let rig = Rig::new(&["-i", "1", "--env-file", &format!("{path}/env")]).through(&["sh", "-c", &mount]);
    let rig = rig.fixture("up wait").start();
    rig.until("rinit waits for the file", |_| {
        let is_rinit =
            std::fs::read_to_string(format!("/proc/{}/comm", rig.pid())).is_ok_and(|name| name.trim() == "rinit");
        // Until it blocks signals, the kernel drops what is sent to PID 1.
        let blocked = u64::from_str_radix(&status_field(rig.pid(), "SigBlk"), 16).unwrap_or(0);
        is_rinit && blocked & 1 << (nix::libc::SIGTERM - 1) != 0
    });
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert!(out.has("asked to stop while files were being read") && starts(&out) == 0, "{:?}", out.stderr);
}

#[test]
fn a_file_that_is_no_env_file_is_refused_at_start_with_its_name_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    assert!(Command::new("mkfifo").arg(file("fifo")).status().unwrap().success());
    std::fs::write(file("reserved"), "A=1\nRINIT_WORKER=99\n").unwrap();
    std::fs::File::create(file("large")).unwrap().set_len(2 << 20).unwrap();
    let (fifo, reserved, large) = (file("fifo"), file("reserved"), file("large"));
    let mut arguments = vec!["-i", "1"];
    for path in [&fifo, &reserved, &large, "/dev/zero", "/tmp"] {
        arguments.extend(["--env-file", path]);
    }
    let text = refused(Rig::new(&arguments));
    for part in [
        "for 5 reasons",
        &format!("cannot read {fifo}: it is a FIFO"),
        &format!("{reserved} line 2: RINIT_WORKER is not for this file"),
        &format!("cannot read {large}: it is larger than 1024 KiB"),
        "cannot read /dev/zero: it is a device",
        "cannot read /tmp: it is a directory",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_command_for_a_shell_is_answered_with_the_cure() {
    for (arguments, part) in [
        (&["-i", "1", "--restart", "never", "app.js"][..], "app.js is a script and not a program"),
        (&["ecosystem.config.js"], "ecosystem.config.js is a configuration of pm2"),
        (&["NODE_ENV=production", "node", "app.js"], "NODE_ENV=… is a variable and not a program"),
        (&["cd", "/app", "&&", "node", "app.js"], "&& is the shell's, and rinit starts no shell"),
        (&["true", "-i", "4"], "-i 4 is behind the command, so it is an option of true"),
    ] {
        let rig = Rig::new(arguments).start();
        rig.wait();
        assert!(rig.output().has(part), "{arguments:?}: {:?}", rig.output().stderr);
    }
}

#[test]
fn a_shell_as_pid_1_is_a_warning_with_the_cure() {
    for arguments in [&["-i", "1", "--restart", "never", "true"][..], &["true"]] {
        let rig = Rig::new(arguments).through(&["sh", "-c", "\"$0\" \"$@\"; exit $?"]).start();
        rig.wait();
        assert!(rig.output().has("PID 1 is sh and not rinit"), "{:?}", rig.output().stderr);
        let rig = Rig::new(arguments).through(&["sh", "-c", "exec \"$0\" \"$@\""]).start();
        rig.wait();
        assert!(!rig.output().has("PID 1 is"), "{:?}", rig.output().stderr);
    }
}

#[test]
fn workers_that_could_not_be_signalled_are_refused() {
    let is_root = nix::unistd::getuid().is_root() && !namespace().contains(&"--user");
    if !is_root || Command::new("setpriv").arg("--version").output().is_err() {
        crate::harness::skipped("only root can give up CAP_KILL, with setpriv");
        return;
    }
    let without_kill = ["setpriv", "--inh-caps=-kill", "--bounding-set=-kill"];
    let text = refused(Rig::new(&["-i", "1", "--user", "61234:61234"]).through(&without_kill));
    let expected =
        "--user=\"61234:61234\": rinit cannot signal workers of that user without CAP_KILL: docker run --cap-add KILL";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_settings_in_force_are_shown_with_their_source_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s").display().to_string();
    let rig = Rig::new(&["-i", "max", "--socket", &socket]).env("RINIT_STOP_TIMEOUT", "1500ms");
    let rig = rig.fixture("up wait").start();
    rig.until("one is up", |out| starts(out) > 0);
    let shown = Command::new(env!("CARGO_BIN_EXE_rinit")).args(["config", "--socket", &socket]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert!(row("instances").starts_with("flag ") && row("instances").contains("(0: of "), "{shown}");
    assert_eq!(row("name"), "default fixture (from the command)");
    assert_eq!(row("stop-timeout"), "environment 1s500ms");
    assert_eq!(row("socket"), format!("flag {socket}"));
    assert_eq!(row("backoff"), "default 100ms..15s");
}

#[test]
fn a_mistyped_variable_is_a_warning_with_one_child_too() {
    let rig = Rig::new(&["--"]).env("RINIT_INSTANCE", "4").fixture("exit=0").start();
    assert_eq!(rig.wait(), 0);
    assert!(rig.output().has("RINIT_INSTANCE is no setting of rinit; did you mean RINIT_INSTANCES?"));
}
