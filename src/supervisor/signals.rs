//! Decides the effect of each signal to the supervisor, and notices a stop signal that rinit was not told of.

use super::launches::Launches;
use crate::core::{Exit, ExitKind, Signal, SlotId, Time};
use crate::sys::signals::{Caught, Inherited, Sender};
use std::time::{Duration, Instant};

/// Stop signals that come within this time are one request: timeout(1) sends one to its child and one to the child's process
/// group, and both reach a child that leads no group of its own. On a busy machine it may wait for its turn between the two;
/// a person takes longer to ask again.
const ONE_STOP_REQUEST: Duration = Duration::from_millis(100);

/// The effect of a signal to rinit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// Collects processes that have ended.
    Reap,
    /// Stops the container.
    Stop,
    /// Reloads every app.
    Reload,
    /// Adds this many workers, or takes them away.
    Scale(i32),
    /// Sends the same signal to every worker.
    Forward,
    /// Stops rinit itself, as a shell's job.
    Suspend,
    /// Belongs to a request to stop that has been handled.
    StopRepeated,
    /// Has no effect.
    Nothing,
}

/// The table of the README: an effect for each signal and sender.
pub(super) struct SignalTable {
    /// The apps' stop signals (`--stop-signal`).
    pub(super) stop_signals: Vec<Signal>,
    pub(super) is_pid_1: bool,
    /// The signals that were ignored when rinit started.
    pub(super) inherited: Inherited,
    /// The time of the last request to stop.
    pub(super) stop_requested: Option<Instant>,
}

impl SignalTable {
    /// The effect of a signal that is received now. A stop signal that belongs to the last request has none.
    pub(super) fn receive(&mut self, caught: Caught, now: Instant) -> SignalAction {
        let action = self.action(caught);
        if action == SignalAction::Stop {
            if self.stop_requested.is_some_and(|at| now.saturating_duration_since(at) < ONE_STOP_REQUEST) {
                return SignalAction::StopRepeated;
            }
            self.stop_requested = Some(now);
        }
        action
    }

    /// The effect of the signal. What a process sends is meant for the container, and all but a few signals for its
    /// workers. What the kernel or the terminal sends is meant for rinit: the workers have no terminal, and limits and
    /// timers of their own.
    fn action(&self, Caught { signal, sender }: Caught) -> SignalAction {
        match (sender, signal) {
            (_, Signal::CHLD) => SignalAction::Reap,
            (Sender::Process, signal) if self.stop_signals.contains(&signal) => SignalAction::Stop,
            (Sender::Process, Signal::TERM | Signal::INT | Signal::QUIT) => SignalAction::Stop,
            (Sender::Process, Signal::HUP) => SignalAction::Reload,
            (Sender::Process, Signal::TTIN) => SignalAction::Scale(1),
            (Sender::Process, Signal::TTOU) => SignalAction::Scale(-1),
            (Sender::Process, _) => SignalAction::Forward,
            // As under nohup, or in the background of a script.
            (Sender::Kernel, signal) if self.inherited.is_ignored(signal) => SignalAction::Nothing,
            (Sender::Kernel, Signal::TERM | Signal::INT | Signal::QUIT) => SignalAction::Stop,
            // The terminal is gone. A container goes on without it.
            (Sender::Kernel, Signal::HUP) if !self.is_pid_1 => SignalAction::Stop,
            // Ctrl-Z. PID 1 cannot be stopped.
            (Sender::Kernel, Signal::TSTP) if !self.is_pid_1 => SignalAction::Suspend,
            (Sender::Kernel, _) => SignalAction::Nothing,
        }
    }
}

/// A worker that ends this soon after a signal was forwarded has probably ended because of it.
const ENDED_BY_SIGNAL_WITHIN: Duration = Duration::from_secs(2);

/// Notices that a forwarded signal has stopped a worker: then it is probably the image's stop signal, and the container
/// will be killed rather than stop.
#[derive(Default)]
pub(super) struct StopSignalHint {
    forwarded: Option<(Signal, Time)>,
    /// The hint is given once.
    is_given: bool,
}

impl StopSignalHint {
    pub(super) fn on_forwarded(&mut self, signal: Signal, now: Time) {
        self.forwarded = Some((signal, now));
    }

    /// Says which setting is missing, when a forwarded signal has probably stopped the slot's worker, which was not asked to
    /// stop.
    pub(super) fn on_exit(&mut self, slot: SlotId, launches: &Launches, exit: Exit, now: Time) {
        if let Some(signal) = self.cause(exit, now)
            && let Some(launch) = launches.get(slot.app)
        {
            tracing::warn!(
                "{}-{} ended right after {signal} was forwarded to it; if {signal} is to stop the container (STOPSIGNAL), \
                 set --stop-signal {signal}",
                launch.app.name,
                slot.index
            );
        }
    }

