//! Tests calls that conflict with each other: every one ends, and says its result.

use crate::client::ask;
use crate::harness::eventually;
use crate::started::start;
use std::thread::scope;

/// Stops only when the test lets it.
const SLOW: &str = "on-term=file=DIR/go,exit=0 up wait";

#[test]
fn a_delete_fails_when_another_call_scales_up_again() {
    let rinit = start(&[], SLOW);
    rinit.rig.until("both can wait", |out| out.count("up ") == 2);
    let (gone, scaled) = scope(|scope| {
        let gone = scope.spawn(|| ask(&rinit.socket, "DELETE", "/v1/workers/web-1", ""));
        eventually("it is on its way out", || (rinit.status()["workers"][1]["state"] == "draining").then_some(()));
        let scaled = scope.spawn(|| ask(&rinit.socket, "POST", "/v1/scale", r#"{"to":"2"}"#));
        rinit.rig.until("it is wanted again", |out| out.has("scaled from 1 to 2"));
        std::fs::write(rinit.folder.path().join("go"), "").unwrap();
        (gone.join().unwrap(), scaled.join().unwrap())
    });
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    assert_eq!(gone.status, 409, "{}", gone.text());
    assert!(gone.text().contains("web-1 was kept: another call has scaled up"), "{}", gone.text());
}

#[test]
fn starting_a_worker_that_finishes_is_done_when_it_has_finished() {
    let job = "unless=DIR/job wait exit=0";
    // Long enough for the job to finish first, also on a busy machine.
    let rinit = start(&["--restart", "on-failure", "--min-uptime", "3s"], job);
    std::fs::write(rinit.folder.path().join("job"), "").unwrap();
    let answer = ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("web-0 has run and finished"), "{}", answer.text());
}

#[test]
fn reloads_during_a_reload_wait_for_the_one_that_follows() {
    let rinit = start(&[], SLOW);
    rinit.rig.until("both can wait", |out| out.count("up ") == 2);
    let reload = || {
        let answer = ask(&rinit.socket, "POST", "/v1/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        rinit.status()["apps"][0]["last_reload"]["generation"].as_u64().unwrap()
    };
    let generations = scope(|scope| {
        let first = scope.spawn(reload);
        eventually("it is under way", || rinit.status()["apps"][0]["reload"].is_object().then_some(()));
        let second = scope.spawn(reload);
        rinit.rig.until("another follows", |out| out.has("another reload will follow"));
        let third = scope.spawn(reload);
        // The third call shows nowhere; but calls that came later have their answers.
        (0..20).for_each(|_| drop(rinit.status()));
        std::fs::write(rinit.folder.path().join("go"), "").unwrap();
        [first, second, third].map(|one| one.join().unwrap())
    });
    assert!(generations[1..].iter().all(|generation| *generation >= 3), "{generations:?}");
}

#[test]
fn a_worker_that_is_being_deleted_stays_so() {
    let rinit = start(&[], SLOW);
    rinit.rig.until("both can wait", |out| out.count("up ") == 2);
    let (first, again, one, all, whole) = scope(|scope| {
        let delete = || ask(&rinit.socket, "DELETE", "/v1/workers/web-1", "");
        let first = scope.spawn(delete);
        eventually("it is on its way out", || (rinit.status()["workers"][1]["state"] == "draining").then_some(()));
        let again = scope.spawn(delete);
        let one = ask(&rinit.socket, "POST", "/v1/workers/1/stop", "");
        let all = ask(&rinit.socket, "POST", "/v1/workers/all/start", "");
        let whole = ask(&rinit.socket, "DELETE", "/v1/workers/web", "");
        std::fs::write(rinit.folder.path().join("go"), "").unwrap();
        (first.join().unwrap(), again.join().unwrap(), one, all, whole)
    });
    assert_eq!(first.status, 200, "{}", first.text());
    // The second delete may have come when the worker was gone already.
    assert!(matches!(again.status, 200 | 404), "{}", again.text());
    assert!(one.status == 409 && one.text().contains("web-1 is on its way out"), "{}", one.text());
    assert!(all.status == 200 && !all.text().contains("web-1 is ready"), "{}", all.text());
    assert!(whole.status == 409 && whole.text().contains("delete all"), "{}", whole.text());
    assert_eq!(rinit.status()["apps"][0]["wanted"], 1);
}

#[test]
fn a_signal_reaches_all_workers_that_have_a_process() {
    let rinit = start(&[], "signals");
    assert_eq!(ask(&rinit.socket, "POST", "/v1/workers/0/stop", "").status, 200);
    let signal = |id: &str| ask(&rinit.socket, "POST", &format!("/v1/workers/{id}/signal"), r#"{"signal":"USR1"}"#);
    let all = signal("all");
    assert!(all.status == 200 && all.text().contains("web-0 has no process now"), "{}", all.text());
    rinit.rig.until("it is heard", |out| out.has("got SIGUSR1"));
    assert_eq!(signal("web-0").status, 409);
}

#[test]
fn a_scale_waits_only_for_the_workers_that_it_adds_or_removes() {
    let words = "unless=DIR/fails wait crash=SEGV";
    let rinit = start(&["--max-restarts", "1", "--backoff", "1ms..1ms"], words);
    let fails = rinit.folder.path().join("fails");
    std::fs::write(&fails, "").unwrap();
    ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    eventually("it has failed for good", || (rinit.status()["workers"][0]["state"] == "failed").then_some(()));
    std::fs::remove_file(&fails).unwrap();
    for (to, has) in [("+1", "web has 3 workers"), ("-1", "web has 2 workers")] {
        let answer = ask(&rinit.socket, "POST", "/v1/scale", &format!(r#"{{"to":"{to}"}}"#));
        assert!(answer.status == 200 && answer.text().contains(has), "{}", answer.text());
    }
}
