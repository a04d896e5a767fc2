//! Resolves `--share-ports`: which mechanisms share an app's ports, and the files that they add to its workers.

use super::node::{Script, has_cluster_worker};
use super::preload::{Library, unsupported_reason};
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

/// The mechanisms that share an app's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Its workers are workers of Node's cluster module.
    pub cluster: bool,
    /// Its workers have Node's channel.
    pub channel: bool,
    /// Its workers have the preloaded library.
    pub library: bool,
}

/// The files that rinit adds to an app's workers.
#[derive(Clone, Default)]
pub struct Injected {
    /// The preloaded library.
    pub library: Option<Arc<Library>>,
    /// The script that Node's workers load.
    pub script: Option<Arc<Script>>,
}

impl Sharing {
    /// The mechanisms for that command. `needs_channel`: the app exchanges messages with rinit.
    pub fn of(command: &[OsString], share: Share, needs_channel: bool) -> Sharing {
        let cluster = match share {
            Share::Auto => has_cluster_worker(command),
            Share::Node => true,
            Share::Preload | Share::Off => false,
        };
        let library = matches!(share, Share::Auto | Share::Preload);
        Sharing { cluster, channel: cluster || needs_channel, library }
    }

    /// True if rinit can see whether workers with that command listen: the library cannot be loaded into every program.
    pub fn sees_listening(self, command: &[OsString]) -> bool {
        self.cluster || self.library && unsupported_reason(command).is_none()
    }
}

impl Injected {
    /// Makes the files that `sharing` needs. The app runs without those that cannot be made, and a line in the log says so.
    /// `takes_sockets`: the app has sockets of `--listen`.
    pub fn new(sharing: Sharing, app: &str, command: &[OsString], takes_sockets: bool) -> Injected {
        let mut injected = Injected::default();
        if sharing.channel {
            match Script::write() {
                Ok(script) => injected.script = Some(Arc::new(script)),
                Err(error) => tracing::warn!(
                    "{app}: cannot write the script for its workers to /dev/shm, /run or /tmp ({error}): requests on keep-alive connections may be lost at a reload"
                ),
            }
        }
        if sharing.library {
            match Library::open() {
                Ok(library) => injected.library = Some(Arc::new(library)),
                Err(reason) => tracing::info!("{app}: bind() of its workers is not shared: {reason}"),
            }
            // A static or foreign program may still start others that are not: they get the library.
            if let Some(reason) = unsupported_reason(command).filter(|_| !takes_sockets && !sharing.cluster) {
                tracing::info!(
                    "{app}: its ports are not shared: {reason}; several workers need SO_REUSEPORT, --listen or --increment-env"
                );
            }
        }
        injected
    }
}
