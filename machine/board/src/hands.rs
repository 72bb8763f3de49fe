//! What a person does to a machine: the power button, keys, the mouse, the size of the balloon.
//!
//! May be called at any time from any thread; a paused machine sees it when it goes on.

use crate::Board;
use kezhan_input::{I8042, KeyEvent, MouseEvent};
use kezhan_virtio::BalloonHandle;
use std::sync::{Arc, Mutex, PoisonError};

impl Board {
    /// Presses the power button: the guest gets an ACPI event and may switch off.
    pub fn press_power_button(&self) {
        if let Some(pm) = &self.hands.pm {
            pm.lock().unwrap_or_else(PoisonError::into_inner).press_power_button();
        }
    }

    /// The hand on the memory balloon; `None` when the machine has none.
    pub fn balloon(&self) -> Option<BalloonHandle> {
        self.hands.balloon.clone()
    }

    /// Presses or releases a key. False when the keyboard has no room for it now: try again later.
    pub fn key(&self, event: KeyEvent) -> bool {
        let told = |i8042: &Arc<Mutex<I8042>>| {
            i8042.lock().unwrap_or_else(PoisonError::into_inner).key(event)
        };
        self.hands.i8042.as_ref().is_some_and(told)
    }

    /// Moves the mouse or its buttons.
    pub fn mouse(&self, event: MouseEvent) {
        if let Some(i8042) = &self.hands.i8042 {
            i8042.lock().unwrap_or_else(PoisonError::into_inner).mouse(event);
        }
    }
}
