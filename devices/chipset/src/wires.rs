//! How many lines drive each input of a controller.
//!
//! Several lines may end at one pin (shared PCI interrupts). The pin is high while any of them is. The
//! counts are wiring, not chip: they outlive a reset and are not saved, for the devices drive their lines
//! again when they are restored.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The inputs of a controller with `PINS` pins.
#[derive(Debug)]
pub(crate) struct Wires<const PINS: usize>([u32; PINS]);

impl<const PINS: usize> Default for Wires<PINS> {
    fn default() -> Self {
        Wires([0; PINS])
    }
}

impl<const PINS: usize> Wires<PINS> {
    /// One line that ends at `pin` has changed to `high`; gives the pin's level, or `None` for no such pin.
    pub(crate) fn set(&mut self, pin: u32, high: bool) -> Option<bool> {
        let count = self.0.get_mut(usize::try_from(pin).ok()?)?;
        *count = if high { count.saturating_add(1) } else { count.saturating_sub(1) };
        Some(*count > 0)
    }

    /// The levels of the pins, bit `n` for pin `n`.
    pub(crate) fn levels(&self) -> u32 {
        (0..)
            .zip(&self.0)
            .filter(|(_, count)| **count > 0)
            .fold(0, |bits, (pin, _)| bits | 1 << pin)
    }
}

/// Locks even after a panic elsewhere: the chips' invariants hold between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
