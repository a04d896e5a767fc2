//! Builds the core's policy of an app from its settings.

use super::probe::LiveCheck;
use super::settings::AppSettings;
use crate::core::{DrainKind, Kind, OnExit, Policy, Scaling, StopPolicy};
use crate::ports::Sharing;

/// The policy by which the core runs that many workers of an app whose workers share ports by those mechanisms.
/// `sees_listening`: rinit can see whether they listen; `has_pre_stop`: a command comes before a worker's stop.
pub(super) fn policy(
    settings: &AppSettings,
    instances: u32,
    sharing: Sharing,
    sees_listening: bool,
    has_pre_stop: bool,
) -> Policy {
    Policy {
        kind: Kind::Service,
        after: Vec::new(),
        on_exit: OnExit::EndOnFailure,
        scaling: Scaling::fixed(),
        instances,
        restart: settings.restart,
        stop_exit_codes: settings.stop_exit_codes.iter().flat_map(|codes| &codes.0).copied().collect(),
        min_uptime: settings.min_uptime,
        stable_after: settings.stable_after,
        max_restarts: settings.max_restarts,
        backoff: settings.backoff,
        readiness: settings.ready.rule(sees_listening),
        ready_timeout: settings.ready_timeout.0,
        live_failures: if settings.live == LiveCheck::Off { 0 } else { settings.live_failures.0 },
        stop: StopPolicy {
            signal: settings.stop_signal,
            timeout: settings.stop_timeout,
            request: match settings.stop_message {
                true => Some(DrainKind::Message),
                false if sharing.cluster => Some(DrainKind::Cluster),
                false => has_pre_stop.then_some(DrainKind::Hook),
            },
            to_group: settings.kill_process_group,
        },
        max_uptime: settings.max_uptime.map(|time| time.0),
        max_memory: settings.max_memory,
        drain_delay: settings.drain_delay,
        reload: settings.reload,
    }
}
