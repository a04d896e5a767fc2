//! Workers: how many, with which environment, and how the container ends.

use crate::harness::Rig;

#[test]
fn workers_know_who_they_are_and_a_stop_ends_them_with_0() {
    let rig = Rig::new(&["-i", "3", "--name", "web"])
        .fixture("env=RINIT_WORKER env=RINIT_WORKERS env=RINIT_APP env=NODE_APP_INSTANCE signals")
        .start();
    rig.until("three workers are up", |out| out.count("up ") == 3);
    let out = rig.output();
    for k in 0..3 {
        assert_eq!(out.count(&format!("web-{k} | RINIT_WORKER={k}")), 1);
        assert_eq!(out.count(&format!("web-{k} | NODE_APP_INSTANCE={k}")), 1);
    }
    assert_eq!((out.count("RINIT_WORKERS=3"), out.count("RINIT_APP=web")), (3, 3));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("got SIGTERM"), 3);
}
