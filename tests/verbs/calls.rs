//! Tests verbs that change something.

use crate::fake::{Fake, begin_stream, event, finish, reply, verb, worker};
use rinit::control::types::{Done, Error, Event};

pub fn done(message: &str) -> Done {
    Done { ok: true, message: message.into(), workers: vec![worker("web-0")] }
}

pub fn happened(seq: u64, kind: &str, message: &str) -> Event {
    Event {
        seq,
        time: "2026-01-01T12:00:00.000Z".into(),
        kind: kind.into(),
        app: Some("web".into()),
        worker: Some("web-0".into()),
        pid: Some(12),
        level: "info".into(),
        message: message.into(),
    }
}

/// A rinit that does everything it is asked for.
pub fn obedient() -> Fake {
    Fake::new(|_, stream| {
        begin_stream(stream);
        event(stream, "started", &happened(7, "started", "web-0 started: pid 12"));
        event(stream, "ready", &happened(8, "ready", "web-0 is ready"));
        event(stream, "done", &done("all is done"));
    })
}

#[test]
fn each_verb_makes_its_call() {
    for (line, request, body) in [
        ("reload", "POST /v1/reload", ""),
        ("reload all", "POST /v1/reload", ""),
        ("reload web", "POST /v1/workers/web/reload", ""),
        ("reload web-0", "POST /v1/workers/web-0/reload", ""),
        ("restart all", "POST /v1/workers/all/restart", ""),
        ("start", "POST /v1/workers/all/start", ""),
        ("restart web-0", "POST /v1/workers/web-0/restart", ""),
        ("stop 0", "POST /v1/workers/0/stop", ""),
        ("start all", "POST /v1/workers/all/start", ""),
        ("stop a/../b?c", "POST /v1/workers/a%2F..%2Fb%3Fc/stop", ""),
        ("scale 4", "POST /v1/scale", r#"{"app":null,"to":"4"}"#),
        ("scale +3", "POST /v1/scale", r#"{"app":null,"to":"+3"}"#),
        ("scale -1", "POST /v1/scale", r#"{"app":null,"to":"-1"}"#),
        ("scale web max", "POST /v1/scale", r#"{"app":"web","to":"max"}"#),
        ("signal usr1", "POST /v1/workers/all/signal", r#"{"signal":"SIGUSR1"}"#),
        ("signal 10 web-1", "POST /v1/workers/web-1/signal", r#"{"signal":"SIGUSR1"}"#),
        ("kill -HUP web-1", "POST /v1/workers/web-1/signal", r#"{"signal":"SIGHUP"}"#),
        ("delete web-0", "DELETE /v1/workers/web-0", ""),
        ("delete all", "DELETE /v1/workers/all", ""),
    ] {
        let fake = obedient();
        let ran = fake.run(line);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "all is done\n", ""), "{line}");
        let asked = fake.requests();
        assert_eq!((asked[0].line.as_str(), asked[0].body.as_str()), (request, body), "{line}");
        assert!(asked[0].headers.contains(&"accept: text/event-stream".to_owned()), "{line}");
    }
}

#[test]
fn several_ids_are_called_in_turn_and_a_failure_keeps_no_other_from_its_turn() {
    let fake = Fake::new(|request, stream| match request.line.as_str() {
        "POST /v1/workers/1/restart" => reply(stream, 409, r#"{"error":"1 has failed"}"#),
        "GET /v1/workers" => reply(stream, 200, r#"{"workers":[]}"#),
        _ => reply(stream, 200, &serde_json::to_string(&done("ready")).unwrap()),
    });
    let ran = fake.run("restart 0 1 2");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "ready\nready\n", "rinit: 1 has failed\n"));
    let calls: Vec<String> = fake.lines().into_iter().filter(|line| line.starts_with("POST")).collect();
    assert_eq!(calls, ["0", "1", "2"].map(|id| format!("POST /v1/workers/{id}/restart")));
}

#[test]
fn restart_names_the_gap_and_reload() {
    let help = finish(verb("restart --help")).stdout;
    assert!(help.contains("Stops each worker") && help.contains("`rinit reload`"), "{help}");
    let refused = finish(verb("stop"));
    assert!(refused.code == 64 && refused.stderr.contains("ID|all is missing"), "{refused:?}");
}

#[test]
fn with_json_the_result_is_that_of_the_api() {
    let ran = obedient().run("reload --json");
    assert_eq!(ran.stdout, format!("{}\n", serde_json::to_string(&done("all is done")).unwrap()));
    let ran = Fake::always(200, serde_json::to_string(&done("at once")).unwrap()).run("delete all");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "at once\n"), "an answer that is no stream is one too");
}

#[test]
fn a_reload_that_fails_says_which_worker_why_and_its_last_lines() {
    let fake = Fake::new(|_, stream| {
        begin_stream(stream);
        event(stream, "started", &happened(7, "started", "web-0 started: pid 12"));
        let lines = vec!["Error: connect ECONNREFUSED".to_owned(), "  at \u{1b}[31mmain".to_owned()];
        let error = "the reload has failed: the new worker ended: exit code 3";
        event(stream, "error", &Error { error: error.into(), worker: Some("web-0".into()), last_lines: lines });
    });
    let ran = fake.run("reload");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        "rinit: web-0: the reload has failed: the new worker ended: exit code 3\nits last lines on stderr:\n    \
         Error: connect ECONNREFUSED\n      at  [31mmain\n"
    );
}

#[test]
fn no_field_of_an_answer_reaches_the_terminal_with_its_control_characters() {
    let error = Error { error: "no\u{1b}[2J".into(), worker: Some("\u{1b}[1mweb-0".into()), last_lines: vec![] };
    let refused = Fake::always(409, serde_json::to_string(&error).unwrap());
    for line in ["list", "reload", "logs", "describe 0", "health", "events", "config"] {
        let ran = refused.run(line);
        assert!(ran.code == 1 && !ran.stderr.contains('\u{1b}'), "{line}: {ran:?}");
    }
    let events = Fake::new(|_, stream| {
        begin_stream(stream);
        let hostile = Event { level: "\u{1b}[2J".into(), time: "\u{7}".into(), ..happened(7, "started", "\u{1b}]0;x") };
        event(stream, "started", &hostile);
    });
    let ran = events.run("events");
    assert!(ran.stdout.contains("]0;x") && !ran.stdout.contains(['\u{1b}', '\u{7}']), "{ran:?}");
}

#[test]
fn a_refusal_is_printed_as_rinit_words_it() {
    let refused = r#"{"error":"the container is stopping"}"#;
    let ran = Fake::always(409, refused).run("restart all");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "rinit: the container is stopping\n"));
    let ran = Fake::always(409, refused).run("scale 3 --json");
    assert_eq!(serde_json::from_str::<Error>(&ran.stdout).unwrap().error, "the container is stopping");
    let ran = Fake::always(200, r#"{"ok":false,"message":"web-0 has failed","workers":[]}"#).run("start web-0");
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "rinit: web-0 has failed\n"));
}