    /// The signal that has probably ended a worker that was not asked to stop.
    fn cause(&mut self, exit: Exit, now: Time) -> Option<Signal> {
        let (signal, at) = self.forwarded?;
        let is_soon = now.saturating_sub(at) <= ENDED_BY_SIGNAL_WITHIN;
        let is_graceful = exit.kind == ExitKind::Code(0) || exit.kind == ExitKind::Signal(signal);
        if self.is_given || !is_soon || !is_graceful {
            return None;
        }
        self.is_given = true;
        Some(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(signal: Signal, sender: Sender, stop_signal: Signal, is_pid_1: bool) -> SignalAction {
        let table = SignalTable {
            stop_signals: vec![stop_signal],
            is_pid_1,
            inherited: Inherited::clean(),
            stop_requested: None,
        };
        table.action(Caught { signal, sender })
    }

    fn sent(signal: Signal) -> SignalAction {
        action(signal, Sender::Process, Signal::TERM, true)
    }

    fn raised(signal: Signal, is_pid_1: bool) -> SignalAction {
        action(signal, Sender::Kernel, Signal::TERM, is_pid_1)
    }

    #[test]
    fn a_process_stops_reloads_and_scales_and_all_other_signals_are_forwarded() {
        let expected = |signal| match signal {
            Signal::CHLD => SignalAction::Reap,
            Signal::TERM | Signal::INT | Signal::QUIT => SignalAction::Stop,
            Signal::HUP => SignalAction::Reload,
            Signal::TTIN => SignalAction::Scale(1),
            Signal::TTOU => SignalAction::Scale(-1),
            _ => SignalAction::Forward,
        };
        for signal in Signal::catchable() {
            assert_eq!(sent(signal), expected(signal), "{signal}");
        }
    }

    #[test]
    fn the_kernel_and_the_terminal_never_reach_a_worker() {
        for is_pid_1 in [false, true] {
            for signal in Signal::catchable() {
                let expected = match signal {
                    Signal::CHLD => SignalAction::Reap,
                    Signal::TERM | Signal::INT | Signal::QUIT => SignalAction::Stop,
                    Signal::HUP if !is_pid_1 => SignalAction::Stop,
                    Signal::TSTP if !is_pid_1 => SignalAction::Suspend,
                    _ => SignalAction::Nothing,
                };
                assert_eq!(raised(signal, is_pid_1), expected, "{signal}, PID 1: {is_pid_1}");
            }
        }
    }

    #[test]
    fn the_apps_stop_signal_stops_the_container_when_a_process_sends_it_and_not_when_the_terminal_does() {
        for signal in [Signal::WINCH, Signal::USR2, Signal::QUIT, Signal::HUP, Signal::RTMIN] {
            assert_eq!(action(signal, Sender::Process, signal, true), SignalAction::Stop, "{signal}");
            assert_eq!(action(Signal::TERM, Sender::Process, signal, true), SignalAction::Stop, "SIGTERM still does");
        }
        assert_eq!(action(Signal::WINCH, Sender::Kernel, Signal::WINCH, true), SignalAction::Nothing, "a resize");
    }

    #[test]
    fn stop_signals_of_one_moment_are_one_request_and_a_later_one_is_another() {
        let mut table = SignalTable {
            stop_signals: vec![Signal::TERM],
            is_pid_1: true,
            inherited: Inherited::clean(),
            stop_requested: None,
        };
        let start = crate::supervisor::event_loop::now();
        let mut at = |signal, milliseconds| {
            table.receive(Caught { signal, sender: Sender::Process }, start + Duration::from_millis(milliseconds))
        };
        assert_eq!(at(Signal::TERM, 0), SignalAction::Stop);
        assert_eq!(at(Signal::TERM, 30), SignalAction::StopRepeated, "timeout(1) sends two");
        assert_eq!(at(Signal::INT, 99), SignalAction::StopRepeated);
        assert_eq!(at(Signal::HUP, 99), SignalAction::Reload, "no other signal is held back");
        assert_eq!(at(Signal::TERM, 100), SignalAction::Stop, "a storm cannot put off the second request");
    }

    #[test]
    fn a_signal_that_ends_a_worker_at_once_is_named_once() {
        let (second, late) = (Duration::from_secs(1), Duration::from_secs(60));
        let winch = Signal::WINCH;
        let hint = |exit, at| {
            let mut hint = StopSignalHint::default();
            hint.on_forwarded(winch, Time::ZERO);
            (hint.cause(exit, at), hint.cause(exit, at))
        };
        assert_eq!(hint(Exit::code(0), second), (Some(winch), None));
        assert_eq!(hint(Exit::signal(winch), second), (Some(winch), None));
        assert_eq!(hint(Exit::code(1), second), (None, None), "a crash");
        assert_eq!(hint(Exit::code(0), late), (None, None));
        assert_eq!(StopSignalHint::default().cause(Exit::code(0), second), None);
    }
}
