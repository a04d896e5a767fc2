//! Plans a worker's stop: the request, the idle connections, the signal and SIGKILL, each with its time.

use super::{DrainKind, Phase, Signal, StopPolicy, Worker};
use std::time::Duration;

/// The schedule of one worker's stop. All times count from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPlan {
    /// The worker is asked over its channel to finish, or is left alone to do it. Otherwise the stop starts with the signal.
    pub request: Option<DrainKind>,
    /// The time for which connections without a request stay open, so that no client's next request meets a closed one.
    pub idle_for: Duration,
    /// The time after which an app that handles the stop signal gets it at the latest, whatever connections it still has.
    pub handler_after: Duration,
    /// The stop signal.
    pub signal: Signal,
    /// The time after which the signal is sent to a worker that has not finished by then.
    pub signal_after: Duration,
    /// The signal goes to the worker's whole process group.
    pub to_group: bool,
    /// The time after which SIGKILL ends the worker's whole process group: the stop timeout.
    pub kill_after: Duration,
}

/// The circumstances of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopContext {
    /// The container goes on: clients with idle connections are given time to leave by themselves.
    Running,
    /// The app is going down, and somebody waits for its end.
    GoingDown,
}

/// Longer than the 5 s after which Node's HTTP server closes an idle connection (`server.keepAliveTimeout`), so that
/// clients that count on those 5 s are served.
const IDLE_WHILE_RUNNING: Duration = Duration::from_millis(5500);
const IDLE_WHILE_GOING_DOWN: Duration = Duration::from_secs(1);

impl StopPlan {
    /// Plans the stop of this worker.
    pub(super) fn new(policy: &StopPolicy, worker: &Worker, context: StopContext) -> StopPlan {
        let StopPolicy { signal, timeout, request, to_group } = *policy;
        // A worker that has served nothing has nothing to finish.
        let listens = worker.evidence.listens();
        let request = request.filter(|request| match request {
            DrainKind::Cluster | DrainKind::Message | DrainKind::Hook => {
                listens || matches!(worker.phase, Phase::Ready { .. })
            }
            DrainKind::Connections => listens,
        });
        let half = timeout / 2;
        let signal_after = match request {
            None => Duration::ZERO,
            Some(DrainKind::Message) => half,
            Some(DrainKind::Hook) if !listens => half,
            // The signal that ends an app without a handler comes late, but before SIGKILL.
            Some(DrainKind::Hook | DrainKind::Cluster | DrainKind::Connections) => timeout - timeout / 8,
        };
        let idle = match context {
            StopContext::Running => IDLE_WHILE_RUNNING,
            StopContext::GoingDown => IDLE_WHILE_GOING_DOWN,
        };
        StopPlan {
            request,
            // A request that comes at the very end of this time still has a fifth of it for its answer.
            idle_for: idle.min(signal_after * 4 / 5),
            handler_after: half.min(signal_after),
            signal,
            signal_after,
            to_group,
            kill_after: timeout,
        }
    }
}
