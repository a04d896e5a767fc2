//! Called `tini` or `docker-init`, it is tini: its options, its codes, what it says and what it forwards.

use super::*;
use rinit::core::Signal;

const NAMES: [&str; 3] = ["tini", "tini-static", "docker-init"];

fn called(name: &str, arguments: &[&str]) -> Rig {
    Rig::new(arguments).called(name)
}

#[test]
fn version_alone_is_the_line_that_dockerd_reads() {
    for name in NAMES {
        let rig = called(name, &["--version"]).start();
        assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0), "{name}");
        // With a hash behind it dockerd would compare that with the one it was built with.
        assert_eq!(rig.output().stdout, ["tini version 0.19.0"], "{name}");
        assert_eq!(code(called(name, &["--version", "x"])), 1, "{name}");
    }
}

#[test]
fn help_and_license_are_on_stdout() {
    for flag in ["-h", "-l"] {
        let rig = called("tini", &[flag]).start();
        assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0), "{flag}");
        assert!(!rig.output().stdout.is_empty(), "{flag}");
    }
    let help = called("docker-init", &["-h"]).start();
    help.wait();
    assert!(["-s", "-p", "-v", "-w", "-g", "-e", "-l"].iter().all(|option| help.output().has(option)));
}

#[test]
fn bad_arguments_end_with_1_and_start_nothing() {
    let refused: [&[&str]; 14] = [
        &[],
        &["--"],
        &["-s"],
        &["-x", "--", "echo"],
        &["--single-child", "--", "echo"],
        &["--linger", "1s", "--", "echo"],
        &["-e", "256", "--", "echo"],
        &["-e", "-1", "--", "echo"],
        &["-e", "3x", "--", "echo"],
        &["-e", "abc", "--", "echo"],
        &["-p", "TERM", "--", "echo"],
        &["-p", "15", "--", "echo"],
        &["-p", "SIGNOTHING", "--", "echo"],
        // Its options are looked for behind the command too.
        &["sh", "-c", "echo started"],
    ];
    for arguments in refused {
        let rig = called("tini", arguments).start();
        assert_eq!(rig.wait(), 1, "{arguments:?}");
        assert!(rig.output().stdout.is_empty() && !rig.output().stderr.is_empty(), "{arguments:?}: {:?}", rig.output());
    }
}

#[test]
fn numbers_are_read_as_tini_reads_them() {
    // strtol(3) and atoi(3): no text is 0, and a number ends where its digits do.
    assert_eq!(code(called("tini", &["-e", "", "--", "sh", "-c", "exit 3"])), 3);
    assert_eq!(code(called("tini", &["-e", "", "-e", "3", "--", "sh", "-c", "exit 3"])), 0);
    for (level, starts) in [("2x", 1), (" 2", 1), ("x", 0), ("", 0)] {
        let rig = called("tini", &["--", "true"]).env("TINI_VERBOSITY", level).start();
        assert_eq!((rig.wait(), rig.output().count("started true")), (0, starts), "{level:?}: {:?}", rig.output());
    }
}

#[test]
fn options_behind_the_command_are_tinis_until_two_dashes() {
    assert_eq!(code(called("tini", &["false", "-e", "1"])), 0);
    let rig = called("tini", &["sh", "--", "-c", "echo \"$0\"; exit 3", "-w"]).start();
    assert_eq!((rig.wait(), said(&rig, "-w")), (3, 1));
}

#[test]
fn it_ends_with_the_childs_code_126_or_127_and_e_may_remap_them() {
    for name in NAMES {
        assert_eq!(code(called(name, &["--"]).fixture("exit=77")), 77, "{name}");
        assert_eq!(code(called(name, &["--"]).fixture("crash=KILL")), 137, "{name}");
        assert_eq!(code(called(name, &["--", "no-such-program"])), 127, "{name}");
        assert_eq!(code(called(name, &["--", "/"])), 126, "{name}");
        assert_eq!(code(called(name, &["-e", "143", "-e77", "--"]).fixture("crash=TERM")), 0, "{name}");
        assert_eq!(code(called(name, &["-e", "143", "-e77", "--"]).fixture("exit=77")), 0, "{name}");
    }
    // The child that could not become the program has a code too.
    assert_eq!(code(called("tini", &["-e", "127", "--", "no-such-program"])), 0);
}

