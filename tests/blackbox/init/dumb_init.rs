//! Tests rinit under the name `dumb-init`: its options, codes, session and rewriting.

use super::*;
use crate::harness::status_field;
use rinit::core::Signal;

fn dumb_init(arguments: &[&str]) -> Rig {
    Rig::new(arguments).called("dumb-init")
}

#[test]
fn help_and_version_are_on_stderr() {
    for flag in ["-h", "--help", "-V", "--version"] {
        let rig = dumb_init(&[flag, "echo"]).start();
        assert_eq!((rig.wait(), rig.output().stdout.len()), (0, 0), "{flag}");
        let expected =
            if flag.eq_ignore_ascii_case("-v") || flag == "--version" { "dumb-init v1.2.5" } else { "--rewrite" };
        assert!(rig.output().has(expected), "{flag}: {:?}", rig.output());
    }
}

#[test]
fn bad_arguments_end_with_1_and_start_nothing() {
    let refused: [&[&str]; 11] = [
        &[],
        &["--"],
        &["-c"],
        &["-x", "echo"],
        &["--no-such-option", "echo"],
        &["-r", "15", "echo"],
        &["-r", "foo", "echo"],
        &["-r", "0:15", "echo"],
        &["-r", "15:99", "echo"],
        &["-r", "15:-1", "echo"],
        &["-r"],
    ];
    for arguments in refused {
        let rig = dumb_init(arguments).start();
        assert_eq!(rig.wait(), 1, "{arguments:?}");
        assert!(rig.output().stdout.is_empty() && !rig.output().stderr.is_empty(), "{arguments:?}: {:?}", rig.output());
    }
}

#[test]
fn it_ends_with_the_childs_code_or_with_2() {
    for expected in [0, 1, 77, 255] {
        assert_eq!(code(dumb_init(&[]).fixture(&format!("exit={expected}"))), expected);
    }
    assert_eq!(code(dumb_init(&["--"]).fixture("crash=KILL")), 137);
    assert_eq!(code(dumb_init(&["-c"]).fixture("crash=TERM")), 143);
    for program in ["no-such-program", "/no/such/program", "/", "/etc/passwd"] {
        let rig = dumb_init(&[program]).start();
        assert_eq!(rig.wait(), 2, "{program}");
        assert!(rig.output().stderr.iter().any(|line| line.contains(program)));
    }
}

#[test]
fn options_end_at_the_command_without_two_dashes() {
    let rig = dumb_init(&["-c", "sh", "-c", "echo \"$0\"; exit 3", "-V"]).start();
    assert_eq!((rig.wait(), said(&rig, "-V")), (3, 1));
}

#[test]
fn the_child_gets_a_session_of_its_own_unless_it_is_a_single_child() {
    let variables = [None, Some("1"), Some("no"), Some("")];
    for variable in variables {
        let mut rig = dumb_init(&[]).fixture("state");
        if let Some(value) = variable {
            rig = rig.env("DUMB_INIT_SETSID", value);
        }
        let rig = rig.start();
        assert_eq!(rig.wait(), 0);
        assert_eq!(state(&rig, "sid"), state(&rig, "pid"), "{variable:?}");
        assert_eq!(state(&rig, "pgid"), state(&rig, "pid"), "{variable:?}");
    }
    let single = [dumb_init(&["-c"]), dumb_init(&["--single-child"]), dumb_init(&[]).env("DUMB_INIT_SETSID", "0")];
    for rig in single {
        let rig = rig.fixture("state").start();
        assert_eq!(rig.wait(), 0);
        assert_ne!(state(&rig, "sid"), state(&rig, "pid"));
    }
}

#[test]
fn under_rinits_own_name_the_variable_asks_for_a_session_and_c_is_above_it() {
    let rig = Rig::new(&["--"]).env("DUMB_INIT_SETSID", "1").fixture("state").start();
    assert_eq!((rig.wait(), state(&rig, "sid")), (0, state(&rig, "pid")));
    let rig = Rig::new(&["-c", "--"]).env("DUMB_INIT_SETSID", "1").fixture("state").start();
    assert_eq!(rig.wait(), 0);
    assert_ne!(state(&rig, "sid"), state(&rig, "pid"));
}

