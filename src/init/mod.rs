//! Runs init mode: one child, whose life is the container's, as tini, dumb-init and Docker's init do.
//!
//! A straight line and one loop: block signals, start the child, then take signals, forward them and collect processes
//! that end, until the child has ended.

mod job;
mod linger;
mod options;

pub use options::{Codes, Options, Subreaper, Verbosity};

use crate::core::{Exit, Signal};
use crate::sys::process::{
    Child, PID_PLACEHOLDER, Program, Properties, Session, Setup, exec_result, kill, spawn, why_not_now,
};
use crate::sys::signals::{self, Caught, Inherited, Sender};
use crate::sys::{adopt_orphans, adopts_orphans, die_with_parent, raw_environment, reap, tty};
use job::Job;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;

/// Runs the command as the only child. Returns its exit code, or the code of the failure.
pub fn run(options: &Options, inherited: Inherited) -> u8 {
    options.warnings.iter().for_each(|warning| options.warn(warning));
    let is_pid_1 = nix::unistd::getpid().as_raw() == 1;
    if let Some(signal) = options.parent_death
        && let Err(error) = die_with_parent(signal)
    {
        options.warn(&format!("cannot get {signal} at the parent's death: {error}"));
    }
    become_parent_of_orphans(options, is_pid_1);

    signals::keep_zombies();
    // A session of its own needs the terminal that rinit's has. Giving it up raises these two signals here, for rinit.
    if options.session && tty::give_up_terminal() {
        signals::discard(Signal::HUP);
        signals::discard(Signal::CONT);
    }
    let setup = Setup {
        stdio: [None; 3],
        pass: &[],
        session: if options.session { Session::New } else { Session::Group },
        user: None,
        signals: if options.reset_signals { Inherited::clean() } else { inherited },
        foreground: !options.session && tty::owns_foreground(),
        oom_score_adj: None,
        parent_death: None,
        properties: &Properties::default(),
    };
    let child = Program::new(&options.command, &environment()).and_then(|mut program| {
        spawn(&mut program, &setup).map_err(|errno| why_not_now(errno).unwrap_or(errno.desc()).to_owned())
    });
    let child = match child {
        Ok(child) => child,
        Err(why) => return options.fail(&format!("cannot start {}: {why}", options.program()), options.codes.internal),
    };
    options.info(&format!("started {} as process {}", options.program(), child.pid));
    // The child keeps the working directory; rinit keeps no file system from being unmounted.
    let _ = std::env::set_current_dir("/");
    if !options.forward_faults {
        signals::leave_faults_to_the_kernel();
    }
    let mut job = Job::new(child.pid, !options.session, is_pid_1);
    let exit = match wait_for(&child, &mut job, options, is_pid_1) {
        Ok(exit) => exit,
        Err(error) => {
            // Without PID 1 the kernel ends it anyway.
            let _ = kill(Pid::from_raw(-child.pid.as_raw()), Signal::KILL);
            return options.fail(&format!("cannot wait for {}: {error}", options.program()), options.codes.internal);
        }
    };
    job.take_terminal_back();
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

fn become_parent_of_orphans(options: &Options, is_pid_1: bool) {
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
    } else if !adopts_orphans() {
        options.warn(
            "not running as PID 1, and not a child subreaper (-s or TINI_SUBREAPER): zombie reaping won't work here",
        );
    }
}

/// The environment as it is, but a `LISTEN_PID` that names rinit will name the child.
fn environment() -> Vec<OsString> {
    let own = format!("LISTEN_PID={}", std::process::id());
    let childs = format!("LISTEN_PID={PID_PLACEHOLDER}");
    raw_environment().into_iter().map(|entry| if entry == *own { childs.clone().into() } else { entry }).collect()
}

/// The loop. Returns when the child has ended and the processes that it leaves behind had their time.
///
/// # Errors
/// The kernel refuses to wait for processes or signals.
fn wait_for(child: &Child, job: &mut Job, options: &Options, is_pid_1: bool) -> io::Result<Exit> {
    loop {
        while let Some((pid, exit)) = reap::peek()? {
            if pid == child.pid {
                // Until it is collected, its group's number is its own.
                if options.terminate_group
                    && let Some(signal) = options.forwarded_as(Signal::TERM)
                {
                    let _ = kill(Pid::from_raw(-pid.as_raw()), signal);
                }
                linger::wait(child.pid, options.linger, is_pid_1)?;
                reap::collect(pid);
                return Ok(exit);
            }
            reap::collect(pid);
            if options.warn_reaped {
                options.warn(&format!("Reaped zombie process with pid={pid}"));
            }
        }
        job.follow_stop();
        match signals::wait(None)? {
            None | Some(Caught { signal: Signal::CHLD, .. }) => {}
            Some(Caught { signal: Signal::CONT, .. }) if job.on_continued() => {}
            // The kernel's answer to what rinit itself does: its messages, its processor time.
            Some(Caught { signal: Signal::PIPE | Signal::XCPU | Signal::XFSZ, sender: Sender::Kernel }) => {}
            Some(Caught { signal, .. }) => {
                forward(signal, child.pid, options);
                // As the terminal would stop the whole job. PID 1 goes on: its own SIGSTOP would not stop it, but would take a SIGCONT
                // away that has just come for the child (POSIX, "Signal Generation and Delivery").
                let stops = matches!(signal, Signal::TSTP | Signal::TTIN | Signal::TTOU);
                if options.stops_itself && !is_pid_1 && stops {
                    job.stop_itself();
                }
            }
        }
    }
}

fn forward(signal: Signal, child: Pid, options: &Options) {
    if let Some(sent) = options.forwarded_as(signal) {
        let target = if options.group || options.session { Pid::from_raw(-child.as_raw()) } else { child };
        // A child that has no session yet has no group of that number; it still gets what is sent to it alone.
        match kill(target, sent).or_else(|_| kill(child, sent)) {
            Ok(()) => options.debug(&format!("forwarded {sent} to {target}")),
            Err(Errno::EPERM) => options.warn(&format!(
                "cannot forward {sent} to process {child}: not permitted: it runs as another user, and rinit lacks CAP_KILL \
                 (docker run --cap-add KILL), or a security profile (AppArmor, seccomp) forbids it"
            )),
            Err(errno) => options.debug(&format!("cannot forward {sent} to {target}: {}", errno.desc())),
        }
    }
}
