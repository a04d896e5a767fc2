//! Builds the core's policy of an app from its settings.

use super::ready::ReadyCheck;
use super::settings::AppSettings;
use crate::core::{DrainKind, Policy, Readiness, ReadySignal, StopPolicy};
use crate::ports::Ways;

/// The policy by which the core runs that many workers of an app whose workers share ports in those ways.
pub(super) fn policy(settings: &AppSettings, instances: u32, ways: Ways) -> Policy {
    Policy {
        instances,
        restart: settings.restart,
        stop_exit_codes: settings.stop_exit_codes.iter().flat_map(|codes| &codes.0).copied().collect(),
        min_uptime: settings.min_uptime,
        stable_after: settings.stable_after,
        max_restarts: settings.max_restarts,
        backoff: settings.backoff,
        readiness: match &settings.ready {
            ReadyCheck::Auto => Readiness::Auto { sees_listening: ways.cluster || ways.preload },
            ReadyCheck::Spawn => Readiness::Spawn,
            ReadyCheck::Uptime => Readiness::Uptime,
            ReadyCheck::Message => Readiness::Signal(ReadySignal::Message),
            ReadyCheck::Listen => Readiness::Signal(ReadySignal::Listen),
            ReadyCheck::Notify => Readiness::Signal(ReadySignal::Notify),
            ReadyCheck::Fd(_) | ReadyCheck::Tcp(_) | ReadyCheck::Http { .. } | ReadyCheck::Exec(_) => {
                Readiness::Signal(ReadySignal::Probe)
            }
        },
        ready_timeout: settings.ready_timeout.0,
        live_failures: 0,
        stop: StopPolicy {
            signal: settings.stop_signal,
            timeout: settings.stop_timeout,
            request: match settings.stop_message {
                true => Some(DrainKind::Message),
                false => ways.cluster.then_some(DrainKind::Cluster),
            },
            to_group: false,
        },
        drain_delay: settings.drain_delay,
        reload: settings.reload,
    }
}
