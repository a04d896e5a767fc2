//! Tests exit codes and the messages that come with them.

use super::*;
use crate::harness::fixture;

/// Does this in a folder `$1` of its own before rinit starts: files that a test process writes itself cannot be run
/// while one of its other threads forks.
fn after(script: &str) -> [String; 3] {
    let script = format!("set -e; cd \"$(mktemp -d)\"; {script}; exec \"$0\" \"$@\"");
    ["sh".into(), "-c".into(), script]
}

fn code_after(script: &str, command: &[&str]) -> Running {
    let words = after(script);
    let rig = Rig::new(&["--"]).args(command).through(&[&words[0], &words[1], &words[2]]).start();
    rig.wait();
    rig
}

#[test]
fn the_childs_code_is_rinits() {
    for expected in [0, 1, 2, 7, 64, 70, 100, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255] {
        assert_eq!(code(Rig::new(&[]).fixture(&format!("exit={expected}"))), expected);
    }
}

#[test]
fn a_child_killed_by_signal_n_makes_it_128_plus_n() {
    for signal in [1, 2, 6, 9, 11, 13, 15, 31, 34, 35, 64] {
        let rig = Rig::new(&[]).fixture(&format!("crash={signal}"));
        let no_core_file = ["sh", "-c", "ulimit -c 0; exec \"$0\" \"$@\""];
        assert_eq!(code(rig.through(&no_core_file)), 128 + signal, "signal {signal}");
    }
}

#[test]
fn as_an_ordinary_process_it_ends_with_the_same_codes() {
    for (words, expected) in [("exit=0", 0), ("exit=77", 77), ("crash=KILL", 137), ("crash=TERM", 143)] {
        assert_eq!(code(Rig::new(&[]).fixture(words).not_pid_1()), expected, "{words}");
    }
}

#[test]
fn a_program_that_is_not_there_is_127_and_named() {
    for program in ["no-such-program", "/no/such/program", "/dev/null/program"] {
        let rig = Rig::new(&["--", program]).start();
        assert_eq!(rig.wait(), 127, "{program}");
        assert!(rig.output().stderr.iter().any(|line| line.starts_with("rinit: ") && line.contains(program)));
        assert_eq!(rig.output().stdout, [""; 0]);
    }
}

#[test]
fn an_empty_name_is_no_program() {
    assert_eq!(code(Rig::new(&["--", ""])), 127);
}

#[test]
fn a_script_with_a_missing_interpreter_is_127_and_named_so() {
    let rig = code_after("printf '#!/no/such/interpreter\\n' >script; chmod +x script", &["./script"]);
    assert_eq!(rig.wait(), 127);
    assert!(rig.output().has("interpreter"), "{:?}", rig.output());
}

#[test]
fn a_script_with_the_line_ends_of_windows_is_127_and_they_are_named() {
    let rig = code_after("printf '#!/bin/sh\\r\\nexit 0\\r\\n' >script; chmod +x script", &["./script"]);
    assert_eq!(rig.wait(), 127);
    assert!(rig.output().has("CRLF"), "{:?}", rig.output());
}

#[test]
fn a_limit_that_keeps_the_child_from_starting_is_named_with_the_option_that_sets_it() {
    for name in ["rinit", "tini"] {
        let rig =
            Rig::new(&["--", "true"]).called(name).through(&["sh", "-c", "ulimit -n 4; exec \"$0\" \"$@\""]).start();
        assert_eq!(rig.wait(), if name == "tini" { 1 } else { 70 });
        assert!(rig.output().has("the limit on open files is reached (ulimit -n)"), "{name}: {:?}", rig.output());
    }
}

#[test]
fn a_file_that_cannot_be_run_is_126() {
    for program in ["/", "/etc/passwd"] {
        let rig = Rig::new(&["--", program]).start();
        assert_eq!(rig.wait(), 126, "{program}");
        assert!(rig.output().stderr.iter().any(|line| line.starts_with("rinit: ") && line.contains(program)));
    }
    let rig = code_after("printf 'no program' >file", &["./file"]);
    assert_eq!(rig.wait(), 126);
}

