//! Tests `/readyz`: when the container is ready, and how many workers are missing.

use crate::client::ask;
use crate::harness::eventually;
use crate::started::start;

#[test]
fn a_worker_that_is_down_does_not_make_the_container_unready() {
    let words = "unless=DIR/fails wait crash=SEGV";
    let rinit = start(&["--max-restarts", "1", "--backoff", "1ms..1ms"], words);
    std::fs::write(rinit.folder.path().join("fails"), "").unwrap();
    ask(&rinit.socket, "POST", "/v1/workers/web-0/restart", "");
    eventually("it has failed for good", || (rinit.status()["workers"][0]["state"] == "failed").then_some(()));
    let ready = |query: &str| {
        let answer = ask(&rinit.socket, "GET", &format!("/readyz{query}"), "");
        (answer.status, answer.text())
    };
    assert_eq!(ready(""), (200, "ready\nweb: 1 of 2 workers ready, 1 missing\n".into()));
    assert_eq!(ready("?min=50%"), (200, "ready\nweb: 1 of 2 workers ready, 1 missing\n".into()));
    assert_eq!(ready("?min=2"), (503, "not ready\nweb: 1 of 2 workers ready, 1 missing, 2 needed\n".into()));
    assert_eq!(ready("?min=100%").0, 503);
    assert_eq!(ready("?min=none").0, 400);
    assert!(ask(&rinit.socket, "GET", "/metrics", "").text().contains("rinit_workers_missing{app=\"web\"} 1\n"));
}

#[test]
fn a_worker_that_was_stopped_by_hand_is_not_wanted() {
    let rinit = start(&[], "up wait");
    let ready = |query: &str| {
        let answer = ask(&rinit.socket, "GET", &format!("/readyz{query}"), "");
        (answer.status, answer.text())
    };
    assert_eq!(ask(&rinit.socket, "POST", "/v1/workers/web-1/stop", "").status, 200);
    assert_eq!(ready("?min=100%"), (200, "ready\nweb: 1 of 1 workers ready\n".into()));
    let app = &rinit.status()["apps"][0];
    assert_eq!([&app["instances"], &app["wanted"], &app["ready"], &app["missing"]], [2, 1, 1, 0]);
    assert_eq!(ask(&rinit.socket, "POST", "/v1/workers/web/stop", "").status, 200);
    assert_eq!(ready("").0, 503, "nothing serves");
}
