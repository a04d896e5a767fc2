//! Tests the forwarding of signals to the child.

use super::*;
use crate::harness::status_field;
use rinit::core::Signal;

/// All but SIGCHLD, which is for rinit, in the order of their numbers, and SIGTERM, which ends the fixture, last.
fn forwardable() -> Vec<Signal> {
    let others = Signal::catchable().filter(|signal| ![Signal::CHLD, Signal::TERM].contains(signal));
    others.chain([Signal::TERM]).collect()
}

fn send_all_and_see_them(rig: &Running, pid: i32) {
    assert_eq!(forwardable().len(), 59);
    for signal in forwardable() {
        rig.signal_pid(pid, &signal.number().to_string());
        until_got(rig, &signal.to_string());
    }
    for signal in forwardable() {
        assert_eq!(said(rig, &format!("got {signal}")), 1, "{signal}");
    }
}

#[test]
fn every_signal_is_forwarded_those_of_a_fault_and_the_real_time_ones_too() {
    let rig = Rig::new(&[]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    send_all_and_see_them(&rig, rig.pid());
    assert_eq!(rig.wait(), 0);
}

#[test]
fn an_ordinary_process_forwards_as_many() {
    let rig = below_a_shell(Rig::new(&[]).fixture("signals"));
    rig.until("it is up", |out| out.has("up "));
    send_all_and_see_them(&rig, first_below(&rig));
    rig.until("rinit has ended", |out| out.has("ended 0"));
}

#[test]
fn sigchld_is_not_forwarded() {
    let rig = Rig::new(&[]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    rig.signal("CHLD");
    send_and_await_two_signals(&rig, &[rig.pid()]);
    assert_eq!(said(&rig, "got SIGCHLD"), 0);
}

#[test]
fn real_time_signals_arrive_as_often_as_they_were_sent() {
    let rig = Rig::new(&[]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    let pid = nix::unistd::Pid::from_raw(rig.pid());
    for number in [34, 35, 64].repeat(20) {
        rinit::sys::process::kill(pid, Signal::new(number).unwrap()).unwrap();
    }
    for name in ["SIGRTMIN+0", "SIGRTMIN+1", "SIGRTMIN+30"] {
        let line = format!("got {name}");
        rig.until(&line, |out| out.stdout.iter().filter(|said| **said == line).count() == 20);
    }
}

/// Sends each of them two signals, the second when the first is told: what came before is told by then. One alone may
/// overtake, since of two handlers the later one runs first.
fn send_and_await_two_signals(rig: &Running, processes: &[i32]) {
    for _ in 0..2 {
        let expected = rig.output().count("got SIGRTMIN+30") + processes.len();
        processes.iter().for_each(|pid| rig.signal_pid(*pid, "64"));
        rig.until("they answer", |out| out.count("got SIGRTMIN+30") == expected);
    }
}

/// Starts a child that has a child in its group, and tells how often SIGUSR1 to rinit has reached them.
fn reached(flags: &[&str], variable: Option<&str>) -> usize {
    let mut rig = Rig::new(flags).fixture("child=signals signals");
    if let Some(name) = variable {
        rig = rig.env(name, "");
    }
    let rig = rig.start();
    rig.until("both are up", |out| out.count("up ") == 2);
    let child = rig.workers()[0];
    let grandchild = children(child)[0];
    rig.signal("USR1");
    until_got(&rig, "SIGUSR1");
    send_and_await_two_signals(&rig, &[child, grandchild]);
    said(&rig, "got SIGUSR1")
}

#[test]
fn signals_go_to_the_child_alone_or_to_its_group() {
    assert_eq!(reached(&["--"], None), 1);
    assert_eq!(reached(&["-g", "--"], None), 2);
    // It counts when it is set at all.
    assert_eq!(reached(&["--"], Some("TINI_KILL_PROCESS_GROUP")), 2);
    assert_eq!(reached(&["-c", "--"], None), 1);
}

/// Sends the signals one after the other and gives what the child got of them.
fn rewritten(rig: Rig, signals: &[&str]) -> Vec<String> {
    let rig = rig.fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    for signal in signals {
        rig.signal(signal);
        send_and_await_two_signals(&rig, &[rig.pid()]);
    }
    rig.output().stdout.into_iter().filter(|line| line.starts_with("got ") && line != "got SIGRTMIN+30").collect()
}

#[test]
fn signals_are_rewritten_by_name_and_by_number() {
    for rule in ["TERM:QUIT", "SIGTERM:SIGQUIT", "15:3", "term:3", "15:QUIT"] {
        for flag in ["-r", "--rewrite"] {
            let got = rewritten(Rig::new(&[flag, rule, "--"]), &["TERM", "HUP"]);
            assert_eq!(got, ["got SIGQUIT", "got SIGHUP"], "{flag} {rule}");
        }
    }
    let got =
        rewritten(Rig::new(&["-r", "RTMIN+1:USR1", "-r", "USR2:RTMAX-1", "-r", "SEGV:HUP"]), &["35", "USR2", "SEGV"]);
    assert_eq!(got, ["got SIGUSR1", "got SIGRTMIN+29", "got SIGHUP"]);
}

#[test]
fn a_rule_with_0_drops_the_signal() {
    assert_eq!(rewritten(Rig::new(&["-r", "HUP:0", "-r", "10:0"]), &["HUP", "USR1", "USR2"]), ["got SIGUSR2"]);
}

#[test]
fn a_signal_is_rewritten_once_and_the_last_rule_for_it_counts() {
    let rules = ["-r", "USR1:USR2", "-r", "USR2:HUP", "-r", "INT:QUIT", "-r", "INT:HUP"];
    let got = rewritten(Rig::new(&rules), &["USR1", "USR2", "INT"]);
    assert_eq!(got, ["got SIGUSR2", "got SIGHUP", "got SIGHUP"]);
}

#[test]
fn the_variable_holds_several_rules() {
    let rig = Rig::new(&[]).env("RINIT_REWRITE", "15:3,HUP:0,USR1:USR2");
    assert_eq!(rewritten(rig, &["TERM", "HUP", "USR1"]), ["got SIGQUIT", "got SIGUSR2"]);
}

#[test]
fn a_signal_that_came_before_rinit_began_is_passed_on() {
    let fixture = crate::harness::fixture();
    let before = [fixture.to_str().unwrap(), "block=USR1", "block=40", "raise=USR1", "raise=40", "exec"];
    let rig = Rig::new(&[]).fixture("up wait").through(&before).start();
    rig.until("it is up", |out| out.has("up "));
    // The child has both blocked, as rinit had, so they stay pending there.
    let child = rig.workers()[0];
    eventually("both are pending", || {
        let pending = u64::from_str_radix(&status_field(child, "ShdPnd"), 16).ok()?;
        (pending == 1 << 9 | 1 << 39).then_some(())
    });
}

#[test]
fn a_child_that_is_stopped_has_not_ended() {
    let rig = Rig::new(&[]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    let child = rig.workers()[0];
    let is = |letter: &str| status_field(child, "State").starts_with(letter).then_some(());
    rig.signal_pid(child, "STOP");
    eventually("it has stopped", || is("T"));
    rig.signal("USR1");
    assert!(rig.is_running());
    rig.signal("CONT");
    until_got(&rig, "SIGCONT");
    until_got(&rig, "SIGUSR1");
}
