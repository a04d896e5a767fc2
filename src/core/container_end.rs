//! Computes the container's exit code, and its reason.

use super::{App, AppResult, OnExit};

/// The end of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    /// Its exit code.
    pub code: u8,
    /// Its reason.
    pub reason: EndReason,
}

/// The reason for the container's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It was asked to stop.
    Stopped,
    /// Every worker has finished.
    Finished,
    /// Workers have failed for good.
    Failed {
        /// The exit status of the last one.
        status: u8,
    },
}

/// The exit code of a program that was killed: 128 + SIGKILL.
const KILLED: u8 = 137;

impl ContainerEnd {
    /// The end after a request to stop: 137 if a worker of any app had to be killed, else 0.
    pub(super) fn after_stop(apps: &[App]) -> ContainerEnd {
        let code = if apps.iter().any(App::had_to_kill) { KILLED } else { 0 };
        ContainerEnd { code, reason: EndReason::Stopped }
    }

    /// The end after a stop because of one app's result. A failure is one whatever status it came with: 0 becomes 1.
    pub(super) fn because_of(result: AppResult) -> ContainerEnd {
        match result {
            AppResult::Finished(0) => ContainerEnd { code: 0, reason: EndReason::Finished },
            AppResult::Finished(status) => ContainerEnd { code: status, reason: EndReason::Failed { status } },
            AppResult::Failed(_, status) => ContainerEnd { code: status.max(1), reason: EndReason::Failed { status } },
        }
    }

    /// The end once every app has a result: with the status of the app that failed last, or, if none has failed, with the
    /// highest status. Apps whose end is to be ignored decide only where there are no others.
    pub(super) fn when_all_have_ended(apps: &[App]) -> Option<ContainerEnd> {
        let results: Vec<(OnExit, AppResult)> =
            apps.iter().map(|app| Some((app.policy().on_exit, app.result()?))).collect::<Option<_>>()?;
        let is_ignored = |on_exit: OnExit| on_exit == OnExit::Ignore;
        let are_all_ignored = results.iter().all(|(on_exit, _)| is_ignored(*on_exit));
        let (mut last_failure, mut highest) = (None, 0);
        for (on_exit, result) in results {
            match result {
                _ if is_ignored(on_exit) && !are_all_ignored => {}
                AppResult::Failed(time, status) => last_failure = last_failure.max(Some((time, status))),
                AppResult::Finished(status) => highest = highest.max(status),
            }
        }
        Some(match last_failure {
            Some((time, status)) => ContainerEnd::because_of(AppResult::Failed(time, status)),
            None => ContainerEnd { code: highest, reason: EndReason::Finished },
        })
    }
}