/// How many of a child and a child of its have got a SIGUSR1.
fn reached(flags: &[&str]) -> usize {
    let rig = dumb_init(flags).fixture("child=signals signals").start();
    rig.until("both are up", |out| out.count("up ") == 2);
    let child = rig.workers()[0];
    let pids = [child, children(child)[0]];
    rig.signal("USR1");
    until_got(&rig, "SIGUSR1");
    // What came before is told by the second of two.
    for times in [2, 4] {
        pids.iter().for_each(|pid| rig.signal_pid(*pid, "USR2"));
        rig.until("both answer", |out| out.count("got SIGUSR2") == times);
    }
    said(&rig, "got SIGUSR1")
}

#[test]
fn signals_go_to_the_session_or_to_the_single_child() {
    assert_eq!((reached(&[]), reached(&["-c"])), (2, 1));
}

#[test]
fn every_signal_is_forwarded_those_of_a_fault_too() {
    let rig = dumb_init(&["-c"]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    for signal in Signal::catchable().filter(|signal| ![Signal::CHLD, Signal::TERM].contains(signal)) {
        rig.signal(&signal.number().to_string());
        until_got(&rig, &signal.to_string());
    }
    rig.signal("TERM");
    assert_eq!((rig.wait(), said(&rig, "got SIGCHLD")), (0, 0));
}

#[test]
fn the_rest_of_the_childs_group_gets_sigterm_at_its_end() {
    let rig = below_a_shell(dumb_init(&[]).fixture("child=signals on-term=exit=3 up wait"));
    rig.until("both are up", |out| out.count("up ") == 2);
    let child = children(first_below(&rig))[0];
    rig.signal_pid(child, "TERM");
    rig.until("it has ended", |out| out.has("ended 3"));
    until_got(&rig, "SIGTERM");
}

#[test]
fn a_rewritten_sigterm_is_rewritten_for_the_rest_of_the_group_too() {
    let rig = below_a_shell(dumb_init(&["-r", "15:10"]).fixture("child=signals on-term=exit=3 up wait"));
    rig.until("both are up", |out| out.count("up ") == 2);
    rig.signal_pid(children(first_below(&rig))[0], "TERM");
    rig.until("it has ended", |out| out.has("ended 3"));
    rig.until("the other one got a signal", |out| out.has("got "));
    assert_eq!((said(&rig, "got SIGUSR1"), said(&rig, "got SIGTERM")), (1, 0));
}

#[test]
fn a_single_childs_end_sends_no_signal_to_its_group() {
    let rig = below_a_shell(dumb_init(&["-c"]).fixture("child=signals on-term=exit=3 up wait"));
    rig.until("both are up", |out| out.count("up ") == 2);
    let child = children(first_below(&rig))[0];
    let left = children(child)[0];
    rig.signal_pid(child, "TERM");
    rig.until("it has ended", |out| out.has("ended 3"));
    for times in [1, 2] {
        rig.signal_pid(left, "USR1");
        rig.until("the other one answers", |out| out.count("got SIGUSR1") == times);
    }
    assert_eq!(said(&rig, "got SIGTERM"), 0);
}

#[test]
fn rules_by_number_and_by_name_rewrite_or_drop() {
    for rules in [
        &["-r", "15:3", "--rewrite", "1:0"][..],
        &["--rewrite=TERM:QUIT", "-r", "SIGHUP:0"],
        &["--rew=TERM:QUIT", "--re", "SIGHUP:0"],
    ] {
        let rig = dumb_init(rules).fixture("signals").start();
        rig.until("it is up", |out| out.has("up "));
        rig.signal("TERM");
        until_got(&rig, "SIGQUIT");
        rig.signal("HUP");
        for signal in ["USR1", "USR2"] {
            rig.signal(signal);
            until_got(&rig, &format!("SIG{signal}"));
        }
        assert_eq!((said(&rig, "got SIGTERM"), said(&rig, "got SIGHUP")), (0, 0), "{rules:?}");
    }
}

/// Whether that process is stopped by now, or running.
fn until_stopped(pid: i32, stopped: bool) {
    eventually("it is stopped or not, as it should be", || {
        (status_field(pid, "State").starts_with('T') == stopped).then_some(())
    });
}

#[test]
fn the_terminals_stop_signals_stop_the_session_and_itself_until_sigcont() {
    for signal in ["TSTP", "TTIN", "TTOU"] {
        let rig = below_a_shell(dumb_init(&[]).fixture("child=signals signals"));
        rig.until("both are up", |out| out.count("up ") == 2);
        let itself = first_below(&rig);
        let child = children(itself)[0];
        let all = [itself, child, children(child)[0]];
        rig.signal_pid(itself, signal);
        all.iter().for_each(|pid| until_stopped(*pid, true));
        rig.signal_pid(itself, "CONT");
        all.iter().for_each(|pid| until_stopped(*pid, false));
        assert_eq!(said(&rig, &format!("got SIG{signal}")), 0);
        rig.signal_pid(itself, "TERM");
        rig.until("it has ended", |out| out.has("ended 0"));
    }
}

#[test]
fn as_pid_1_it_goes_on_while_the_child_is_stopped() {
    let rig = dumb_init(&[]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    let child = rig.workers()[0];
    rig.signal("TSTP");
    until_stopped(child, true);
    rig.signal("CONT");
    until_got(&rig, "SIGCONT");
}

#[test]
fn the_terminals_stop_signals_are_rewritten_if_so_asked_and_passed_to_a_single_child_as_they_are() {
    let rig = dumb_init(&["-r", "20:10", "-r", "21:12", "-r", "22:0"]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    for (signal, got) in [("TSTP", "SIGUSR1"), ("TTIN", "SIGUSR2"), ("TTOU", ""), ("HUP", "SIGHUP")] {
        rig.signal(signal);
        if !got.is_empty() {
            until_got(&rig, got);
        }
    }
    assert!(!status_field(rig.workers()[0], "State").starts_with('T'));
    let rig = dumb_init(&["-c"]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    for signal in ["TSTP", "TTIN", "TTOU"] {
        rig.signal(signal);
        until_got(&rig, &format!("SIG{signal}"));
    }
}

#[test]
fn without_a_session_a_stop_signal_is_forwarded_and_stops_itself_too() {
    for signal in ["TSTP", "TTIN", "TTOU"] {
        let rig = below_a_shell(dumb_init(&["-c"]).fixture("signals"));
        rig.until("it is up", |out| out.has("up "));
        let itself = first_below(&rig);
        rig.signal_pid(itself, signal);
        until_got(&rig, &format!("SIG{signal}"));
        until_stopped(itself, true);
        rig.signal_pid(itself, "CONT");
        until_stopped(itself, false);
        until_got(&rig, "SIGCONT");
    }
}

#[test]
fn it_stops_itself_by_the_signal_it_gets_and_not_by_the_one_it_sends() {
    // As dumb-init does: a stop signal that is rewritten stops it all the same, and another one never does.
    let rig = below_a_shell(dumb_init(&["-r", "20:10", "-r", "12:19"]).fixture("signals"));
    rig.until("it is up", |out| out.has("up "));
    let itself = first_below(&rig);
    let child = children(itself)[0];
    rig.signal_pid(itself, "TSTP");
    until_got(&rig, "SIGUSR1");
    until_stopped(itself, true);
    rig.signal_pid(itself, "CONT");
    until_got(&rig, "SIGCONT");
    rig.signal_pid(itself, "USR2");
    until_stopped(child, true);
    rig.signal_pid(itself, "KILL");
    rig.until("it was not stopped", |out| out.has("ended 137"));
}

#[test]
fn v_or_its_variable_print_debug_messages_on_stderr() {
    for (flags, variable) in [(&["-v"][..], "0"), (&["--verbose"], ""), (&[], "1")] {
        let rig = dumb_init(flags).arg("true").env("DUMB_INIT_DEBUG", variable).start();
        assert_eq!((rig.wait(), rig.output().stdout.len()), (0, 0));
        assert!(!rig.output().stderr.is_empty(), "{flags:?} {variable}");
    }
    let rig = dumb_init(&[]).arg("true").env("DUMB_INIT_DEBUG", "0").start();
    assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0));
}

#[test]
fn a_signal_before_the_child_has_its_session_reaches_it() {
    for _ in 0..20 {
        // Pending when it starts: passed on right after the fork.
        let rig = dumb_init(&[]).fixture("wait").through(&[
            "python3",
            "-c",
            "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.kill(os.getpid(), 15); os.execv(sys.argv[1], sys.argv[1:])",
        ]);
        assert_eq!(rig.start().wait(), 143);
    }
}
