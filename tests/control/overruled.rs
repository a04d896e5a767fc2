//! Calls that get in each other's way: every one ends, and says what came of it.

use crate::client::ask;
use crate::harness::eventually;
use crate::started::start;
use std::thread::scope;

/// Goes only when it may.
const SLOW: &str = "on-term=file=DIR/go,exit=0 up wait";

#[test]
fn a_worker_that_was_to_go_and_is_wanted_again_is_told_to_who_wanted_it_gone() {
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
    assert!(gone.text().contains("web-1 is there again: somebody else has scaled up"), "{}", gone.text());
}

#[test]
fn to_start_a_worker_that_finishes_is_over_when_it_has_finished() {
    let job = "unless=DIR/job wait exit=0";
    let rinit = start(&["--restart", "on-failure"], job);
    std::fs::write(rinit.folder.path().join("job"), "").unwrap();
    let answer = ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("web-0 has run and finished"), "{}", answer.text());
}

#[test]
fn every_reload_that_was_asked_for_during_another_waits_for_the_one_that_follows() {
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
        // Nothing shows that it has come, but that others who came later have their answers.
        (0..20).for_each(|_| drop(rinit.status()));
        std::fs::write(rinit.folder.path().join("go"), "").unwrap();
        [first, second, third].map(|one| one.join().unwrap())
    });
    assert!(generations[1..].iter().all(|generation| *generation >= 3), "{generations:?}");
}
