//! Which way an app's ports are shared.

use super::node::{Script, has_cluster_worker};
use super::preload::{Library, obstacle};
use std::ffi::OsString;
use std::sync::Arc;

/// `--share-ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Node's own scripts by its cluster module, and everything by the preloaded library.
    Auto,
    /// As Node's primary, whatever the command looks like.
    Node,
    /// By the preloaded library alone.
    Preload,
    /// Not at all.
    Off,
}

/// `--balance`: how connections reach workers that share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// rinit accepts them and hands them out in turn.
    RoundRobin,
    /// A socket for each slot; the kernel spreads by the connections' addresses.
    Reuseport,
    /// Every worker accepts from one socket.
    Shared,
}

/// What a worker of an app is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// It is a worker of Node's cluster module.
    pub cluster: bool,
    /// It has Node's channel.
    pub channel: bool,
    /// The library is preloaded into it.
    pub preload: bool,
}

/// The same, with what it takes.
#[derive(Clone, Default)]
pub struct Way {
    /// It is a worker of Node's cluster module.
    pub cluster: bool,
    /// It has Node's channel.
    pub channel: bool,
    /// The library.
    pub preload: Option<Arc<Library>>,
    /// The script that is added to Node's workers.
    pub script: Option<Arc<Script>>,
}

impl Ways {
    /// For that command. `talks`: the channel is needed for messages.
    pub fn of(command: &[OsString], share: Share, talks: bool) -> Ways {
        let cluster = match share {
            Share::Auto => has_cluster_worker(command),
            Share::Node => true,
            Share::Preload | Share::Off => false,
        };
        Ways { cluster, channel: cluster || talks, preload: matches!(share, Share::Auto | Share::Preload) }
    }
}

impl Way {
    /// Makes what these ways take. Where something of it cannot be had, the app runs without, and a line says so.
    pub fn open(ways: Ways, app: &str, command: &[OsString], takes_sockets: bool) -> Way {
        let mut way = Way { cluster: ways.cluster, channel: ways.channel, ..Way::default() };
        if ways.channel {
            match Script::write() {
                Ok(script) => way.script = Some(Arc::new(script)),
                Err(error) => tracing::warn!(
                    "{app}: no script for its workers could be written to /dev/shm, /run or /tmp ({error}): requests on keep-alive connections may be lost at a reload"
                ),
            }
        }
        if ways.preload {
            match Library::open() {
                Ok(library) => way.preload = Some(Arc::new(library)),
                Err(why) => tracing::info!("{app}: bind() of its workers is not shared: {why}"),
            }
            // A program that static or foreign starts others that are not.
            if let Some(why) = obstacle(command).filter(|_| !takes_sockets && !ways.cluster) {
                tracing::info!(
                    "{app}: its ports are not shared: {why}; several workers need SO_REUSEPORT, --listen or --increment-env"
                );
            }
        }
        way
    }
}

impl Balance {
    /// How workers with the preloaded library share a port: they accept themselves.
    pub(super) fn by_preload(self) -> &'static str {
        match self {
            Balance::RoundRobin | Balance::Shared => "they accept from one socket",
            Balance::Reuseport => "each has a socket of its own",
        }
    }
}