#[test]
fn a_file_in_path_that_cannot_be_run_does_not_hide_one_that_can() {
    let files = "mkdir a b; printf 'exit 1' >a/tool; printf 'exit 5' >b/tool; chmod +x b/tool; PATH=a:b:$PATH";
    assert_eq!(code_after(files, &["tool"]).wait(), 5);
    let files = "mkdir a; printf 'exit 1' >a/tool; PATH=a:$PATH";
    assert_eq!(code_after(files, &["tool"]).wait(), 126);
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh_with_its_arguments() {
    let script = "printf 'echo \"$# $1 $2\"; exit 5' >script; chmod +x script";
    let rig = code_after(script, &["./script", "one word", "two"]);
    assert_eq!((rig.wait(), said(&rig, "2 one word two")), (5, 1));
    let in_path = format!("{script}; PATH=.:$PATH");
    let rig = code_after(&in_path, &["script", "a", "b"]);
    assert_eq!((rig.wait(), said(&rig, "2 a b")), (5, 1));
}

#[test]
fn e_makes_codes_a_success_and_leaves_all_others() {
    let run = |flags: &[&str], words: &str| code(Rig::new(flags).fixture(words));
    assert_eq!(run(&["-e", "3", "--"], "exit=3"), 0);
    assert_eq!(run(&["-e", "3", "--"], "exit=4"), 4);
    assert_eq!(run(&["-e3", "-e", "255", "-e", "0", "--"], "exit=255"), 0);
    // A death by a signal counts as its code, and 143 alone as SIGTERM's.
    assert_eq!(run(&["-e", "143", "--"], "crash=TERM"), 0);
    assert_eq!(run(&["-e", "143", "--"], "exit=143"), 0);
    assert_eq!(run(&["-e", "15", "--"], "crash=TERM"), 143);
    assert_eq!(run(&["-e", "143", "--"], "crash=INT"), 130);
}

#[test]
fn e_counts_for_a_program_that_cannot_be_run_too() {
    assert_eq!(code(Rig::new(&["-e", "127", "--", "no-such-program"])), 0);
    assert_eq!(code(Rig::new(&["-e", "126", "--", "/"])), 0);
    assert_eq!(code(Rig::new(&["-e", "126", "--", "no-such-program"])), 127);
}

#[test]
fn options_that_cannot_be_used_are_refused_with_64_and_nothing_is_started() {
    let refused: [&[&str]; 17] = [
        &["-e", "256"],
        &["-e", "-1"],
        &["-e", "three"],
        &["-e", ""],
        &["-p", "SIGNOTHING"],
        &["-r", "TERM"],
        &["-r", "0:15"],
        &["-r", "15:65"],
        &["-r", "15:"],
        &["--rewrite", "NOTHING:TERM"],
        &["--linger", "5"],
        &["--linger", "long"],
        &["--linge", "5s"],
        &["-x"],
        &["--no-such-option"],
        &["--restart", "never"],
        &["-e"],
    ];
    for options in refused {
        let rig = Rig::new(options).arg("--").fixture("say=started").start();
        assert_eq!(rig.wait(), 64, "{options:?}");
        assert!(rig.output().stdout.is_empty(), "{options:?}");
        assert!(rig.output().stderr.iter().any(|line| line.contains(options[0])), "{options:?}: {:?}", rig.output());
    }
    for line in [&[][..], &["--"], &["-w", "-g"]] {
        assert_eq!(code(Rig::new(line)), 64, "{line:?}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let rig = Rig::new(&["-e", "256", "-p", "SIGNOTHING", "-x", "--"]).fixture("exit=0");
    let rig = rig.env("RINIT_LINGER", "5").env("RINIT_REWRITE", "TERM").start();
    assert_eq!(rig.wait(), 64);
    for name in ["-e", "-p", "-x", "RINIT_LINGER=\"5\"", "RINIT_REWRITE=\"TERM\""] {
        assert!(rig.output().stderr.iter().any(|line| line.trim_start().starts_with(name)), "{name}");
    }
}

#[test]
fn arguments_behind_the_command_are_the_commands() {
    let rig = Rig::new(&["-g", "sh", "-c", "echo \"$0 $*\"; exit 4", "-w", "--version", "-e", "4"]).start();
    assert_eq!((rig.wait(), said(&rig, "-w --version -e 4")), (4, 1));
    let rig = Rig::new(&["--", fixture().to_str().unwrap(), "say=--"]).start();
    assert_eq!((rig.wait(), said(&rig, "--")), (0, 1));
}

#[test]
fn a_success_is_silent() {
    let rig = Rig::new(&["-s", "--"]).fixture("child=exit=0 orphans=2 exit=0").start();
    assert_eq!(rig.wait(), 0);
    assert_eq!((rig.output().stdout.len(), rig.output().stderr.len()), (0, 0));
}

#[test]
fn version_license_and_help_are_printed() {
    let told = |flag: &str| {
        let rig = Rig::new(&[flag]).start();
        assert_eq!((rig.wait(), rig.output().stderr.len()), (0, 0), "{flag}");
        rig.output().stdout
    };
    for flag in ["--version", "-V"] {
        assert_eq!(told(flag), [format!("rinit {}", env!("CARGO_PKG_VERSION"))]);
    }
    for flag in ["--license", "-l"] {
        assert!(told(flag)[0].contains("MIT"));
    }
    for flag in ["--help", "-h"] {
        let help = told(flag).join("\n");
        assert!(["--linger", "--rewrite", "--single-child", "-e CODE"].iter().all(|option| help.contains(option)));
    }
}
