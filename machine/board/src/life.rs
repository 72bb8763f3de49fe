//! Pause, resume, reset, save and restore of all devices together.

use crate::slot::Slot;
use crate::{Board, BoardError};
use kezhan_device::SavedState;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether devices may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// No vCPU runs; the state may be read and replaced.
    Paused,
    /// vCPUs run.
    Running,
}

pub(crate) fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// The machine starts to run or goes on. Before the first vCPU runs.
    pub fn resume(&self) {
        let mut life = lock(&self.life);
        if *life == Life::Paused {
            self.wiring.open.store(true, Ordering::SeqCst);
            self.each(|slot| slot.call(&self.wiring.attention, |device| device.resume()));
            *life = Life::Running;
            self.wiring.attention.call();
        }
    }

    /// The machine stands still. After the last vCPU has left `run`.
    pub fn pause(&self) {
        let mut life = lock(&self.life);
        if *life == Life::Running {
            self.wiring.open.store(false, Ordering::SeqCst);
            self.each(|slot| slot.call(&self.wiring.attention, |device| device.pause()));
            *life = Life::Paused;
        }
    }

    /// Every device back to its power-on state, lines low. Only when paused; then [`Board::load`] again.
    pub fn reset(&self) {
        let _life = lock(&self.life);
        self.reset_devices();
    }

    fn reset_devices(&self) {
        self.each(|slot| slot.call(&self.wiring.attention, |device| device.reset()));
    }

    /// The state of every device by name. Only when paused.
    pub fn save(&self) -> Vec<(String, SavedState)> {
        let _life = lock(&self.life);
        let save = |slot: &Arc<Slot>| {
            (slot.name().to_owned(), slot.call(&self.wiring.attention, |device| device.save()))
        };
        self.slots().iter().map(save).collect()
    }

    /// Takes over a state made by [`Board::save`] of a board with the same devices. Only when paused and
    /// connected; before the vCPUs' own state is set, since a line may move meanwhile.
    ///
    /// All devices are reset first, so that no controller passes on what moves; then the devices come in
    /// the reverse order of building, so that the controllers, built first, come last and have the final
    /// say on the level of their pins.
    ///
    /// # Errors
    /// [`BoardError`] that names the device; the board has then to be reset.
    pub fn restore(&self, states: &[(String, SavedState)]) -> Result<(), BoardError> {
        let _life = lock(&self.life);
        let known = |name: &str| self.slots().iter().any(|slot| slot.name() == name);
        if let Some((name, _)) = states.iter().find(|(name, _)| !known(name)) {
            return Err(BoardError::ExtraState(name.clone()));
        }
        self.reset_devices();
        for slot in self.slots().iter().rev() {
            let (_, state) = states
                .iter()
                .find(|(name, _)| name == slot.name())
                .ok_or_else(|| BoardError::MissingState(slot.name().to_owned()))?;
            slot.call(&self.wiring.attention, |device| device.restore(state))
                .map_err(|error| BoardError::Restore { device: slot.name().to_owned(), error })?;
        }
        Ok(())
    }

    fn each(&self, work: impl Fn(&Slot)) {
        self.slots().iter().for_each(|slot| work(slot));
    }
}
