//! Tests init mode, under rinit's own name and the names of the programs that it replaces.

mod child;
mod dumb_init;
mod exit_codes;
mod lifetime;
mod linger;
mod orphans;
mod restricted;
mod signals;
mod tini;

use crate::harness::{Rig, Running, children, eventually};

/// How often exactly this line was printed on stdout.
pub fn said(rig: &Running, line: &str) -> usize {
    rig.output().stdout.iter().filter(|said| *said == line).count()
}

/// Waits until the child has got that signal, as the fixture's `signals` tells it.
pub fn until_got(rig: &Running, signal: &str) {
    rig.until(&format!("it got {signal}"), |out| out.stdout.contains(&format!("got {signal}")));
}

/// The value behind that word in what the fixture's `state` printed.
pub fn state(rig: &Running, word: &str) -> String {
    rig.until("it told its state", |out| out.has("state pid"));
    let line = rig.output().stdout.into_iter().find(|line| line.starts_with("state ")).unwrap();
    let value = line.split(' ').skip_while(|part| *part != word).nth(1);
    value.unwrap_or_else(|| panic!("no {word} in {line}")).to_owned()
}

/// Starts rinit below a shell that is PID 1, tells `ended CODE`, and stays, so that what rinit leaves behind lives on.
pub fn below_a_shell(rig: Rig) -> Running {
    rig.through(&["sh", "-c", "ulimit -c 0; \"$0\" \"$@\"; echo ended $?; exec tail -f /dev/null"]).start()
}

/// The first process below the first one: rinit's own number if it was started below a shell.
pub fn first_below(rig: &Running) -> i32 {
    eventually("the shell has started it", || children(rig.pid()).first().copied())
}

/// Starts it, waits for its end, and gives the code.
pub fn code(rig: Rig) -> i32 {
    rig.start().wait()
}
