//! Watches the connections that a worker has accepted, from outside, until its stop signal costs no request.
//!
//! A program that is no worker of Node's cluster module is not asked to finish. The kernel knows of each connection what was
//! sent last: the client's request, or the program's answer (sock_diag(7)).

use super::hub::Hub;
use super::own_listeners::{family, sockets_of};
use super::preload::Broker;
use super::worker::notify;
use crate::core::{Signal, WorkerId};
use crate::ordered::ordered;
use crate::sys::sock_diag::{Connection, connections};
use crate::sys::socket::unread;
use crate::sys::{pause, spawn_thread};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The time between two looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// The number of looks after which a worker without a request is believed to have none. Between the packet of its turn and the
/// connection that it accepts it has nothing that can be seen, and on a busy machine it may not run for some milliseconds. There are
/// no new turns in that time.
const MIN_LOOKS: u128 = 3;
/// The time for which nothing is sent on a connection that counts as idle: a program may send an answer in several parts.
const IDLE_AFTER: Duration = Duration::from_millis(500);

/// A worker that is to stop.
pub(super) struct Leaving {
    pub(super) pid: Pid,
    /// The ports where it listens.
    pub(super) ports: BTreeSet<u16>,
    /// Its ends of its accept queues.
    pub(super) queues: Vec<Arc<OwnedFd>>,
    /// The stop signal.
    pub(super) signal: Signal,
    /// The longest wait if the program handles that signal: it finishes its connections by itself.
    pub(super) handled_after: Duration,
    /// The longest wait if it does not.
    pub(super) ended_after: Duration,
}

impl Hub {
    /// Waits for the end of what a worker has under way.
    pub(super) fn drain_connections(
        &mut self,
        id: WorkerId,
        signal: Signal,
        handled_after: Duration,
        ended_after: Duration,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(pid) = worker.broker.as_ref().and_then(Broker::owner) else { return worker.notifiers.on_finished() };
        let listeners = worker.servers.iter().filter_map(|server| self.listeners.get(&server.listener));
        let open = listeners.filter_map(|listener| Some(listener.sockname()?.port()));
        let ports = ordered(open.chain(worker.closed_ports.iter().copied()));
        let queues = worker.queues().map(|(_, queue)| queue.worker_end()).collect();
        let mut finished = std::mem::take(&mut worker.notifiers.finished);
        let leaving = Leaving { pid, ports, queues, signal, handled_after, ended_after };
        // Without a thread for it the worker gets its signal at once.
        let _ = leaving.watch(move || notify(&mut finished));
    }
}

impl Leaving {
    /// Calls `done` when the worker has nothing under way, or its time is over: on a thread of its own. At once if rinit may
    /// not look at the worker.
    ///
    /// # Errors
    /// The kernel has no room for a thread.
    pub(super) fn watch(self, done: impl FnOnce() + Send + 'static) -> io::Result<()> {
        spawn_thread("connections", move || {
            let is_handled = handles(self.pid, self.signal);
            let limit = if is_handled { self.handled_after } else { self.ended_after };
            let looks = limit.as_millis() / CHECK_INTERVAL.as_millis();
            let min_looks = if self.ports.is_empty() { 1 } else { MIN_LOOKS };
            for look in 1..=looks {
                if look >= min_looks && !self.is_busy(is_handled) {
                    break;
                }
                pause(CHECK_INTERVAL);
            }
            done();
        })
    }

    /// True if a client waits for an answer. Of a program that does not handle the signal, which ends all of its connections,
    /// also those count that were used just now.
    fn is_busy(&self, is_handled: bool) -> bool {
        if self.queues.iter().any(|queue| unread(queue.as_fd()).is_ok_and(|bytes| bytes > 0)) {
            return true;
        }
        let own: BTreeSet<u64> = ordered(family(self.pid).into_iter().flat_map(sockets_of));
        let all = self.ports.iter().filter_map(|port| connections(*port).ok()).flatten();
        let mut own = all.filter(|one| own.contains(&one.inode.into()));
        own.any(|one| has_request(&one) || !is_handled && one.sent_ago.min(one.received_ago) < IDLE_AFTER)
    }
}

/// True if the client waits for an answer. One that has just connected is about to send its request.
fn has_request(one: &Connection) -> bool {
    let is_unanswered = one.has_received && (!one.has_sent || one.received_ago < one.sent_ago);
    one.has_unread_or_unsent || is_unanswered || !one.has_received && one.received_ago < IDLE_AFTER
}

/// True if a process has a handler for that signal (`SigCgt`, proc_pid_status(5)).
fn handles(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal.number() - 1) & 1 == 1
}
