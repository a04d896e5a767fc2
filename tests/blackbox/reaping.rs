//! Tests that every process that ends is collected, and that no worker's end is lost among them.

use crate::harness::{Output, Rig, Running, children, eventually, status_field};

fn zombies(rig: &Running) -> usize {
    rig.workers().into_iter().filter(|pid| status_field(*pid, "State").starts_with('Z')).count()
}

/// Waits until rinit has these many children and no zombie among them.
fn eventually_only_workers(rig: &Running, count: usize) {
    eventually("nothing but workers is left", || {
        (rig.workers().len() == count && zombies(rig) == 0 && rig.workers().len() == count).then_some(())
    });
}

#[test]
fn ten_thousand_orphans_are_reaped_and_no_workers_end_is_lost_among_them() {
    // Worker 1 ends with a code of its own again and again while worker 0's orphans end by the thousand.
    let script =
        r#"if [ "$RINIT_WORKER" = 0 ]; then exec "$0" orphans=10000 say=left wait; else exec "$0" exit=42; fi"#;
    let rig = Rig::new(&["-i", "2", "--name", "web", "--max-restarts", "0", "--backoff", "5ms..5ms", "--"])
        .args(&["sh", "-c", script])
        .fixture("")
        .start();
    eventually("orphans come to rinit", || (rig.workers().len() > 50).then_some(()));
    rig.until("all are left behind", |out| out.has("web-0 | left"));
    let ends = |out: &Output| out.count("ended: exit code 42");
    let so_far = ends(&rig.output());
    assert!(so_far > 0);
    eventually("all are reaped", || (rig.workers().len() <= 2 && zombies(&rig) == 0).then_some(()));
    // Were one end lost, the slot would wait for it for ever.
    rig.until("worker 1 goes on", |out| ends(out) > so_far + 10);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    // By the log: `web-1 (pid P) started`, `web-1 (pid P) ended: …; started again`.
    let started = out.stderr.iter().filter(|line| line.contains("web-1") && line.ends_with(" started")).count();
    let ended = ends(&out);
    assert!(started == ended || started == ended + 1, "{started} started, {ended} ended");
}

#[test]
fn workers_that_die_among_orphans_keep_the_containers_exit_code() {
    let rig = Rig::new(&["-i", "4", "--restart", "never"]).fixture("orphans=500 exit=43").start();
    assert_eq!(rig.wait(), 43);
    assert_eq!(rig.output().count("finished: exit code 43"), 4);
}

#[test]
fn init_mode_reaps_orphans_and_keeps_its_childs_code() {
    let rig = Rig::new(&["--"]).fixture("orphans=2000 say=left on-term=exit=44 wait").start();
    rig.until("all are left behind", |out| out.has("left"));
    eventually_only_workers(&rig, 1);
    rig.signal_pid(rig.workers()[0], "TERM");
    assert_eq!(rig.wait(), 44);
}

#[test]
fn rinit_reaps_as_a_child_subreaper_too() {
    for mode in [&["--linger", "0", "-s", "--"][..], &["-i", "1", "--"]] {
        let rig = Rig::new(mode).fixture("orphans=500 say=left wait").not_pid_1().start();
        rig.until("all are left behind", |out| out.has("left"));
        eventually_only_workers(&rig, 1);
        rig.signal("TERM");
        rig.wait();
    }
}

#[test]
fn a_dead_workers_daemon_lives_on_and_is_reaped_when_it_ends() {
    let rig = Rig::new(&["-i", "1", "--backoff", "1ms..1ms"]).fixture("daemon=say=daemon,wait up wait").start();
    rig.until("worker and daemon are up", |out| out.has("up 0") && out.has("daemon"));
    let worker = rig.workers()[0];
    let daemon = children(worker)[0];
    rig.signal_pid(worker, "KILL");
    rig.until("the next worker is up, with a daemon of its own", |out| {
        out.count("up 0") == 2 && out.count("| daemon") == 2
    });
    eventually("the first daemon is rinit's now", || rig.workers().contains(&daemon).then_some(()));
    assert!(status_field(daemon, "State").starts_with('S'), "a daemon has left the worker's group, and lives");
    rig.signal_pid(daemon, "KILL");
    eventually_only_workers(&rig, 1);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn the_rest_of_a_dead_workers_group_is_killed_and_reaped() {
    let rig = Rig::new(&["-i", "1", "--backoff", "1ms..1ms"]).fixture("child=say=child,wait up wait").start();
    rig.until("worker and child are up", |out| out.has("up 0") && out.has("child"));
    let worker = rig.workers()[0];
    let child = children(worker)[0];
    rig.signal_pid(worker, "KILL");
    rig.until("the next worker is up", |out| out.count("up 0") == 2);
    eventually("the child is gone", || status_field(child, "State").is_empty().then_some(()));
    eventually_only_workers(&rig, 1);
}
