//! Tests job control below an interactive shell, and the signals that the terminal sends to rinit.

use crate::harness::{Flag, Rig, Running, children, eventually, fixture, rinit, status_field};
use crate::terminal::{CTRL_C, CTRL_Z, IN_FRONT, Terminal};

/// An interactive shell with a terminal of its own, in which `$RINIT` and `$FIXTURE` are programs.
fn shell() -> (Running, Terminal) {
    let terminal = Terminal::new();
    // The shell is not rinit, but stands where the harness starts it.
    let mut words = IN_FRONT.to_vec();
    words.extend(["sh", "-c", "exec sh -i"]);
    let rig = Rig::new(&[]).stdin(terminal.line()).through(&words);
    let rig = rig.env("RINIT", rinit().to_str().unwrap()).env("FIXTURE", fixture().to_str().unwrap()).start();
    (rig, terminal)
}

/// Types a command, and waits until a line that contains `answer` is printed.
fn type_line(rig: &Running, terminal: &mut Terminal, line: &str, answer: &str) {
    terminal.press(&format!("{line}\n"));
    rig.until(&format!("{line}: {answer}"), |out| out.has(answer));
}

fn is_stopped(pid: i32) -> bool {
    status_field(pid, "State").starts_with('T')
}

fn is_alive(pid: i32) -> bool {
    let state = status_field(pid, "State");
    !state.is_empty() && !state.starts_with('Z')
}

/// The shell's only child, which is rinit, and rinit's own child.
fn job_of(rig: &Running) -> (i32, i32) {
    let own = eventually("rinit runs", || children(rig.pid()).first().copied());
    (own, eventually("its child runs", || children(own).first().copied()))
}

#[test]
fn ctrl_z_gives_the_shell_its_prompt_back_and_fg_the_terminal_to_the_child() {
    for name in ["rinit", "tini -s"] {
        let (rig, mut terminal) = shell();
        let command = match name {
            "rinit" => "\"$RINIT\" -- \"$FIXTURE\" up wait".to_owned(),
            _ => "D=$(mktemp -d); ln -s \"$RINIT\" $D/tini; $D/tini -s -- \"$FIXTURE\" up wait".to_owned(),
        };
        type_line(&rig, &mut terminal, &command, "up ");
        let (own, child) = job_of(&rig);
        for round in 1..=2 {
            terminal.press(CTRL_Z);
            eventually("both are stopped", || (is_stopped(own) && is_stopped(child)).then_some(()));
            type_line(&rig, &mut terminal, &format!("echo prompt$(({round}+0))"), &format!("prompt{round}"));
            terminal.press("fg\n");
            eventually("both go on", || (!is_stopped(own) && !is_stopped(child)).then_some(()));
        }
        // The child has the foreground again.
        terminal.press(CTRL_C);
        type_line(&rig, &mut terminal, "echo code$?", "code130");
    }
}

#[test]
fn a_job_that_was_sent_to_the_background_leaves_the_terminal_to_the_shell() {
    let (rig, mut terminal) = shell();
    let flag = Flag::new();
    let command = format!("\"$RINIT\" -- \"$FIXTURE\" up file={} say=through", flag.path());
    type_line(&rig, &mut terminal, &command, "up ");
    let (own, _) = job_of(&rig);
    rig.signal_pid(own, "STOP");
    type_line(&rig, &mut terminal, "echo first$((1+1))", "first2");
    terminal.press("bg\n");
    eventually("it goes on", || (!is_stopped(own)).then_some(()));
    flag.set();
    rig.until("it ends", |out| out.has("through"));
    // The shell collects it at its next prompt.
    eventually("it has ended", || (!is_alive(own)).then_some(()));
    type_line(&rig, &mut terminal, "echo second$((1+1))", "second2");
}

#[test]
fn a_child_that_reads_the_terminal_in_the_background_stops_the_job_until_fg() {
    let (rig, mut terminal) = shell();
    terminal.press("\"$RINIT\" -- sh -c 'read line; echo read $line' &\n");
    let (own, child) = job_of(&rig);
    eventually("both are stopped", || (is_stopped(own) && is_stopped(child)).then_some(()));
    terminal.press("fg\n");
    eventually("both go on", || (!is_stopped(own) && !is_stopped(child)).then_some(()));
    type_line(&rig, &mut terminal, "hello", "read hello");
    type_line(&rig, &mut terminal, "echo after$((1+1))", "after2");
}

