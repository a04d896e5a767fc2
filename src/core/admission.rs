//! Judges what an operator asks for, before it becomes an event: what cannot come about is refused with the reason.

use super::{App, Desired, Event, Fleet, SlotId, Target};

/// The reason for which a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The container is stopping.
    Stopping,
    /// Nothing of that kind is there.
    NoSuchTarget,
    /// The configuration has the app no more: it is being removed.
    AppRemoved,
    /// The slot is being removed: it was deleted, or scaled down.
    BeingRemoved(SlotId),
    /// The app's last slot cannot be removed.
    LastSlot(SlotId),
}

impl Fleet {
    /// Judges an operator's event.
    ///
    /// # Errors
    /// The reason for which it cannot come about.
    pub fn admit(&self, event: &Event) -> Result<(), Refused> {
        if (event.is_change() || *event == Event::Shutdown) && self.is_stopping() {
            return Err(Refused::Stopping);
        }
        match event {
            Event::Reload(target) | Event::Start(target) | Event::Stop(target) | Event::Restart(target) => {
                self.is_there(*target)
            }
            Event::Scale(target, _) => self.is_there(*target),
            Event::Remove(target) => match target {
                // To be waited for: it is on its way.
                Target::Slot(id) if self.is_being_removed(*id) => Ok(()),
                Target::Slot(id) if self.app(id.app).is_some_and(|app| app.wanted() <= 1) => {
                    self.is_there(*target)?;
                    Err(Refused::LastSlot(*id))
                }
                Target::All | Target::App(_) | Target::Slot(_) => self.is_there(*target),
            },
            Event::Boot
            | Event::Tick
            | Event::Spawned(_)
            | Event::SpawnFailed(..)
            | Event::Bound(_)
            | Event::Listens(..)
            | Event::Ready(..)
            | Event::Probed(..)
            | Event::Sampled(_)
            | Event::Drained(_)
            | Event::Signalled(_)
            | Event::Exited(..)
            | Event::GroupEnded(_)
            | Event::Killed(_)
            | Event::SignalRefused(..)
            | Event::Prepared(..)
            | Event::AddApp(..)
            | Event::ConfigureApp(..)
            | Event::AdjustApp(..)
            | Event::RemoveApp(_)
            | Event::Shutdown
            | Event::Forward(_) => Ok(()),
        }
    }

    fn is_there(&self, target: Target) -> Result<(), Refused> {
        match target {
            Target::All => Ok(()),
            Target::App(id) | Target::Slot(SlotId { app: id, .. }) if self.app(id).is_some_and(App::is_removed) => {
                Err(Refused::AppRemoved)
            }
            Target::App(id) => self.app(id).map(drop).ok_or(Refused::NoSuchTarget),
            Target::Slot(id) if self.is_being_removed(id) => Err(Refused::BeingRemoved(id)),
            Target::Slot(id) => self.slot(id).map(drop).ok_or(Refused::NoSuchTarget),
        }
    }

    fn is_being_removed(&self, id: SlotId) -> bool {
        self.slot(id).is_some_and(|slot| slot.desired == Desired::Removed)
    }
}