#[test]
fn a_success_is_silent() {
    for name in NAMES {
        let rig = called(name, &["--"]).fixture("orphans=2 exit=0").start();
        assert_eq!((rig.wait(), rig.output().stdout.len(), rig.output().stderr.len()), (0, 0, 0), "{name}");
    }
}

/// Those of a fault are left to the kernel, and the two of a terminal in the background are ignored.
fn is_kept_back(signal: Signal) -> bool {
    signal.is_fault() || [Signal::TTIN, Signal::TTOU, Signal::CHLD].contains(&signal)
}

#[test]
fn as_pid_1_it_forwards_all_but_those_of_a_fault_and_of_a_background_terminal() {
    if crate::harness::namespace().is_empty() {
        crate::harness::skipped("without a namespace it is not PID 1, and a fault's signal kills it");
        return;
    }
    let rig = called("docker-init", &["--"]).fixture("signals").start();
    rig.until("it is up", |out| out.has("up "));
    for signal in Signal::catchable().filter(|signal| *signal != Signal::TERM) {
        rig.signal(&signal.number().to_string());
        if !is_kept_back(signal) {
            until_got(&rig, &signal.to_string());
        }
    }
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    for signal in Signal::catchable() {
        assert_eq!(said(&rig, &format!("got {signal}")), usize::from(!is_kept_back(signal)), "{signal}");
    }
}

#[test]
fn not_as_pid_1_a_signal_of_a_fault_ends_it_as_any_program() {
    for (signal, expected) in
        [("ILL", 132), ("TRAP", 133), ("ABRT", 134), ("BUS", 135), ("FPE", 136), ("SEGV", 139), ("SYS", 159)]
    {
        let rig = below_a_shell(called("tini", &["-s", "--"]).fixture("signals"));
        rig.until("it is up", |out| out.has("up "));
        rig.signal_pid(first_below(&rig), signal);
        rig.until(&format!("SIG{signal} ends it"), |out| out.has(&format!("ended {expected}")));
        assert_eq!(said(&rig, &format!("got SIG{signal}")), 0);
    }
}

#[test]
fn g_or_its_variable_signal_the_group() {
    for (flags, variable, expected) in
        [(&["--"][..], None, 1), (&["-g", "--"], None, 2), (&["--"], Some("TINI_KILL_PROCESS_GROUP"), 2)]
    {
        let mut rig = called("docker-init", flags).fixture("child=signals on-term=exit=0 signals");
        if let Some(name) = variable {
            rig = rig.env(name, "");
        }
        let rig = rig.start();
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
        assert_eq!(said(&rig, "got SIGUSR1"), expected, "{flags:?} {variable:?}");
    }
}

#[test]
fn each_v_prints_more_on_stdout() {
    let lines = |flags: &[&str], variable: Option<&str>| {
        let mut rig = called("tini", flags).args(&["--", "true"]);
        if let Some(level) = variable {
            rig = rig.env("TINI_VERBOSITY", level);
        }
        let rig = rig.start();
        assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0));
        rig.output().stdout.len()
    };
    assert_eq!(lines(&[], None), 0);
    let information = lines(&["-v"], None);
    assert!(information > 0);
    assert!(lines(&["-vv"], None) >= information);
    assert!(lines(&["-vvv"], None) >= information);
    assert!(lines(&[], Some("3")) >= information);
    assert_eq!(lines(&["-vvv"], Some("1")), 0);
}

#[test]
fn verbosity_0_prints_fatal_errors_and_no_warnings() {
    for level in ["0", "1"] {
        let rig = called("tini", &["--", "no-such-program"]).env("TINI_VERBOSITY", level).not_pid_1().start();
        assert_eq!(rig.wait(), 127);
        assert_eq!(rig.output().has("subreaper"), level == "1", "{:?}", rig.output());
        assert!(rig.output().stderr.iter().any(|line| line.contains("no-such-program")));
    }
}