#[test]
fn ctrl_z_stops_a_supervisor_below_a_shell_and_none_of_its_workers() {
    let (rig, mut terminal) = shell();
    let command = "\"$RINIT\" -i 2 --name web -- \"$FIXTURE\" signals";
    terminal.press(&format!("{command}\n"));
    rig.until("both are up", |out| out.count("| up ") == 2);
    let (own, _) = job_of(&rig);
    let workers = children(own);
    terminal.press(CTRL_Z);
    eventually("rinit is stopped", || is_stopped(own).then_some(()));
    type_line(&rig, &mut terminal, "echo prompt$((1+1))", "prompt2");
    assert!(workers.iter().all(|worker| !is_stopped(*worker)));
    terminal.press("fg\n");
    eventually("rinit goes on", || (!is_stopped(own)).then_some(()));
    assert!(!rig.output().has("got SIGTSTP"));
    terminal.press(CTRL_C);
    type_line(&rig, &mut terminal, "echo code$?", "code0");
}

#[test]
fn a_resize_ctrl_z_and_a_hang_up_of_its_terminal_change_nothing_for_a_supervisor_that_is_pid_1() {
    let mut terminal = Terminal::new();
    let rig = Rig::new(&["-i", "2", "--name", "web", "--log-level", "debug"]).fixture("signals");
    let rig = rig.stdin(terminal.line()).through(&IN_FRONT).start();
    rig.until("both are up", |out| out.count("| up ") == 2);
    terminal.resize();
    rig.until("it got the resize", |out| out.has("got SIGWINCH from the kernel"));
    terminal.press(CTRL_Z);
    rig.until("it got Ctrl-Z", |out| out.has("got SIGTSTP from the kernel"));
    drop(terminal);
    rig.until("it got the hang-up", |out| out.has("got SIGHUP from the kernel"));
    // What a process sends is forwarded, and comes after them.
    rig.signal("WINCH");
    rig.until("both got it", |out| out.count("| got SIGWINCH") == 2);
    let workers = rig.output().stdout.into_iter().filter(|line| line.contains("| got ")).collect::<Vec<_>>();
    assert_eq!(workers.len(), 2, "{workers:?}");
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_terminal_that_hangs_up_stops_a_supervisor_that_is_not_pid_1_unless_it_was_started_to_ignore_that() {
    // The harness' child leads a group, so it is not setsid itself that becomes rinit.
    const BELOW_SETSID: [&str; 3] = ["setsid", "--ctty", "--wait"];
    let start = |wrapper: &[&str]| {
        let terminal = Terminal::new();
        let rig = Rig::new(&["-i", "1", "--log-level", "debug"]).fixture("up wait").not_pid_1();
        let rig = rig.stdin(terminal.line()).through(wrapper).start();
        rig.until("it is up", |out| out.has("| up "));
        (rig, terminal)
    };
    let (rig, terminal) = start(&BELOW_SETSID);
    drop(terminal);
    assert_eq!(rig.wait(), 0);
    let (rig, terminal) = start(&[&BELOW_SETSID[..], &["env", "--ignore-signal=HUP"]].concat());
    drop(terminal);
    rig.until("it got the hang-up", |out| out.has("got SIGHUP from the kernel"));
    rig.signal_pid(children(rig.pid())[0], "TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_shell_that_passes_on_its_terminals_hang_up_stops_the_supervisor_and_one_that_sends_sighup_reloads() {
    // The shell leads the session and lives on, so the kernel sends nothing to rinit.
    const SHELL: &str = r#"exec 3<&0; trap 'kill -HUP $!' HUP USR1
        "$@" <&3 & while kill -0 $! 2>/dev/null; do wait $!; done"#;
    let terminal = Terminal::new();
    let rig = Rig::new(&["-i", "1", "--min-uptime", "10ms"]).fixture("up wait").not_pid_1().stdin(terminal.line());
    let rig = rig.through(&["setsid", "--ctty", "--wait", "sh", "-c", SHELL, "sh"]).start();
    rig.until("it is up", |out| out.has("| up "));
    rig.signal_pid(children(rig.pid())[0], "USR1");
    rig.until("it has reloaded", |out| out.has("reload to generation 2 done"));
    drop(terminal);
    rig.until("it stops", |out| out.has("asked to stop"));
    assert_eq!(rig.wait(), 0);
    assert!(!rig.output().has("generation 3"));
}