#[test]
fn a_call_whose_connection_ends_has_not_succeeded() {
    let ran = Fake::new(|_, stream| {
        begin_stream(stream);
        event(stream, "started", &happened(7, "started", "web-0 started"));
    })
    .run("reload");
    assert!(ran.code == 1 && ran.stderr.contains("ended before the result"), "{ran:?}");
}

#[test]
fn bad_arguments_never_reach_rinit() {
    for line in [
        "scale",
        "scale four",
        "scale +",
        "scale 1 2 3",
        "signal",
        "signal TREM",
        "delete",
        "stop",
        "restart",
        "stop all 0",
        "health --min half",
    ] {
        let fake = obedient();
        let ran = fake.run(line);
        assert_eq!(ran.code, 64, "{line}: {ran:?}");
        assert!(ran.stderr.contains("usage: rinit "), "{line}: {ran:?}");
        assert!(fake.requests().is_empty(), "{line}");
    }
    assert!(finish(verb("signal TREM")).stderr.contains("did you mean SIGTERM?"));
}

#[test]
fn ctrl_c_ends_the_verb_alone() {
    let fake = Fake::new(|_, stream| {
        begin_stream(stream);
        // Until the client is gone.
        let _ = std::io::Read::read(stream, &mut [0]);
        reply(stream, 200, "");
    });
    for line in ["reload", "logs -f", "events"] {
        let before = fake.requests().len();
        let child = fake.command(line).spawn().unwrap();
        while fake.requests().len() == before {
            std::thread::yield_now();
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let ran = crate::fake::end(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (130, ""), "{line}");
    }
    assert_eq!(fake.requests().len(), 3, "nothing else was asked for");
}

#[test]
fn a_rinit_that_never_answers_is_not_waited_for_without_end() {
    let fake = Fake::new(|_, _| {
        loop {
            std::thread::park();
        }
    });
    // All at once: each waits for 10 s.
    let verbs = ["list", "describe 0", "reload", "scale 3", "signal HUP 0", "events", "logs -f"];
    for (verb, child) in verbs.map(|verb| (verb, fake.command(verb).spawn().unwrap())) {
        let ran = crate::fake::end(child);
        assert_ne!(ran.code, 0, "{verb}");
        assert!(ran.stderr.contains("accepted the connection and does not answer"), "{verb}: {}", ran.stderr);
    }
}
