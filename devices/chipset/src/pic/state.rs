//! Saved state of the two 8259As.

use super::spec::ELCR_MASK;
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "pic-8259";
/// Its version.
pub const VERSION: u32 = 1;

/// Which command word the next write to A0 = 1 is (8259A, figure 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// The mask.
    #[default]
    Ocw1,
    /// The vector base.
    Icw2,
    /// The cascade.
    Icw3,
    /// The modes.
    Icw4,
}

/// Version 1: the registers of one chip, which are the chip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipState {
    /// Edges seen and not yet acknowledged.
    pub edges: u8,
    /// Levels of the inputs as last seen.
    pub lines: u8,
    /// Edge/level control: 1 is level triggered.
    pub elcr: u8,
    /// Interrupts in service.
    pub isr: u8,
    /// Interrupts masked.
    pub imr: u8,
    /// Vector of input 0.
    pub base: u8,
    /// How far initialisation has come.
    pub next: Next,
    /// ICW1 said that there is no cascade.
    pub single: bool,
    /// ICW1 said that ICW4 will follow.
    pub needs_icw4: bool,
    /// Automatic end of interrupt.
    pub auto_eoi: bool,
    /// Rotation at automatic EOI.
    pub rotate_in_auto_eoi: bool,
    /// Special fully nested mode.
    pub special_fully_nested: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// Reads give the in-service register.
    pub read_isr: bool,
    /// The next read is a poll.
    pub poll: bool,
    /// The input of highest priority.
    pub highest: u8,
}

/// Version 1: both chips.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicState {
    /// Inputs 0 to 7.
    pub master: ChipState,
    /// Inputs 8 to 15.
    pub slave: ChipState,
}

impl PicState {
    /// Refuses what the chips cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        for (chip, mask) in [&self.master, &self.slave].into_iter().zip(ELCR_MASK) {
            if chip.highest > 7 || chip.base & 7 != 0 || chip.elcr & !mask != 0 {
                let reason = "a priority, vector base or ELCR bit is out of range";
                return Err(RestoreError::invalid(KIND, reason));
            }
        }
        Ok(())
    }
}
