//! Saved state of the power management block.

use super::spec::{pm1_control, pm1_enable, pm1_status, reset};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "acpi-pm";
/// Its version.
pub const VERSION: u32 = 1;

/// Version 1: the registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PmState {
    /// PM1 status.
    pub status: u16,
    /// PM1 enable.
    pub enable: u16,
    /// PM1 control, the bits that stay.
    pub control: u16,
    /// General-purpose event status.
    pub gpe_status: u16,
    /// General-purpose event enable.
    pub gpe_enable: u16,
    /// Reset control, the bits that stay.
    pub reset_control: u8,
    /// How often the timer's top bit had changed when its status was last looked at.
    pub half_turns: u64,
}

impl PmState {
    /// Refuses what the chip cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let foreign = self.status & !pm1_status::ALL
            | self.enable & !pm1_enable::ALL
            | self.control & !pm1_control::KEPT
            | u16::from(self.reset_control & !reset::KEPT);
        if foreign != 0 {
            return Err(RestoreError::invalid(KIND, "a register has bits that do not exist"));
        }
        Ok(())
    }
}
