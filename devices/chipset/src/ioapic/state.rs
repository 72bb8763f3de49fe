//! Saved state of the I/O APIC.

use super::spec::{PINS, entry};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "ioapic";
/// Its version.
pub const VERSION: u32 = 1;

/// Version 1: the registers, which are the chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoapicState {
    /// Identification, four bits.
    pub id: u8,
    /// The register selected.
    pub select: u8,
    /// The redirection entries.
    pub entries: [u64; PINS],
    /// Levels of the inputs as last seen, bit `n` for pin `n`.
    pub lines: u32,
}

impl Default for IoapicState {
    /// Power-on: every entry masked (82093AA §3.2.4).
    fn default() -> IoapicState {
        IoapicState { id: 0, select: 0, entries: [entry::MASKED; PINS], lines: 0 }
    }
}

impl IoapicState {
    /// Refuses what the chip cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        if self.id > 15
            || self.lines >> PINS != 0
            || self.entries.iter().any(|e| e & !entry::ALL != 0)
        {
            return Err(RestoreError::invalid(KIND, "a register has bits that do not exist"));
        }
        Ok(())
    }
}
