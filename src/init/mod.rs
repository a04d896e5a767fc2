//! Init mode: one child, whose life is the container's. What tini, dumb-init and Docker's init do.
//!
//! A straight line and one loop: catch signals, start the child, then wait for signals, forwarding them and collecting
//! whatever ends, until the child has.

mod linger;
mod options;

pub use options::{Codes, Options, Subreaper, Verbosity};

use crate::core::{Exit, Signal};
use crate::sys::process::{Child, PID_ROOM, Program, Session, Setup, exec_result, kill, spawn};
use crate::sys::signals::{self, Inherited};
use crate::sys::{adopt_orphans, die_with_parent, pair, reap, tty};
use nix::unistd::Pid;
use std::ffi::OsString;

/// Runs the command as the only child and returns its exit code, or the code of what went wrong.
pub fn run(options: &Options, inherited: Inherited) -> u8 {
    options.warnings.iter().for_each(|warning| options.warn(warning));
    let is_pid_1 = nix::unistd::getpid().as_raw() == 1;
    if let Some(signal) = options.parent_death
        && let Err(error) = die_with_parent(signal)
    {
        options.warn(&format!("{signal} at the parent's death cannot be had: {error}"));
    }
    take_orphans(options, is_pid_1);

    signals::keep_zombies();
    // A session of its own needs the terminal that rinit's has. Giving it up raises these two, here: not to be passed on.
    if options.session && tty::give_up_terminal() {
        signals::discard(Signal::HUP);
        signals::discard(Signal::CONT);
    }
    let foreground = !options.session && tty::owns_foreground();
    let setup = Setup {
        stdio: [None; 3],
        pass: &[],
        session: if options.session { Session::New } else { Session::Group },
        user: None,
        signals: if options.reset_signals { Inherited::clean() } else { inherited },
        foreground,
        oom_score_adj: None,
        parent_death: None,
    };
    let child = Program::new(&options.command, &environment())
        .and_then(|mut program| spawn(&mut program, &setup).map_err(|errno| errno.desc().to_owned()));
    let child = match child {
        Ok(child) => child,
        Err(why) => return options.fail(&format!("cannot start {}: {why}", options.program()), options.codes.internal),
    };
    options.info(&format!("started {} as process {}", options.program(), child.pid));
    if !options.forward_faults {
        signals::leave_faults_to_the_kernel();
    }
    let exit = wait_for(&child, options, is_pid_1);
    if foreground && !is_pid_1 {
        // The shell that started rinit in the foreground expects it there.
        tty::take_foreground();
    }
    let code = match exec_result(&child.outcome) {
        Some(Err(error)) => {
            let code = if error.status() == 127 { options.codes.not_found } else { options.codes.not_executable };
            options.fail(&error.explain(&options.program()), code)
        }
        Some(Ok(())) | None => {
            options.info(&format!("{} ended: {exit}", options.program()));
            exit.status()
        }
    };
    if options.success.contains(&code) { 0 } else { code }
}

fn take_orphans(options: &Options, is_pid_1: bool) {
    if is_pid_1 && !options.subreaper.is_always() {
        return;
    }
    if options.subreaper.is_wanted() {
        match adopt_orphans() {
            Ok(()) if is_pid_1 => {}
            Ok(()) => options.debug("not PID 1: orphans are taken in as a child subreaper"),
            Err(error) => {
                options.warn(&format!("not PID 1, and not a child subreaper: {error}: orphans are not reaped"))
            }
        }
    } else {
        options.warn(
            "not running as PID 1, and not a child subreaper (-s or TINI_SUBREAPER): zombies are not reaped here",
        );
    }
}

/// The environment as it is, but a `LISTEN_PID` that means rinit will mean the child.
fn environment() -> Vec<OsString> {
    let own = std::process::id().to_string();
    std::env::vars_os()
        .map(|(key, value)| {
            if key == "LISTEN_PID" && value == *own {
                return pair(key, PID_ROOM.as_ref());
            }
            pair(key, &value)
        })
        .collect()
}

/// The loop. Returns when the child has ended and what it leaves behind had its time.
fn wait_for(child: &Child, options: &Options, is_pid_1: bool) -> Exit {
    loop {
        while let Some((pid, exit)) = reap::peek() {
            if pid == child.pid {
                // Until it is collected, its group's number is its own.
                if options.terminate_group
                    && let Some(signal) = options.passed_on_as(Signal::TERM)
                {
                    let _ = kill(Pid::from_raw(-pid.as_raw()), signal);
                }
                linger::wait(child.pid, options.linger, is_pid_1);
                reap::collect(pid);
                return exit;
            }
            reap::collect(pid);
            if options.warn_reaped {
                options.warn(&format!("Reaped zombie process with pid={pid}"));
            }
        }
        match signals::wait(None) {
            Some(Signal::CHLD) | None => {}
            Some(signal) => forward(signal, child.pid, options),
        }
    }
}

fn forward(signal: Signal, child: Pid, options: &Options) {
    if let Some(sent) = options.passed_on_as(signal) {
        let target = if options.group || options.session { Pid::from_raw(-child.as_raw()) } else { child };
        // A child that has no session yet has no group of that number; it still gets what is sent to it alone.
        match kill(target, sent).or_else(|_| kill(child, sent)) {
            Ok(()) => options.debug(&format!("passed {sent} to {target}")),
            Err(errno) => options.debug(&format!("cannot pass {sent} to {target}: {}", errno.desc())),
        }
    }
    if options.session && matches!(signal, Signal::TSTP | Signal::TTIN | Signal::TTOU) {
        // As the terminal would stop the whole job; PID 1 cannot be stopped and goes on.
        let _ = kill(nix::unistd::getpid(), Signal::STOP);
    }
}
